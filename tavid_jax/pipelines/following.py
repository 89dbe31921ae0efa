"""From a job's tracks to the condition videos that a model reads: identities, and colours.

Tracks refer to a frame that becomes the video's as the image does: kept in ratio and cut, or
stretched. If that frame has the ratio of 480x720, they are drawn at that size and the pictures are
resized (bilinear, as the released code for Wan does it; CogVideoX has that size); else, and with
`Follow.native`, at the video's size with points of the same share of the frame.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image

from tavid_jax.data.rle_masks import frame_masks
from tavid_jax.data.segments import with_segments
from tavid_jax.data.trajectory_files import read_pair, split_paths
from tavid_jax.data.video import file_hash, iter_frames, probe, read_video
from tavid_jax.pipelines.follow import Follow
from tavid_jax.pipelines.images import cover_hw, fit_image
from tavid_jax.pipelines.jobs import Job, VideoSource
from tavid_jax.pipelines.settings import Sampling
from tavid_jax.tracks.coordinates import crop, resize
from tavid_jax.tracks.codes import id_colours
from tavid_jax.tracks.stamps import REFERENCE_HW, draw, released_stamp, scaled_stamp
from tavid_jax.tracks.trajectories import Trajectories

Frames = UInt8[np.ndarray, "T H W 3"]
# How far the ratio of a frame may be from that of the released size.
_RATIO = 0.01
# What seeds of choices are joined with.
_CHOICES = 7
# Condition videos at the video's size: identities and colours.
Pair = tuple[Frames, Frames]


@dataclasses.dataclass(frozen=True, eq=False)
class Guide:
    """What steers a video.

    Attributes:
      videos: draws the condition videos, the same every time.
      facts: where they came from and how they were drawn, JSON-able.
      prefix: what the prompt begins with.
      is_empty: whether they show nothing at all.
    """

    videos: Callable[[], Pair]
    facts: Mapping[str, Any]
    prefix: str = ""
    is_empty: bool = False


def guide_of(job: Job, sampling: Sampling, images: Sequence[UInt8[np.ndarray, "h w 3"]]) -> Guide:
    """Reads and checks what a job is to follow.

    Args:
      job: with tracks or condition videos.
      sampling: size and length of the video, and how images are fitted to it.
      images: of the job, as they were given; the first one colours points without a source.

    Raises:
      ValueError: files that cannot be read or have fewer frames than the video; options that do
        not fit; colours without anything to take them from.
    """
    follow = job.follow
    if follow.colour == "frame" and job.source is None:
        raise ValueError("follow: colour 'frame' shows the source's pixels: give it (source)")
    if job.control_videos is not None:
        facts, videos = _ready_made(job, sampling)
    else:
        facts, videos = _of_tracks(job, sampling, images)
    shown = videos()
    facts |= {"videos": [_hash(video) for video in shown], "follow": dataclasses.asdict(follow)}
    empty = not shown[0].any()
    if empty:
        facts["unconditioned"] = "no point is visible"
    prefix = follow.prefix if follow.unaligned and not empty else ""
    return Guide(videos, facts, prefix, empty)


def first_frame(source: VideoSource) -> UInt8[np.ndarray, "H W 3"]:
    """Of a video; ValueError for one that cannot be read."""
    return source[0] if isinstance(source, np.ndarray) else read_video(source, [0])[0]


# ---- ready-made condition videos ------------------------------------------------------------


def _ready_made(job: Job, sampling: Sampling) -> tuple[dict[str, Any], Callable[[], Pair]]:
    given, follow = job.control_videos, job.follow
    sources = list(given) if isinstance(given, list | tuple) else [given]
    count, size_hw = sampling.frames, tuple(sampling.size_hw)
    kept = _kept_frames(job, count)[:, None, None, None]
    nearest = Image.Resampling.NEAREST if follow.native else Image.Resampling.BILINEAR

    def videos() -> Pair:
        frames = [_read(source, sampling, size_hw, nearest) * kept for source in sources]
        identity = frames[0]
        return identity, frames[1] if len(frames) == 2 else _coloured(
            job, sampling, identity[..., 0] > follow.threshold
        )

    return {"control_videos": [_source_hash(source) for source in sources]}, videos


def _coloured(job: Job, sampling: Sampling, where: Bool[np.ndarray, "T H W"]) -> Frames:
    """The source's pixels where there is something; black elsewhere, and without colours."""
    if job.follow.colour != "frame":
        return np.zeros((*where.shape, 3), np.uint8)
    return _read(job.source, sampling, where.shape[1:]) * where[..., None]


