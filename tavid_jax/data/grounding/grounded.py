"""Grounded clips as a source to train from: random access, windows, any size and rate."""

from __future__ import annotations

import bisect
import dataclasses
import itertools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8

from tavid_jax.data.augment import crop
from tavid_jax.data.clip import Clip, ClipError
from tavid_jax.data.files import listed, some
from tavid_jax.data.grounding.build import INDEX, is_grounded, read_summary
from tavid_jax.data.grounding.packing import unpack
from tavid_jax.data.plan import Plan, read_json, read_plan
from tavid_jax.data.records import RecordError, RecordSource
from tavid_jax.data.video import Resize, fit, resample

__all__ = ["GroundedClips", "GroundedConfig", "is_grounded", "open_grounded"]


@dataclasses.dataclass(frozen=True)
class GroundedConfig:
    """How records become clips.

    Attributes:
      size_hw: (H, W) of the clips.
      num_frames: T.
      fps: rate to resample to (nearest frame); None = each clip's own.
      hop: frames between the starts of windows; None = num_frames.
      resize: "cover" keeps the aspect ratio and cuts the centre, "squash" does neither.
    """

    size_hw: tuple[int, int]
    num_frames: int
    fps: float | int | None = None
    hop: int | None = None
    resize: Resize = "cover"

    def __post_init__(self):
        if self.num_frames < 1 or (self.hop is not None and self.hop < 1):
            raise ValueError(
                f"num_frames and hop must be positive, got {self.num_frames} and {self.hop}"
            )

    def shown(self, entry: dict[str, Any]) -> Int[np.ndarray, " T"]:
        """Which frames of a record are shown, at the output rate."""
        return resample(entry["frames"], entry["fps"], self.fps)


@dataclasses.dataclass(frozen=True)
class _Window:
    """Frames [start, start + T), at the output rate, of a record: `record` counts over all."""

    record: int
    start: int


