"""Real clips: a folder of videos as a source of windows with tracks."""

from __future__ import annotations

import collections
import dataclasses
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from absl import logging
from jaxtyping import UInt8

from tavid_jax.data import cache, files
from tavid_jax.data.clip import Clip, ClipError
from tavid_jax.data.masks import find_masks
from tavid_jax.data.pairs import partners
from tavid_jax.data.points import SUFFIXES, with_files, with_lengths
from tavid_jax.data.track_checks import ConventionError, mixed
from tavid_jax.data.tracker import DISTracker, Tracker
from tavid_jax.data.verdicts import Verdict, read_verdicts
from tavid_jax.data.video import Resize, image_files, resample, stated_rate
from tavid_jax.data.window import (
    FolderConfig,
    check_points,
    read_checked,
    read_window,
    usable_frames,
    window_fit,
    window_masks,
    window_name,
    window_video,
)


@dataclasses.dataclass(frozen=True)
class Window:
    """Frames [start, start + num_frames) of a file, counted at the output rate."""

    file: int
    start: int


def cut_windows(
    index: int, file: files.ClipFile, start: int, stop: int, config: FolderConfig
) -> list[Window]:
    """All windows of file number `index` inside frames [start, stop), unless they start blind, or
    with `config.points` are blind throughout.

    Without `config.points` masks are those of frame 0, so with them only the window there counts.
    """
    hop, length = config.hop or config.num_frames, config.num_frames
    needed = length if config.points else 1  # frames of which one must show a track
    frames = usable_frames(file, config.fps)
    starts = range(start, stop - length + 1, hop)
    if config.masked:
        starts = [first for first in starts if first == 0]
    return [
        Window(index, first)
        for first in starts
        if not file.blind.issuperset(frames[first : first + needed].tolist())
    ]


