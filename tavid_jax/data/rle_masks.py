"""Masks of segments as FlexTraj keeps them: pickled run lengths of every frame.

The file holds a dict {frame: [mask, ...]}; a mask is COCO's dict {"size": [H, W], "counts": ...}
(see `rle`), and its place in the list is the segment: the same segment at the same place in all
frames. It is read without running anything (see `arrays`).
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool

from tavid_jax.data.arrays import read_pickle
from tavid_jax.data.cache import write_whole
from tavid_jax.data.clip import ClipError
from tavid_jax.data.rle import decode_rle
from tavid_jax.untrusted import limits
from tavid_jax.untrusted.errors import reading


def frame_masks(path: str | os.PathLike, frame: int = 0) -> Bool[np.ndarray, "S H W"]:
    """The masks of one frame; -1 is the last.

    Raises:
      ClipError: no such file or frame, a damaged or empty one, or masks of different sizes.
      ForbiddenContentError: see `arrays`.
    """
    frames = _read(path)
    last = max(frames)
    wanted = last + 1 + frame if frame < 0 else frame
    if wanted not in frames:
        raise ClipError(f"{path}: has no masks of frame {wanted}, only of {_span(frames)}")
    return _decoded(path, wanted, frames[wanted])


def masks_if_any(path: str | os.PathLike, frame: int) -> Bool[np.ndarray, "S H W"] | None:
    """The masks of one frame; None if the file has none of it.

    Raises:
      ClipError: as `frame_masks`, for a file that is no such file.
    """
    rles = _read(path).get(frame)
    return _decoded(path, frame, rles) if rles else None


def all_masks(path: str | os.PathLike) -> Bool[np.ndarray, "T S H W"]:
    """The masks of frames 0 to T - 1; a segment that a frame does not list is nowhere in it.

    Raises:
      ClipError: as `frame_masks`, or a frame between the first and the last is missing.
    """
    frames = _read(path)
    with reading(path, ClipError, "masks"):
        limits.check("video_frames", int(max(frames)) + 1, "its last frame")
    missing = sorted(set(range(max(frames) + 1)) - set(frames))
    if missing:
        raise ClipError(f"{path}: has no masks of frame {missing[0]}, only of {_span(frames)}")
    decoded = [_decoded(path, frame, frames[frame]) for frame in sorted(frames)]
    sizes = {masks.shape[1:] for masks in decoded}
    if len(sizes) > 1:
        raise ClipError(f"{path}: frames have masks of different sizes: {sorted(sizes)}")
    most = max(len(masks) for masks in decoded)
    with reading(path, ClipError, "masks"):
        limits.check_video(len(decoded) * most, decoded[0].shape[1:], 1)
    out = np.zeros((len(decoded), most, *decoded[0].shape[1:]), bool)
    for frame, masks in enumerate(decoded):
        out[frame, : len(masks)] = masks
    return out


def write_rle_masks(path: str | os.PathLike, masks: Bool[np.ndarray, "T S H W"]) -> None:
    """Writes such a file, whole or not at all."""
    size = [int(side) for side in masks.shape[2:]]
    frames = {
        t: [{"size": size, "counts": _encoded(mask)} for mask in masks[t]]
        for t in range(len(masks))
    }
    write_whole(path, pickle.dumps(frames, protocol=4))


def _read(path: str | os.PathLike) -> Mapping[int, Any]:
    frames = read_pickle(path)
    if isinstance(frames, list):
        frames = dict(enumerate(frames))
    whole = isinstance(frames, Mapping) and all(
        isinstance(frame, int | np.integer) and isinstance(masks, list | tuple)
        for frame, masks in frames.items()
    )
    if not whole:
        raise ClipError(
            f"{path}: no masks in it; they are a dict of frame number -> list of COCO run lengths"
        )
    if not frames:
        raise ClipError(f"{path}: holds no frames")
    return frames


def _decoded(path: str | os.PathLike, frame: int, rles: Any) -> Bool[np.ndarray, "S H W"]:
    if not rles:
        raise ClipError(f"{path}: frame {frame} has no masks")
    masks = []
    with reading(path, ClipError, "masks"):
        limits.check("segments", len(rles), f"masks of frame {frame}")
    for place, rle in enumerate(rles):
        if not isinstance(rle, Mapping):
            raise ClipError(f"{path}: mask {place} of frame {frame} is no dict of run lengths")
        try:
            masks.append(decode_rle(rle))
        except ClipError as error:
            raise ClipError(f"{path}: mask {place} of frame {frame}: {error}") from error
        if place == 0:
            with reading(path, ClipError, "masks"):
                limits.check_video(len(rles), masks[0].shape, 1)
        if masks[-1].shape != masks[0].shape:
            raise ClipError(
                f"{path}: mask {place} of frame {frame} is {masks[-1].shape}, the first is "
                f"{masks[0].shape}"
            )
    return np.stack(masks)


def _span(frames: Mapping[int, Any]) -> str:
    return f"{min(frames)} to {max(frames)} ({len(frames)} frames)"


def _encoded(mask: Bool[np.ndarray, "H W"]) -> bytes:
    """Run lengths as COCO's row of characters (see `rle`)."""
    pixels = np.concatenate([[False], mask.T.ravel()])
    edges = np.flatnonzero(np.diff(pixels)).tolist()
    ends = [*edges, mask.size]
    counts = [end - start for start, end in zip([0, *edges], ends, strict=True)]
    text = bytearray()
    for place, count in enumerate(counts):
        number = count - (counts[place - 2] if place > 2 else 0)
        more = True
        while more:
            five, number = number & 31, number >> 5
            more = number != (-1 if five & 16 else 0)
            text.append(48 + five + 32 * more)
    return bytes(text)
