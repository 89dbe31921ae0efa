"""Masks of objects in the first frame: read, fitted to a video, brought to latents and tokens.

The rule of fitting: a mask belongs to its image. It may have another resolution, but must have the
image's aspect ratio; it is brought to the image's size and then cut and resized exactly as the
image is (see `images.fit_image`), always by the nearest pixel.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float, Num
from PIL import Image, ImageOps

from tavid_jax.pipelines.images import ImageError, open_picture
from tavid_jax.pipelines.jobs import ImageSource
from tavid_jax.untrusted.errors import reading

How = Literal["nearest", "area", "max"]
HOWS = ("nearest", "area", "max")
# How far the aspect ratios of a mask and its image may be apart: a pixel of rounding, not a crop.
_ASPECT = 0.01

Mask = Float[np.ndarray, "H W"]


def read_mask(source: ImageSource, soft: bool = False) -> Mask:
    """A mask with values in [0, 1].

    Args:
      source: a file, a picture of Pillow's, or an array (H, W): bool, uint8 of 0..255, or float in
        [0, 1]. Of several channels the first one counts, as in the released code.
      soft: whether values between 0 and 1 stay; otherwise a half and more is 1.

    Raises:
      ValueError: not there, unreadable, of another type or out of range.
    """
    name = str(source) if isinstance(source, str | os.PathLike) else "the mask"
    values = _values(source, name)
    return values if soft else (values >= 0.5).astype(np.float32)


def _values(source: ImageSource, name: str) -> Mask:
    if isinstance(source, np.ndarray):
        array = source[..., 0] if source.ndim == 3 else source
    else:
        with reading(name, ImageError, "a mask"):
            image = source if isinstance(source, Image.Image) else open_picture(source)
            array = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))[..., 0]
    if array.ndim != 2 or array.dtype.kind not in "bfu":
        raise ValueError(
            f"{name} of shape {array.shape} and type {array.dtype}: give (H, W) of bool, of uint8 "
            "in 0..255 or of floats in [0, 1]"
        )
    scale = 255.0 if array.dtype == np.uint8 else 1.0
    array = array.astype(np.float32) / np.float32(scale)
    if not (np.isfinite(array).all() and array.min() >= 0 and array.max() <= 1):
        raise ValueError(f"{name} has values outside of [0, 1]: divide it by its largest one")
    return array


def check_mask(mask: Mask, name: str) -> None:
    """Raises ValueError for a mask that tells nothing: empty, or all of the frame."""
    if not (mask >= 0.5).any():
        raise ValueError(f"{name} is empty: no pixel of it is white; mark the object in white")
    if (mask >= 0.5).all():
        raise ValueError(f"{name} covers everything: mark the object alone in white")


def fit_mask(
    mask: Float[np.ndarray, "h w"],
    image_hw: tuple[int, int],
    size_hw: tuple[int, int],
    how: str,
    name: str = "mask",
) -> Mask:
    """A mask of an image as a mask of the video's frames.

    Args:
      mask: of any resolution, with the aspect ratio of the image (within 1 %).
      image_hw: size of the image that it belongs to.
      size_hw: of the frames.
      how: "cover" or "stretch", as the image is fitted.
      name: for messages.

    Raises:
      ValueError: another aspect ratio than the image; nothing, or everything, before or after the
        edges that the image loses are cut off.
    """
    check_mask(mask, name)
    height, width = mask.shape
    if abs(height / width * image_hw[1] / image_hw[0] - 1) > _ASPECT:
        raise ValueError(
            f"{name} is {height}x{width} (rows x columns), its image {image_hw[0]}x{image_hw[1]}: "
            "the aspect ratios differ; make the mask on the uncut image"
        )
    rows, columns = _sources(mask.shape, image_hw, size_hw, how)
    fitted = mask[np.ix_(rows, columns)]
    lost = not (fitted >= 0.5).any()
    if lost and (mask[_span(rows), _span(columns)] >= 0.5).any():
        raise ValueError(
            f"{name} is empty at {size_hw[0]}x{size_hw[1]}: its object is thinner than a pixel "
            "there; mark it more generously"
        )
    if lost:
        raise ValueError(
            f"{name} is empty once the image is cut to {size_hw[0]}x{size_hw[1]}: its object lies "
            "in the part that is cut off; give an image of that shape, or fit='stretch'"
        )
    check_mask(fitted, name)
    return fitted


def _sources(
    mask_hw: tuple[int, int], image_hw: tuple[int, int], size_hw: tuple[int, int], how: str
) -> list[np.ndarray]:
    """For every row, and every column, of the frames: that of the mask which it shows."""
    scale = max(size_hw[0] / image_hw[0], size_hw[1] / image_hw[1])
    taken = []
    for held, image, size in zip(mask_hw, image_hw, size_hw, strict=True):
        resized = size if how == "stretch" else max(size, round(image * scale))
        place = (np.arange(size) + (resized - size) // 2 + 0.5) * held / resized
        taken.append(np.clip(place.astype(int), 0, held - 1))
    return taken


def _span(taken: np.ndarray) -> slice:
    """All between the first and the last pixel that is taken, and what these two stand for."""
    around = int(taken[-1] - taken[0]) // max(1, 2 * (len(taken) - 1))
    return slice(max(0, int(taken[0]) - around), int(taken[-1]) + around + 1)


def pooled(mask: Num[np.ndarray, "*K H W"], cell: int, how: How) -> Float[np.ndarray, "*K h w"]:
    """A mask on cells of `cell` x `cell` pixels, in [0, 1].

    Args:
      mask: on pixels, both sides multiples of `cell`.
      cell: side of a cell: the autoencoder's stride for latents, times the patch for tokens.
      how: "nearest" takes the top-left pixel, as the released code does; "area" the mean; "max"
        any pixel, so that objects thinner than a cell are not lost.

    Raises:
      ValueError: another `how`, or sides that cells do not fill.
    """
    if how not in HOWS:
        raise ValueError(f"a mask is brought to cells by {', '.join(HOWS)}, not {how!r}")
    height, width = mask.shape[-2:]
    if height % cell or width % cell:
        raise ValueError(f"a mask of {height}x{width} does not consist of cells of {cell} pixels")
    if how == "nearest":
        return mask[..., ::cell, ::cell].astype(np.float32)
    cells = mask.reshape(*mask.shape[:-2], height // cell, cell, width // cell, cell)
    cells = cells.astype(np.float32)
    return cells.mean((-3, -1)) if how == "area" else cells.max((-3, -1))


def latent_masks(masks: Sequence[Mask], stride: int, how: How) -> Float[np.ndarray, "h w K"]:
    """Masks as the further input channels of a latent frame."""
    return np.stack([pooled(mask, stride, how) for mask in masks], axis=-1)
