"""What attention looks at, for a person: a heat-map film of a word, and a grid of all blocks."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Num, UInt8
from PIL import Image, ImageDraw

from tavid_jax.viz import canvas, heat
from tavid_jax.viz.panels import Panel, side_by_side

# px of a film's panel that is smaller, and of one cell of a grid.
_LEAST_PANEL, _CELL = 192, 120
_LABEL, _STRIP, _HEAD = 84, 20, 30


def heat_clip(
    frames: UInt8[np.ndarray, "T H W 3"],
    maps: Float[np.ndarray, "F h w"],
    spans: Sequence[tuple[int, int]],
    word: str,
    mask: Num[np.ndarray, "H W"] | None = None,
    *,
    most_height: int = 480,
) -> UInt8[np.ndarray, "t H2 W2 3"]:
    """The video beside a word's map over it.

    Args:
      frames: the video.
      maps: one for each of `spans`; each has its own scale of colours.
      spans: the frames [start, stop) that each map stands for; others are left out.
      word: for the label.
      mask: outlined in the first frame, which it belongs to.

    Raises:
      ValueError: another number of spans than maps, or none that holds a frame.
    """
    shown = [(t, f) for f, (start, stop) in enumerate(spans) for t in range(start, stop)]
    if len(spans) != len(maps) or not shown:
        raise ValueError(f"{len(maps)} maps and the spans {tuple(spans)}: give a span for each")
    values = [heat.scaled(one) for one in maps]
    height = min(max(frames.shape[1], _LEAST_PANEL), most_height)
    plain, hot = [], []
    for t, f in shown:
        frame = heat.brought(frames[t], height)
        edge = None if mask is None or t else heat.mask_brought(mask, frame.shape[:2])
        plain.append(frame if edge is None else heat.outlined(frame, edge))
        hot.append(heat.over(frame, values[f], edge))
    counters = [f"{t + 1} / {len(frames)}" for t, _ in shown]
    return side_by_side(
        [
            Panel("video", np.stack(plain), counters, accent=canvas.THEME.history),
            Panel(f"“{word}”", np.stack(hot), accent=(253, 231, 37)),
        ]
    )


@dataclasses.dataclass(frozen=True, eq=False)
class Row:
    """Maps of one block, one for each column of a grid.

    Attributes:
      label: such as "block 3".
      maps: each has its own scale of colours.
      scores: printed below, e.g. the overlap with a mask; none, or one for each.
    """

    label: str
    maps: Float[np.ndarray, "S h w"]
    scores: Sequence[float] = ()


def heat_grid(
    frame: UInt8[np.ndarray, "H W 3"],
    rows: Sequence[Row],
    columns: Sequence[str],
    title: str,
    mask: Num[np.ndarray, "H W"] | None = None,
    *,
    score: str = "IoU",
    theme: canvas.Theme = canvas.THEME,
) -> UInt8[np.ndarray, "h w 3"]:
    """Maps over one frame: rows below each other, in as many groups as make a handy picture.

    Args:
      frame: that the maps lie over; it is shown in front of them.
      rows: at least one.
      columns: heads of the maps of a row, such as "step 1".
      title: above all.
      mask: outlined in every picture.
      score: what the scores are.

    Raises:
      ValueError: no rows, or one with another number of maps than `columns`.
    """
    if not rows or any(len(row.maps) != len(columns) for row in rows):
        raise ValueError(f"{len(rows)} rows: give one or more, each with {len(columns)} maps")
    ground = heat.brought(frame, _CELL)
    edge = None if mask is None else heat.mask_brought(mask, ground.shape[:2])
    strip = _STRIP if any(len(row.scores) for row in rows) else 0
    height, width = ground.shape[0] + strip + theme.gap, ground.shape[1] + theme.gap
    group_width = _LABEL + len(columns) * width + theme.gap
    groups = _groups(len(rows), group_width, height)
    deep = -(-len(rows) // groups)
    left, top = width + 2 * theme.gap, 2 * _HEAD
    sheet = _Sheet((left + groups * group_width, top + deep * height + theme.gap), theme)
    sheet.write((theme.gap, _HEAD / 2), title, "lm", theme.text, theme.font)
    sheet.write((theme.gap + ground.shape[1] / 2, 1.5 * _HEAD), "first frame")
    sheet.paste(ground if edge is None else heat.outlined(ground, edge), (theme.gap, top))
    best = _best(rows)
    for place, row in enumerate(rows):
        group, line = divmod(place, deep)
        x, y = left + group * group_width, top + line * height
        middle = y + ground.shape[0] / 2
        sheet.write((x + _LABEL - theme.gap, middle), row.label, "rm", theme.text)
        for column, values in enumerate(row.maps):
            across = x + _LABEL + column * width
            centre = across + ground.shape[1] / 2
            if line == 0:
                sheet.write((centre, 1.5 * _HEAD), columns[column])
            sheet.paste(heat.over(ground, heat.scaled(values), edge), (across, y))
            if len(row.scores):
                colour = theme.truth if (place, column) in best else theme.muted
                below = y + ground.shape[0] + strip / 2
                told = f"{score} {row.scores[column]:.2f}"
                sheet.write((centre, below), told, colour=colour, size=13)
    return np.asarray(sheet.image).copy()


class _Sheet:
    """A picture that texts and pictures are put on."""

    def __init__(self, size: tuple[int, int], theme: canvas.Theme):
        self.image = Image.new("RGB", size, theme.canvas)
        self._draw, self._muted = ImageDraw.Draw(self.image), theme.muted

    def write(
        self,
        at: tuple[canvas.Number, canvas.Number],
        text: str,
        anchor: str = "mm",
        colour: canvas.Rgb | None = None,
        size: int = 14,
    ) -> None:
        self._draw.text(at, text, font=canvas.font(size), fill=colour or self._muted, anchor=anchor)

    def paste(self, picture: UInt8[np.ndarray, "h w 3"], at: tuple[int, int]) -> None:
        self.image.paste(Image.fromarray(picture), at)


def _best(rows: Sequence[Row]) -> set[tuple[int, int]]:
    """(row, column) of the highest scores above zero of every column."""
    scores = {(i, j): x for i, row in enumerate(rows) for j, x in enumerate(row.scores)}
    tops: dict[int, float] = {}
    for (_, j), x in scores.items():
        tops[j] = max(x, tops.get(j, 0.0))
    return {(i, j) for (i, j), x in scores.items() if x == tops[j] > 0}


def _groups(rows: int, width: int, height: int) -> int:
    """How many groups of rows side by side come closest to four to three."""

    def off(groups: int) -> float:
        return abs(math.log(groups * width / (-(-rows // groups) * height) * 3 / 4))

    return min(range(1, rows + 1), key=off)


def stacked(
    pictures: Sequence[UInt8[np.ndarray, "_ _ 3"]], theme: canvas.Theme = canvas.THEME
) -> UInt8[np.ndarray, "H W 3"]:
    """Pictures of any widths below each other."""
    width = max(picture.shape[1] for picture in pictures)
    sheet = np.empty((sum(len(picture) for picture in pictures), width, 3), np.uint8)
    sheet[:] = theme.canvas
    top = 0
    for picture in pictures:
        sheet[top : top + len(picture), : picture.shape[1]] = picture
        top += len(picture)
    return sheet
