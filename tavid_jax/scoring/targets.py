"""The things that may be touched: masks of frame 0 beside a video, carried through it.

For `<stem>.mp4` (or the folder of images `<stem>`) these are looked for:

    <stem>.target.png or <stem>.mask.png, <stem>.target_2.png, ...    targets
    <stem>.other.png, <stem>.other_2.png, ...                         what should not be touched
"""

from __future__ import annotations

import dataclasses
import os
import re
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Bool, UInt8

from tavid_jax.data import files
from tavid_jax.data.carry import carry_masks
from tavid_jax.data.tracker import Tracker
from tavid_jax.data.video import natural_key
from tavid_jax.scoring.providers import ScoringError
from tavid_jax.untrusted.errors import reading
from tavid_jax.untrusted.pictures import check_picture

_MASK = re.compile(r"\.(target|mask|other)(_\d+)?\.png")


@dataclasses.dataclass(frozen=True, eq=False)
class Objects:
    """What may be touched in one video.

    Attributes:
      names: of the mask files; targets come first.
      num_targets: how many of them are targets.
      masks: of frame 0.
      notes: what was done to the masks, for people.
    """

    names: tuple[str, ...]
    num_targets: int
    masks: Bool[np.ndarray, "S H W"]
    notes: tuple[str, ...] = ()


def find_masks(video: str | os.PathLike, folder: str | os.PathLike | None) -> list[Path]:
    """Mask files of a video, targets first; none if there are none.

    Args:
      video: video file or folder of images.
      folder: where masks lie; None: beside the video.
    """
    place, stem = Path(folder if folder is not None else Path(video).parent), files.stem(video)
    found = {}
    for path in place.glob(f"{_escaped(stem)}.*.png"):
        match = _MASK.fullmatch(path.name.removeprefix(stem))
        if match:
            found[path] = (match[1] == "other", natural_key(path.name))
    return sorted(found, key=found.__getitem__)


def read_objects(paths: list[Path], video: str, size_hw: tuple[int, int]) -> Objects | None:
    """Masks at the size of the video, each pixel the nearest one; None without any.

    Raises:
      ScoringError: a file that is no picture, an empty mask, or one of another aspect ratio.
    """
    if not paths:
        return None
    masks, notes = [], []
    for path in paths:
        mask = _read(path)
        height, width = mask.shape
        if mask.shape != size_hw:
            if abs(width * size_hw[0] / (height * size_hw[1]) - 1) > 0.02:
                raise ScoringError(
                    f"{path}: is {width}x{height}, {video} is {size_hw[1]}x{size_hw[0]}: another "
                    "aspect ratio; draw the mask on the first frame of the video itself"
                )
            small = mask.astype(np.uint8)
            mask = cv2.resize(small, size_hw[::-1], interpolation=cv2.INTER_NEAREST_EXACT) > 0
            notes.append(f"{path.name} resized from {width}x{height}")
        if not mask.any():
            raise ScoringError(f"{path}: the mask is empty; white (above 127) is the object")
        masks.append(mask)
    targets = [path for path in paths if ".other" not in path.name[len(files.stem(video)) :]]
    if not targets:
        raise ScoringError(
            f"{video}: there are other objects ({paths[0].name}) but no target; add "
            f"{files.stem(video)}.target.png"
        )
    return Objects(tuple(p.name for p in paths), len(targets), np.stack(masks), tuple(notes))


def carried(
    video: UInt8[np.ndarray, "T H W 3"], objects: Objects, tracker: Tracker
) -> Bool[np.ndarray, "S T H W"]:
    """Where each object is in every frame, see `data.carry`."""
    return carry_masks(video, objects.masks, tracker)


def _read(path: Path) -> Bool[np.ndarray, "h w"]:
    with reading(path, ScoringError, "a mask"):
        check_picture(path)
    pixels = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if pixels is None:
        raise ScoringError(f"{path}: the mask cannot be decoded")
    return pixels > 127


def _escaped(stem: str) -> str:
    return re.sub(r"([*?[])", r"[\1]", stem)
