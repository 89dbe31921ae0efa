"""Data sets in the layout of TrajLoomDatasets:

    ROOT/<name>_video/<id>.mp4
    ROOT/<name>_<tracker>_s32/<id>.npz      TrajLoom's own tracks: <name>_alltracker_s32
    ROOT/<name>.csv                         optional captions: columns videoid, text
    ROOT/<name>_manifest.json               optional: how it was prepared, see `preparing`
    ROOT/<name>_eval.csv                    optional: the clips to use, others are trained on; as
                                            `python -m tavid_jax.data magicdata` writes it

A video without a file of tracks is left out and told of, as TrajLoom's reader does.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float

from tavid_jax.data.clip import ClipError
from tavid_jax.data.files import read_captions
from tavid_jax.data.official import TrackFile, read_tracks
from tavid_jax.data.track_checks import check_convention
from tavid_jax.data.verdicts import read_verdicts
from tavid_jax.data.video import VIDEO_SUFFIXES, natural_key, read_video
from tavid_jax.tracks.coordinates import in_bounds
from tavid_jax.tracks.forecasting import Past
from tavid_jax.tracks.grid import row_major_order
from tavid_jax.trajloombench.protocol import DATASETS, BenchError, Protocol
from tavid_jax.untrusted.texts import read_json

VIDEO = "_video"
MANIFEST = "_manifest.json"
CHOSEN = "_eval.csv"
_TRACKS = re.compile(r"(?P<name>.+)_(?P<tracker>[A-Za-z0-9.\-]+)_s(?P<stride>\d+)")
# A tracker's first frame may be off its query by a little, another grid is off by half a cell.
_OFF_GRID = 1 / 8


@dataclasses.dataclass(frozen=True)
class BenchClip:
    """Files of one clip.

    Attributes:
      name: stem of both files.
      tracks: file of its tracks.
      video: its video, None = there are no videos.
      caption: "" for none.
    """

    name: str
    tracks: Path
    video: Path | None
    caption: str = ""


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A data set whose files were checked.

    Attributes:
      name: as its folders are called.
      clips: in natural order.
      tracker: what made the tracks, as the folder or else the manifest says.
      fingerprint: of the names and sizes of its track files.
      skipped: (video, reason) of what is no clip.
    """

    name: str
    clips: tuple[BenchClip, ...]
    tracker: str
    fingerprint: str
    skipped: tuple[tuple[str, str], ...] = ()

    @property
    def heading(self) -> str:
        """Its name in tables."""
        return DATASETS.get(self.name, self.name)


@dataclasses.dataclass(frozen=True, eq=False)
class Example:
    """One clip, read.

    Attributes:
      past: what a forecast is given.
      future: (N, T, 2) px, what was tracked afterwards.
      future_visible: (N, T); inside the frame and visible.
      full: past and future, as they lie in the file, for the official renderer.
    """

    past: Past
    future: Float[np.ndarray, "N T 2"]
    future_visible: Bool[np.ndarray, "N T"]
    full: TrackFile


def names_in(root: str | os.PathLike) -> list[str]:
    """Names of the data sets below a folder: the paper's in its order, then others.

    Raises:
      BenchError: no such folder, or none in it.
    """
    root = Path(root)
    if not root.is_dir():
        raise BenchError(f"{root}: no such folder of data sets")
    found = {path.name.removesuffix(VIDEO) for path in root.glob(f"*{VIDEO}") if path.is_dir()}
    found |= {match["name"] for match in map(_matched, root.iterdir()) if match}
    if not found:
        raise BenchError(
            f"{root}: holds no data set; wanted are folders <name>{VIDEO} and <name>_<tracker>_s32 "
            f"(names of the paper: {', '.join(DATASETS)})"
        )
    return [*(n for n in DATASETS if n in found), *sorted(found - set(DATASETS), key=natural_key)]


