"""The past of a video: its frames and their tracks for the forecast, and the image that goes on."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from tavid_jax.bridge.alignment import ALIGNMENTS, REPRODUCTION
from tavid_jax.data.files import ClipFile, stem
from tavid_jax.data.tracker import DISTracker, Tracker
from tavid_jax.data.video import file_hash, iter_frames, probe
from tavid_jax.data.window import FolderConfig, read_window, usable_frames, window_fit
from tavid_jax.tracks.forecasting import Past


@dataclasses.dataclass(frozen=True)
class Window:
    """What a forecast is given.

    Attributes:
      size_hw: of the frames that its pixels refer to.
      stride: px from point to point of the grid.
      origin: "topleft" or "center": where in its cell a point is seeded.
      frames: of the past.
    """

    size_hw: tuple[int, int] = (480, 832)
    stride: int = 32
    origin: str = "topleft"
    frames: int = 81


@dataclasses.dataclass(frozen=True, eq=False)
class History:
    """The past, and what it ends in.

    Attributes:
      past: frames and tracks.
      image: where the video begins: the part of that frame which the past shows, as large as it is
        in the file.
      fps: frames per second.
      facts: where it comes from, JSON-able.
    """

    past: Past
    image: UInt8[np.ndarray, "H W 3"]
    fps: float
    facts: dict[str, Any]

    @property
    def image_hw(self) -> tuple[int, int]:
        """(H, W) of the image."""
        return int(self.image.shape[0]), int(self.image.shape[1])


def read_history(
    video: str | os.PathLike,
    window: Window,
    align: str,
    *,
    tracks: str | os.PathLike | None = None,
    start: int | None = None,
    fps: float | int | None = None,
    caption: str = "",
    tracker: Tracker | None = None,
    tracked: bool = True,
) -> History:
    """Reads and tracks the past.

    Args:
      video: file or folder of images.
      window: what the forecast is given; frames are cut to its aspect ratio.
      align: one of `ALIGNMENTS`.
      tracks: file of the whole video's tracks in TrajLoom's layout; points of another grid, or that
        were not seeded in the first frame of the past, are asked for on its grid. None: the video
        is tracked.
      start: frame of the video (at `fps`) in which the past begins; None: so that all of it ends
        with the video.
      fps: rate to read the video at; None: its own.
      caption: for the forecast.
      tracker: None: optical flow.
      tracked: False leaves the past without tracks.

    Raises:
      ValueError: an unknown alignment; a video that is too short, or a start too late.
      VideoError, ClipError: files that cannot be read.
    """
    if align not in ALIGNMENTS:
        raise ValueError(f"align {align!r}: there are {', '.join(ALIGNMENTS)}")
    info, more = probe(video), int(align == REPRODUCTION)
    held = None if tracks is None else os.fspath(tracks)
    file = ClipFile(info, stem(video), caption, held)
    count, numbers = window.frames + more, usable_frames(file, fps)
    latest = len(numbers) - count
    if latest < 0:
        behind = " and the frame behind them" if more else ""
        raise ValueError(
            f"{video} has {len(numbers)} frames{_at(fps)}: the forecast is given "
            f"{window.frames}{behind}; give a longer video"
        )
    start = latest if start is None else start
    if not 0 <= start <= latest:
        raise ValueError(f"start {start}: the past may begin in frame 0 to {latest} of {video}")
    config = FolderConfig(
        window.size_hw,
        window.frames,
        window.stride,
        window.origin,
        fps=fps,
        tracker=tracker or DISTracker(),
        track=tracked,
    )
    clip = read_window(file, start, config)
    shown = int(numbers[start + count - 1])
    (frame,) = iter_frames(file.path, [shown])
    x, y, width, height = window_fit(file, config).box
    points, seen, grid_hw = clip.tracks, clip.visibility, clip.grid_hw
    if not tracked:
        points, grid_hw = np.zeros((0, window.frames, 2), np.float32), (0, 0)
        seen = np.zeros((0, window.frames), bool)
    past = Past(points, seen, window.size_hw, grid_hw, clip.video, caption)
    facts = {
        "video": Path(video).name,
        "hash": file_hash(video)[:12],
        "start": start,
        "frames": window.frames,
        "image_frame": start + count - 1,
        "image_source_frame": shown,
        "image_box": [x, y, width, height],
        "fps": float(fps or info.fps),
        "size_hw": list(window.size_hw),
        "stride": window.stride,
        "origin": window.origin,
        "align": align,
        "tracks": _made_by(config, tracks) if tracked else None,
    }
    image = np.ascontiguousarray(frame[y : y + height, x : x + width])
    return History(past, image, float(fps or info.fps), facts)


def _made_by(config: FolderConfig, tracks: str | os.PathLike | None) -> str:
    return config.tracker.fingerprint if tracks is None else Path(tracks).name


def _at(fps: float | int | None) -> str:
    return "" if fps is None else f" at {fps:g} per second"
