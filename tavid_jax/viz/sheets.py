"""Contact sheets: many captioned pictures as one."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8

from tavid_jax.viz import canvas


def contact_sheet(
    images: Sequence[UInt8[np.ndarray, "_ _ 3"]],
    captions: Sequence[str] = (),
    *,
    columns: int | None = None,
    cell_height: int = 160,
    theme: canvas.Theme = canvas.THEME,
) -> UInt8[np.ndarray, "H W 3"]:
    """Lay pictures of any sizes out on a grid of equal cells, each above its caption.

    Args:
      images: RGB, 0..255; each keeps its aspect and is centred in its cell.
      captions: none, or one per picture; cut with an ellipsis where too long.
      columns: default: about as wide as four to three.
      cell_height: px of a cell without its caption; a cell is as wide as the median aspect asks.

    Raises:
      ValueError: no pictures, or another number of captions.
    """
    if not images:
        raise ValueError("contact_sheet needs at least one picture")
    if captions and len(captions) != len(images):
        raise ValueError(f"{len(captions)} captions for {len(images)} pictures")
    aspects = [image.shape[1] / image.shape[0] for image in images]
    cell_width = max(8, round(cell_height * float(np.median(aspects))))
    if columns is None:
        columns = round((len(images) * 4 / 3 * cell_height / cell_width) ** 0.5)
    columns = min(max(columns, 1), len(images))
    strip = theme.header if captions else 0
    rows, gap = -(-len(images) // columns), theme.gap
    height = rows * (cell_height + strip + gap) + gap
    width = columns * (cell_width + gap) + gap
    sheet = np.empty((height, width, 3), np.uint8)
    sheet[:] = theme.canvas
    for index, image in enumerate(images):
        row, column = divmod(index, columns)
        top = gap + row * (cell_height + strip + gap)
        left = gap + column * (cell_width + gap)
        _place(sheet[top : top + cell_height, left : left + cell_width], image)
        if captions:
            below = top + cell_height
            sheet[below : below + strip, left : left + cell_width] = canvas.label_strip(
                cell_width, captions[index], theme=theme
            )
    return sheet


def moving_sheet(
    clips: Sequence[UInt8[np.ndarray, "T H W 3"]],
    captions: Sequence[str],
    *,
    accents: Sequence[canvas.Rgb | None] = (),
    columns: int = 6,
    lines: int = 3,
    theme: canvas.Theme = canvas.THEME,
) -> UInt8[np.ndarray, "T H2 W2 3"]:
    """Clips of one size and length on a grid, each above its caption.

    Args:
      clips: RGB, 0..255.
      captions: one per clip, in at most `lines` lines.
      accents: none, or the colour of a dot before each caption (None: no dot).
      columns: clips side by side.

    Raises:
      ValueError: no clips, clips of different shapes, another number of captions or accents.
    """
    if not clips or len({clip.shape for clip in clips}) > 1:
        raise ValueError(f"{len(clips)} clips: at least one is needed, all of one shape")
    if len(captions) != len(clips) or len(accents or clips) != len(clips):
        raise ValueError(f"{len(captions)} captions, {len(accents)} accents, {len(clips)} clips")
    length, height, width = clips[0].shape[:3]
    dots = accents or [None] * len(clips)
    words = [
        canvas.caption_block(width, caption, lines=lines, accent=dot, theme=theme)
        for caption, dot in zip(captions, dots, strict=True)
    ]
    columns = min(columns, len(clips))
    step_y, step_x = height + len(words[0]) + theme.gap, width + theme.gap
    rows = -(-len(clips) // columns)
    sheet = np.empty((length, rows * step_y + theme.gap, columns * step_x + theme.gap, 3), np.uint8)
    sheet[:] = theme.canvas
    for index, (clip, block) in enumerate(zip(clips, words, strict=True)):
        row, column = divmod(index, columns)
        top, left = theme.gap + row * step_y, theme.gap + column * step_x
        sheet[:, top : top + height, left : left + width] = clip
        sheet[:, top + height : top + height + len(block), left : left + width] = block
    return sheet


def film_strip(
    frames: UInt8[np.ndarray, "T H W 3"], count: int = 3, *, cell_height: int = 160
) -> UInt8[np.ndarray, "h w 3"]:
    """`count` frames of a clip, evenly spread from first to last, in one row."""
    picks = np.unique(np.round(np.linspace(0, len(frames) - 1, count)).astype(int))
    captions = [f"frame {t + 1}" for t in picks]
    return contact_sheet(
        [frames[t] for t in picks], captions, columns=len(picks), cell_height=cell_height
    )


def _place(cell: np.ndarray, image: np.ndarray) -> None:
    """Scale to fit and centre."""
    zoom = min(cell.shape[0] / image.shape[0], cell.shape[1] / image.shape[1])
    size = tuple(
        min(max(1, round(side * zoom)), most)
        for side, most in zip(image.shape[:2], cell.shape[:2], strict=True)
    )
    top, left = (cell.shape[0] - size[0]) // 2, (cell.shape[1] - size[1]) // 2
    cell[top : top + size[0], left : left + size[1]] = canvas.resize(image, size)
