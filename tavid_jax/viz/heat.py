"""Maps as colours over frames: what attention looks at."""

from __future__ import annotations

import functools

import cv2
import numpy as np
from jaxtyping import Float, Num, UInt8

from tavid_jax.viz import canvas

# Share of the colour over a frame, where a map is least and where it is most.
_LEAST, _MOST = 0.4, 0.9
# Grey of the frame's black and white, darker than the brightest colours: what shines is the map.
_BLACK, _WHITE = 25, 150
# Grids of fewer cells a side are shown as squares, so that their cells are seen.
_SMOOTH_FROM = 12


def scaled(maps: Num[np.ndarray, "*B h w"]) -> Float[np.ndarray, "*B h w"]:
    """From the least value of all to the largest, as 0 to 1; zeros where all are equal."""
    maps = maps.astype(np.float64)
    low, high = maps.min(), maps.max()
    return (maps - low) / (high - low) if high > low else np.zeros_like(maps)


def colours(values: Float[np.ndarray, "*B h w"]) -> UInt8[np.ndarray, "*B h w 3"]:
    """RGB of values in [0, 1]: dark blue over green to yellow."""
    return _viridis()[np.clip(np.round(255 * values), 0, 255).astype(int)]


@functools.cache
def _viridis() -> UInt8[np.ndarray, "256 3"]:
    import matplotlib  # here: slow to import, and not needed to train

    return np.round(255 * matplotlib.colormaps["viridis"](np.arange(256))[:, :3]).astype(np.uint8)


def enlarged(
    values: Float[np.ndarray, "h w"], size_hw: tuple[int, int]
) -> Float[np.ndarray, "H W"]:
    """A map at another size: fine ones smoothly, of coarse ones every cell a square."""
    fine = min(values.shape) >= _SMOOTH_FROM
    method = cv2.INTER_LINEAR if fine else cv2.INTER_NEAREST_EXACT
    return cv2.resize(values.astype(np.float64), size_hw[::-1], interpolation=method)


def over(
    frame: UInt8[np.ndarray, "H W 3"],
    values: Float[np.ndarray, "h w"],
    mask: Num[np.ndarray, "H W"] | None = None,
) -> UInt8[np.ndarray, "H W 3"]:
    """A map over a grey copy of a frame.

    Args:
      frame: RGB.
      values: in [0, 1], see `scaled`.
      mask: whose outline is drawn.
    """
    wide = enlarged(values, frame.shape[:2])
    grey = frame.astype(np.float64) @ np.array([0.299, 0.587, 0.114]) / 255
    grey = _BLACK + (_WHITE - _BLACK) * grey
    share = (_LEAST + (_MOST - _LEAST) * wide)[..., None]
    mixed = (1 - share) * grey[..., None] + share * colours(wide)
    picture = np.round(mixed).astype(np.uint8)
    return picture if mask is None else outlined(picture, mask)


def outlined(
    picture: UInt8[np.ndarray, "H W 3"],
    mask: Num[np.ndarray, "H W"],
    colour: canvas.Rgb = (255, 84, 112),
) -> UInt8[np.ndarray, "H W 3"]:
    """A copy with a line around a mask, outside of it."""
    inside = (mask >= 0.5).astype(np.uint8)
    width = max(1, round(min(mask.shape) / 100))
    kernel = np.ones((2 * width + 1, 2 * width + 1), np.uint8)
    out = picture.copy()
    out[(cv2.dilate(inside, kernel) > 0) & (inside == 0)] = colour
    return out


def brought(frame: UInt8[np.ndarray, "H W 3"], height: int) -> UInt8[np.ndarray, "h w 3"]:
    """A frame at least `height` px high in whole zooms, without blur; a larger one shrunk to it."""
    if frame.shape[0] < height:
        return canvas.enlarge(frame, height)
    return canvas.resize(frame, (height, max(1, round(frame.shape[1] * height / frame.shape[0]))))


def mask_brought(
    mask: Num[np.ndarray, "H W"], size_hw: tuple[int, int]
) -> Float[np.ndarray, "h w"]:
    """A mask at another size, by the nearest pixel."""
    return cv2.resize(mask.astype(np.float64), size_hw[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
