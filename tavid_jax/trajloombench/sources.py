"""Videos as published: TAP-Vid pickles, MOVi and Kubric folders, folders of mp4, MagicData.

Each source is gone through once, one file at a time; what cannot be read comes out as `Unusable`
with its reason, and does not end the work.
"""

from __future__ import annotations

import csv
import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8

from tavid_jax.data import files
from tavid_jax.data.arrays import ArrayFileError, read_pickle
from tavid_jax.data.clip import ClipError
from tavid_jax.data.video import (
    IMAGE_SUFFIXES,
    VIDEO_SUFFIXES,
    VideoError,
    image_files,
    iter_frames,
    natural_key,
    probe,
    stated_rate,
)
from tavid_jax.trajloombench.protocol import BenchError
from tavid_jax.trajloombench.tfrecords import read_examples
from tavid_jax.untrusted.errors import UntrustedError, told
from tavid_jax.untrusted.names import safe_name
from tavid_jax.untrusted.pictures import check_picture

Frame = UInt8[np.ndarray, "h w 3"]
TAPVID_FPS, MOVI_FPS = 25.0, 12.0  # TAP-Vid-Kinetics' and MOVi's; pickles do not say theirs


@dataclasses.dataclass(frozen=True)
class SourceClip:
    """One video, whose frames are decoded when they are asked for.

    Attributes:
      name: a file name without suffix.
      num_frames, size_hw, fps: of the video.
      frames: (frame numbers, ascending) -> those frames, RGB.
      origin: where it lies, for people.
      caption: "" for none.
      share: of the source, 0 to 1, that is gone through with this video; 0 = not known.
    """

    name: str
    num_frames: int
    size_hw: tuple[int, int]
    fps: float | int
    frames: Callable[[Sequence[int]], Iterator[Frame]]
    origin: str
    caption: str = ""
    share: float | int = 0


@dataclasses.dataclass(frozen=True)
class Unusable:
    """A video that cannot be read: its name and why; `share` as above."""

    name: str
    reason: str
    share: float | int = 0


Items = Iterator[SourceClip | Unusable]


def read_tapvid(path: Path) -> Items:
    """RoboTAP, TAP-Vid-Kinetics, -DAVIS, -RGB-Stacking: .pkl files of records with a "video".

    A file holds {name: record} or [record, ...]; a video is an array (T, H, W, 3) or a row of JPEG
    or PNG bytes. The annotated points are sparse and on no grid: they are not used. A folder
    without pickles may hold the clips as video files, as Kinetics comes to those who fetch it.
    """
    if path.is_dir() and not any(path.rglob("*.pkl")):
        yield from read_videos(path)
        return
    pickles = _found(path, "*.pkl", "pickles of TAP-Vid (*.pkl)")
    for before, file in enumerate(pickles):
        after = (before + 1) / len(pickles)
        try:
            records = read_pickle(file)
        except ArrayFileError as error:
            yield Unusable(file.stem, str(error), after)
            continue
        if isinstance(records, dict) and "video" in records:
            records = {file.stem: records}
        if isinstance(records, list | tuple):
            records = {f"{file.stem}_{i:05d}": record for i, record in enumerate(records)}
        if not isinstance(records, dict):
            reason = f"{file}: holds a {type(records).__name__}, no records"
            yield Unusable(file.stem, reason, after)
            continue
        for number, (name, record) in enumerate(records.items(), start=1):
            share = (before + number / len(records)) / len(pickles)
            item = _record(str(name), record, f"{file}:{name}")
            yield dataclasses.replace(item, share=share)


def _record(name: str, record: Any, origin: str) -> SourceClip | Unusable:
    name = safe_name(name)
    video = record.get("video") if isinstance(record, dict) else None
    if isinstance(video, np.ndarray) and video.ndim == 4:
        if video.dtype != np.uint8 or video.shape[-1] != 3 or not video.size:
            return Unusable(name, f"its video is {video.dtype} {video.shape}, not uint8 (T,H,W,3)")
        frames = lambda numbers: (video[i] for i in numbers)  # noqa: E731
        size_hw = (video.shape[1], video.shape[2])
        return SourceClip(name, len(video), size_hw, TAPVID_FPS, frames, origin)
    row = isinstance(video, list | tuple) or (isinstance(video, np.ndarray) and video.ndim == 1)
    if (
        not row
        or not len(video)
        or not all(isinstance(picture, bytes | np.bytes_) for picture in video)
    ):
        return Unusable(name, "has no 'video' that is an array or a row of encoded pictures")
    return _encoded(name, [bytes(picture) for picture in video], TAPVID_FPS, origin)


def read_movi(path: Path) -> Items:
    """MOVi as TFDS stores it: a folder of *.tfrecord* files.

    Every example's "video" is a row of PNG pictures, its "metadata/video_name" the name. Public
    MOVi has clips of 24 frames; TrajLoom's authors rendered theirs again, longer.
    """
    shards = _found(path, "*.tfrecord*", "MOVi of TFDS (*.tfrecord*)")
    for before, file in enumerate(shards):
        share = before / len(shards)  # how many examples a file holds is known at its end
        try:
            for number, example in enumerate(read_examples(file)):
                named = example.get("metadata/video_name") or [b""]
                name = named[0].decode(errors="replace") or f"{file.name}_{number:05d}"
                if not example.get("video"):
                    yield Unusable(safe_name(name), "has no 'video' of encoded pictures", share)
                    continue
                item = _encoded(safe_name(name), example["video"], MOVI_FPS, f"{file}:{number}")
                yield dataclasses.replace(item, share=share)
        except BenchError as error:
            yield Unusable(file.name, str(error))


