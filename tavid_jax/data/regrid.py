"""Tracks asked for at other points than they were followed from."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float


def ask_at(
    tracks: Float[np.ndarray, "N T 2"],
    visibility: Bool[np.ndarray, "N T"],
    query_xy: Float[np.ndarray, "Q 2"],
    stride: float | int,
) -> tuple[Float[np.ndarray, "Q T 2"], Bool[np.ndarray, "Q T"]]:
    """Brings any tracks to the query points: as they are, interpolated, or from the nearest.

    As they are, where they start at the query points in frame 0; interpolated, where they start
    on another regular grid; else each query point takes the nearest track no farther than
    `stride` (or than the typical distance between tracks, if that is more).
    """
    start = tracks[:, 0]
    if start.shape == query_xy.shape and np.abs(start - query_xy).max() < 0.05:
        return tracks, visibility
    grid_hw = infer_grid(start)
    if grid_hw and min(grid_hw) > 1:
        return interpolate_grid(tracks, visibility, grid_hw, query_xy)
    area = np.prod(np.ptp(start, axis=0).astype(np.float64) + 1)
    return requery_nearest(
        tracks, visibility, query_xy, max(stride, float(np.sqrt(area / len(tracks))))
    )


def interpolate_grid(
    tracks: Float[np.ndarray, "N T 2"],
    visibility: Bool[np.ndarray, "N T"],
    grid_hw: tuple[int, int],
    query_xy: Float[np.ndarray, "Q 2"],
) -> tuple[Float[np.ndarray, "Q T 2"], Bool[np.ndarray, "Q T"]]:
    """Reads the displacements of a regular grid of tracks bilinearly at other points.

    A new track is its query point plus the interpolated displacement since frame 0. This is exact
    for motion fields that are affine in space, and smooths over the edges of moving objects.
    Beyond the outer grid points the nearest edge value is used. A new track is visible where all
    grid tracks that weigh in are.

    Args:
      tracks: (x, y) px; their places in frame 0 form a regular row-major grid.
      visibility: True = visible.
      grid_hw: (gh, gw) of that grid.
      query_xy: (x, y) px in frame 0 of the new tracks.

    Raises:
      ValueError: the tracks' places in frame 0 are no regular grid.
    """
    gh, gw = grid_hw
    start = tracks[:, 0].reshape(gh, gw, 2).astype(np.float64)
    step = _grid_step(start)
    if not _is_regular(start, step):
        raise ValueError(
            "tracks do not start on a regular row-major grid in frame 0; use requery_nearest"
        )
    place = np.clip((query_xy - start[0, 0]) / step, 0, np.array([gw - 1, gh - 1]))
    low = np.minimum(place.astype(int), np.maximum(np.array([gw, gh]) - 2, 0))
    high = np.minimum(low + 1, np.array([gw, gh]) - 1)
    part = place - low
    moved = np.zeros((len(query_xy), *tracks.shape[1:]))
    seen = np.ones((len(query_xy), tracks.shape[1]), bool)
    for x, weight_x in ((low[:, 0], 1 - part[:, 0]), (high[:, 0], part[:, 0])):
        for y, weight_y in ((low[:, 1], 1 - part[:, 1]), (high[:, 1], part[:, 1])):
            n, weight = y * gw + x, weight_x * weight_y
            moved += weight[:, None, None] * (tracks[n] - tracks[n, :1])
            seen &= visibility[n] | (weight < 1e-4)[:, None]
    return (query_xy[:, None] + moved).astype(np.float32), seen


def requery_nearest(
    tracks: Float[np.ndarray, "N T 2"],
    visibility: Bool[np.ndarray, "N T"],
    query_xy: Float[np.ndarray, "Q 2"],
    radius: float | int,
) -> tuple[Float[np.ndarray, "Q T 2"], Bool[np.ndarray, "Q T"]]:
    """Gives every query point the motion of the track that is nearest to it in frame 0.

    Needed where tracks were followed from another frame, so that in frame 0 they lie anywhere. A
    new track is its query point plus the displacement since frame 0 of the nearest track visible
    there: exact where neighbours move alike, up to `radius` apart. Query points with no such
    track within `radius` stand still and are invisible throughout.

    Args:
      tracks: (x, y) px, in any order.
      visibility: True = visible.
      query_xy: (x, y) px in frame 0 of the new tracks.
      radius: px.
    """
    shape = (len(query_xy), *tracks.shape[1:])
    still = np.broadcast_to(query_xy[:, None], shape).astype(np.float32)
    known = np.flatnonzero(visibility[:, 0])
    if not len(known):
        return still, np.zeros(shape[:2], bool)
    gap = np.linalg.norm(query_xy[:, None] - tracks[known, 0][None], axis=-1)
    nearest = known[gap.argmin(axis=1)]
    found = gap.min(axis=1) <= radius
    moved = still + (tracks[nearest] - tracks[nearest, :1])
    return (
        np.where(found[:, None, None], moved, still).astype(np.float32),
        visibility[nearest] & found[:, None],
    )


def infer_grid(start_xy: Float[np.ndarray, "N 2"]) -> tuple[int, int] | None:
    """(gh, gw) of points that form a regular row-major grid, else None."""
    rows = np.flatnonzero(np.diff(start_xy[:, 0]) < 0)
    gw = int(rows[0]) + 1 if len(rows) else len(start_xy)
    if len(start_xy) % gw:
        return None
    grid = start_xy.reshape(-1, gw, 2).astype(np.float64)
    return grid.shape[:2] if _is_regular(grid, _grid_step(grid)) else None


def _grid_step(start: Float[np.ndarray, "gh gw 2"]) -> Float[np.ndarray, " 2"]:
    """Mean spacing (dx, dy) of a grid of points; 1 along a side of one point."""
    gh, gw = start.shape[:2]
    dx = (start[0, -1, 0] - start[0, 0, 0]) / (gw - 1) if gw > 1 else 1.0
    dy = (start[-1, 0, 1] - start[0, 0, 1]) / (gh - 1) if gh > 1 else 1.0
    return np.array([dx, dy])


def _is_regular(start: Float[np.ndarray, "gh gw 2"], step: Float[np.ndarray, " 2"]) -> bool:
    """Whether all points lie within a twentieth of a cell of the ideal grid."""
    i, j = np.mgrid[: start.shape[0], : start.shape[1]]
    ideal = start[0, 0] + np.stack([j, i], axis=-1) * step
    return bool((step > 0).all() and (np.abs(start - ideal) <= 0.05 * step).all())
