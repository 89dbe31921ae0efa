"""Masks of objects in frame 0, as pictures beside a video.

For `<stem>.mp4` (or the folder of images `<stem>`) these are looked for:

    <stem>.target.png                              the target
    <stem>.target_1.png, <stem>.target_2.png, ...  or several, in the order of their numbers
    <stem>.actor.png                               the actor, if known

White is the object: above 127 in the first channel.
"""

from __future__ import annotations

import dataclasses
import os
import re
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Bool
from PIL import Image, ImageOps

from tavid_jax.data.clip import ClipError
from tavid_jax.data.video import Fit
from tavid_jax.untrusted.errors import reading
from tavid_jax.untrusted.pictures import picture_bytes

MOST_COVERED = 0.95  # of a frame: more is no object
_SHAPE_TOLERANCE = 0.01  # relative difference of aspect ratios


@dataclasses.dataclass(frozen=True)
class MaskFiles:
    """The pictures that belong to one video.

    Attributes:
      targets: one path per target, at least one.
      actor: path, None = the actor is not known.
    """

    targets: tuple[str, ...]
    actor: str | None = None

    @property
    def paths(self) -> tuple[str, ...]:
        """Objects 1..S: the targets, then the actor."""
        return (*self.targets, self.actor) if self.actor else self.targets


def option(text: str | None) -> str | None:
    """What a config or command line says, as `open_clips(masks=...)` takes it.

    "" and None are no masks, "beside" those beside the videos, all else names a folder (a folder
    of that name is "./beside").
    """
    return {"": None, None: None, "beside": ""}.get(text, text)


def find_masks(stem: str, folder: str | os.PathLike) -> MaskFiles:
    """Finds the masks of the video of a stem in a folder.

    Raises:
      ClipError: no target, or both ways of naming targets.
    """
    actor, targets = Path(folder) / f"{stem}.actor.png", pictures(stem, folder, "target")
    if not targets:
        one = Path(folder) / f"{stem}.target.png"
        raise ClipError(f"no target mask: {one} (or {stem}.target_1.png, ...) is not there")
    return MaskFiles(targets, str(actor) if actor.is_file() else None)


def pictures(stem: str, folder: str | os.PathLike, word: str) -> tuple[str, ...]:
    """`<stem>.<word>.png`, or the numbered ones in the order of their numbers, of a folder.

    Raises:
      ClipError: both ways of naming them.
    """
    folder, one = Path(folder), Path(folder) / f"{stem}.{word}.png"
    pattern = re.compile(rf"{re.escape(stem)}\.{word}_(\d+)\.png")
    names = os.listdir(folder) if folder.is_dir() else []
    numbered = sorted((int(m[1]), m[0]) for m in map(pattern.fullmatch, names) if m)
    if one.is_file() and numbered:
        raise ClipError(f"{one}: there is {numbered[0][1]} too; keep one {word} or numbered ones")
    return (str(one),) if one.is_file() else tuple(str(folder / name) for _, name in numbered)


def read_mask(path: str | os.PathLike) -> Bool[np.ndarray, "h w"]:
    """Reads one picture at its own size, turned as its EXIF data say.

    Raises:
      ClipError: no picture.
    """
    with reading(path, ClipError, "a mask"):
        with Image.open(picture_bytes(path)) as picture:
            picture = ImageOps.exif_transpose(picture)
            if picture.mode == "P":
                picture = picture.convert("RGB")
            pixels = np.asarray(picture)
    first = pixels if pixels.ndim == 2 else pixels[..., 0]
    if first.dtype == bool:
        return first.copy()
    white = 255 if first.dtype == np.uint8 else 65535
    return first * (255.0 / white) > 127


def fitted_masks(
    masks: MaskFiles, video: str, video_hw: tuple[int, int], cut: Fit
) -> Bool[np.ndarray, "S H W"]:
    """The masks as the frames are seen: cut and resized alike, each pixel the nearest one.

    Args:
      masks: of frame 0.
      video: its path, for errors.
      video_hw: size of its frames.
      cut: how they become H x W.

    Raises:
      ClipError: a mask of another shape than the video, one that is empty or covers everything,
        before or after it is cut.
    """
    return np.stack([_fitted(path, video, video_hw, cut) for path in masks.paths])


def _fitted(path: str, video: str, video_hw: tuple[int, int], cut: Fit) -> Bool[np.ndarray, "H W"]:
    mask = read_mask(path)
    check_shape(mask.shape, path, video, video_hw, _SHAPE_TOLERANCE)
    _check_area(mask, path, "")
    mask = fitted_mask(mask, video_hw, cut)
    height, width = cut.size_hw
    _check_area(mask, path, f" after cutting {video} to {width}x{height}")
    return mask


def check_shape(
    mask_hw: tuple[int, ...],
    path: str,
    video: str,
    video_hw: tuple[int, int],
    tolerance: float,
    mend: str = "draw the mask on the first frame of the video itself",
) -> None:
    """Raises ClipError if a mask, or another picture of a video, has another aspect ratio."""
    (height, width), ratio = mask_hw, mask_hw[1] * video_hw[0] / (mask_hw[0] * video_hw[1])
    if abs(ratio - 1) > tolerance:
        raise ClipError(
            f"{path}: is {width}x{height}, {video} is {video_hw[1]}x{video_hw[0]}: another aspect "
            f"ratio; {mend}"
        )


def fitted_mask(
    mask: Bool[np.ndarray, "h w"], video_hw: tuple[int, int], cut: Fit
) -> Bool[np.ndarray, "H W"]:
    """A mask as the frames of its video are seen."""
    return cut.labels(resize_mask(mask, video_hw).astype(np.uint8)).astype(bool)


def resize_mask(mask: Bool[np.ndarray, "h w"], size_hw: tuple[int, int]) -> Bool[np.ndarray, "H W"]:
    """Each pixel takes the nearest one."""
    pixels = np.ascontiguousarray(mask, np.uint8)
    return cv2.resize(pixels, size_hw[::-1], interpolation=cv2.INTER_NEAREST_EXACT).astype(bool)


def _check_area(mask: Bool[np.ndarray, "h w"], path: str, when: str) -> None:
    if not mask.any():
        raise ClipError(f"{path}: the mask is empty{when}; the object must be white")
    if mask.mean() > MOST_COVERED:
        raise ClipError(
            f"{path}: the mask covers {mask.mean():.0%} of the frame{when}; only the object may be "
            "white"
        )
