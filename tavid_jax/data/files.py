"""What lies in a folder of clips: videos, their captions and their track files."""

from __future__ import annotations

import collections
import dataclasses
import glob
import hashlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from absl import logging

from tavid_jax.data import cache
from tavid_jax.data.clip import ClipError
from tavid_jax.data.masks import MaskFiles
from tavid_jax.data.video import (
    VIDEO_SUFFIXES,
    VideoError,
    VideoInfo,
    image_files,
    natural_key,
    probe,
    stated_rate,
)
from tavid_jax.untrusted.errors import reading
from tavid_jax.untrusted.texts import check_caption, read_table, read_text

Paths = str | os.PathLike | Sequence[str | os.PathLike]
RENDERED = ".ids"  # ends the stem of a video of identities
Skipped = list[tuple[str, str]]  # (path, reason)


@dataclasses.dataclass(frozen=True)
class ClipFile:
    """One usable video.

    Attributes:
      info: what decoding it told.
      name: file name without suffix, with folders before it where that is not unique.
      caption: words about it, "" = none.
      tracks: its file of tracks, None = to be tracked.
      blind: source frames in which that file shows no track: no window starts there.
      masks: pictures of objects in frame 0, None = not asked for.
      reverse: a second file of tracks, which start in the last frame and go back, None = none.
      segments: files of masks, see `segment_files`; () = none.
      rendered: the video of identities drawn elsewhere, None = none.
    """

    info: VideoInfo
    name: str
    caption: str = ""
    tracks: str | None = None
    blind: frozenset[int] = frozenset()
    masks: MaskFiles | None = None
    reverse: str | None = None
    segments: tuple[str, ...] = ()
    rendered: VideoInfo | None = None

    @property
    def path(self) -> str:
        """Video file or folder of images."""
        return self.info.path


def stem(path: str | os.PathLike) -> str:
    """File name without suffix; the whole name of a folder."""
    path = Path(path)
    return path.name if path.is_dir() else path.stem


def names(paths: Sequence[str]) -> list[str]:
    """A name for each path: its stem, with as many folders before it as make it unique."""
    named = [stem(path) for path in paths]
    for depth in range(1, max((len(Path(path).parts) for path in paths), default=1)):
        counts = collections.Counter(named)
        for index, path in enumerate(paths):
            parents = Path(path).parts[:-1]
            if counts[named[index]] > 1 and depth <= len(parents):
                named[index] = "/".join([*parents[-depth:], stem(path)])
    return named


def find_videos(paths: Paths) -> list[Path]:
    """Lists the videos that the given paths name, in natural order, each once.

    Args:
      paths: folders (searched to the bottom), globs and single files; a list, or one string with
        commas between. A folder with images but no video files in it is one clip. Videos of
        identities, `<stem>.ids.mp4` beside `<stem>.mp4`, are no clips.

    Raises:
      ClipError: a path or glob names nothing.
    """
    found: dict[Path, None] = {}
    for path in _split(paths):
        for match in _expand(path):
            for video in _walk(match) if match.is_dir() else [match]:
                found.setdefault(video, None)
    known = {(path.parent, stem(path)) for path in found}
    return [path for path in found if (path.parent, _shown_by(path)) not in known]


def _shown_by(path: Path) -> str | None:
    """Of a video of identities, the stem of the one that they belong to."""
    name = stem(path)
    return name.removesuffix(RENDERED) if name.endswith(RENDERED) else None


def probe_all(
    videos: Sequence[Path],
    *,
    fps: float | int | None = None,
    cache_dir: str | os.PathLike | None = None,
) -> tuple[list[VideoInfo], Skipped]:
    """Decodes every video once; broken ones are named with their reason instead of raised.

    Results are kept in `cache_dir` by path, size and time of change.
    """
    good, skipped = [], []
    for path in videos:
        try:
            good.append(_probe(path, fps, cache_dir))
        except (VideoError, OSError) as error:
            reason = str(error).removeprefix(f"{path}: ")
            logging.warning("Skipping %s: %s", path, reason)
            skipped.append((str(path), reason))
    return good, skipped


