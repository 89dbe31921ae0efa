"""What every picture here shares: resizing, text, and one palette for light and dark pages."""

import dataclasses
import functools

import cv2
import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

Rgb = tuple[int, int, int]
Number = int | float | np.number  # what a caller may pass where a float is meant


@dataclasses.dataclass(frozen=True)
class Theme:
    """Colours (RGB, 0..255) and sizes (px) of the frame around pictures.

    The frame is dark, as a video player's is, so one encoded clip looks right on a light and on a
    dark page.
    """

    canvas: Rgb = (22, 25, 31)
    text: Rgb = (236, 239, 244)
    muted: Rgb = (128, 136, 150)
    line: Rgb = (58, 64, 75)
    history: Rgb = (148, 163, 184)
    prediction: Rgb = (122, 162, 255)
    truth: Rgb = (86, 211, 150)
    gap: int = 8
    header: int = 32
    font: int = 17


THEME = Theme()


@functools.cache
def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The anti-aliased font that ships inside Pillow, `size` px high: no file to look for."""
    return ImageFont.load_default(size)


def text_width(text: str, size: int) -> int:
    """Width of one line of text in px."""
    return int(np.ceil(font(size).getlength(text)))


def elide(text: str, width: int, size: int) -> str:
    """`text`, cut with an ellipsis so that it fits into `width` px."""
    if text_width(text, size) <= width:
        return text
    while text and text_width(text.rstrip() + "…", size) > width:
        text = text[:-1]
    return text.rstrip() + "…" if text else ""


def wrap(text: str, width: int, size: int, lines: int) -> list[str]:
    """`text` in at most so many lines of `width` px, broken at spaces; the last one is cut."""
    words, rows = text.split(), [""]
    while words:
        longer = f"{rows[-1]} {words[0]}".strip()
        if rows[-1] and len(rows) < lines and text_width(longer, size) > width:
            rows.append("")
            continue
        rows[-1] = longer
        words.pop(0)
    return [elide(row, width, size) for row in rows]


def caption_block(
    width: int,
    text: str,
    *,
    lines: int = 2,
    size: int = 13,
    accent: Rgb | None = None,
    theme: Theme = THEME,
) -> UInt8[np.ndarray, "h W 3"]:
    """Words beneath a picture, `lines` high whatever they need, an accent dot before them."""
    step = round(1.3 * size)
    block = Image.new("RGB", (width, lines * step + 6), theme.canvas)
    draw, left = ImageDraw.Draw(block), 1
    if accent is not None:
        draw.ellipse((1, 3 + size // 2 - 4, 9, 3 + size // 2 + 4), fill=accent)
        left = 14
    for row, words in enumerate(wrap(text, width - left - 1, size, lines)):
        draw.text((left, 3 + row * step), words, font=font(size), fill=theme.text)
    return np.asarray(block).copy()


def label_strip(
    width: int,
    label: str,
    counter: str = "",
    *,
    accent: Rgb | None = None,
    active: bool = True,
    theme: Theme = THEME,
) -> UInt8[np.ndarray, "h W 3"]:
    """One line above a panel: an accent dot, a label at the left, a counter at the right.

    An inactive strip is muted: its panel stands still at the moment.
    """
    strip = Image.new("RGB", (width, theme.header), theme.canvas)
    draw = ImageDraw.Draw(strip)
    middle, left, size = theme.header / 2, 2, theme.font
    if accent is not None:
        dot = accent if active else theme.line
        draw.ellipse((left + 1, middle - 5, left + 11, middle + 5), fill=dot)
        left += 19
    right = width - 2
    if counter:
        draw.text((right, middle), counter, font=font(size - 2), fill=theme.muted, anchor="rm")
        right -= text_width(counter, size - 2) + 8
    colour = theme.text if active else theme.muted
    text = elide(label, max(right - left, 0), size)
    draw.text((left, middle), text, font=font(size), fill=colour, anchor="lm")
    return np.asarray(strip).copy()


def resize(
    image: UInt8[np.ndarray, "H W 3"], size_hw: tuple[int, int]
) -> UInt8[np.ndarray, "h w 3"]:
    """Resize to `size_hw`: area averaging when shrinking, smooth when enlarging."""
    height, width = size_hw
    if image.shape[:2] == (height, width):
        return image
    shrinks = height < image.shape[0]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    return cv2.resize(image, (width, height), interpolation=method)


def enlarge(
    frames: UInt8[np.ndarray, "*B H W 3"], least_height: int
) -> UInt8[np.ndarray, "*B h w 3"]:
    """Every pixel as a square of equal pixels, so that nothing is blurred.

    The smallest whole zoom that makes the height at least `least_height` px; larger pictures are
    returned as they are.
    """
    zoom = max(1, -(-least_height // frames.shape[-3]))
    return frames.repeat(zoom, axis=-3).repeat(zoom, axis=-2)


def resize_clip(
    frames: UInt8[np.ndarray, "T H W 3"], size_hw: tuple[int, int]
) -> UInt8[np.ndarray, "T h w 3"]:
    """`resize` for every frame."""
    if len(frames) == 0:
        return np.zeros((0, *size_hw, 3), np.uint8)
    return np.stack([resize(frame, size_hw) for frame in frames])


def blend_white(
    image: UInt8[np.ndarray, "*B H W 3"], amount: Number
) -> UInt8[np.ndarray, "*B H W 3"]:
    """Fade to white: 0 leaves the picture, 1 is white. Trails stay readable over it."""
    if not 0.0 <= amount <= 1.0:
        raise ValueError(f"amount of white must lie in [0, 1], got {amount}")
    faded = image.astype(np.float32) * (1.0 - amount) + 255.0 * amount
    return np.round(faded).astype(np.uint8)


def white(size_hw: tuple[int, int]) -> UInt8[np.ndarray, "H W 3"]:
    """A white picture of the given height and width."""
    return np.full((*size_hw, 3), 255, np.uint8)
