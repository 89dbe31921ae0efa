"""Clips of which only tracks are wanted: official track files, videos, or both."""

from __future__ import annotations

import collections
import dataclasses
import glob
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tavid_jax.data import files
from tavid_jax.data.clip import ClipError
from tavid_jax.data.official import OFFICIAL_SIZE_HW, TrackFile, read_tracks
from tavid_jax.data.tracked import track_video
from tavid_jax.data.tracker import DISTracker
from tavid_jax.data.video import VIDEO_SUFFIXES, natural_key, probe, read_video

TRACKS = ".npz"
_GRID_HW = (15, 26)  # as many points as TrajLoom's clips have


@dataclasses.dataclass(frozen=True)
class TrackSource:
    """One clip: a track file, a video, or a video with its track file.

    Attributes:
      name: stem of the video, or of the track file without one.
      tracks: the track file, None = tracks are taken from the video.
      video: the video, None = there is none.
    """

    name: str
    tracks: str | None = None
    video: str | None = None

    @property
    def path(self) -> str:
        """The video if there is one, else the track file."""
        return self.video or self.tracks


def find_track_files(path: str | os.PathLike) -> list[Path]:
    """Track files that a path names, in natural order: a file, a glob, or all below a folder.

    Raises:
      ClipError: there is none.
    """
    path = os.path.expanduser(os.fspath(path))
    if os.path.isdir(path):
        found = [file for file in Path(path).rglob(f"*{TRACKS}") if not file.name.startswith(".")]
    else:
        found = [Path(match) for match in ([path] if os.path.exists(path) else glob.glob(path))]
    if not found:
        raise ClipError(f"{path}: no track files ({TRACKS}) there")
    return sorted(found, key=lambda file: natural_key(str(file)))


def find_sources(paths: Sequence[str | os.PathLike]) -> list[TrackSource]:
    """Track files and videos that paths name, paired by stem wherever they lie: a track file
    belongs to `<stem>.mp4`, named too or beside it, if it is `<stem>.npz` or `<stem>.<more>.npz`.

    Raises:
      ClipError: a path names nothing, or two clips have one name, which captions could not tell
        apart.
    """
    track_files: list[Path] = []
    videos: list[Path] = []
    for path in map(os.fspath, paths):
        folder = os.path.isdir(path)
        if path.endswith(TRACKS) or (folder and any(Path(path).rglob(f"*{TRACKS}"))):
            track_files += find_track_files(path)
        if folder or not path.endswith(TRACKS):
            videos += files.find_videos([path])
    by_stem = {files.stem(video): str(video) for video in [*_beside(track_files), *videos]}
    used, sources = set(), []
    for file in dict.fromkeys(track_files):
        name = _video_stem(file.stem, by_stem)
        used.add(name)
        sources.append(TrackSource(name, str(file), by_stem.get(name)))
    for video in dict.fromkeys(videos):
        if files.stem(video) not in used or by_stem[files.stem(video)] != str(video):
            sources.append(TrackSource(files.stem(video), None, str(video)))
    counts = collections.Counter(source.name for source in sources)
    double = [name for name, count in counts.items() if count > 1]
    if double:
        paths = [source.tracks or source.video for source in sources if source.name == double[0]]
        raise ClipError(f"two clips have the name {double[0]!r}: {' and '.join(paths[:2])}")
    if not sources:
        raise ClipError(f"no track files ({TRACKS}) and no videos in {', '.join(map(str, paths))}")
    return sorted(sources, key=lambda source: natural_key(source.name))


def _beside(track_files: Sequence[Path]) -> list[Path]:
    """Videos in the folders of track files."""
    folders = dict.fromkeys(file.parent for file in track_files)
    found = (path for folder in folders for path in sorted(folder.iterdir()))
    return [path for path in found if path.suffix.lower() in VIDEO_SUFFIXES]


def _video_stem(stem: str, known: dict[str, str]) -> str:
    """The longest beginning of a track file's stem, up to a dot, that names a video; else all."""
    parts = stem.split(".")
    ends = (".".join(parts[:count]) for count in range(len(parts), 0, -1))
    return next((part for part in ends if part in known), stem)


def read_source(
    source: TrackSource,
    *,
    frames: int | None = None,
    fps: float | int | None = None,
    size_hw: tuple[int, int] | None = None,
) -> TrackFile:
    """Tracks of a clip, with size and rate.

    Args:
      frames: from the first on; None = all. Of a video without a track file a grid of points in
        its first frame is followed so far.
      fps: rate of a track file that states none and lies beside no video.
      size_hw: (H, W) of a track file that states none; None = TrajLoom's 480x832.

    Raises:
      ClipError, VideoError: unreadable, or a track file whose rate is not known.
    """
    if source.tracks is None:
        return _followed(source.video, frames)
    file = read_tracks(source.tracks)
    rate = file.fps
    if rate is None:
        rate = probe(source.video).fps if source.video else fps
    if rate is None:
        raise ClipError(
            f"{source.tracks}: states no rate ('fps') and lies beside no video: give --fps"
        )
    return dataclasses.replace(
        file,
        tracks=file.tracks[:, :frames],
        visibility=file.visibility[:, :frames],
        size_hw=file.size_hw or size_hw or OFFICIAL_SIZE_HW,
        fps=rate,
    )


def _followed(video: str, frames: int | None) -> TrackFile:
    info, tracker = probe(video), DISTracker()
    count = min(info.num_frames, frames or info.num_frames)
    shots = read_video(video, np.arange(count), size_hw=tracker.working_hw(info.size_hw))
    try:
        made = track_video(shots, _GRID_HW, tracker=tracker)
    except ValueError as error:
        raise ClipError(f"{video}: cannot be tracked: {error}") from error
    return TrackFile(made.tracks, made.visibility, made.size_hw, fps=info.fps)
