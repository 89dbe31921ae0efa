"""Pictures as the models read them: opened, checked, fitted to a size."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageOps

from tavid_jax.pipelines.jobs import ImageSource
from tavid_jax.untrusted.errors import reading
from tavid_jax.untrusted.pictures import picture_bytes


class ImageError(ValueError):
    """A picture cannot be used; the message names it."""


def read_image(source: ImageSource) -> UInt8[np.ndarray, "H W 3"]:
    """RGB pixels, 0..255.

    Args:
      source: a file (PNG, JPEG, WebP, BMP or GIF), an array (H, W, 3) of uint8, or a picture.
        Photographs are turned as their camera notes.

    Raises:
      ValueError: not there, unreadable, of another type, of more than 8 bits, or with
        transparency, which no video model knows: lay it on a background first.
    """
    if isinstance(source, np.ndarray):
        if source.dtype != np.uint8 or source.ndim != 3 or source.shape[2] != 3:
            raise ValueError(
                f"an image of shape {source.shape} and type {source.dtype}: "
                "give RGB pixels (H, W, 3) of uint8"
            )
        return source
    name = str(source) if isinstance(source, str | os.PathLike) else "the image"
    with reading(name, ImageError, "an image"):
        image = source if isinstance(source, Image.Image) else open_picture(source)
        image.load()
    if "A" in image.getbands() or "transparency" in image.info:
        raise ValueError(
            f"{name} has an alpha channel: lay it on a background and save it without "
            "transparency (for example as a JPEG)"
        )
    if image.mode[0] in "IF":  # Pillow would cut off what is above 255
        raise ValueError(
            f"{name} has more than 8 bits per pixel ({image.mode}): scale it to 0..255 and save "
            "it with 8"
        )
    return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


def open_picture(path: str | os.PathLike) -> Image.Image:
    """A file of a picture, whose pixels are not decoded yet.

    Raises:
      OSError, UntrustedError and others: see `untrusted.errors.DAMAGED`; call it under `reading`.
    """
    return Image.open(picture_bytes(Path(path).expanduser()))


def fit_image(
    image: UInt8[np.ndarray, "h w 3"],
    size_hw: tuple[int, int],
    how: str = "cover",
    filter: Image.Resampling = Image.Resampling.LANCZOS,
) -> UInt8[np.ndarray, "H W 3"]:
    """An image of another size.

    Args:
      image: RGB, 0..255.
      size_hw: to fit.
      how: "cover" keeps the aspect ratio and cuts off what stands out, evenly on both sides;
        "stretch" resizes each axis on its own.
      filter: how pixels are resampled.
    """
    height, width = size_hw
    if how == "stretch":
        return _resized(image, (height, width), filter)
    rows, columns = cover_hw(image.shape[:2], size_hw)
    resized = _resized(image, (rows, columns), filter)
    top, left = (rows - height) // 2, (columns - width) // 2
    return resized[top : top + height, left : left + width]


def cover_hw(image_hw: tuple[int, int], size_hw: tuple[int, int]) -> tuple[int, int]:
    """The size of an image that covers another one, before what stands out is cut off."""
    scale = max(size_hw[0] / image_hw[0], size_hw[1] / image_hw[1])
    rows, columns = (max(s, round(n * scale)) for n, s in zip(image_hw, size_hw, strict=True))
    return rows, columns


def to_pixels(image: UInt8[np.ndarray, "*B H W 3"]) -> Float[np.ndarray, "*B H W 3"]:
    """0..255 -> [-1, 1], float32."""
    return image.astype(np.float32) / 127.5 - 1.0


def to_bytes(pixels: Float[np.ndarray, "*B H W 3"]) -> UInt8[np.ndarray, "*B H W 3"]:
    """[-1, 1] -> 0..255, rounded; what is outside is cut off."""
    return np.clip(np.round(pixels * 127.5 + 127.5), 0, 255).astype(np.uint8)


def size_of_area(
    image_hw: tuple[int, int], area: int, multiple: int, *, published: bool = False
) -> tuple[int, int]:
    """The height and width of about `area` pixels with the aspect ratio of an image.

    Args:
      image_hw: its size.
      area: pixels, such as 480 * 832.
      multiple: of which both sides must be: the autoencoder's stride times the patch.
      published: as Wan 2.1's code computes it. There, a side that is whole in exact arithmetic may
        fall just short of it in floating point and lose one multiple: an image of 832 x 480 with
        the area of 480 * 832 becomes 464 high.

    Returns:
      Both sides rounded down to `multiple`.
    """
    aspect = image_hw[0] / image_hw[1]
    slack = 0.0 if published else 1e-6
    sides = math.sqrt(area * aspect), math.sqrt(area / aspect)
    height, width = (max(1, math.floor(side / multiple + slack)) * multiple for side in sides)
    return height, width


def _resized(image: np.ndarray, size_hw: tuple[int, int], filter: Image.Resampling) -> np.ndarray:
    if tuple(image.shape[:2]) == tuple(size_hw):
        return image
    return np.asarray(Image.fromarray(image).resize(size_hw[::-1], filter))
