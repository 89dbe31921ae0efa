"""One picture a video: targets, actor, and when they touch."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image, ImageDraw

from tavid_jax.metrics import contact
from tavid_jax.scoring.report import verdict
from tavid_jax.scoring.score import Scores, Touches, VideoScores
from tavid_jax.viz import canvas, sheets

_TARGET, _OTHER, _ACTOR, _TOUCH = (86, 211, 150), (122, 162, 255), (255, 179, 71), (255, 99, 99)
_SHADE = (70, 38, 42)
_CELLS, _COLUMNS = 8, 4
_CELL_HEIGHT = 220
_PLOT_HEIGHT = 120


def picture(
    video: VideoScores, frames: UInt8[np.ndarray, "T H W 3"], scores: Scores
) -> UInt8[np.ndarray, "H2 W2 3"] | None:
    """Frames around the contact, and how much of each object the actor covers over time.

    Args:
      video: scores with contact; None is given without.
      frames: of the video.
      scores: all that were made with it (the rule and names count).
    """
    if video.touches is None or video.objects is None:
        return None
    touches, held = video.touches, contact.contact_frames(video.touches.shares, scores.rule)
    cells, captions = [], []
    for index in _chosen(touches, held):
        number = int(touches.frames[index])
        cells.append(_cell(frames[number], video, touches, index, held[:, index]))
        captions.append(_caption(number, held[:, index], video))
    sheet = sheets.contact_sheet(
        cells, captions, columns=min(_COLUMNS, len(cells)), cell_height=_CELL_HEIGHT
    )
    width = max(sheet.shape[1], 640)
    sheet = _padded(sheet, width)
    parts = [_head(video, scores, width), sheet, _plot(video, touches, held, scores, width)]
    return np.concatenate([*parts, _legend(video, scores, width)])


def _chosen(touches: Touches, held: Bool[np.ndarray, "S T"]) -> list[int]:
    """Frames to show: first and last, begin and height of each contact, the rest evenly between.

    Where there are too many, those of the targets come first.
    """
    length = held.shape[1]
    kept = {0, length - 1}
    for row, shares in zip(held, touches.shares, strict=True):
        wanted = [int(row.argmax()), int(np.where(row, shares, -1).argmax())] if row.any() else []
        for index in wanted:
            if len(kept) < _CELLS:
                kept.add(index)
    while len(kept) < min(_CELLS, length):
        shown = sorted(kept)
        widest = int(np.diff(shown).argmax())
        kept.add((shown[widest] + shown[widest + 1]) // 2)
    return sorted(kept)


def _cell(
    frame: UInt8[np.ndarray, "H W 3"],
    video: VideoScores,
    touches: Touches,
    index: int,
    held: Bool[np.ndarray, " S"],
) -> UInt8[np.ndarray, "h w 3"]:
    """One frame, enlarged or shrunk, with everything drawn on it."""
    zoom = _CELL_HEIGHT / frame.shape[0]
    size_hw = (_CELL_HEIGHT, max(8, round(frame.shape[1] * zoom)))
    drawn = canvas.resize(frame, size_hw).copy()
    _outline(drawn, touches.actor.region[index], _ACTOR, fill=0.25)
    for number, region in enumerate(touches.objects[:, index]):
        colour = _TARGET if number < video.objects.num_targets else _OTHER
        _outline(drawn, region, colour, fill=0.5 if held[number] else 0.15, width=2)
    for box, note in zip(touches.actor.boxes[index], touches.actor.notes[index], strict=True):
        left, top, right, bottom = (round(float(v) * zoom) for v in box)
        cv2.rectangle(drawn, (left, top), (right, bottom), _ACTOR, 1, cv2.LINE_AA)
        _word(drawn, note, (left + 2, max(0, top - 14)))
    if held.any():
        colour = _TOUCH if held[: video.objects.num_targets].any() else _OTHER
        cv2.rectangle(drawn, (1, 1), (size_hw[1] - 2, size_hw[0] - 2), colour, 3)
    return drawn


def _outline(
    drawn: UInt8[np.ndarray, "h w 3"],
    region: Bool[np.ndarray, "H W"],
    colour: canvas.Rgb,
    *,
    fill: float,
    width: int = 1,
) -> None:
    """Tints a region and draws its edge, in place."""
    small = region.astype(np.uint8)
    small = cv2.resize(small, drawn.shape[1::-1], interpolation=cv2.INTER_NEAREST_EXACT)
    inside = small > 0
    drawn[inside] = np.round((1 - fill) * drawn[inside] + fill * np.array(colour)).astype(np.uint8)
    lines, _ = cv2.findContours(small, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(drawn, lines, -1, colour, width, cv2.LINE_AA)


def _word(drawn: UInt8[np.ndarray, "h w 3"], text: str, place: tuple[int, int]) -> None:
    image = Image.fromarray(drawn)
    draw = ImageDraw.Draw(image)
    box = draw.textbbox(place, text, font=canvas.font(11))
    draw.rectangle((box[0] - 1, box[1] - 1, box[2] + 1, box[3] + 1), fill=canvas.THEME.canvas)
    draw.text(place, text, font=canvas.font(11), fill=_ACTOR)
    drawn[:] = np.asarray(image)


def _caption(number: int, held: Bool[np.ndarray, " S"], video: VideoScores) -> str:
    targets, what = video.objects.num_targets, f"frame {number}"
    if held[:targets].any():
        what += ", touches the target"
    elif held.any():
        what += ", touches another object"
    return what


def _head(video: VideoScores, scores: Scores, width: int) -> UInt8[np.ndarray, "h W 3"]:
    """Name and verdict."""
    found = verdict(video, scores)
    first = [frame for frame in found["first_frame"] if frame >= 0]
    said = f"contact with the target from frame {min(first)}" if first else "no contact"
    if found["aligned"] is False:
        said = said if first else "no contact with the target"
        said += f", another object is touched {'before' if first else 'instead'}"
    accent = _TOUCH if first else canvas.THEME.muted
    name = video.info.path.replace("\\", "/").rsplit("/", 1)[-1]
    return canvas.label_strip(width, f"{name}: {said}", accent=accent)


class _Axes(NamedTuple):
    """Where a frame's number and a share lie in the plot, px."""

    left: int
    right: int
    top: int
    bottom: int
    last: int
    highest: float

    def x(self, frame: canvas.Number) -> float:
        kept = min(max(float(frame), 0.0), float(self.last))
        return self.left + (self.right - self.left) * kept / self.last

    def y(self, share: canvas.Number) -> float:
        return self.bottom - (self.bottom - self.top) * float(share) / self.highest