def read_captions(path: str | os.PathLike) -> dict[str, str]:
    """Reads a captions CSV (columns `text`, and `videoid` or `video_path`): video stem -> text.

    A row without `videoid` is for the stem of its `video_path`, one with neither for nothing; of
    two rows for one video the later counts. An empty text is no caption.

    Raises:
      ClipError: missing file or columns.
    """
    with reading(path, ClipError, "captions"):
        columns, rows = read_table(path)
    if "text" not in columns or not set(columns) & {"videoid", "video_path"}:
        raise ClipError(
            f"{path}: captions need the columns 'text' and 'videoid' or 'video_path', got "
            f"{sorted(set(columns))}"
        )
    captions = {}
    for row in rows:
        name = (row.get("videoid") or "").strip()
        name = name or Path((row.get("video_path") or "").strip()).stem
        if name:
            captions[name] = (row["text"] or "").strip()
    return captions


def find_caption(video: str | os.PathLike) -> str:
    """The text of `<video stem>.txt` beside the video; "" if absent.

    Raises:
      ClipError: a file that is no text.
    """
    path = Path(video).parent / f"{stem(video)}.txt"
    if not path.is_file():
        return ""
    with reading(path, ClipError, "a caption"):
        return check_caption(read_text(path).strip())


def find_tracks(
    video: str | os.PathLike, folder: str | os.PathLike | None, suffixes: Sequence[str]
) -> str | None:
    """The track file `<video stem><suffix>` in `folder`, or beside the video; None if absent."""
    for suffix in suffixes:
        path = Path(folder if folder is not None else Path(video).parent) / (stem(video) + suffix)
        if path.is_file():
            return str(path)
    return None


def find_rendered(video: str | os.PathLike) -> Path | None:
    """The video of identities `<video stem>.ids.mp4` (or another suffix) beside the video."""
    paths = (Path(video).parent / f"{stem(video)}{RENDERED}{end}" for end in VIDEO_SUFFIXES)
    return next((path for path in paths if path.is_file()), None)


def listed(names: Iterable[str]) -> str:
    """Names in their order as their number and a short hash: "12 clips, 1a2b3c4d"."""
    names = list(names)
    return f"{len(names)} clips, {hashlib.sha256(chr(10).join(names).encode()).hexdigest()[:8]}"


def some(names: Sequence[str], most: int = 3) -> str:
    """The first few of a list, for an error."""
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def _split(paths: Paths) -> list[str]:
    if isinstance(paths, os.PathLike) or (isinstance(paths, str) and os.path.exists(paths)):
        return [os.fspath(paths)]
    parts = paths.split(",") if isinstance(paths, str) else [os.fspath(path) for path in paths]
    parts = [part.strip() for part in parts if part.strip()]
    if not parts:
        raise ClipError("no path of clips given")
    return parts


def _expand(path: str) -> list[Path]:
    path = os.path.expanduser(path)
    if os.path.exists(path):
        return [Path(path)]
    matches = sorted(glob.glob(path, recursive=True), key=natural_key)
    if not matches:
        kind = "glob matches nothing" if glob.has_magic(path) else "no such file or folder"
        raise ClipError(f"clips {path!r}: {kind}")
    plain = [Path(match) for match in matches]
    if glob.has_magic(path):  # a glob like * also matches notes and masks beside the videos
        plain = [p for p in plain if p.is_dir() or p.suffix.lower() in VIDEO_SUFFIXES]
    return plain


def _walk(folder: Path) -> list[Path]:
    """Video files below a folder, and folders of images that hold no video file."""
    found = []
    for place, folders, files in os.walk(folder):
        folders[:] = sorted((f for f in folders if not f.startswith(".")), key=natural_key)
        videos = [f for f in files if Path(f).suffix.lower() in VIDEO_SUFFIXES]
        videos = [f for f in videos if not f.startswith(".")]
        if videos:
            found += [Path(place) / name for name in sorted(videos, key=natural_key)]
        elif image_files(place):
            found.append(Path(place))
    return found


def _probe(path: Path, fps: float | int | None, cache_dir: str | os.PathLike | None) -> VideoInfo:
    if not path.exists():
        raise VideoError(f"{path}: no such file or folder")
    parts = image_files(path) if path.is_dir() else [path]
    facts = [[part.name, part.stat().st_size, part.stat().st_mtime_ns] for part in parts]
    key = {"kind": "probe1", "path": str(path.absolute()), "facts": facts, "fps": fps}
    if path.is_dir() and (stated := stated_rate(path)):
        key["stated"] = stated

    def build() -> cache.Arrays:
        info = probe(path, fps)
        return {"numbers": np.array([info.num_frames, *info.size_hw, info.fps], np.float64)}

    frames, height, width, rate = cache.cached(cache_dir, key, build)["numbers"].tolist()
    return VideoInfo(str(path), int(frames), (int(height), int(width)), rate)
