"""Points followed through a video: from whatever frame on, in whatever pixels they are given."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from tavid_jax.data.tracker import Tracker
from tavid_jax.data.video import scale_points

MOST = 400  # points on a foreground
_SQUASHED = 0.02  # aspect ratios that differ by less are rounding


class Followed(NamedTuple):
    """Tracks that a tracker found.

    Attributes:
      tracks: (x, y) px; where the tracker has lost a point, the last place it had.
      seen: where it says that the point is visible.
    """

    tracks: Float[np.ndarray, "N T 2"]
    seen: Bool[np.ndarray, "N T"]


def follow(
    tracker: Tracker,
    video: UInt8[np.ndarray, "T h w 3"],
    places: Float[np.ndarray, "N 2"],
    query: Int[np.ndarray, " N"],
    size_hw: tuple[int, int],
) -> Followed:
    """Follows each point from its own frame on.

    The tracker is called once for every frame in which a point starts.

    Args:
      tracker: what follows.
      video: frames, of any size with the aspect ratio of `size_hw`.
      places: of the points in their query frames, px of `size_hw`.
      query: frames; a point with -1 is not followed.
      size_hw: (H, W) that `places`, and the result, refer to.

    Returns:
      Tracks in px of `size_hw`; before its query frame a point is at its place, not seen.

    Raises:
      ValueError: another aspect ratio.
    """
    hw = video.shape[1:3]
    check_aspect(hw, size_hw)
    tracks = np.repeat(places[:, None].astype(np.float32), len(video), axis=1)
    seen = np.zeros(tracks.shape[:2], bool)
    for start in np.unique(query[query >= 0]):
        some = np.flatnonzero(query == start)
        found, visible = tracker(video[start:], scale_points(places[some], size_hw, hw))
        tracks[some, start:] = scale_points(found, hw, size_hw)
        seen[some, start:] = visible
    return Followed(tracks, seen)


def check_aspect(hw: tuple[int, int], size_hw: tuple[int, int]) -> None:
    """Raises ValueError where one cannot be the other resized."""
    if abs(hw[0] * size_hw[1] / (hw[1] * size_hw[0]) - 1) > _SQUASHED:
        raise ValueError(
            f"frames of {hw[1]}x{hw[0]}, but trajectories in pixels of {size_hw[1]}x{size_hw[0]}: "
            "another aspect ratio; give trajectories of the video's own frame"
        )


def foreground_points(mask: Bool[np.ndarray, "H W"], most: int = MOST) -> Float[np.ndarray, "N 2"]:
    """Points (x, y) of a square grid on a mask, at most so many; those of one mask are the same
    each time.
    """
    step = max(1, int(np.ceil(np.sqrt(mask.sum() / most))))
    while True:  # a ragged mask may hold more of the grid than its share
        grid = np.zeros_like(mask)
        grid[step // 2 :: step, step // 2 :: step] = True
        rows, columns = np.nonzero(mask & grid)
        if len(rows) <= most:
            break
        step += 1
    if not len(rows):  # thinner than the grid
        rows, columns = (index[:: -(-int(mask.sum()) // most)] for index in np.nonzero(mask))
    return np.stack([columns, rows], axis=1).astype(np.float32)