def _read(
    source: VideoSource,
    sampling: Sampling,
    size_hw: tuple[int, int],
    filter: Image.Resampling = Image.Resampling.LANCZOS,
) -> Frames:
    """The video's first frames of another one, fitted as images are."""
    count, how = sampling.frames, sampling.fit or "cover"
    held = len(source) if isinstance(source, np.ndarray) else probe(source).num_frames
    if held < count:
        name = "a video in memory" if isinstance(source, np.ndarray) else source
        raise ValueError(
            f"{name} has {held} frames, {count} are needed: give a longer one, or make a shorter "
            "video (frames)"
        )
    read = source[:count] if isinstance(source, np.ndarray) else iter_frames(source, range(count))
    return np.stack([fit_image(frame, size_hw, how, filter) for frame in read])


# ---- tracks ---------------------------------------------------------------------------------


def _of_tracks(
    job: Job, sampling: Sampling, images: Sequence[UInt8[np.ndarray, "h w 3"]]
) -> tuple[dict[str, Any], Callable[[], Pair]]:
    trajectories, reverse = _trajectories(job, sampling.frames)
    facts = {"tracks": _tracks_hash(trajectories), "points": trajectories.num_points}
    size_hw = tuple(sampling.size_hw)
    ratio = trajectories.size_hw[0] * REFERENCE_HW[1] / (trajectories.size_hw[1] * REFERENCE_HW[0])
    released = not job.follow.native and abs(ratio - 1) < _RATIO
    canvas_hw = REFERENCE_HW if released else size_hw
    how = "stretch" if released else sampling.fit or "cover"
    trajectories = _fitted(trajectories, canvas_hw, how)
    visibility = trajectories.visibility & _kept_frames(job, sampling.frames)

    def videos() -> Pair:
        t = trajectories
        segment = np.zeros(t.num_points, np.int32) if t.segment is None else t.segment
        colours = id_colours(segment, t.segments, job.follow.codes)
        stamp = job.follow.stamp or released_stamp(t.num_points)
        if not released:
            stamp = scaled_stamp(stamp, canvas_hw)
        identity = draw(t.tracks, visibility, colours, canvas_hw, stamp, t.depth, job.follow.order)
        pair = identity, _coloured(job, sampling, identity[..., 0] > 0)
        return tuple(_resized(video, sampling) for video in pair)

    return facts, videos


def _resized(video: Frames, sampling: Sampling) -> Frames:
    size_hw, how = tuple(sampling.size_hw), sampling.fit or "cover"
    if video.shape[1:3] == size_hw:
        return video
    bilinear = Image.Resampling.BILINEAR
    return np.stack([fit_image(frame, size_hw, how, bilinear) for frame in video])


def _trajectories(job: Job, frames: int) -> tuple[Trajectories, Trajectories | None]:
    """Of the video's frames, with their segments; and those that were tracked backward."""
    if isinstance(job.tracks, Trajectories):
        found = [job.tracks.window(0, frames), None]
    else:
        found = list(read_pair(job.tracks, frames=frames, stored_hw=job.follow.stored_hw))
    return found[0], found[1]


def _fitted(trajectories: Trajectories, size_hw: tuple[int, int], how: str) -> Trajectories:
    """Trajectories in the pixels of a video, whose frames their own become as images do."""
    own, tracks = trajectories.size_hw, trajectories.tracks
    if tuple(own) == tuple(size_hw):
        return trajectories
    rows, columns = size_hw if how == "stretch" else cover_hw(own, size_hw)
    left_top = (columns - size_hw[1]) // 2, (rows - size_hw[0]) // 2
    tracks = crop(resize(tracks, own, (rows, columns)), left_top)
    return trajectories.replace(tracks=tracks, size_hw=size_hw)


def _kept_frames(job: Job, count: int) -> Bool[np.ndarray, " T"]:
    kept = job.follow.keep_frames
    return np.ones(count, bool)


def _rng(job: Job) -> np.random.Generator:
    """Of what is chosen at random."""
    seed = job.follow.seed
    return np.random.default_rng([job.seed if seed is None else seed, _CHOICES])


# ---- what they are told by ------------------------------------------------------------------


def _hash(*arrays: np.ndarray) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype}{array.shape}".encode() + np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:12]


def _tracks_hash(trajectories: Trajectories) -> str:
    values = vars(trajectories).values()
    return _hash(*(np.asarray(value) for value in values if value is not None))


def _source_hash(source: VideoSource) -> str:
    return _hash(source) if isinstance(source, np.ndarray) else file_hash(source)[:12]