def _plot(
    video: VideoScores, touches: Touches, held: np.ndarray, scores: Scores, width: int
) -> UInt8[np.ndarray, "h W 3"]:
    """Covered share of each object by time; frames in contact with a target are shaded."""
    image = Image.new("RGB", (width, _PLOT_HEIGHT), canvas.THEME.canvas)
    draw, targets = ImageDraw.Draw(image), video.objects.num_targets
    last = max(1, int(touches.frames[-1]))
    highest = max(float(touches.shares.max()), 4 * scores.rule.overlap, 0.05)
    axes = _Axes(70, width - 50, 12, _PLOT_HEIGHT - 26, last, highest)
    half = float(np.diff(touches.frames).max(initial=1)) / 2
    for frame in touches.frames[held[:targets].any(0)]:
        box = (axes.x(frame - half), axes.top, axes.x(frame + half), axes.bottom)
        draw.rectangle(box, fill=_SHADE)
    draw.line([(axes.left, axes.bottom), (axes.right, axes.bottom)], fill=canvas.THEME.line)
    for x in range(axes.left, axes.right, 10):
        y = axes.y(scores.rule.overlap)
        draw.line([(x, y), (x + 5, y)], fill=canvas.THEME.muted)
    for number, shares in reversed(list(enumerate(touches.shares))):
        points = [(axes.x(f), axes.y(s)) for f, s in zip(touches.frames, shares, strict=True)]
        draw.line(points, fill=_TARGET if number < targets else _OTHER, width=2)
    look = dict(font=canvas.font(12), fill=canvas.THEME.muted)
    for share in (0, highest):
        place = (axes.left - 8, axes.y(share))
        draw.text(place, f"{100 * share:.0f} %", anchor="rm", **look)
    for frame in (0, last // 2, last):
        draw.text((axes.x(frame), axes.bottom + 12), f"frame {frame}", anchor="mm", **look)
    return np.asarray(image).copy()


def _legend(video: VideoScores, scores: Scores, width: int) -> UInt8[np.ndarray, "h W 3"]:
    image = Image.new("RGB", (width, 48), canvas.THEME.canvas)
    draw, left = ImageDraw.Draw(image), 10
    entries = [("target", _TARGET)]
    if len(video.objects.names) > video.objects.num_targets:
        entries.append(("another object", _OTHER))
    entries += [(f"actor, by {scores.providers['contact_score']['name']}", _ACTOR)]
    entries += [("contact with the target", _TOUCH)]
    for words, colour in entries:
        draw.ellipse((left, 4, left + 10, 14), fill=colour)
        draw.text((left + 16, 9), words, font=canvas.font(13), fill=canvas.THEME.text, anchor="lm")
        left += 16 + canvas.text_width(words, 13) + 24
    rule = scores.rule
    words = (
        f"Curves: share of an object that the actor covers or nearly, by frame. Contact: at least "
        f"{100 * rule.overlap:g} % (dashed) in {rule.frames} looks in a row, "
        f"about eight looks a second."
    )
    words = canvas.elide(words, width - 20, 12)
    draw.text((10, 33), words, font=canvas.font(12), fill=canvas.THEME.muted, anchor="lm")
    return np.asarray(image).copy()


def _padded(sheet: UInt8[np.ndarray, "H W 3"], width: int) -> UInt8[np.ndarray, "H W2 3"]:
    wide = np.empty((sheet.shape[0], width, 3), np.uint8)
    wide[:] = canvas.THEME.canvas
    wide[:, : sheet.shape[1]] = sheet
    return wide
