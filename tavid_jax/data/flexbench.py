"""FlexBench's list of videos to make, read and checked; `flexbench.json` is

    [{"prefix": "folder/", "validations": [{...}, ...]}, ...]

with these keys in each entry (files are relative to the root and the prefix):

    is_real_video        whether tracks come from a tracker (true) or a renderer. Needed.
    tracking_map_path    tracks, "forward.npy,reverse.npy", or "tracks.npy,render.mp4". Needed.
    seg_map_path         masks, or "coarse.pkl,fine.pkl". Needed; "" = none, for rendered tracks.
    validation_prompt    words. Needed.
    validation_videos    source video; validation_video is the same.
    input_image          first frame; else frame 0 of the video.
    use_color            whether points take the video's colours.
    spatial_config       {"spatial_scale": 1.0, "spatial_mode": "random" or "region"}
    temporal_config      {"temporal_scale": 1.0}
    unalign_config       {"shift_scale": ...}, or {"rle_path_unalign": ..., "render_track_unalign":
                         ...} for the motion of another clip
    name                 of the result, else "<list>_<entry>", both counted from 0.
    valid_frame_idxs     frames in which points steer; else all.

The original lets `use_color` of one entry hold for later ones without the key; here each entry
stands alone.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from tavid_jax.data.clip import ClipError
from tavid_jax.data.official import TrackFileError
from tavid_jax.data.trajectory_files import split_paths
from tavid_jax.untrusted.errors import UnsafeNameError, reading
from tavid_jax.untrusted.names import check_name, inside
from tavid_jax.untrusted.texts import read_json

SPATIAL_MODES = ("random", "region")
_NEEDED = ("is_real_video", "tracking_map_path", "seg_map_path", "validation_prompt")
_VIDEO_KEYS = ("validation_videos", "validation_video")
_KEYS = {
    *_NEEDED, *_VIDEO_KEYS, "input_image", "use_color", "spatial_config", "temporal_config",
    "unalign_config", "name", "valid_frame_idxs",
}  # fmt: skip


class FlexBenchError(ClipError):
    """The list is broken; the message names the file, the entry and the key."""


@dataclasses.dataclass(frozen=True)
class Shift:
    """Unaligned: the points are moved off the image's object.

    Attributes:
      scale: how far, FlexTraj's `shift_scale`.
    """

    scale: float | int


@dataclasses.dataclass(frozen=True)
class Partner:
    """Unaligned: the points of another clip with the same motion are used.

    Attributes:
      masks: its run lengths.
      render: its tracks, or a video of rendered ids.
    """

    masks: Path
    render: tuple[Path, ...]


@dataclasses.dataclass(frozen=True)
class FlexBenchEntry:
    """One video to make.

    Attributes:
      index: of the entry among all of the file, from 0.
      dataset: of its list in the file, from 0.
      name: of the result.
      is_real_video: whether tracks come from a tracker, not a renderer.
      tracks: one file, or forward and reverse, or tracks and what was rendered.
      segments: one file of masks, or coarse and fine ones, or none.
      prompt: words.
      video: source of the first frame, the colours and the truth; None = there is none.
      image: first frame; None = the video's.
      use_colour: whether points take the video's colours.
      spatial_scale: share of the points that is kept, [0, 1]; one is at least.
      spatial_mode: whether they are "random" points, or all of some "region"s.
      temporal_scale: share of the frames that steer, [0, 1]; the first and last always do.
      unalign: None = aligned.
      kept_frames: the only frames that steer; None = all.
    """

    index: int
    dataset: int
    name: str
    is_real_video: bool
    tracks: tuple[Path, ...]
    segments: tuple[Path, ...]
    prompt: str
    video: Path | None = None
    image: Path | None = None
    use_colour: bool = False
    spatial_scale: float | int = 1.0
    spatial_mode: Literal["random", "region"] = "random"
    temporal_scale: float | int = 1.0
    unalign: Shift | Partner | None = None
    kept_frames: tuple[int, ...] | None = None

    @property
    def files(self) -> dict[str, Path]:
        """Every file that the entry names, by its key in the list."""
        found = {f"tracking_map_path[{n}]": path for n, path in enumerate(self.tracks)}
        found |= {f"seg_map_path[{n}]": path for n, path in enumerate(self.segments)}
        found |= {"validation_videos": self.video} if self.video else {}
        found |= {"input_image": self.image} if self.image else {}
        if isinstance(self.unalign, Partner):
            found["rle_path_unalign"] = self.unalign.masks
            for n, path in enumerate(self.unalign.render):
                found[f"render_track_unalign[{n}]"] = path
        return found


def read_flexbench(
    path: str | os.PathLike, root: str | os.PathLike | None = None, *, check_files: bool = True
) -> list[FlexBenchEntry]:
    """Reads and checks the list; paths come out absolute.

    Args:
      path: of the JSON file.
      root: folder that the prefixes are relative to; None = the file's own folder.
      check_files: whether a file that is not there is an error.

    Raises:
      FlexBenchError: unreadable, an unknown or missing key, a wrong value, two entries of one
        name, or missing files, each named with entry and key.
    """
    base = (Path(path).parent if root is None else Path(root)).absolute()
    entries: list[FlexBenchEntry] = []
    for dataset, one in enumerate(_lists(path)):
        with reading(path, FlexBenchError, "a list"):
            folder = inside(base, one["prefix"].lstrip("/")) if one["prefix"].strip("/") else base
        for number, held in enumerate(one["validations"]):
            where = f"{path}: entry {number} of list {dataset} ({one['prefix']!r})"
            place = len(entries), dataset, f"{dataset}_{number}"
            entries.append(_Reader(where, held, (folder, base)).entry(*place))
    _check_names(path, entries)
    if check_files:
        _check_files(path, entries)
    return entries


def _lists(path: str | os.PathLike) -> list[Mapping[str, Any]]:
    with reading(path, FlexBenchError, "JSON"):
        lists = read_json(path)
    if not isinstance(lists, list) or not lists:
        raise FlexBenchError(f"{path}: must be a list of {{prefix, validations}}")
    for number, one in enumerate(lists):
        whole = (
            isinstance(one, dict)
            and isinstance(one.get("prefix"), str)
            and isinstance(one.get("validations"), list)
        )
        if not whole:
            raise FlexBenchError(
                f"{path}: list {number} must be an object with 'prefix', a text, and "
                "'validations', a list"
            )
    return lists


class _Reader:
    """One entry of the file."""

    def __init__(self, where: str, held: Any, bases: tuple[Path, Path]):
        if not isinstance(held, dict):
            raise FlexBenchError(f"{where}: must be an object")
        self._where, self._held, self._bases = where, held, bases
        for key in held:
            if key not in _KEYS:
                self._fail(key, f"is unknown; known are {', '.join(sorted(_KEYS))}")
        for key in _NEEDED:
            if key not in held:
                self._fail(key, "is missing")

    def entry(self, index: int, dataset: int, name: str) -> FlexBenchEntry:
        """The entry, with defaults of its own where keys are missing."""
        video = next((self._file(key) for key in _VIDEO_KEYS if self._held.get(key)), None)
        image = self._file("input_image") if self._held.get("input_image") else None
        use_colour = self._value("use_color", bool, False)
        if use_colour and video is None:
            self._fail("use_color", f"is true, but there is no {_VIDEO_KEYS[0]!r} to take it from")
        if video is None and image is None:
            self._fail("input_image", f"and {_VIDEO_KEYS[0]!r} are both missing: no first frame")
        spatial = self._config("spatial_config", ("spatial_scale", "spatial_mode"))
        mode = spatial.get("spatial_mode", "random")
        if mode not in SPATIAL_MODES:
            self._fail("spatial_config", f"has mode {mode!r}; use {' or '.join(SPATIAL_MODES)}")
        temporal = self._config("temporal_config", ("temporal_scale",))
        return FlexBenchEntry(
            index=index,
            dataset=dataset,
            name=self._name(name),
            is_real_video=self._value("is_real_video", bool, None),
            tracks=self._files("tracking_map_path", self._held["tracking_map_path"]),
            segments=self._segments(),
            prompt=self._value("validation_prompt", str, None),
            video=video,
            image=image,
            use_colour=use_colour,
            spatial_scale=self._share("spatial_config", spatial.get("spatial_scale", 1.0)),
            spatial_mode=mode,
            temporal_scale=self._share("temporal_config", temporal.get("temporal_scale", 1.0)),
            unalign=self._unalign(),
            kept_frames=self._kept(),
        )

    def _fail(self, key: str, what: str) -> None:
        raise FlexBenchError(f"{self._where}: {key!r} {what}")

    def _value(self, key: str, kind: type, default: Any) -> Any:
        value = self._held.get(key, default)
        if not isinstance(value, kind):
            self._fail(key, f"must be a {kind.__name__}, got {value!r}")
        return value

    def _name(self, usual: str) -> str:
        name = self._value("name", str, usual)
        try:
            return check_name(name)
        except UnsafeNameError as error:
            self._fail("name", f"cannot name a file: {error}")

    def _config(self, key: str, known: tuple[str, ...]) -> dict[str, Any]:
        config = self._held.get(key) or {}
        if not isinstance(config, dict) or set(config) - set(known):
            self._fail(key, f"must be an object of {', '.join(known)}, got {config!r}")
        return config

    def _share(self, key: str, value: Any) -> float | int:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not 0 <= value <= 1:
            self._fail(key, f"has scale {value!r}; it must be from 0 to 1")
        return value

    def _segments(self) -> tuple[Path, ...]:
        text = self._held["seg_map_path"]
        if text == "" and not self._held["is_real_video"]:  # the rendered ids say it
            return ()
        return self._files("seg_map_path", text)

    def _unalign(self) -> Shift | Partner | None:
        keys = "shift_scale", "rle_path_unalign", "render_track_unalign"
        config = self._config("unalign_config", keys)
        if not config:
            return None
        if set(config) == {keys[0]}:
            if not isinstance(config[keys[0]], int | float):
                self._fail("unalign_config", f"has shift_scale {config[keys[0]]!r}, no number")
            return Shift(config[keys[0]])
        if set(config) != set(keys[1:]):
            self._fail(
                "unalign_config", f"must have {keys[0]!r} alone, or {keys[1]!r} and {keys[2]!r}"
            )
        masks, *more = self._files(keys[1], config[keys[1]])
        if more:
            self._fail(keys[1], "must name one file")
        return Partner(masks, self._files(keys[2], config[keys[2]]))

    def _kept(self) -> tuple[int, ...] | None:
        frames = self._held.get("valid_frame_idxs")
        if frames is None:
            return None
        whole = isinstance(frames, list) and all(type(f) is int and f >= 0 for f in frames)
        if not whole:
            self._fail("valid_frame_idxs", f"must be a list of frame numbers, got {frames!r}")
        return tuple(sorted(set(frames)))

    def _file(self, key: str) -> Path:
        paths = self._files(key, self._held[key])
        if len(paths) > 1:
            self._fail(key, f"must name one file, got {self._held[key]!r}")
        return paths[0]

    def _files(self, key: str, text: Any) -> tuple[Path, ...]:
        if not isinstance(text, str) or not text.strip():
            self._fail(key, f"must be a path, got {text!r}")
        try:
            whole = self._place(text)
            parts = [text] if whole.exists() else split_paths(text)
            if len(parts) > 2:
                self._fail(key, f"names {len(parts)} files, at most two go together")
            return tuple(self._place(part) for part in parts)
        except (OSError, UnsafeNameError) as error:
            self._fail(key, f"leads out of the root, or nowhere: {error}")
        except TrackFileError as error:
            self._fail(key, f"is no path: {error}")

    def _place(self, part: str) -> Path:
        """Below root and prefix, or below the root; an absolute path only if it lies there too."""
        root = self._bases[1]
        if Path(part).is_relative_to(root):
            part = str(Path(part).relative_to(root))
        places = [inside(base, part.lstrip("/")) for base in self._bases]
        return next((place for place in places if place.exists()), places[0])


def _check_names(path: str | os.PathLike, entries: list[FlexBenchEntry]) -> None:
    first: dict[str, int] = {}
    for entry in entries:
        if first.setdefault(entry.name, entry.index) != entry.index:
            raise FlexBenchError(
                f"{path}: entries {first[entry.name]} and {entry.index} are both named "
                f"{entry.name!r}; one result would overwrite the other"
            )


def _check_files(path: str | os.PathLike, entries: list[FlexBenchEntry]) -> None:
    missing = [
        f"entry {entry.index} ({entry.name!r}), {key!r}: {file}"
        for entry in entries
        for key, file in entry.files.items()
        if not file.is_file()
    ]
    if missing:
        more = f"\n  and {len(missing) - 10} more" if len(missing) > 10 else ""
        raise FlexBenchError(
            f"{path}: {len(missing)} files are not there (is `root` right?):\n  "
            + "\n  ".join(missing[:10])
            + more
        )
