"""What a person looks at: the past, the tracks that go on from it, and the video that follows."""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt8

from tavid_jax.pipelines.images import fit_image
from tavid_jax.tracks.forecasting import Past
from tavid_jax.tracks.trajectories import Trajectories
from tavid_jax.viz import canvas
from tavid_jax.viz.panels import Panel, side_by_side
from tavid_jax.viz.tracks import draw_trails

HEIGHT = 256  # px of each picture


def animation(
    image: UInt8[np.ndarray, "h w 3"],
    tracks: Trajectories,
    video: UInt8[np.ndarray, "V H W 3"],
    past: Past,
    height: int = HEIGHT,
) -> UInt8[np.ndarray, "T y x 3"]:
    """Past | tracks | video; the last two wait until the past has been played.

    Args:
      image: where the video begins, of any size.
      tracks: of the video, in its pixels.
      video: what was made of them.
      past: perhaps without tracks.
      height: px of each picture.
    """
    size, theme = (height, round(height * video.shape[2] / video.shape[1])), canvas.THEME
    before, after = past.tracks.shape[1], len(video)
    counts = [f"{t + 1} / {before}" for t in range(before)]
    counts += counts[-1:] * after
    active = [True] * before + [False] * after
    frames = _with_still(_seen(past, size), after, front=False)
    panels = [Panel("past", frames, counts, active, theme.history)]
    counts = [""] * before + [f"+{t}" for t in range(after)]
    active = [False] * before + [True] * after
    drawn = draw_trails(
        fit_image(image, size), tracks.tracks, tracks.visibility, size_hw=tracks.size_hw
    )
    for label, frames, accent in (
        ("tracks", drawn, theme.prediction),
        ("video", canvas.resize_clip(video, size), theme.truth),
    ):
        frames = _with_still(frames, before, front=True)
        panels.append(Panel(label, frames, counts, active, accent))
    progress = [theme.history] * before + [theme.prediction] * after
    return side_by_side(panels, progress=progress)


def _seen(past: Past, size_hw: tuple[int, int]) -> UInt8[np.ndarray, "T y x 3"]:
    """The past with its tracks, cut to another size as the image is."""
    rows = max(size_hw[0], round(size_hw[1] * past.size_hw[0] / past.size_hw[1]))
    large = rows, round(rows * past.size_hw[1] / past.size_hw[0])
    drawn = canvas.resize_clip(past.video, large)
    if len(past.tracks):
        drawn = draw_trails(drawn, past.tracks, past.visibility, size_hw=past.size_hw)
    return np.stack([fit_image(frame, size_hw) for frame in drawn])


def _with_still(
    frames: UInt8[np.ndarray, "T y x 3"], count: int, front: bool
) -> UInt8[np.ndarray, "S y x 3"]:
    """The first frame so many times before the others, or the last one behind them."""
    still = np.broadcast_to(frames[0 if front else -1], (count, *frames.shape[1:]))
    return np.concatenate([still, frames] if front else [frames, still])
