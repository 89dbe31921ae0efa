"""TrajErr and TrajSIM: how well the motion of a generated video follows given trajectories.

FlexTraj reports both without publishing code. The definitions here are ours: chosen so that the
magnitudes fit, named in the settings of the result, not comparable to the digit.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float

from tavid_jax.metrics import result
from tavid_jax.metrics.forecast import point_errors

TINY = 1e-6  # floor of a product of norms: a point that stands still has no direction


def trajectory_error(
    prediction: Float[np.ndarray, "C N T 2"],
    truth: Float[np.ndarray, "C N T 2"],
    visibility: Bool[np.ndarray, "C N T"],
    size_hw: tuple[int, int],
    *,
    unit: Literal["axes", "diagonal"] = "axes",
) -> dict[str, Any]:
    """TrajErr: mean error over visible samples, as a share of the frame.

    Args:
      prediction, truth: pixels (x, y).
      visibility: samples that count.
      size_hw: of the frame, in pixels.
      unit: divide x by the width and y by the height ("axes"), or both by the diagonal.

    Returns:
      Record with `trajectory_error` (micro average), `per_clip` (C values), `n` samples.
    """
    height, width = size_hw
    scale = {"axes": (width, height), "diagonal": (np.hypot(height, width),) * 2}[unit]
    scale = np.array(scale, np.float64)
    errors = np.where(visibility, point_errors(prediction / scale, truth / scale), 0)
    totals, counts = errors.sum(axis=(1, 2)), visibility.sum(axis=(1, 2))
    return result.record(
        {
            "trajectory_error": float(result.ratio(totals.sum(), counts.sum())),
            "per_clip": result.ratio(totals, counts),
        },
        n=counts.sum(),
        unit=unit,
        size_hw=size_hw,
        definition="tavid_jax",
    )


def trajectory_similarity(
    prediction: Float[np.ndarray, "C N T 2"],
    truth: Float[np.ndarray, "C N T 2"],
    visibility: Bool[np.ndarray, "C N T"],
    *,
    of: Literal["path", "velocity"] = "path",
) -> dict[str, Any]:
    """TrajSIM: cosine similarity of trajectories, which a constant shift does not change.

    Args:
      prediction, truth: pixels (x, y).
      visibility: samples that count.
      of: "path" compares a track's whole path relative to its frame 0 (one cosine a track);
        "velocity" the displacements between frames in which the point is visible (one cosine
        a track and frame, averaged over both).

    Returns:
      Record with `trajectory_similarity` in [-1, 1] (mean over all tracks of all clips that count),
      `per_clip` (C values), `n` cosines.
    """
    if of == "path":
        mask = visibility[..., None]
        moved = [np.where(mask, x - x[:, :, :1], 0).astype(np.float64) for x in (prediction, truth)]
        moved = [x.reshape(*x.shape[:2], -1) for x in moved]
        counted = visibility.any(axis=2)
    else:
        counted = visibility[:, :, 1:] & visibility[:, :, :-1]
        moved = [np.diff(x, axis=2).astype(np.float64) for x in (prediction, truth)]
        moved = [np.where(counted[..., None], x, 0) for x in moved]
    norms = np.linalg.norm(moved[0], axis=-1) * np.linalg.norm(moved[1], axis=-1)
    cosines = (moved[0] * moved[1]).sum(axis=-1) / np.maximum(norms, TINY)
    axes = tuple(range(1, cosines.ndim))
    totals, counts = np.where(counted, cosines, 0).sum(axis=axes), counted.sum(axis=axes)
    return result.record(
        {
            "trajectory_similarity": float(result.ratio(totals.sum(), counts.sum())),
            "per_clip": result.ratio(totals, counts),
        },
        n=counts.sum(),
        of=of,
        definition="tavid_jax",
    )
