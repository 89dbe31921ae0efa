"""Grounded clips to look at: frames with masks, points, their ways, and the texts in their colours.

folder/index.html    a row for each clip shown, and why others were left out
folder/0000.png      the frames of a row
"""

from __future__ import annotations

import html
import os
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from tavid_jax.data.cache import write_whole
from tavid_jax.data.check import write_sheet
from tavid_jax.data.clip import Clip
from tavid_jax.data.grounding.build import Summary
from tavid_jax.data.grounding.grounded import GroundedClips
from tavid_jax.data.video import resize_image, scale_points

PAGE = "index.html"
_HEIGHT, _SHOWN, _GAP = 200, 5, 4  # px, frames of a row, px
_COLOURS = (
    (230, 60, 60), (60, 160, 255), (250, 190, 30), (60, 200, 90), (220, 90, 220), (40, 210, 210),
    (250, 130, 40), (150, 120, 255), (190, 220, 60), (250, 140, 180),
)  # fmt: skip
_STYLE = (
    "body{font:15px sans-serif;margin:2em;max-width:1200px}img{max-width:100%}"
    "td,th{text-align:left;vertical-align:top;padding:2px 12px 2px 0}"
    "b.dot{display:inline-block;width:.8em;height:.8em;border-radius:50%;margin-right:.4em}"
)


def write_pages(
    folder: str | os.PathLike, clips: GroundedClips, summary: Summary, most: int = 24
) -> Path:
    """Writes the page and its pictures; clips are taken evenly from the first to the last.

    Args:
      folder: of the page.
      clips: at the size that they are stored in.
      summary: what became of all.
      most: clips shown.

    Returns:
      Path of the page.
    """
    folder = Path(folder)
    count = min(most, len(clips))
    rows = []
    for row, index in enumerate(np.linspace(0, len(clips) - 1, count).round().astype(int)):
        clip = clips[int(index)]
        write_sheet(folder / f"{row:04d}.png", picture(clip))
        rows.append(_row(clip, f"{row:04d}.png"))
    left = "".join(
        f"<tr><td>{_e(name)}</td><td>{_e(kind)}</td><td>{_e(reason)}</td></tr>"
        for name, kind, reason in [*summary.left_out, *summary.notes]
    )
    told = _e(summary.text().partition("\nleft out")[0]).replace("\n", "<br>")
    page = (
        f"<!doctype html><meta charset=utf-8><title>Grounded clips</title><style>{_STYLE}</style>"
        f"<h1>Grounded clips</h1><p>{told}</p>{''.join(rows)}"
    )
    if left:
        page += (
            "<h2>Left out: clips, and objects of clips</h2>"
            f"<table><tr><th>clip<th>kind<th>reason</tr>{left}</table>"
        )
    write_whole(folder / PAGE, page.encode())
    return folder / PAGE


def picture(clip: Clip) -> UInt8[np.ndarray, "h w 3"]:
    """Frames from the first to the last; the first with the outlines of its masks.

    Points are filled where they are seen, rings where they are not; lines are their ways until
    then, of the frames in which they were seen.
    """
    scale = _HEIGHT / clip.size_hw[0]
    size_hw = (_HEIGHT, max(1, round(clip.size_hw[1] * scale)))
    tracks = scale_points(clip.tracks, clip.size_hw, size_hw)
    shown = []
    for t in np.unique(np.linspace(0, clip.num_frames - 1, _SHOWN).round().astype(int)):
        frame = resize_image(clip.video[t], size_hw).copy()
        if t == 0 and clip.masks is not None:
            _draw_masks(frame, clip.masks)
        for track, seen, owner in zip(tracks, clip.visibility, clip.segment, strict=True):
            _draw_point(frame, track[: t + 1], seen[: t + 1], colour_of(int(owner)))
        cv2.putText(
            frame, str(t), (4, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255), 1, cv2.LINE_AA
        )
        shown.append(np.pad(frame, ((0, 0), (0, _GAP), (0, 0))))
    return np.concatenate(shown, axis=1)


def colour_of(number: int) -> tuple[int, int, int]:
    """RGB of object 1, 2, ...; grey for none."""
    return _COLOURS[(number - 1) % len(_COLOURS)] if number > 0 else (160, 160, 160)


def _draw_masks(frame: np.ndarray, masks: np.ndarray) -> None:
    for number, mask in enumerate(masks, 1):
        large = resize_image(mask.astype(np.uint8) * 255, frame.shape[:2]) > 127
        lines, _ = cv2.findContours(large.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(frame, lines, -1, colour_of(number), 1)


def _draw_point(frame: np.ndarray, track: np.ndarray, seen: np.ndarray, colour) -> None:
    places = np.rint(np.clip(track, -1e4, 1e4)).astype(int).tolist()
    for t in np.flatnonzero(seen[1:] & seen[:-1]):
        cv2.line(frame, places[t], places[t + 1], colour, 1, cv2.LINE_AA)
    cv2.circle(frame, places[-1], 3, colour, -1 if seen[-1] else 1, cv2.LINE_AA)


def _row(clip: Clip, name: str) -> str:
    counts = np.bincount(clip.segment, minlength=len(clip.local_captions) + 1)
    texts = "".join(
        f"<tr><td><b class=dot style='background:rgb{colour_of(number)}'></b>{_e(text)}</td>"
        f"<td>{counts[number]} points</td></tr>"
        for number, text in enumerate(clip.local_captions, 1)
    )
    return (
        f"<h3>{_e(clip.id)}</h3><p>{_e(clip.caption)}</p><img src='{name}'><table>{texts}</table>"
    )


def _e(text: str) -> str:
    return html.escape(text)
