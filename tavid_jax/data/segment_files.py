"""Masks of segments beside a video, of the frame that a clip starts with.

For `<stem>.mp4` (or the folder of images `<stem>`) the first of these that is there is read:

    <stem>.pkl                                             run lengths of every frame: `rle_masks`
    <stem>.mask.png, or <stem>.mask_0.png, ...             pictures of frame 0
    <stem>.target.png, or <stem>.target_1.png, ..., and    pictures of frame 0: see `masks`
    <stem>.actor.png

A frame that they say nothing of has no masks, and a clip that starts there is all one segment.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from tavid_jax.data.clip import ClipError
from tavid_jax.data.masks import check_shape, fitted_mask, pictures, read_mask
from tavid_jax.data.rle_masks import masks_if_any
from tavid_jax.data.video import Fit
from tavid_jax.tracks.codes import MAX_SEGMENTS

SHAPE_TOLERANCE = 0.05  # of aspect ratios: 832x480 stands for 16:9


def find_segments(stem: str, folder: str | os.PathLike) -> tuple[str, ...]:
    """The files of the video of a stem in a folder; () if there are none.

    Raises:
      ClipError: pictures named both ways, or no such folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ClipError(f"{folder}: no such folder of masks")
    lengths, actor = folder / f"{stem}.pkl", folder / f"{stem}.actor.png"
    if lengths.is_file():
        return (str(lengths),)
    targets = pictures(stem, folder, "mask") or pictures(stem, folder, "target")
    named = targets and Path(targets[0]).name.startswith(f"{stem}.target")
    return (*targets, str(actor)) if named and actor.is_file() else targets


def segment_masks(
    paths: tuple[str, ...], frame: int, video: str, video_hw: tuple[int, int], cut: Fit
) -> Bool[np.ndarray, "S H W"] | None:
    """The masks of a frame, seen as the video's frames are; None if there are none to be seen.

    Args:
      paths: from `find_segments`.
      frame: number of the source frame.
      video: its path, for errors.
      video_hw: size of its frames.
      cut: how they become H x W.

    Raises:
      ClipError: a file that cannot be read, a picture without an object, masks of another aspect
        ratio than the video, or more masks than ids can tell.
    """
    masks = _read(paths, frame)
    if masks is None:
        return None
    if len(masks) > MAX_SEGMENTS:
        raise ClipError(
            f"{paths[0]}: {len(masks)} masks of frame {frame}, ids tell at most {MAX_SEGMENTS} "
            "segments apart: leave out or merge the smallest"
        )
    for path, mask in zip(paths if len(paths) > 1 else paths * len(masks), masks, strict=True):
        mend = "find the masks in the frames of the video itself"
        check_shape(mask.shape, path, video, video_hw, SHAPE_TOLERANCE, mend)
    fitted = np.stack([fitted_mask(mask, video_hw, cut) for mask in masks])
    return fitted if fitted.any() else None


def _read(paths: tuple[str, ...], frame: int) -> list[Bool[np.ndarray, "h w"]] | None:
    """At the files' own sizes."""
    if paths and paths[0].endswith(".pkl"):
        masks = masks_if_any(paths[0], frame)
        return None if masks is None else list(masks)
    if not paths or frame:
        return None
    masks = [read_mask(path) for path in paths]
    for path, mask in zip(paths, masks, strict=True):
        if not mask.any():
            raise ClipError(f"{path}: the mask is empty; the object must be white")
    return masks
