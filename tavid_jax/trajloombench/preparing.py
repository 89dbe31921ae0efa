"""Sources of videos -> a data set in the bench's layout: the paper's re-extraction as a command.

Paper and code tell: frames of 480 x 832; at least 162 frames, of which the first 162 are used; the
first frame as the tracker's reference; points at every 32nd pixel from (0, 0) on; MagicData chosen
by aspect ratio, resolution and length. They do not tell how frames were resized, which aspect
ratios passed, nor AllTracker's threshold of visibility. All that was done stands in the manifest.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import itertools
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from tavid_jax import __version__
from tavid_jax.data.cache import write_whole
from tavid_jax.data.official import TrackFile, write_tracks
from tavid_jax.data.tracker import Tracker
from tavid_jax.data.video import Resize, VideoError, fit, resample, write_video
from tavid_jax.trajloombench.datasets import MANIFEST, VIDEO
from tavid_jax.trajloombench.protocol import BenchError, Protocol
from tavid_jax.trajloombench.sources import SOURCES, SourceClip, Unusable
from tavid_jax.untrusted.texts import read_json

PAPER_TRACKER = "AllTracker"


@dataclasses.dataclass(frozen=True)
class Rules:
    """What becomes of a video.

    Attributes:
      protocol: size, grid and number of frames.
      aspect: most that width / height may differ from the protocol's, relative to it; inf = any.
      least_height: videos with fewer rows are skipped; 0 = none are.
      resize: "squash" all of the frame, or "cover": cut its largest part of that aspect ratio.
      fps: frames per second to thin videos to, None = as they are.
    """

    protocol: Protocol = Protocol()
    aspect: float | int = 0.05
    least_height: int = 0
    resize: Resize = "squash"
    fps: float | int | None = None

    def refusal(self, clip: SourceClip) -> str | None:
        """Why a video is no clip, None if it is one."""
        frames = len(self.numbers(clip))
        if frames < self.protocol.frames:
            return f"has {frames} frames, {self.protocol.frames} are needed"
        (height, width), (h, w) = clip.size_hw, self.protocol.size_hw
        off = abs(width / height / (w / h) - 1)
        if off > self.aspect:
            return (
                f"aspect ratio {width}x{height} is {off:.0%} off {w}x{h}, at most {self.aspect:.0%}"
                " (--aspect)"
            )
        if height < self.least_height:
            return f"has {height} rows of pixels, at least {self.least_height} are wanted"
        return None

    def numbers(self, clip: SourceClip) -> list[int]:
        """Source frames of the clip, as many as there are."""
        return resample(clip.num_frames, clip.fps, self.fps)[: self.protocol.frames].tolist()

    def describe(self) -> dict[str, Any]:
        """For the manifest."""
        aspect = self.aspect if np.isfinite(self.aspect) else None
        return {
            **self.protocol.describe(),
            "frames": self.protocol.frames,
            "reference_frame": 0,
            "aspect_tolerance": aspect,
            "least_height": self.least_height,
            "resize": self.resize,
            "fps": self.fps,
        }


@dataclasses.dataclass(frozen=True)
class Prepared:
    """What is there now.

    Attributes:
      name: of the data set.
      clips: names of those that it holds.
      skipped: name -> reason.
      manifest: the file that tells it all.
    """

    name: str
    clips: tuple[str, ...]
    skipped: dict[str, str]
    manifest: Path


def prepare(
    kind: str,
    source: str | os.PathLike,
    destination: str | os.PathLike,
    tracker: Tracker,
    rules: Rules = Rules(),  # noqa: B008 (frozen)
    name: str | None = None,
    limit: int | None = None,
    told: Callable[[int, float | int, str], None] = lambda done, share, text: None,
) -> Prepared:
    """Makes <name>_video/, <name>_<tracker>_s32/, captions and manifest below `destination`.

    Clips appear whole or not at all; those that are there are kept, so that an interrupted command
    goes on.

    Args:
      kind: one of `sources.SOURCES`.
      source: folder or file of that kind.
      destination: holds data sets.
      tracker: follows the grid's points; the paper's is AllTracker.
      rules: which videos, and what becomes of them.
      name: of the data set; None = the paper's name for that kind.
      limit: stop when the data set holds so many clips.
      told: is called with the number of videos gone through, the share of the work that they are
        (0 = not known), and a line about the last.

    Raises:
      BenchError: an unknown kind, a source without videos, no usable clip, or a data set there
        that was prepared by other rules.
    """
    if kind not in SOURCES:
        raise BenchError(f"no kind of source {kind!r}: use one of {', '.join(SOURCES)}")
    if not Path(source).exists():
        raise BenchError(f"{source}: no such file or folder")
    read, usual = SOURCES[kind]
    name = name or usual
    if name is None or not re.fullmatch(r"[\w\-]+", name):
        raise BenchError(f"{kind}: give the data set a name of letters and digits, got {name!r}")
    book = _Book(Path(destination), name, kind, source, tracker, rules)
    for number, item in enumerate(read(Path(source)), start=1):
        line = book.add(item)
        told(number, max(item.share, len(book.clips) / limit if limit else 0), line)
        if limit is not None and len(book.clips) >= limit:
            break
    book.close()
    return Prepared(name, tuple(book.clips), dict(book.skipped), book.path)


class _Book:
    """The data set as it grows, and its manifest."""

    def __init__(
        self, root: Path, name: str, kind: str, source: Any, tracker: Tracker, rules: Rules
    ):
        self._tracker, self._rules = tracker, rules
        label = re.sub(r"[^A-Za-z0-9.\-]+", "-", tracker.fingerprint.split(":")[-1])
        label = label.split("-")[0].strip(".") or "tracks"
        self._videos = root / f"{name}{VIDEO}"
        self._tracks = root / f"{name}_{label}_s{rules.protocol.stride}"
        self.path = root / f"{name}{MANIFEST}"
        self._captions = root / f"{name}.csv"
        self.clips: dict[str, dict[str, Any]] = {}
        self.skipped: dict[str, str] = {}
        self._head = {
            "dataset": name,
            "source": {"kind": kind, "path": os.fspath(source)},
            "tracker": {
                "name": tracker.fingerprint,
                "paper": PAPER_TRACKER,
                "note": "tracks of the source, where it has some, are not used",
            },
            "tracks": self._tracks.name,
            "rules": rules.describe(),
        }
        self._resume()

    def _resume(self) -> None:
        if not self.path.is_file():
            if self._tracks.is_dir() or self._videos.is_dir():
                raise BenchError(
                    f"{self._videos} or {self._tracks} is there without {self.path.name}: give "
                    "another destination"
                )
            return
        try:
            before = read_json(self.path)
            known = {key: before[key] for key in ("dataset", "tracker", "tracks", "rules")}
            clips = before["clips"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BenchError(f"{self.path}: is no manifest of the bench ({error})") from error
        off = [
            f"{key}: {known['rules'].get(key)} there, {value} now"
            for key, value in self._head["rules"].items()
            if known["rules"].get(key) != value
        ]
        if known["tracker"]["name"] != self._tracker.fingerprint:
            off.append(
                f"tracker: {known['tracker']['name']} there, {self._tracker.fingerprint} now"
            )
        if off:
            raise BenchError(
                f"{self.path}: was prepared by other rules ({'; '.join(off)}): give another "
                "destination, or delete the data set"
            )
        self.clips = {stem: facts for stem, facts in clips.items() if self._is_there(stem)}

    def _is_there(self, stem: str) -> bool:
        return (self._tracks / f"{stem}.npz").is_file() and (self._videos / f"{stem}.mp4").is_file()

    def add(self, item: SourceClip | Unusable) -> str:
        """Takes one video in or notes why not; says which."""
        self.skipped.pop(item.name, None)
        if isinstance(item, Unusable):
            return self._skip(item.name, item.reason)
        if item.name in self.clips:
            if self.clips[item.name]["origin"] != item.origin:
                return self._skip(item.origin, f"a clip {item.name!r} is there already")
            return f"{item.name}: is there"
        if reason := self._rules.refusal(item):
            return self._skip(item.name, reason)
        try:
            seen = self._write(item)
        except VideoError as error:
            return self._skip(item.name, str(error).removeprefix(f"{item.origin}: "))
        self.clips[item.name] = {
            "origin": item.origin,
            "frames": item.num_frames,
            "size_hw": list(item.size_hw),
            "fps": item.fps,
            "visible": round(seen, 4),
            **({"caption": item.caption} if item.caption else {}),
        }
        self._save()
        return f"{item.name}: {seen:.0%} of points and frames visible"

    def _skip(self, stem: str, reason: str) -> str:
        self.skipped[stem] = reason
        return f"SKIPPED {stem}: {reason}"

    def _write(self, item: SourceClip) -> float:
        """Video and tracks; returns the visible share."""
        rules, size_hw = self._rules, self._rules.protocol.size_hw
        box = fit(item.size_hw, size_hw, rules.resize)
        frames = np.stack([box.frame(frame) for frame in item.frames(rules.numbers(item))])
        tracks, seen = follow(self._tracker, frames, rules.protocol)
        fps = float(rules.fps or item.fps)
        write_video(self._videos / f"{item.name}.mp4", frames, fps)
        file = TrackFile(tracks, seen, size_hw, rules.protocol.queries, fps)
        write_tracks(self._tracks / f"{item.name}.npz", file)
        return float(seen.mean())

    def _save(self) -> None:
        content = {
            **self._head,
            "version": __version__,
            "clips": self.clips,
            "skipped": self.skipped,
        }
        write_whole(self.path, (json.dumps(content, indent=1) + "\n").encode())

    def close(self) -> None:
        """Writes what the last clips left to be written."""
        if not self.clips:
            reasons = [f"{stem}: {why}" for stem, why in itertools.islice(self.skipped.items(), 3)]
            raise BenchError(
                f"{self._head['source']['path']}: none of {len(self.skipped)} videos can be used "
                f"({'; '.join(reasons)})"
            )
        self._save()
        words = {stem: facts["caption"] for stem, facts in self.clips.items() if "caption" in facts}
        if words:
            text = io.StringIO()
            rows = csv.writer(text)
            rows.writerow(("videoid", "video_path", "text"))
            rows.writerows((s, f"{self._videos.name}/{s}.mp4", words[s]) for s in words)
            write_whole(self._captions, text.getvalue().encode())


def follow(
    tracker: Tracker, frames: UInt8[np.ndarray, "T H W 3"], protocol: Protocol
) -> tuple[np.ndarray, np.ndarray]:
    """Tracks (N, T, 2) float32 px and visibility (N, T) of the grid's points.

    Raises:
      BenchError: the tracker gives something of another form.
    """
    tracks, seen = map(np.asarray, tracker(frames, protocol.queries))
    wanted = (len(protocol.queries), len(frames))
    if tracks.shape != (*wanted, 2) or seen.shape != wanted:
        raise BenchError(
            f"tracker {tracker.fingerprint}: gave tracks {tracks.shape} and visibility "
            f"{seen.shape}, wanted are (N, T, 2) = {(*wanted, 2)} and (N, T)"
        )
    finite = np.isfinite(tracks).all(axis=-1)
    return np.nan_to_num(tracks, posinf=0, neginf=0).astype(np.float32), seen.astype(bool) & finite
