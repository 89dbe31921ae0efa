"""What a folder of clips holds: counts, lengths, sizes, bad files, and one picture of it all."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from tavid_jax.data import cache, files
from tavid_jax.data.clip import ClipError
from tavid_jax.data.official import read_tracks
from tavid_jax.data.video import VideoError, VideoInfo, iter_frames, resample, resize_image

_THUMB_HEIGHT, _LABEL_HEIGHT, _GAP = 96, 20, 4


@dataclasses.dataclass(frozen=True)
class Report:
    """What was found.

    Attributes:
      videos: those that decode.
      windows: how many windows of `num_frames` each gives, in the same order.
      tracks: what is known of each one's track file, "" = none.
      bad: (path, reason) of broken and too short videos, and of broken track files.
      num_frames: frames of a window.
      fps: rate that windows were counted at, None = each video's own.
    """

    videos: tuple[VideoInfo, ...]
    windows: tuple[int, ...]
    tracks: tuple[str, ...]
    bad: tuple[tuple[str, str], ...]
    num_frames: int
    fps: float | int | None

    @property
    def usable(self) -> bool:
        """Whether at least one window can be cut."""
        return sum(self.windows) > 0

    def text(self) -> str:
        """The report as lines of text."""
        lines = []
        if self.videos:
            names = files.names([info.path for info in self.videos])
            width = max(map(len, names))
            lines.append(f"{'video':{width}}  frames      size    fps  seconds  windows  tracks")
            for info, name, count, tracks in zip(
                self.videos, names, self.windows, self.tracks, strict=True
            ):
                size = f"{info.size_hw[1]}x{info.size_hw[0]}"
                lines.append(
                    f"{name:{width}}  {info.num_frames:6d} {size:>9} {info.fps:6.2f} "
                    f"{info.num_frames / info.fps:8.1f} {count:8d}  {tracks or '-'}"
                )
        lines += [f"BAD {path}: {reason}" for path, reason in self.bad]
        return "\n".join([*lines, *self._totals()])

    def _totals(self) -> list[str]:
        counts = [info.num_frames for info in self.videos]
        sizes = sorted({f"{i.size_hw[1]}x{i.size_hw[0]}" for i in self.videos})
        rate = f"{self.fps:g} fps" if self.fps else "native rate"
        total = f"{len(self.videos)} videos decode, {len(self.bad)} problems"
        if counts:
            total += f"; {min(counts)} to {max(counts)} frames; sizes {', '.join(sizes)}"
        windows = f"{sum(self.windows)} windows of {self.num_frames} frames at {rate}"
        return [total, windows if self.usable else f"nothing usable: {windows}"]


def check_folder(
    paths: files.Paths,
    *,
    num_frames: int = 34,
    fps: float | int | None = None,
    tracks: str | os.PathLike | None = None,
    track_suffixes: Sequence[str] = (".npz",),
) -> Report:
    """Decodes everything that the paths name and reads every track file.

    Args:
      paths: see `files.find_videos`.
      num_frames: frames of a window, to count windows and name videos that are too short.
      fps: rate of windows, None = each video's own.
      tracks: folder of track files; None = beside the videos.
      track_suffixes: endings after the stem that name a track file.

    Raises:
      ClipError: a path names nothing.
    """
    infos, bad = files.probe_all(files.find_videos(paths))
    windows, notes = [], []
    for info in infos:
        count = len(resample(info.num_frames, info.fps, fps))
        windows.append(count // num_frames)
        if not windows[-1]:
            bad.append((info.path, f"too short: {count} frames, a window needs {num_frames}"))
        notes.append("")
        path = files.find_tracks(info.path, tracks, track_suffixes)
        try:
            if path:
                shape = read_tracks(path).tracks.shape
                notes[-1] = f"{Path(path).name}: {shape[0]} tracks, {shape[1]} frames"
        except ClipError as error:
            bad.append((path, str(error).removeprefix(f"{path}: ")))
    return Report(tuple(infos), tuple(windows), tuple(notes), tuple(bad), num_frames, fps)


def contact_sheet(videos: Sequence[VideoInfo], columns: int = 6) -> UInt8[np.ndarray, "H W 3"]:
    """One row a video: its name, and frames evenly spaced from the first to the last.

    Raises:
      VideoError: no videos.
    """
    if not videos:
        raise VideoError("no video to show on a contact sheet")
    rows = [
        _row(info, name, columns)
        for info, name in zip(videos, files.names([info.path for info in videos]), strict=True)
    ]
    width = max(row.shape[1] for row in rows)
    return np.concatenate(
        [np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0))) for row in rows]
    )


def write_sheet(path: str | os.PathLike, sheet: UInt8[np.ndarray, "H W 3"]) -> None:
    """Writes a picture as PNG, whole or not at all.

    Raises:
      OSError: the place cannot be written.
    """
    _, png = cv2.imencode(".png", sheet[..., ::-1])
    cache.write_whole(path, png.tobytes())


def _row(info: VideoInfo, name: str, columns: int) -> UInt8[np.ndarray, "H W 3"]:
    frames = np.linspace(0, info.num_frames - 1, min(columns, info.num_frames)).round().astype(int)
    width = max(1, round(info.size_hw[1] * _THUMB_HEIGHT / info.size_hw[0]))
    thumbs = []
    for frame in iter_frames(info.path, frames):
        thumb = resize_image(frame, (_THUMB_HEIGHT, width))
        thumbs.append(np.pad(thumb, ((0, _GAP), (0, _GAP), (0, 0))))
    strip = np.concatenate(thumbs, axis=1)
    h, w = info.size_hw
    words = f"{name}  {w}x{h}  {info.num_frames} frames  {info.fps:.2f} fps"
    label = np.zeros((_LABEL_HEIGHT, max(strip.shape[1], 8 * len(words)), 3), np.uint8)
    cv2.putText(
        label, words, (4, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (255, 255, 255), 1, cv2.LINE_AA
    )
    strip = np.pad(strip, ((0, 0), (0, label.shape[1] - strip.shape[1]), (0, 0)))
    return np.concatenate([label, strip])