class ClipFolder:
    """A random-access, picklable source of windows cut from videos.

    Attributes:
      name: "clips".
      config: the settings.
      files: the usable videos.
      windows: which frames of which file item i is.
      skipped: (path, reason) of every video left out.
      unused: captions of no video, by the name that they were given for.
      partners: index of every item's partner, None where there is none; see `pairs.partners`.
    """

    name = "clips"

    def __init__(
        self,
        config: FolderConfig,
        clip_files: Sequence[files.ClipFile],
        windows: Sequence[Window],
        skipped: Sequence[tuple[str, str]] = (),
        unused: Sequence[str] = (),
    ):
        self.config = config
        self.files = tuple(clip_files)
        self.windows = tuple(windows)
        self.skipped = list(skipped)
        self.unused = tuple(unused)
        self.partners: list[int | None] = [None] * len(self.windows)
        if config.pairs:
            named = [(self.files[window.file].name, window.start) for window in self.windows]
            self.partners = partners(named, config.pairs)
        self._start_memory()

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index: int) -> Clip:
        """Clip of window `index`: video, tracks on the stride grid, visibility, caption, masks,
        and with `config.pairs` its partner, if it has one.

        Raises:
          VideoError, ClipError: the file has changed or its tracks cannot be used.
        """
        index = range(len(self.windows))[index]
        clip, partner = self._read(index), self.partners[index]
        return clip if partner is None else clip.replace(partner=self._read(partner))

    def _read(self, index: int) -> Clip:
        """The clip of a window without its partner, from memory if it is there."""
        with self._lock:
            if index in self._memory:
                self._memory.move_to_end(index)
                return self._memory[index]
        window = self.windows[index]
        clip = read_window(self.files[window.file], window.start, self.config)
        with self._lock:
            self._memory[index] = clip
            held = sum(_nbytes(kept) for kept in self._memory.values())
            while held > self.config.keep_mb * 2**20:
                held -= _nbytes(self._memory.popitem(last=False)[1])
        return clip

    def entries(self) -> list[dict[str, Any]]:
        """What is known of every clip before it is decoded: id, caption, where it starts, how long
        and large its file is, and the content of its masks. Equal entries are equal clips, wherever
        their files lie."""
        points = self.config.points
        return [_entry(self.files[w.file], w.start, points) for w in self.windows]

    @property
    def listing(self) -> str:
        """Which windows there are, in order, as their number and a short hash."""
        return files.listed(window_name(self.files[w.file], w.start) for w in self.windows)

    def facts(self) -> dict[str, Any]:
        """How videos become clips, without their tracks."""
        told = {name: getattr(self.config, name) for name in ("fps", "hop", "resize")}
        if self.config.masked:
            told = {"fps": self.config.fps, "resize": self.config.resize, "masks": "frame 0"}
        if self.config.points:
            told["points"] = True
        return told | ({"pairs": self.config.pairs} if self.config.pairs else {})

    def captioned(self) -> ClipFolder:
        """The clips that have a caption.

        Raises:
          ClipError: none has.
        """
        kept = [index for index, file in enumerate(self.files) if file.caption]
        if not kept:
            raise ClipError(f"none of {len(self.files)} videos has a caption")
        place = {old: new for new, old in enumerate(kept)}
        windows = [Window(place[w.file], w.start) for w in self.windows if w.file in place]
        return ClipFolder(self.config, [self.files[i] for i in kept], windows, self.skipped)

    def check_captions(self) -> None:
        """Every video has a caption, and every caption a video, be it one that was skipped.

        Raises:
          ClipError: naming the first few that have none.
        """
        without = [file.path for file in self.files if not file.caption]
        told = [
            f"{len(without)} videos have no caption ({files.some(without)})" if without else "",
            f"{len(self.unused)} captions have no video ({files.some(self.unused)})"
            if self.unused
            else "",
        ]
        if any(told):
            raise ClipError("; ".join(filter(None, told)))

    def clip_frames(self, index: int, size: int | tuple[int, int]) -> UInt8[np.ndarray, "T h w 3"]:
        """The same frames, cut the same way, at another size, for drawing.

        Tracks of the clip follow by `video.scale_points(tracks, clip.size_hw, (h, w))`.

        Args:
          index: item.
          size: (h, w), or the length of the longer side (aspect ratio of `size_hw` kept).
        """
        if isinstance(size, int):
            scale = size / max(self.config.size_hw)
            size = tuple(max(1, round(side * scale)) for side in self.config.size_hw)
        window, config = self.windows[range(len(self.windows))[index]], self.config
        file = self.files[window.file]
        frames = usable_frames(file, config.fps)[window.start : window.start + config.num_frames]
        return window_video(file, frames, config, size)

    def empty(self) -> ClipFolder:
        """The same without a window."""
        return ClipFolder(self.config, self.files, ())

    def split(self, holdout: float = 0.2) -> tuple[ClipFolder, ClipFolder]:
        """Holds out the last part of every video: (train, held out), no frame in both.

        The held-out part is `holdout` of the frames, or one window if that is longer. A video too
        short for a window on both sides goes to train whole. With masks, which only the first
        window has, whole videos are held out, evenly from the first to the last.

        Raises:
          ClipError: no video is long enough to be held out from.
        """
        if not 0 < holdout < 1:
            raise ValueError(f"holdout must lie between 0 and 1, got {holdout}")
        if self.config.masked:
            return self._split_files(holdout)
        train, held = [], []
        length = self.config.num_frames
        for index, file in enumerate(self.files):
            frames = usable_frames(file, self.config.fps)
            total = len(frames)
            border = total - max(round(total * holdout), length)
            while 0 < border < total and frames[border] == frames[border - 1]:
                border += 1  # a rate above the source's repeats frames
            if border < length:
                border = total
                logging.info("%s: too short to hold out from, train only", file.path)
            train += cut_windows(index, file, 0, border, self.config)
            held += cut_windows(index, file, border, total, self.config)
        if not held:
            raise ClipError(
                f"no clip has the {2 * length} frames{self._rate()} needed for a window in "
                "training and one held out; give longer clips or fewer frames a window"
            )
        rest = self.skipped, self.unused
        return tuple(ClipFolder(self.config, self.files, w, *rest) for w in (train, held))

    def _split_files(self, holdout: float) -> tuple[ClipFolder, ClipFolder]:
        total = len(self.windows)
        count = max(1, round(total * holdout))
        if count >= total:
            raise ClipError(f"{total} clips are too few to hold out {holdout:.0%}; give more clips")
        held = {int((k + 0.5) * total / count) for k in range(count)}
        parts = ([w for i, w in enumerate(self.windows) if (i in held) == on] for on in (0, 1))
        rest = self.skipped, self.unused
        return tuple(ClipFolder(self.config, self.files, part, *rest) for part in parts)

    def _rate(self) -> str:
        return f" (at {self.config.fps:g} fps)" if self.config.fps else ""

    def __getstate__(self) -> dict:
        state = self.__dict__.copy()
        del state["_lock"], state["_memory"]
        return state

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self._start_memory()

    def _start_memory(self) -> None:
        self._lock = threading.Lock()
        self._memory: collections.OrderedDict[int, Clip] = collections.OrderedDict()


