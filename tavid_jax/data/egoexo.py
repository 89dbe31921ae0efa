"""Static views of the Ego-Exo4D data set as a folder of clips.

The layout is that of the data set's public descriptions and of code that reads it; the data
themselves were not at hand, so all of it is unverified:

    ROOT/takes.json                                        [{take_uid, take_name, ...}, ...]
    ROOT/takes/<take_name>/frame_aligned_videos/<camera>.mp4
                           (or .../downscaled/448/<camera>.mp4)
    ROOT/annotations/relations_<split>.json                {annotations: {take_uid: {object_masks:
                                                             {object: {camera: {annotation: {frame:
                                                               mask}}}}}}}
    ROOT/annotations/atomic_descriptions_<split>.json      {annotations: {take_uid: [{descriptions:
                                                             [{timestamp, text}]}]}}, optional

Frames count the video's own frames (30 a second), timestamps are seconds. A mask is COCO run
lengths: {size, counts}, or {width, height, encodedMask} with the counts squeezed by lz-string.
Cameras whose name begins with "aria" are worn; all others stand still.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool

from tavid_jax.data.clip import ClipError
from tavid_jax.data.imported import ClipsWriter, Imported
from tavid_jax.data.masks import resize_mask
from tavid_jax.data.rle import decode_rle, unsqueeze
from tavid_jax.data.video import VideoError, iter_frames, probe, resize_image, write_video
from tavid_jax.untrusted.errors import UntrustedError, reading, told
from tavid_jax.untrusted.names import inside
from tavid_jax.untrusted.texts import read_json

WORN = "aria"
_DIGITS = 10  # of a number of a frame
_LEAD = 1.0  # seconds between the start of a clip and what is described
_RATE = 30.0  # frames per second that frame numbers count


@dataclasses.dataclass(frozen=True)
class _Cut:
    """A clip to be made: an object's mask at a frame, and words."""

    name: str
    thing: str
    frame: int
    mask: Mapping[str, Any]
    caption: str


def import_egoexo(
    root: str | os.PathLike,
    out: str | os.PathLike,
    *,
    seconds: float | int = 6.0,
    short_side: int = 720,
) -> Imported:
    """Makes a folder of clips (see `imported`) from the static views of all takes with masks.

    With descriptions each one whose text names an object (its name without numbers) gives a clip:
    it starts at the object's last mask at least one second before, and has the text as caption,
    "C" (the one who wears the camera) told as "a person". Of a take without any description every
    object gives one clip, from its first mask on, with the caption "A person interacts with the
    <object>." There is no mask of the actor.

    Args:
      root: folder that holds takes.json, takes and annotations.
      out: folder to make; clips are cut and written as mp4.
      seconds: length of a clip; shorter at the end of a take.
      short_side: frames are shrunk to this shorter side, px.

    Returns:
      What was made, and which clips could not be, with the reason.

    Raises:
      ClipError: files that are missing or not as described, or a folder `out` that is there
        already.
    """
    if seconds <= 0 or short_side < 16:
        raise ValueError(f"seconds {seconds} must be positive and short_side {short_side} >= 16")
    root = Path(root)
    names = _takes(root / "takes.json")
    relations = _annotations(root, "relations")
    if not relations:
        raise ClipError(f"{root / 'annotations'}: no relations_*.json; fetch the 'relations' part")
    told = _annotations(root, "atomic_descriptions")
    with ClipsWriter(out) as writer:
        for uid, relation in relations.items():
            if uid not in names:
                writer.skipped.append((uid, "no such take in takes.json"))
                continue
            try:
                cameras = _cameras(relation)
            except ClipError as error:
                writer.skipped.append((names[uid], str(error)))
                continue
            for camera, objects in cameras.items():
                view = f"{names[uid]}.{camera}"
                try:
                    video = _video(root / "takes", names[uid], camera)
                    _cut_view(writer, video, _cuts(view, objects, told.get(uid)), seconds,
                              short_side)  # fmt: skip
                except (ClipError, VideoError) as error:
                    writer.skipped.append((view, str(error)))
    return writer.result()


def spoken(thing: str) -> str:
    """Name of an object as a sentence has it: "green_bowl_0" -> "green bowl"."""
    words = re.split(r"[\s_]+", thing.lower().strip())
    return " ".join(word for word in words if word and not word.isdigit())


def caption(text: str) -> str:
    """Description as a sentence without code letters: "C picks a cup" -> "A person picks a cup."""
    text = re.sub(r"\bC's\b", "their", text.strip())
    text = re.sub(r"\bC\b", "a person", text)
    text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _read(path: Path, kind: type) -> Any:
    try:
        content = read_json(path)
    except OSError as error:
        raise ClipError(
            f"{path}: cannot be read ({error.strerror}); give the data set's root"
        ) from error
    except UntrustedError as error:
        raise ClipError(f"{path}: is broken ({told(error)}); fetch it again") from error
    if not isinstance(content, kind):
        raise ClipError(f"{path}: holds a {type(content).__name__}, expected a {kind.__name__}")
    return content


def _takes(path: Path) -> dict[str, str]:
    """take_uid -> take_name."""
    takes = _read(path, list)
    try:
        return {take["take_uid"]: take["take_name"] for take in takes}
    except (KeyError, TypeError) as error:
        raise ClipError(f"{path}: a take without take_uid or take_name; fetch it again") from error


