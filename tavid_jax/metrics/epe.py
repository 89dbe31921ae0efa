"""Endpoint error of tracks over a data set: EPE, and VEPE when the tracks are a VAE's.

A micro average: all visible samples of all videos have the same weight, as in TrajLoom's VEPE
(section 4.1). For one value per clip with NaN rules for comparisons, see `metrics.forecast`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from tavid_jax.metrics import result
from tavid_jax.metrics.forecast import point_errors


def epe(
    prediction: Float[np.ndarray, "V N T 2"],
    truth: Float[np.ndarray, "V N T 2"],
    visibility: Bool[np.ndarray, "V N T"] | None,
    *,
    skip_first: bool = False,
    num_frames: int | None = None,
) -> dict[str, Any]:
    """Mean Euclidean error in pixels over the visible, finite samples of all videos.

    Args:
      prediction, truth: pixels (x, y).
      visibility: the truth's; None counts every sample.
      skip_first: leaves out frame 0 (which is given to a model that is conditioned on it).
      num_frames: only the first so many frames count.

    Returns:
      Record with `epe` (NaN when nothing counts), `per_video` (V values), `n` samples, `dropped`
      (visible samples left out because a coordinate is not finite) and the settings.
    """
    result.check_shapes(truth.shape[:-1], visibility=visibility)
    frames = slice(int(skip_first), num_frames)
    errors = point_errors(prediction[:, :, frames], truth[:, :, frames])
    counted = np.ones(errors.shape, bool) if visibility is None else visibility[:, :, frames]
    used = counted & np.isfinite(errors)
    totals = np.where(used, errors, 0).sum(axis=(1, 2))
    counts = used.sum(axis=(1, 2))
    return result.record(
        {
            "epe": float(result.ratio(totals.sum(), counts.sum())),
            "per_video": result.ratio(totals, counts),
            "dropped": int(counted.sum() - used.sum()),
        },
        n=counts.sum(),
        videos=len(truth),
        masked=visibility is not None,
        skip_first=skip_first,
        num_frames=num_frames,
    )