def open_clips(
    paths: files.Paths,
    *,
    size_hw: tuple[int, int],
    num_frames: int,
    stride: int = 0,
    origin: Literal["topleft", "center"] = "topleft",
    fps: float | int | None = None,
    cache_dir: str | os.PathLike | None = None,
    hop: int | None = None,
    resize: Resize = "cover",
    tracker: Tracker | None = DISTracker(),  # noqa: B008 (frozen)
    tracks: str | os.PathLike | None = None,
    track_suffixes: Sequence[str] | None = None,
    tracks_size_hw: tuple[int, int] | None = None,
    axis_order: Literal["xy", "yx"] = "xy",
    captions: str | os.PathLike | None = None,
    cache_frames_mb: float | int = 8.0,
    keep_mb: float | int = 256.0,
    track: bool = True,
    masks: str | os.PathLike | None = None,
    selected: str | os.PathLike | None = None,
    pairs: str = "",
    points: bool = False,
    regrid: bool = True,
    spare_captions: bool = False,
) -> ClipFolder:
    """Opens videos as a source of windows with tracks. Frames are decoded and tracked lazily.

    Args:
      paths: folders, globs and single files; a list, or one string with commas between. A folder
        of images is one clip.
      size_hw: (H, W) of the clips.
      num_frames: T, frames of a window.
      stride: side of a grid cell in px of `size_hw`; 0 with `points`: as FlexTraj, 70x70 points.
      origin: where in its cell a track starts; see `tracks.grid.query_points`.
      fps: rate to resample to (nearest frame); None = each video's own.
      cache_dir: keeps tracks (and small frames) under a hash of the file and all settings.
      hop: frames between the starts of windows; None = num_frames (no overlap). Means nothing
        with masks.
      resize: "cover" keeps the aspect ratio and cuts the centre, "squash" does neither.
      tracker: follows the grid where there is no track file; None = such videos are skipped.
      tracks: folder of track files `<video stem>.npz`; None = look beside each video.
      track_suffixes: endings after the stem that name a track file, first match wins; None is
        ".npz", with `points` those of `points.SUFFIXES`.
      tracks_size_hw: frame size of track files that do not hold `size_hw`. Their pixels span the
        whole, uncut frame. None is 480x832, with `points` what the format means, else the video's.
      axis_order: order of coordinates in track files.
      captions: CSV with columns text, and videoid or video_path; a video that it does not name
        has the text of `<video stem>.txt` beside it.
      cache_frames_mb: frames of a window are kept in the cache up to this size.
      keep_mb: memory for the clips used last.
      track: whether clips have tracks; without, no tracker runs, no track file is read, `stride`
        and `origin` mean nothing, and nothing but the lengths of videos is cached.
      masks: None = clips have none; "" = those beside each video, or a folder that holds them; see
        `masks` for their names. They belong to frame 0, so each video gives one clip, which starts
        there; a video without a target mask is skipped. Target number 1 is the clip's `target`.
      selected: list of clips that `python -m tavid_jax.data select` wrote; only the kept ones are
        read.
      pairs: regular expression whose group tells the action in the name of a video, such as
        r"ani_(\\d+)"; a clip then has another one of the same action as its `partner`, see
        `pairs.partners`.
      points: tracks are those of the files as they are, any number of points in any format that
        `trajectory_files` reads, with depth, cut in time and place as the frames are; see `points`.
        `masks` then names where segments lie, see `segment_files`: none is needed, and every window
        has those of its first frame. `<video stem>.ids.mp4` beside a video holds identities drawn
        elsewhere. `axis_order` means nothing.
      regrid: whether track files may be of another grid, which is brought to this one; else their
        tracks must be those of the grid, in its order, and no longer than their video.
      spare_captions: whether the CSV may name videos that are not there.

    Raises:
      ClipError: a path names nothing, no video is usable (lists the reasons), captions of videos
        that are not there, or track files of other conventions (names them).
    """
    config = FolderConfig(
        size_hw=size_hw,
        num_frames=num_frames,
        stride=stride,
        origin=origin,
        fps=fps,
        hop=hop,
        resize=resize,
        tracker=tracker,
        tracks_size_hw=tracks_size_hw,
        axis_order=axis_order,
        cache_dir=None if cache_dir is None else os.fspath(cache_dir),
        cache_frames_mb=cache_frames_mb,
        keep_mb=keep_mb,
        track=track,
        masked=masks is not None and not points,
        points=points,
        pairs=pairs,
        regrid=regrid,
    )
    verdicts = None if selected is None else read_verdicts(selected)
    suffixes = track_suffixes or (SUFFIXES if points else (".npz",))
    words = files.read_captions(captions) if captions else {}
    found = files.find_videos(paths)
    stems = {files.stem(path) for path in found}
    unused = [name for name in words if name not in stems]
    if unused and not spare_captions:
        raise ClipError(
            f"{captions}: {len(unused)} of {len(words)} captions are for videos that are not there "
            f"({files.some(unused)}); mend the names, or allow it: data.clips.spare_captions=True"
        )
    infos, skipped = files.probe_all(found, cache_dir=cache_dir)
    usable, odd, tracked = [], [], 0
    for info, name in zip(infos, files.names([info.path for info in infos]), strict=True):
        track_file = files.find_tracks(info.path, tracks, suffixes) if track else None
        tracked += track_file is not None
        caption = words.get(files.stem(info.path)) or files.find_caption(info.path)
        file = files.ClipFile(info, name, caption, track_file)
        try:
            _check_selected(name, verdicts, selected)
            if points:
                file = with_files(file, tracks, masks, cache_dir)
            usable.append(_masked(_limit(file, config), config, masks))
        except ConventionError as error:
            odd.append((track_file, str(error).removeprefix(f"{track_file}: ")))
        except ClipError as error:
            reason = str(error).removeprefix(f"{info.path}: ")
            logging.warning("Skipping %s: %s", info.path, reason)
            skipped.append((info.path, reason))
    if odd:
        raise ClipError(mixed(odd, tracked))
    if not usable:
        reasons = "; ".join(f"{path}: {reason}" for path, reason in skipped) or "no videos found"
        raise ClipError(f"no usable clip in {paths!s}: {reasons}")
    windows = []
    for index, file in enumerate(usable):
        windows += cut_windows(index, file, 0, len(usable_frames(file, config.fps)), config)
    logging.info("%d windows of %d videos, %d skipped", len(windows), len(usable), len(skipped))
    folder = ClipFolder(config, usable, windows, skipped, unused)
    if pairs and folder.partners.count(None) == len(folder):
        raise ClipError(
            f"pairs={pairs!r} finds no two of {len(folder)} clips ({folder.files[0].name}, ...) "
            "that show the same action by different actors, from the same frame on"
        )
    return folder


