"""What several methods made of one case, side by side, with the trajectories drawn over it."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import UInt8

from tavid_jax.data.video import read_video, scale_points
from tavid_jax.scoring.located.judge import CaseScores
from tavid_jax.viz import canvas, panels, tracks

# One colour for each entity, told apart on most grounds; more entities begin anew.
COLOURS = np.array(
    [(255, 92, 92), (92, 168, 255), (255, 206, 84), (120, 224, 143), (214, 137, 255),
     (255, 159, 243), (72, 219, 251), (250, 152, 58)],
    np.uint8,
)  # fmt: skip
_RADIUS = 7


def film(scores: Sequence[CaseScores], *, height: int = 240) -> UInt8[np.ndarray, "T H W 3"]:
    """A panel for each method: a line is where an entity should go, a ring where it was found.

    Without a detector the ring is the point that was followed from the line's start.

    Args:
      scores: of one case, by different methods.
      height: of a panel, px.
    """
    shown = [
        panels.Panel(one.case.method, _drawn(one, height), counters=_counters(one))
        for one in scores
    ]
    length = max(len(panel.frames) for panel in shown)
    width = max(panel.frames.shape[2] for panel in shown)
    shown = [
        panels.Panel(panel.label, _filled(panel.frames, length, width), panel.counters)
        for panel in shown
    ]
    sheet = panels.side_by_side(shown, columns=min(4, len(shown)))
    words = _words(scores[0], sheet.shape[2])
    return np.concatenate([sheet, np.repeat(words[None], length, axis=0)], axis=1)


def _drawn(one: CaseScores, height: int) -> UInt8[np.ndarray, "T H W 3"]:
    given = one.given
    video = read_video(one.case.video.path, range(given.num_frames))
    size_hw = (height, round(height * video.shape[2] / video.shape[1]))
    colours = _colours(given.num_points)
    drawn = tracks.draw_trails(
        canvas.resize_clip(video, size_hw),
        given.tracks,
        given.visibility,
        size_hw=given.size_hw,
        colors=colours,
        style=tracks.TrailStyle(trail=given.num_frames, head_radius=3.0),
    )
    places = one.followed if one.located is None else one.located.tracks
    places = scale_points(places, given.size_hw, size_hw)
    for n, t in np.argwhere(np.isfinite(places).all(-1) & given.visibility):
        x, y = (int(side) for side in np.rint(np.clip(places[n, t], -100, 4000)))
        for radius, width, colour in ((_RADIUS, 4, (16, 16, 16)), (_RADIUS, 2, colours[n])):
            cv2.circle(drawn[t], (x, y), radius, [int(c) for c in colour], width, cv2.LINE_AA)
    return drawn


def _colours(count: int) -> UInt8[np.ndarray, "N 3"]:
    return COLOURS[np.arange(count) % len(COLOURS)]


def _counters(one: CaseScores) -> list[str]:
    length = one.given.num_frames
    return [f"{t + 1} / {length}" for t in range(length)]


def _filled(frames: np.ndarray, length: int, width: int) -> np.ndarray:
    """The last frame held, dark at both sides."""
    held = np.concatenate([frames, np.repeat(frames[-1:], length - len(frames), axis=0)])
    out = np.empty((*held.shape[:2], width, 3), np.uint8)
    out[:] = canvas.THEME.canvas
    left = (width - held.shape[2]) // 2
    out[:, :, left : left + held.shape[2]] = held
    return out


def _words(one: CaseScores, width: int) -> UInt8[np.ndarray, "h W 3"]:
    """The prompt, and the words of each entity behind a dot of its colour."""
    blocks = [canvas.caption_block(width, one.case.prompt, lines=1)] if one.case.prompt else []
    texts = one.given.texts or ("",) * one.given.num_points
    for text, colour in zip(texts, _colours(len(texts)), strict=True):
        dot = tuple(int(c) for c in colour)
        blocks.append(canvas.caption_block(width, text or "no words", lines=1, accent=dot))
    return np.concatenate(blocks)
