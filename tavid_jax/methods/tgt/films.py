"""Moving pictures: videos with the trajectories that their entities should follow."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int, UInt8

from tavid_jax.methods.finetune.pages import at_height
from tavid_jax.tracks.trajectories import Trajectories
from tavid_jax.viz import canvas, panels, tracks

Frames = UInt8[np.ndarray, "T H W 3"]
Picture = UInt8[np.ndarray, "t h w 3"]  # of Frames, of another size
PATH = tracks.TrailStyle(head_radius=3.2, head_width=2.0, tail_width=1.6)
# One colour for each text, told apart on the toy's greys and colours alike.
PALETTE = np.array(
    [
        (255, 196, 87),
        (86, 211, 150),
        (120, 170, 255),
        (255, 139, 98),
        (203, 145, 255),
        (90, 220, 225),
    ],
    np.uint8,
)


def colours(targets: Trajectories) -> UInt8[np.ndarray, "N 3"]:
    """Of trajectories: those of one text have one, repeated where there are many texts."""
    texts = targets.texts or range(targets.num_points)
    number = {text: i for i, text in enumerate(dict.fromkeys(texts))}
    return PALETTE[np.array([number[text] for text in texts], int) % len(PALETTE)]


def with_paths(frames: Frames, targets: Trajectories, height: int) -> Picture:
    """Frames, enlarged, with a trail for each trajectory where it is visible."""
    return tracks.draw_trails(
        at_height(frames, height),
        targets.tracks,
        targets.visibility,
        size_hw=tuple(targets.size_hw),
        colors=colours(targets),
        style=PATH,
    )


def owners(
    frames: Frames,
    owner: Int[np.ndarray, "F y x"],
    gauss: Float[np.ndarray, "F y x"],
    ink: UInt8[np.ndarray, "N 3"],
    height: int,
    stride_t: int = 4,
) -> Picture:
    """Frames, enlarged, with the tokens that read a text, in the colour of its trajectory: the
    stronger the larger G is.

    Args:
      frames: of the video, T = stride_t (F - 1) + 1.
      owner: 0 = nobody's, n + 1 = trajectory n's.
      gauss: G of each token.
      ink: of each trajectory, see `colours`.
      height: of the result, px.
      stride_t: frames of a latent frame behind the first.
    """
    enlarged = at_height(frames, height).astype(np.float32)
    of_frame = -(-np.arange(len(frames)) // stride_t)
    ink = np.concatenate([np.zeros((1, 3), np.uint8), ink])
    strength = np.where(owner > 0, 0.15 + 0.6 * gauss, 0.0)[..., None]
    rows, columns = (_cells(enlarged.shape[axis], owner.shape[axis]) for axis in (1, 2))
    spread = np.ix_(of_frame, rows, columns)
    over, share = ink[owner][spread].astype(np.float32), strength[spread]
    return np.round(enlarged * (1 - share) + over * share).astype(np.uint8)


def _cells(pixels: int, tokens: int) -> np.ndarray:
    """The token of each pixel along one side."""
    return np.arange(pixels) * tokens // pixels


def sample_panels(
    clip: Frames, targets: Trajectories, videos: Sequence[tuple[str, Frames]], height: int
) -> list[panels.Panel]:
    """The true clip, then videos, each with the trajectories over it.

    Args:
      clip: frames of the true one.
      targets: its trajectories.
      videos: (name, frames); the first one is accented.
      height: of each picture, px.
    """
    true = with_paths(clip, targets, height)
    shown = [panels.Panel("true clip", true, panels.counters(true), accent=canvas.THEME.truth)]
    for number, (name, frames) in enumerate(videos):
        accent = None if number else canvas.THEME.prediction
        shown.append(panels.Panel(name, with_paths(frames, targets, height), accent=accent))
    return shown