def _check_selected(
    name: str, verdicts: dict[str, Verdict] | None, path: str | os.PathLike | None
) -> None:
    """Raises ClipError if a list of selected clips does not keep this one."""
    if verdicts is None:
        return
    verdict = verdicts.get(name)
    if verdict is None:
        raise ClipError(f"not in {path}")
    if not verdict.kept:
        raise ClipError(f"refused in {path}: {verdict.reason or 'without a reason'}")


def _masked(
    file: files.ClipFile, config: FolderConfig, masks: str | os.PathLike | None
) -> files.ClipFile:
    """The file with its masks, which are read once to see that they can be used."""
    if not config.masked:
        return file
    folder = masks or Path(file.path).parent
    file = dataclasses.replace(file, masks=find_masks(files.stem(file.path), folder))
    window_masks(file, config)
    return file


def _entry(file: files.ClipFile, start: int, points: bool) -> dict[str, Any]:
    entry = {
        "id": window_name(file, start),
        "caption": file.caption,
        "start": start,
        "frames": file.info.num_frames,
        "bytes": _file_bytes(file.path),
    }
    if os.path.isdir(file.path) and (rate := stated_rate(file.path)):
        entry["fps"] = rate
    if file.masks:
        entry["targets"] = [cache.content_hash(path) for path in file.masks.targets]
        entry["actor"] = cache.content_hash(file.masks.actor) if file.masks.actor else ""
    if points:
        rendered = file.rendered.path if file.rendered else None
        paths = (file.tracks, file.reverse, *file.segments, rendered)
        entry["points"] = [cache.content_hash(path) for path in paths if path]
    return entry