def open_datasets(
    root: str | os.PathLike,
    protocol: Protocol = Protocol(),  # noqa: B008 (frozen)
    only: Sequence[str] = (),
    captions: bool = True,
) -> list[Dataset]:
    """Every data set below a folder, with all its track files checked.

    Args:
      root: see the module.
      protocol: the grid and length that the tracks must have.
      only: names; () = all that are there.
      captions: whether captions are read; the released script gives none.

    Raises:
      BenchError: a name that is not there; a data set without tracks, or with those of several
        trackers; a track file of another grid, size or length, or with points missing. Names the
        file.
    """
    there = names_in(root)
    unknown = [name for name in only if name not in there]
    if unknown:
        raise BenchError(f"{root}: no data set {unknown[0]!r}; there are {', '.join(there)}")
    return [_open(Path(root), name, protocol, captions) for name in only or there]


def load(clip: BenchClip, protocol: Protocol, video: bool = True) -> Example:
    """Reads one clip.

    Args:
      clip: of a data set.
      protocol: see `open_datasets`.
      video: whether the history's frames are read too.

    Raises:
      BenchError: see `open_datasets`.
      VideoError: a broken or short video.
    """
    file = _checked(clip.tracks, protocol)
    past, frames = protocol.history, None
    if video and clip.video is not None:
        frames = read_video(clip.video, range(past), size_hw=protocol.size_hw, resize="squash")
    future = np.ascontiguousarray(file.tracks[:, past:])
    return Example(
        past=Past(
            tracks=np.ascontiguousarray(file.tracks[:, :past]),
            visibility=np.ascontiguousarray(file.visibility[:, :past]),
            size_hw=protocol.size_hw,
            grid_hw=protocol.grid_hw,
            video=frames,
            caption=clip.caption,
        ),
        future=future,
        future_visible=file.visibility[:, past:] & in_bounds(future, protocol.size_hw),
        full=file,
    )


def _matched(path: Path) -> re.Match | None:
    return _TRACKS.fullmatch(path.name) if path.is_dir() else None


def _open(root: Path, name: str, protocol: Protocol, captions: bool) -> Dataset:
    folder, tracker = _track_folder(root, name, protocol)
    files = {path.stem: path for path in folder.glob("*.npz")}
    if not files:
        raise BenchError(f"{folder}: holds no tracks (<id>.npz)")
    files = _chosen(root / f"{name}{CHOSEN}", files)
    words = _captions(root, name) if captions else {}
    videos = root / f"{name}{VIDEO}"
    skipped: list[tuple[str, str]] = []
    if videos.is_dir():
        known = {p.stem: p for p in videos.iterdir() if p.suffix.lower() in VIDEO_SUFFIXES}
        tracked = {path.stem for path in folder.glob("*.npz")}
        skipped = [(str(known[k]), "has no file of tracks") for k in known if k not in tracked]
        files = {stem: path for stem, path in files.items() if stem in known}
        if not files:
            raise BenchError(f"{folder}: no file of tracks is named as a video in {videos}")
    else:
        known = {}
    stems = sorted(files, key=natural_key)
    clips = tuple(BenchClip(s, files[s], known.get(s), words.get(s, "")) for s in stems)
    for clip in clips:
        _checked(clip.tracks, protocol)
    stated = _stated_tracker(root / f"{name}{MANIFEST}", folder.name) or tracker
    return Dataset(name, clips, stated, _fingerprint(clips), tuple(sorted(skipped)))


def _track_folder(root: Path, name: str, protocol: Protocol) -> tuple[Path, str]:
    matches = [m for m in map(_matched, sorted(root.iterdir())) if m and m["name"] == name]
    fitting = [m for m in matches if int(m["stride"]) == protocol.stride]
    if not fitting:
        others = f"; there is {', '.join(m.string for m in matches)}" if matches else ""
        raise BenchError(
            f"{root}: data set {name!r} has no tracks: no folder {name}_<tracker>_s"
            f"{protocol.stride} (TrajLoom's is {name}_alltracker_s{protocol.stride}){others}; make "
            "them by `python -m tavid_jax.trajloombench prepare`"
        )
    if len(fitting) > 1:
        raise BenchError(
            f"{root}: data set {name!r} has tracks of several trackers "
            f"({', '.join(m.string for m in fitting)}): keep one of them here"
        )
    return root / fitting[0].string, fitting[0]["tracker"]