class _Folder:
    """The records of one folder; picklable."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.entries = read_summary(folder).kept
        self._plan: Plan = read_plan(folder)
        counts = (read_json(folder / INDEX) or {}).get("counts")
        if counts is None:
            raise RecordError(
                f"{folder}: has no {INDEX}; run the command that began it again, it is all but done"
            )
        self._ends = list(itertools.accumulate(counts))
        self._opened: dict[int, RecordSource] = {}

    def __getitem__(self, index: int) -> Clip:
        shard = bisect.bisect_right(self._ends, index)
        if shard not in self._opened:  # two threads may both open it
            self._opened[shard] = RecordSource(self._plan.path(self.folder, shard))
        before = self._ends[shard - 1] if shard else 0
        try:
            return unpack(self._opened[shard][index - before])
        except RecordError as error:
            raise RecordError(f"{self._plan.path(self.folder, shard)}: {error}") from error

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_opened": {}}


class GroundedClips:
    """A random-access, picklable source of windows of grounded clips.

    A window has the points of its clip, whose places it shows, the object that each belongs to and
    the texts of all objects. Masks are of frame 0: a window that starts later has none, unless
    records have a map of the objects in every frame.

    Attributes:
      name: "clips".
      config: the settings.
      skipped: [], as of `ClipFolder`.
    """

    name = "clips"

    def __init__(
        self, config: GroundedConfig, folders: Sequence[_Folder], windows: Sequence[_Window]
    ):
        self.config, self._folders, self._windows = config, tuple(folders), tuple(windows)
        self._ends = list(itertools.accumulate(len(f.entries) for f in self._folders))
        self.skipped: list[tuple[str, str]] = []

    def __len__(self) -> int:
        return len(self._windows)

    def __getitem__(self, index: int) -> Clip:
        """Clip of window `index`; a point that is cut off by the resize is not visible.

        Raises:
          RecordError: a record that cannot be read.
        """
        window = self._windows[range(len(self))[index]]
        return _sized(self._cut(window), self.config.size_hw, self.config.resize)

    def clip_frames(self, index: int, size: int | tuple[int, int]) -> UInt8[np.ndarray, "T h w 3"]:
        """The same frames at another size, for drawing; see `ClipFolder.clip_frames`."""
        if isinstance(size, int):
            scale = size / max(self.config.size_hw)
            size = tuple(max(1, round(side * scale)) for side in self.config.size_hw)
        clip = self._cut(self._windows[range(len(self))[index]])
        box = dataclasses.replace(
            fit(clip.size_hw, self.config.size_hw, self.config.resize), size_hw=size
        )
        return np.stack([box.frame(frame) for frame in clip.video])

    def entries(self) -> list[dict[str, Any]]:
        """What is known of every clip before it is decoded: id, caption, texts of its objects."""
        told = []
        for window in self._windows:
            entry = self._entry(window.record)
            named = {"id": _name(entry["id"], window.start), "start": window.start}
            told.append({name: entry[name] for name in ("caption", "texts", "points")} | named)
        return told

    @property
    def listing(self) -> str:
        """Which windows there are, in order, as their number and a short hash."""
        return listed(entry["id"] for entry in self.entries())

    def facts(self) -> dict[str, Any]:
        """How records become clips."""
        return {name: getattr(self.config, name) for name in ("fps", "hop", "resize")}

    def check_captions(self) -> None:
        """Every grounded clip has a caption."""

    def empty(self) -> GroundedClips:
        """The same without a window."""
        return GroundedClips(self.config, self._folders, ())

    def split(self, holdout: float = 0.2) -> tuple[GroundedClips, GroundedClips]:
        """Holds out whole clips, evenly from the first to the last: (train, held out).

        Windows of one video that lie in several records may come to both sides.

        Raises:
          ClipError: too few clips.
        """
        if not 0 < holdout < 1:
            raise ValueError(f"holdout must lie between 0 and 1, got {holdout}")
        records = sorted({window.record for window in self._windows})
        count = max(1, round(len(records) * holdout))
        if count >= len(records):
            raise ClipError(
                f"{len(records)} clips are too few to hold out {holdout:.0%}; give more clips"
            )
        held = {records[int((k + 0.5) * len(records) / count)] for k in range(count)}
        parts = ([w for w in self._windows if (w.record in held) == on] for on in (False, True))
        return tuple(GroundedClips(self.config, self._folders, part) for part in parts)

    def _place(self, record: int) -> tuple[_Folder, int]:
        folder = bisect.bisect_right(self._ends, record)
        return self._folders[folder], record - (self._ends[folder - 1] if folder else 0)

    def _entry(self, record: int) -> dict[str, Any]:
        folder, index = self._place(record)
        return folder.entries[index]

    def _cut(self, window: _Window) -> Clip:
        """The window's frames at the record's size."""
        folder, index = self._place(window.record)
        clip, entry = folder[index], folder.entries[index]
        frames = self.config.shown(entry)[window.start : window.start + self.config.num_frames]
        clip = _shown(clip, frames)
        named = clip.replace(id=_name(entry["id"], window.start))
        return named.replace(fps=self.config.fps or clip.fps)


def open_grounded(
    folders: str | os.PathLike | Sequence[str | os.PathLike], **options: Any
) -> GroundedClips:
    """Opens folders that `ground_clips` wrote as one source.

    Windows in which no point is seen are left out.

    Args:
      folders: one, several, or several in one string with commas between.
      options: of `GroundedConfig`.

    Raises:
      RecordError: a folder that is not finished, or holds no grounded clips.
      ClipError: no window: all clips are too short, or none was kept.
    """
    config = GroundedConfig(**options)
    opened = [_Folder(folder) for folder in folder_list(folders)]
    entries = [entry for folder in opened for entry in folder.entries]
    windows = [
        _Window(record, start)
        for record, entry in enumerate(entries)
        for start in _starts(entry, config)
    ]
    if not windows:
        named = some([str(folder.folder) for folder in opened])
        lengths = sorted({len(config.shown(entry)) for entry in entries})
        told = f"they have {some(list(map(str, lengths)))} frames" if lengths else "it holds none"
        raise ClipError(f"{named}: no clip of {config.num_frames} frames: {told}")
    return GroundedClips(config, opened, windows)


def folder_list(paths: str | os.PathLike | Sequence[str | os.PathLike]) -> list[Path]:
    """Folders of a config: a path, a list, or one string with commas between."""
    if isinstance(paths, str) and not os.path.exists(paths):
        paths = [part.strip() for part in paths.split(",") if part.strip()]
    paths = [paths] if isinstance(paths, str | os.PathLike) else paths
    return [Path(path).expanduser() for path in paths]


def _starts(entry: dict[str, Any], config: GroundedConfig) -> list[int]:
    shown, length = config.shown(entry), config.num_frames
    blind = set(entry["blind"])
    return [
        start
        for start in range(0, len(shown) - length + 1, config.hop or length)
        if not blind.issuperset(shown[start : start + length].tolist())
    ]


def _shown(clip: Clip, frames: Int[np.ndarray, " T"]) -> Clip:
    """The named frames of a clip, ascending."""
    first, last = int(frames[0]), int(frames[-1])
    clip = clip.window(first, last - first + 1)
    if len(frames) == clip.num_frames:
        return clip
    index = frames - first
    changes = {"video": clip.video[index], "contact_frame": -1}
    if clip.segment_map is not None:
        changes["segment_map"] = clip.segment_map[index]
    for name in ("tracks", "visibility", "depth"):
        array = getattr(clip, name)
        changes[name] = None if array is None else array[:, index]
    if clip.contact_frame >= 0:
        changes["contact_frame"] = int(np.abs(index - clip.contact_frame).argmin())
    return clip.replace(**changes)


def _sized(clip: Clip, size_hw: tuple[int, int], resize: Resize) -> Clip:
    if tuple(clip.size_hw) == tuple(size_hw):
        return clip
    return crop(clip, fit(clip.size_hw, size_hw, resize).box, size_hw)


def _name(record: str, start: int) -> str:
    return f"{record}+{start}" if start else record