def _nbytes(clip: Clip) -> int:
    arrays = (clip.video, clip.tracks, clip.visibility, clip.masks, clip.depth, clip.rendered_ids)
    return sum(array.nbytes for array in arrays if array is not None)


def _file_bytes(path: str) -> int:
    parts = image_files(path) if os.path.isdir(path) else [Path(path)]
    return sum(part.stat().st_size for part in parts)


def _limit(file: files.ClipFile, config: FolderConfig) -> files.ClipFile:
    """Checks that a video (and its track file) can give at least one window."""
    info, short = file.info, ""
    if file.tracks and config.points:
        file = with_lengths(file, window_fit(file, config), config.tracks_size_hw)
        info = file.info
    elif file.tracks:
        stored = read_checked(file, config)
        frames = min(info.num_frames, stored.tracks.shape[1])
        short = f": tracks end before the video's {info.num_frames}" * (frames < info.num_frames)
        info = dataclasses.replace(info, num_frames=frames)
        seen = stored.visibility & np.isfinite(stored.tracks).all(axis=-1)
        blind = frozenset(np.flatnonzero(~seen[:, :frames].any(axis=0)).tolist())
        file = dataclasses.replace(file, blind=blind)
    elif config.track and config.tracker is None:
        raise ClipError(f"{info.path}: has no track file, and no tracker is given")
    count = len(resample(info.num_frames, info.fps, config.fps))
    if count < config.num_frames:
        rate = f" at {config.fps:g} fps" if config.fps else ""
        raise ClipError(
            f"{info.path}: too short: {count} frames{rate}, a window needs {config.num_frames}"
            + short
        )
    file = dataclasses.replace(file, info=info)
    windows = cut_windows(0, file, 0, count, config)
    if not windows:
        raise ClipError(f"{file.tracks}: no track is visible in any frame that a window starts at")
    if config.points:  # so that what cannot be used is said now
        check_points(file, windows[0].start, config)
    return file
