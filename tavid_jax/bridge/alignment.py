"""Which tracks belong to which image: a forecast begins one frame behind the last that was seen."""

from __future__ import annotations

import numpy as np

from tavid_jax.data.video import scale_points
from tavid_jax.tracks.coordinates import in_bounds
from tavid_jax.tracks.forecasting import Future, Past
from tavid_jax.tracks.trajectories import Trajectories

# causal: the image is the last frame of the past, tracks are what was seen there and then the
# forecast; reproduction: the image is the true frame behind it, tracks are the forecast alone.
ALIGNMENTS = CAUSAL, REPRODUCTION = "causal", "reproduction"
# Tracks that Wan-Move was trained with, 32 x 32; more of them only meet in the same cells.
MOST = 1024


def forecast_frames(frames: int, align: str) -> int:
    """Frames of a forecast that a video of `frames` frames needs.

    Raises:
      ValueError: an unknown alignment.
    """
    if align not in ALIGNMENTS:
        raise ValueError(f"align {align!r}: there are {', '.join(ALIGNMENTS)}")
    return frames - 1 if align == CAUSAL else frames


def aligned(
    past: Past, future: Future, align: str, image_hw: tuple[int, int], sample: int = 0
) -> Trajectories:
    """Tracks that start on the image, in its pixels.

    Args:
      past: its last frame, or the one behind it, is the image.
      future: of `forecast_frames` frames.
      align: one of `ALIGNMENTS`.
      image_hw: (H, W) of the image, whose frame is the past's resized.
      sample: which of the futures.

    Raises:
      ValueError: an unknown alignment.
    """
    tracks, visible = future.tracks[sample], future.visible[sample]
    if forecast_frames(1, align) == 0:
        tracks = np.concatenate([past.tracks[:, -1:], tracks], axis=1)
        visible = np.concatenate([past.visibility[:, -1:], visible], axis=1)
    visible = visible & in_bounds(tracks, past.size_hw)
    tracks = scale_points(tracks, past.size_hw, image_hw)
    return Trajectories(tracks, visible, image_hw)


def joined(first: Trajectories, second: Trajectories) -> Trajectories:
    """Both sets of tracks; where two meet in a cell, one of the first set wins.

    Raises:
      ValueError: of different frames or sizes.
    """
    for name in ("num_frames", "size_hw"):
        a, b = getattr(first, name), getattr(second, name)
        if a != b:
            raise ValueError(f"tracks of {name} {a} and of {b} cannot be joined")
    return Trajectories(
        np.concatenate([first.tracks, second.tracks]),
        np.concatenate([first.visibility, second.visibility]),
        second.size_hw,
    )


def chosen(trajectories: Trajectories, most: int = MOST) -> Trajectories:
    """The tracks that are visible in the first frame, at most so many of them, spread evenly.

    Raises:
      ValueError: none is; or room for none.
    """
    if most < 1:
        raise ValueError(f"most {most}: keep at least 1 track")
    seen = trajectories.visibility[:, 0] & in_bounds(
        trajectories.tracks[:, 0], trajectories.size_hw
    )
    places = np.flatnonzero(seen)
    if not len(places):
        raise ValueError(
            f"tracks: none of {trajectories.num_points} is visible in the first frame, which is "
            "the image: there is nothing to move; give another part of the history, or tracks"
        )
    if len(places) > most:
        places = places[np.round(np.linspace(0, len(places) - 1, most)).astype(int)]
    return trajectories.take(places)