def _chosen(path: Path, files: dict[str, Path]) -> dict[str, Path]:
    """Those files of tracks that a list names, all without a list."""
    if not path.is_file():
        return files
    try:
        kept = {name for name, verdict in read_verdicts(path).items() if verdict.kept}
    except ClipError as error:
        raise BenchError(str(error)) from error
    chosen = {stem: file for stem, file in files.items() if stem in kept}
    if not chosen:
        raise BenchError(f"{path}: none of the {len(kept)} clips that it names has tracks")
    return chosen


def _captions(root: Path, name: str) -> dict[str, str]:
    """Of a CSV that is named as the data set, in any case."""
    found = [p for p in root.glob("*.csv") if p.stem.lower() == name.lower()]
    if len(found) > 1:
        raise BenchError(f"{root}: captions of {name!r} in {', '.join(p.name for p in found)}")
    try:
        return read_captions(found[0]) if found else {}
    except ClipError as error:
        raise BenchError(str(error)) from error


def _stated_tracker(path: Path, tracks: str) -> str | None:
    """What a manifest says that made this folder of tracks."""
    if not path.is_file():
        return None
    try:
        manifest = read_json(path)
        return str(manifest["tracker"]["name"]) if manifest["tracks"] == tracks else None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BenchError(f"{path}: is no manifest of the bench ({error})") from error


def _fingerprint(clips: Sequence[BenchClip]) -> str:
    facts = [[clip.name, clip.tracks.stat().st_size] for clip in clips]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def _checked(path: Path, protocol: Protocol) -> TrackFile:
    """The first frames of a track file on the protocol's grid, row-major."""
    try:
        file = read_tracks(path)
        check_convention(str(path), file, file.size_hw or protocol.size_hw)
    except ClipError as error:
        raise BenchError(str(error)) from error
    (gh, gw), wanted = protocol.grid_hw, protocol.queries
    if file.size_hw not in (None, protocol.size_hw):
        raise BenchError(f"{path}: is for frames of {file.size_hw}, wanted are {protocol.size_hw}")
    if len(file.tracks) != len(wanted):
        raise BenchError(
            f"{path}: has {len(file.tracks)} points, wanted are {len(wanted)}: {gh} rows of {gw} "
            f"points, {protocol.stride} px apart, in frames of {protocol.size_hw}"
        )
    if file.tracks.shape[1] < protocol.frames:
        raise BenchError(
            f"{path}: has {file.tracks.shape[1]} frames, wanted are at least {protocol.frames} "
            f"({protocol.history} given, {protocol.future} to forecast); take short clips out, or "
            "give --history and --future"
        )
    tracks, visibility = file.tracks, file.visibility
    if file.query_xy is not None:
        order = _order(path, file.query_xy, wanted)
        tracks, visibility = tracks[order], visibility[order]
    seen = visibility[:, 0] & np.isfinite(tracks[:, 0]).all(axis=-1)
    off = np.abs(tracks[:, 0] - wanted).max(axis=-1) > protocol.stride * _OFF_GRID
    if (off & seen).any():
        worst = int(np.flatnonzero(off & seen)[0])
        raise BenchError(
            f"{path}: {(off & seen).sum()} points do not start on the grid, such as point {worst} "
            f"at {tracks[worst, 0].round(1).tolist()} in place of {wanted[worst].tolist()}: other "
            "coordinates, another grid or order, or not seeded in the first frame"
        )
    count = protocol.frames
    return TrackFile(
        tracks[:, :count], visibility[:, :count], protocol.size_hw, wanted.copy(), file.fps
    )


def _order(path: Path, query_xy: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Points of a file in row-major order."""
    asked = {tuple(point) for point in np.rint(query_xy).astype(int).tolist()}
    missing = [point for point in wanted.astype(int).tolist() if tuple(point) not in asked]
    if missing:
        raise BenchError(
            f"{path}: query_xy lacks {len(missing)} points of the grid, such as {missing[0]}"
        )
    return row_major_order(np.rint(query_xy))[0]
