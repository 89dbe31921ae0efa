"""DAVIS 2017 as cases for text-grounded trajectories: one point and one text for each object.

    ROOT/JPEGImages/480p/<sequence>/00000.jpg ...    frames
    ROOT/Annotations/480p/<sequence>/00000.png ...   palette pictures of object ids; 0 is none,
                                                     255 void, of which nobody knows
    ROOT/ImageSets/2017/val.txt                      names of sequences

TGT's protocol is published as "DAVIS, first frame and masks"; split, frames, prompts and points are
not told. Here: a point on each object of frame 0, as far from its edge as can be, followed through
the real video, which is resized to 832x480 and cut to 81 frames. DAVIS comes without words:

    {"bear": {"prompt": "a bear walks over rocks", "objects": {"1": "a brown bear"}}, ...}

or a CSV with the columns sequence, object, text, where an empty object (or 0) is the prompt.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image

from tavid_jax.data.clip import ClipError
from tavid_jax.data.grounding.points import edge_distance
from tavid_jax.data.tracker import DISTracker, Tracker
from tavid_jax.data.video import Resize, fit, image_files, read_video
from tavid_jax.tracks.trajectories import Trajectories
from tavid_jax.untrusted.errors import UntrustedError, reading, told
from tavid_jax.untrusted.names import check_name, inside
from tavid_jax.untrusted.pictures import picture_bytes
from tavid_jax.untrusted.texts import read_json, read_table, read_text

VOID = 255
FPS = 24.0
OBJECTS = ".objects.png"  # ends the name of a picture of ids of objects beside their trajectories
# Of a sequence that is too short: "truncate" to the most frames of the form 1 + 4k, or "hold" its
# last frame, and the last place of every point.
SHORT = ("truncate", "hold")
_TIES = 1e-3  # px: distances from the edge that count as equal


class Words(NamedTuple):
    """What is said of a sequence: of all of it, and of each object by its id."""

    prompt: str
    objects: dict[int, str]


@dataclasses.dataclass(frozen=True)
class Protocol:
    """How sequences become cases.

    Attributes:
      size_hw: of the frames.
      frames: of a case, 1 + 4k.
      short: what becomes of shorter sequences, see `SHORT`.
      most: objects of a case, the largest of frame 0.
      resize: "squash" ("resized", as published) or "cover", which cuts the sides.
      split: name of the list in ImageSets/2017.
      resolution: name of the folder below JPEGImages and Annotations.

    Raises:
      ClipError: a value out of range.
    """

    size_hw: tuple[int, int] = (480, 832)
    frames: int = 81
    short: str = "truncate"
    most: int = 5
    resize: Resize = "squash"
    split: str = "val"
    resolution: str = "480p"

    def __post_init__(self):
        if self.short not in SHORT:
            raise ClipError(f"short={self.short!r} is unknown; known: truncate, hold")
        if self.frames < 1 or self.frames % 4 != 1 or self.most < 1:
            raise ClipError(
                f"a case of {self.frames} frames and {self.most} objects: frames must be 1 + 4k, "
                "and at least one object is needed"
            )


@dataclasses.dataclass(frozen=True, eq=False)
class Sequence:
    """One sequence as a case.

    Attributes:
      name: of its folder.
      prompt: words about all of it.
      video: RGB frames.
      ids: objects of frame 0, numbered from 1 as the segments of the trajectories.
      trajectories: one point for each object, with its text.
      about: how it was made: frames that there were, which objects were left out and why, share of
        the visible places that lie on their object's mask.
    """

    name: str
    prompt: str
    video: UInt8[np.ndarray, "T H W 3"]
    ids: UInt8[np.ndarray, "H W"]
    trajectories: Trajectories
    about: dict[str, Any]


def sequence_names(root: str | os.PathLike, split: str = "val") -> list[str]:
    """Names of the sequences of a split.

    Raises:
      ClipError: no such list.
    """
    path = Path(root) / "ImageSets" / "2017" / f"{split}.txt"
    try:
        return [check_name(name) for name in read_text(path).split()]
    except (OSError, UntrustedError) as error:
        raise ClipError(
            f"{path}: the list of sequences cannot be read ({told(error)}); give the folder DAVIS "
            "of DAVIS 2017, which holds JPEGImages, Annotations and ImageSets"
        ) from error


def read_ids(path: str | os.PathLike) -> UInt8[np.ndarray, "H W"]:
    """Object ids of an annotation: the palette's indices, not its colours.

    Raises:
      ClipError: unreadable, or a picture without indices.
    """
    with reading(path, ClipError, "an annotation"):
        with Image.open(picture_bytes(path)) as picture:
            mode, ids = picture.mode, np.array(picture)
    if mode not in ("P", "L") or ids.dtype != np.uint8:
        raise ClipError(
            f"{path}: is a picture of mode {mode}; object ids need a palette or a grey picture, as "
            "in DAVIS 2017"
        )
    return ids


def read_words(path: str | os.PathLike) -> dict[str, Words]:
    """Words about sequences and their objects, see the module.

    Raises:
      ClipError: unreadable, or of another form; the message names the sequence.
    """
    with reading(path, ClipError, "captions"):
        if Path(path).suffix.lower() == ".csv":
            return _words_of_rows(path, *read_table(path))
        held = read_json(path)
    found = {}
    for name, entry in held.items() if isinstance(held, dict) else [("", held)]:
        try:
            objects = {int(k): str(text).strip() for k, text in entry["objects"].items()}
            found[name] = Words(str(entry["prompt"]).strip(), objects)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ClipError(
                f'{path}: {name!r} must be {{"prompt": words, "objects": {{"1": words, ...}}}}'
            ) from error
    return found


def _words_of_rows(
    path: str | os.PathLike, columns: list[str], rows: list[dict[str, str | None]]
) -> dict[str, Words]:
    if not {"sequence", "object", "text"} <= set(columns):
        raise ClipError(f"{path}: captions need the columns sequence, object and text")
    prompts: dict[str, str] = {}
    objects: dict[str, dict[int, str]] = {}
    for row in rows:
        name, number, text = (str(row[key] or "").strip() for key in ("sequence", "object", "text"))
        if number not in ("", "0") and not (number.isdecimal() and len(number) < 9):
            raise ClipError(f"{path}: object {number!r} of {name} is no number")
        if number in ("", "0"):
            prompts[name] = text
        else:
            objects.setdefault(name, {})[int(number)] = text
    names = {**prompts, **objects}
    return {name: Words(prompts.get(name, ""), objects.get(name, {})) for name in names}


def object_point(mask: Bool[np.ndarray, "H W"]) -> Float[np.ndarray, "2"]:
    """(x, y) of a pixel of a mask: furthest from its edge, and of those nearest to its centroid.

    Raises:
      ValueError: an empty mask.
    """
    if not mask.any():
        raise ValueError("the mask is empty: there is no point on it")
    distance = edge_distance(mask)
    rows, columns = np.nonzero(distance >= distance.max() - _TIES)
    candidates = np.stack([columns, rows], axis=-1).astype(np.float64)
    centroid = np.argwhere(mask).mean(axis=0)[::-1]
    nearest = np.linalg.norm(candidates - centroid, axis=-1).argmin()
    return candidates[nearest].astype(np.float32)


def read_sequence(
    root: str | os.PathLike,
    name: str,
    words: Words,
    protocol: Protocol = Protocol(),  # noqa: B008 (frozen)
    tracker: Tracker = DISTracker(),  # noqa: B008 (frozen)
) -> Sequence:
    """One sequence as a case.

    Args:
      root: the folder DAVIS.
      name: of the sequence.
      words: about it; each object that is kept needs a text.
      protocol: see there.
      tracker: follows the points through the real video, resized.

    Raises:
      ClipError: files that are missing or do not fit together, an object without a text, no object
        in frame 0.
      VideoError: frames that cannot be decoded.
    """
    frames, pictures = _files(root, name, protocol)
    length = _length(len(frames), protocol)
    read_only = min(length, len(frames))
    folder = frames[0].parent
    video = read_video(folder, range(read_only), size_hw=protocol.size_hw, resize=protocol.resize)
    ids = [read_ids(path) for path in pictures[:read_only]]
    with Image.open(frames[0]) as first:
        source_hw = (first.height, first.width)
    for path, one in zip(pictures, ids, strict=False):
        if one.shape != source_hw:
            raise ClipError(
                f"{path}: is {one.shape[1]}x{one.shape[0]}, its frames are "
                f"{source_hw[1]}x{source_hw[0]}"
            )
    numbers, left = _chosen(name, ids, words, protocol)
    cut = fit(source_hw, protocol.size_hw, protocol.resize)
    labels = np.stack([cut.labels(one) for one in ids])
    cut_away = [number for number in numbers if not (labels[0] == number).any()]
    left |= {number: "outside the cut frame" for number in cut_away}
    numbers = [number for number in numbers if number not in cut_away]
    if not numbers:
        raise ClipError(f"{name}: no object in the first frame ({_reasons(left)})")
    start = np.stack([object_point(labels[0] == number) for number in numbers])
    tracks, seen = tracker(video, start)
    on_object = _on_object(tracks, seen, labels, numbers)
    held = length - read_only
    order = np.zeros_like(labels[0])
    for place, number in enumerate(numbers, 1):
        order[labels[0] == number] = place
    return Sequence(
        name,
        words.prompt,
        np.concatenate([video, np.repeat(video[-1:], held, axis=0)]),
        order,
        Trajectories(
            np.concatenate([tracks, np.repeat(tracks[:, -1:], held, axis=1)], axis=1),
            np.concatenate([seen, np.repeat(seen[:, -1:], held, axis=1)], axis=1),
            protocol.size_hw,
            segment=np.arange(1, len(numbers) + 1, dtype=np.int32),
            segments=len(numbers),
            fps=FPS,
            texts=tuple(words.objects[number] for number in numbers),
        ),
        {
            "frames": length,
            "source_frames": len(frames),
            "held": held,
            "source_hw": list(source_hw),
            "objects": numbers,
            "left_out": {str(number): reason for number, reason in left.items()},
            "visible": float(seen.mean()),
            "on_object": on_object,
        },
    )


def _files(root: str | os.PathLike, name: str, protocol: Protocol) -> tuple[list[Path], list[Path]]:
    """Frames and annotations, as many of one as of the other."""
    found = []
    for kind in ("JPEGImages", "Annotations"):
        with reading(root, ClipError, "a folder of sequences"):
            folder = inside(Path(root) / kind / protocol.resolution, name)
        if not folder.is_dir():
            raise ClipError(f"{folder}: no such folder")
        found.append(image_files(folder))
        if not found[-1]:
            raise ClipError(f"{folder}: holds no pictures")
    frames, pictures = found
    if [path.stem for path in frames] != [path.stem for path in pictures]:
        raise ClipError(
            f"{name}: {len(frames)} frames in JPEGImages and {len(pictures)} annotations do not "
            "have the same names"
        )
    return frames, pictures


def _length(count: int, protocol: Protocol) -> int:
    """Frames of the case of a sequence that has so many."""
    if count >= protocol.frames or protocol.short == "hold":
        return protocol.frames
    return 1 + (count - 1) // 4 * 4


def _chosen(
    name: str, ids: list[np.ndarray], words: Words, protocol: Protocol
) -> tuple[list[int], dict[int, str]]:
    """Ids of the objects that are kept, in their order, and why others are not."""
    everywhere = set(np.unique(np.concatenate([np.unique(one) for one in ids]))) - {0, VOID}
    areas = {int(number): int((ids[0] == number).sum()) for number in sorted(everywhere)}
    left = {number: "not in the first frame" for number, area in areas.items() if not area}
    there = [number for number in areas if number not in left]
    largest = sorted(there, key=lambda number: -areas[number])[: protocol.most]
    left |= {number: "among the smallest" for number in there if number not in largest}
    kept = sorted(largest)
    for number in kept:
        if not words.objects.get(number):
            raise ClipError(f"{name}: object {number} has no text in the captions")
    if not words.prompt:
        raise ClipError(f"{name}: has no prompt in the captions")
    return kept, left


def _on_object(
    tracks: np.ndarray, seen: np.ndarray, labels: np.ndarray, numbers: list[int]
) -> float | None:
    """Share of the visible places that lie on their object; void counts as everything."""
    height, width = labels.shape[1:]
    columns, rows = (
        np.clip(np.rint(tracks[..., axis]).astype(int), 0, side - 1)
        for axis, side in ((0, width), (1, height))
    )
    found = labels[np.arange(len(labels))[None], rows, columns]
    right = (found == np.array(numbers)[:, None]) | (found == VOID)
    return float(right[seen].mean()) if seen.any() else None


def _reasons(left: Mapping[int, str]) -> str:
    return ", ".join(f"{number}: {reason}" for number, reason in left.items()) or "no ids at all"
