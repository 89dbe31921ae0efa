"""The motion of a video as trajectories, to be given to another image."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, UInt8

from tavid_jax.data.segments import with_segments
from tavid_jax.data.tracker import DISTracker, Tracker
from tavid_jax.tracks.trajectories import Trajectories

FLEXTRAJ_GRID_HW = (70, 70)


def even_points(size_hw: tuple[int, int], grid_hw: tuple[int, int]) -> Float[np.ndarray, "N 2"]:
    """A grid of points (x, y) px, row by row, W / 64 px from the edges, as FlexTraj asks its
    tracker; a single row or column lies in the middle.

    Raises:
      ValueError: no rows or columns, or more than pixels.
    """
    if not all(0 < count <= side for count, side in zip(grid_hw, size_hw, strict=True)):
        raise ValueError(
            f"a grid of {grid_hw[0]}x{grid_hw[1]} points does not fit {size_hw[0]}x{size_hw[1]} px"
        )
    margin = size_hw[1] / 64
    axes = []
    for count, side in zip(grid_hw, size_hw, strict=True):
        near = min(margin, (side - 1) / 2)
        middle = [(side - 1) / 2]
        ends = np.linspace(near, min(side - near, side - 1), count)
        axes.append(ends if count > 1 else middle)
    y, x = np.meshgrid(*axes, indexing="ij")
    return np.stack([x.ravel(), y.ravel()], axis=-1).astype(np.float32)


def track_video(
    video: UInt8[np.ndarray, "T H W 3"],
    grid_hw: tuple[int, int] = FLEXTRAJ_GRID_HW,
    *,
    tracker: Tracker | None = None,
    masks: Bool[np.ndarray, "S H W"] | None = None,
    reverse: bool = False,
    fps: float | int | None = None,
) -> Trajectories:
    """Follows a grid of points through a video.

    Args:
      video: RGB.
      grid_hw: rows and columns of points.
      tracker: None = optical flow (`DISTracker`).
      masks: of the frame that the grid lies in; points take the segment that they lie in.
      reverse: the grid lies in the last frame and is followed back: points that appear later.
      fps: frames per second, None = unknown.

    Raises:
      ValueError: see `even_points`; frames too small for the tracker.
      ClipError: masks of another size.
    """
    start = even_points((int(video.shape[1]), int(video.shape[2])), grid_hw)
    made = track_points(video, start, tracker=tracker, reverse=reverse, fps=fps)
    return made if masks is None else with_segments(made, masks, -1 if reverse else 0)


def track_points(
    video: UInt8[np.ndarray, "T H W 3"],
    points: Float[np.ndarray, "N 2"],
    *,
    tracker: Tracker | None = None,
    reverse: bool = False,
    fps: float | int | None = None,
) -> Trajectories:
    """Follows given points through a video.

    Args:
      video: RGB.
      points: (x, y) px in the first frame, or with `reverse` in the last.
      tracker, reverse, fps: see `track_video`.

    Raises:
      ValueError: frames too small for the tracker.
    """
    tracker = tracker or DISTracker()
    tracks, seen = tracker(video[::-1] if reverse else video, points)
    if reverse:
        tracks, seen = tracks[:, ::-1], seen[:, ::-1]
    size_hw = (int(video.shape[1]), int(video.shape[2]))
    return Trajectories(np.ascontiguousarray(tracks), np.ascontiguousarray(seen), size_hw, fps=fps)
