"""FlowSmoothTV and DivCurlEnergy: how smooth a field of tracks is in space.

TrajLoom section 4.1. Both look at the displacement u between successive frames of a grid of
tracks, and need no truth. Smaller is not better: tracks that stand still score 0. Compare with
the value of the true tracks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from tavid_jax.metrics import result

CHUNK = 8  # videos at a time: what fits a cache, changes no number


class _Gradients(NamedTuple):
    """Forward differences of the displacement, and where they are defined."""

    along_x: Float[np.ndarray, "V T gh gw_1 2"]
    along_y: Float[np.ndarray, "V T gh_1 gw 2"]
    valid_x: Bool[np.ndarray, "V T gh gw_1"]
    valid_y: Bool[np.ndarray, "V T gh_1 gw"]


def flow_tv(
    tracks: Float[np.ndarray, "V N T 2"],
    visibility: Bool[np.ndarray, "V N T"] | None,
    grid_hw: tuple[int, int],
    spacing: float | int,
) -> Float[np.ndarray, "V"]:
    """FlowSmoothTV per video, in 1/frame: total variation of the displacement field.

    Args:
      tracks: pixels (x, y), row-major on the grid; a point that is not finite does not count.
      visibility: masks points; None: all count.
      grid_hw: rows and columns of the grid.
      spacing: pixels between neighbouring points of the grid.

    Returns:
      Mean over frames of mean |du/dx|_1 + mean |du/dy|_1; NaN for a video without a valid pair.

    Raises:
      ValueError: the grid does not fit N, or there are fewer than two frames.
    """
    return _by_chunk(_total_variation, tracks, visibility, grid_hw, spacing)


def div_curl_energy(
    tracks: Float[np.ndarray, "V N T 2"],
    visibility: Bool[np.ndarray, "V N T"] | None,
    grid_hw: tuple[int, int],
    spacing: float | int,
) -> Float[np.ndarray, "V"]:
    """DivCurlEnergy per video, in 1/frame^2: mean of div^2 + curl^2 of the displacement field.

    Arguments as in `flow_tv`. A cell counts when its horizontal pair along the top and its
    vertical pair along the left are valid (its fourth corner is not needed); NaN for a video
    without such a cell.
    """
    return _by_chunk(_energy, tracks, visibility, grid_hw, spacing)


def _by_chunk(
    measure: Callable[[_Gradients], np.ndarray],
    tracks: np.ndarray,
    visibility: np.ndarray | None,
    grid_hw: tuple[int, int],
    spacing: float | int,
) -> Float[np.ndarray, "V"]:
    """`measure` of the gradients of all videos, a few at a time."""
    result.check_shapes(tracks.shape[:-1], visibility=visibility)
    values = []
    for start in range(0, max(len(tracks), 1), CHUNK):
        chunk = slice(start, start + CHUNK)
        seen = None if visibility is None else visibility[chunk]
        values.append(measure(_gradients(tracks[chunk], seen, grid_hw, spacing)))
    return np.concatenate(values)


def _total_variation(grads: _Gradients) -> Float[np.ndarray, "V"]:
    along_x = _spatial_mean(_l1(grads.along_x), grads.valid_x)
    along_y = _spatial_mean(_l1(grads.along_y), grads.valid_y)
    some = np.isfinite(along_x) | np.isfinite(along_y)  # one direction alone is enough
    total = np.nan_to_num(along_x) + np.nan_to_num(along_y)
    return result.masked_mean(total, some, axis=1)


def _l1(vectors: Float[np.ndarray, "*D 2"]) -> Float[np.ndarray, "*D"]:
    return np.abs(vectors[..., 0]) + np.abs(vectors[..., 1])


def _energy(grads: _Gradients) -> Float[np.ndarray, "V"]:
    along_x = grads.along_x[:, :, :-1].astype(np.float64)
    along_y = grads.along_y[:, :, :, :-1].astype(np.float64)
    valid = grads.valid_x[:, :, :-1] & grads.valid_y[:, :, :, :-1]
    div = along_x[..., 0] + along_y[..., 1]
    curl = along_x[..., 1] - along_y[..., 0]
    per_frame = _spatial_mean(div**2 + curl**2, valid)
    return result.masked_mean(per_frame, np.isfinite(per_frame), axis=1)


def _gradients(
    tracks: np.ndarray,
    visibility: np.ndarray | None,
    grid_hw: tuple[int, int],
    spacing: float | int,
) -> _Gradients:
    num_videos, num_points, num_frames, _ = tracks.shape
    if grid_hw[0] * grid_hw[1] != num_points:
        raise ValueError(
            f"{num_points} points do not fill a grid of {grid_hw[0]} x {grid_hw[1]}: "
            "give all points of the grid, row by row"
        )
    if num_frames < 2:
        raise ValueError(f"a displacement field needs two frames, the tracks have {num_frames}")
    valid = np.isfinite(tracks[..., 0]) & np.isfinite(tracks[..., 1])
    field = np.where(valid[..., None], tracks, 0)
    if visibility is not None:
        valid = valid & visibility
    field = np.moveaxis(field.reshape(num_videos, *grid_hw, num_frames, 2), 3, 1)
    valid = np.moveaxis(valid.reshape(num_videos, *grid_hw, num_frames), 3, 1)
    flow, both = np.diff(field, axis=1), valid[:, 1:] & valid[:, :-1]
    return _Gradients(
        along_x=np.diff(flow, axis=3) / spacing,
        along_y=np.diff(flow, axis=2) / spacing,
        valid_x=both[:, :, :, 1:] & both[:, :, :, :-1],
        valid_y=both[:, :, 1:] & both[:, :, :-1],
    )


def _spatial_mean(
    values: Float[np.ndarray, "V T h w"], valid: Bool[np.ndarray, "V T h w"]
) -> Float[np.ndarray, "V T"]:
    return result.masked_mean(values, valid, axis=(2, 3))