def _annotations(root: Path, part: str) -> dict[str, Any]:
    """Annotations of a part by take, all splits together."""
    merged = {}
    for path in sorted((root / "annotations").glob(f"{part}_*.json")):
        found = _read(path, dict).get("annotations")
        if not isinstance(found, dict):
            raise ClipError(f"{path}: has no mapping 'annotations' from take_uid; fetch it again")
        for uid, one in found.items():
            if not isinstance(one, dict if part == "relations" else list):
                raise ClipError(f"{path}: the annotations of take {uid!r:.60} are of another form")
        merged |= found
    return merged


def _cameras(relation: Mapping[str, Any]) -> dict[str, dict[str, dict[int, Any]]]:
    """Static camera -> object -> frame -> mask."""
    cameras: dict[str, dict[str, dict[int, Any]]] = {}
    for thing, views in _mapping(relation.get("object_masks")).items():
        for camera, view in _mapping(views).items():
            masks = {}
            for frame, mask in _mapping(_mapping(view).get("annotation")).items():
                if not (frame.isdecimal() and len(frame) < _DIGITS):
                    raise ClipError(f"{frame!r:.60} is no number of a frame")
                masks[int(frame)] = _mapping(mask)
            if masks and not camera.lower().startswith(WORN):
                cameras.setdefault(camera, {})[thing] = dict(sorted(masks.items()))
    return cameras


def _mapping(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping | None):
        raise ClipError(f"holds a {type(value).__name__} where an object is due")
    return value or {}


def _video(takes: Path, take: str, camera: str) -> Path:
    folder = f"{take}/frame_aligned_videos"
    with reading(takes, ClipError, "a folder of takes"):
        places = [
            inside(takes, f"{folder}/{place}{camera}.mp4") for place in ("", "downscaled/448/")
        ]
    for place in places:
        if place.is_file():
            return place
    raise ClipError(f"{places[0]}: no such video; fetch the take, or its downscaled videos")


def _sentences(told: Any) -> list[tuple[float, str]]:
    """(seconds, words) of all annotators of a take."""
    try:
        return [
            (float(one["timestamp"]), str(one["text"]))
            for annotator in told or ()
            for one in annotator.get("descriptions") or ()
            if one.get("text") and one.get("timestamp") is not None
        ]
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise ClipError("its descriptions have no text or no time") from error


def _cuts(view: str, objects: Mapping[str, Mapping[int, Any]], told: Any) -> Iterator[_Cut]:
    """The clips of one camera."""
    sentences = _sentences(told)
    for thing, masks in objects.items():
        name = f"{view}.{re.sub(r'[^A-Za-z0-9-]+', '_', thing)}"
        if not sentences:
            frame = next(iter(masks))
            words = f"A person interacts with the {spoken(thing)}."
            yield _Cut(f"{name}.{frame:06d}", thing, frame, masks[frame], words)
        starts = set()
        for time, text in sorted(sentences):
            earlier = [frame for frame in masks if frame <= (time - _LEAD) * _RATE]
            if not earlier or earlier[-1] in starts or not _names(text, thing):
                continue
            starts.add(earlier[-1])
            frame = earlier[-1]
            yield _Cut(f"{name}.{frame:06d}", thing, frame, masks[frame], caption(text))


def _names(text: str, thing: str) -> bool:
    return re.search(rf"\b{re.escape(spoken(thing))}s?\b", text.lower()) is not None


def _decode(mask: Mapping[str, Any]) -> Bool[np.ndarray, "h w"]:
    if "encodedMask" in mask:
        size = [mask.get("height"), mask.get("width")]
        return decode_rle({"size": size, "counts": unsqueeze(mask["encodedMask"])})
    return decode_rle(mask)


def _cut_view(
    writer: ClipsWriter,
    video: Path,
    cuts: Iterator[_Cut],
    seconds: float | int,
    short_side: int,
) -> None:
    """Writes the clips of one video; one that cannot be made is skipped."""
    cuts, info = list(cuts), None
    for cut in cuts:
        try:
            mask = _decode(cut.mask)
            if not mask.any():
                raise ClipError("the mask is empty")
            info = info or probe(video)
            count = min(round(seconds * info.fps), info.num_frames - cut.frame)
            if count < 2:
                raise ClipError(f"starts at frame {cut.frame} of {info.num_frames}")
            scale = min(1.0, short_side / min(info.size_hw))
            size_hw = tuple(round(side * scale) for side in info.size_hw)
            frames = iter_frames(video, range(cut.frame, cut.frame + count))
            small = (resize_image(frame, size_hw) for frame in frames)
            write_video(writer.path(f"{cut.name}.mp4"), small, info.fps)
        except (ClipError, VideoError) as error:
            writer.skipped.append((cut.name, str(error)))
            continue
        writer.add(
            cut.name, _shrunk(mask, scale), None, cut.caption, source=str(video), object=cut.thing,
            start=cut.frame / info.fps, end=(cut.frame + count) / info.fps, fps=info.fps,
        )  # fmt: skip


def _shrunk(mask: Bool[np.ndarray, "h w"], scale: float) -> Bool[np.ndarray, "H W"]:
    """By the same factor as the frames; a mask at another resolution than its video keeps its
    shape, which the reader of the clips checks."""
    size_hw = tuple(max(1, round(side * scale)) for side in mask.shape)
    small = resize_mask(mask, size_hw)
    return small if small.any() else mask