def read_kubric(path: Path) -> Items:
    """Kubric's renders: folders with frames/*.png, as CoTracker3_Kubric, or with rgba_*.png.

    CoTracker3_Kubric's <sequence>.npy beside the frames are sparse tracks and are not used.
    """
    if not path.is_dir():
        raise BenchError(f"{path}: no such folder")
    scenes = []
    for place, folders, names in os.walk(path):
        folders.sort(key=natural_key)
        if any(name.startswith("rgba_") for name in names):
            scenes.append((Path(place), [Path(place) / n for n in names if n.startswith("rgba_")]))
        elif Path(place).name == "frames" and image_files(place):
            scenes.append((Path(place).parent, image_files(place)))
    if not scenes:
        raise BenchError(f"{path}: no folder below it has frames/*.png or rgba_*.png")
    scenes.sort(key=lambda scene: natural_key(str(scene[0])))
    labels = files.names([str(folder) for folder, _ in scenes])
    for number, (label, (folder, pictures)) in enumerate(zip(labels, scenes, strict=True), start=1):
        pictures = [p for p in pictures if p.suffix.lower() in IMAGE_SUFFIXES]
        pictures.sort(key=lambda p: natural_key(p.name))
        rate = stated_rate(folder) or MOVI_FPS
        loaders = [p.read_bytes for p in pictures]
        item = _lazily(safe_name(label), loaders, rate, str(folder))
        yield dataclasses.replace(item, share=number / len(scenes))


def read_videos(path: Path, captions: dict[str, str] | None = None) -> Items:
    """Video files of a folder; captions by their stems, or beside them as <stem>.txt."""
    found = [p for p in files.find_videos(path) if p.suffix.lower() in VIDEO_SUFFIXES]
    if not found:
        raise BenchError(f"{path}: holds no video")
    labels = files.names([str(v) for v in found])
    for number, (label, video) in enumerate(zip(labels, found, strict=True), start=1):
        name, share = safe_name(label), number / len(found)
        try:
            info = probe(video)
            caption = (captions or {}).get(video.stem) or files.find_caption(video)
        except (VideoError, ClipError, OSError) as error:
            yield Unusable(name, str(error).removeprefix(f"{video}: "), share)
            continue
        frames = lambda numbers, video=video: iter_frames(video, numbers)  # noqa: E731
        size_hw = (int(info.size_hw[0]), int(info.size_hw[1]))
        shape = (info.num_frames, size_hw, info.fps)
        yield SourceClip(name, *shape, frames, str(video), caption, share)


def read_magicdata(path: Path) -> Items:
    """MagicData: videos/<id>.mp4 and MagicData.csv with captions."""
    videos, table = path / "videos", path / "MagicData.csv"
    if not videos.is_dir():
        raise BenchError(f"{path}: MagicData has a folder 'videos', there is none")
    captions = {}
    if table.is_file():
        try:
            captions = files.read_captions(table)
        except (ClipError, csv.Error) as error:
            raise BenchError(str(error)) from error
    return read_videos(videos, captions)


# Kind -> (reader, name of the data set; None: the caller must give one).
SOURCES: dict[str, tuple[Callable[[Path], Items], str | None]] = {
    "tapvid": (read_tapvid, None),
    "robotap": (read_tapvid, "robotap"),
    "kinetics": (read_tapvid, "kinetics"),
    "movi": (read_movi, "kubric"),
    "kubric": (read_kubric, "kubric"),
    "videos": (read_videos, None),
    "magicdata": (read_magicdata, "magicdata"),
}


def _found(path: Path, pattern: str, what: str) -> list[Path]:
    if path.is_file():
        return [path]
    found = sorted(
        (p for p in path.rglob(pattern) if p.is_file()), key=lambda p: natural_key(p.name)
    )
    if not found:
        raise BenchError(f"{path}: no {what} there")
    return found


def _encoded(name: str, pictures: list[bytes], fps: float, origin: str) -> SourceClip | Unusable:
    return _lazily(name, [lambda picture=picture: picture for picture in pictures], fps, origin)


def _lazily(
    name: str, loaders: list[Callable[[], bytes]], fps: float | int, origin: str
) -> SourceClip | Unusable:
    """A clip of encoded pictures; the first tells the size."""
    try:
        height, width = _decoded(loaders[0]()).shape[:2]
    except (VideoError, OSError) as error:
        return Unusable(name, f"its first frame {error}")

    def frames(numbers: Sequence[int]) -> Iterator[Frame]:
        for number in numbers:
            try:
                frame = _decoded(loaders[number]())
            except (VideoError, OSError) as error:
                raise VideoError(f"{origin}: frame {number} {error}") from error
            if frame.shape[:2] != (height, width):
                raise VideoError(f"{origin}: frame {number} is of another size")
            yield frame

    return SourceClip(name, len(loaders), (height, width), fps, frames, origin)


def _decoded(picture: bytes) -> Frame:
    try:
        check_picture(picture)
        image = cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR)
    except (UntrustedError, cv2.error) as error:
        raise VideoError(f"cannot be decoded as a picture ({told(error)})") from error
    if image is None:
        raise VideoError("cannot be decoded as a picture")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
