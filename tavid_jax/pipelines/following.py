"""What a job is to follow, read and checked; and the condition videos that it becomes."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from tavid_jax.data.rle_masks import frame_masks
from tavid_jax.data.segments import with_segments
from tavid_jax.data.trajectory_files import read_pair, split_paths
from tavid_jax.data.video import file_hash, iter_frames, probe, read_video
from tavid_jax.pipelines.images import fit_image
from tavid_jax.pipelines.jobs import Job, VideoSource
from tavid_jax.pipelines.settings import Sampling
from tavid_jax.pipelines.steering import (
    Drawing,
    Frames,
    Masks,
    Pair,
    kept_frames,
    layered,
    sparsified,
)
from tavid_jax.tracks.merging import merge_two_way
from tavid_jax.tracks.trajectories import Trajectories

# What seeds of choices are joined with.
_CHOICES = 7


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
    #: what the two videos are called
    LABELS: ClassVar = ("identities", "colours")


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
    job = dataclasses.replace(job, follow=job.ways({}))
    follow, source = job.follow, _Video(job.source, sampling)
    if follow.colour == "frame" and job.source is None:
        raise ValueError("follow: colour 'frame' shows the source's pixels: give it (source)")
    facts: dict[str, Any] = {} if job.source is None else {"source": source.hash}
    layers = []
    if job.tracks is not None:
        layers.append(_of_tracks(job, sampling, source, images[:1], facts))
    if job.control_videos is not None:
        layers.append(_ready_made(job, sampling, source, facts))

    def videos() -> Pair:
        return layered([draw() for draw in layers], follow.threshold)

    shown = videos()
    facts |= {"videos": [digest_of(video) for video in shown], "follow": dataclasses.asdict(follow)}
    empty = not shown[0].any()
    if empty:
        facts["unconditioned"] = "no point is visible"
    prefix = follow.prefix if follow.unaligned and not empty else ""
    return Guide(videos, facts, prefix, empty)


def steering_of(job: Job, frames: int) -> Trajectories:
    """What steers a video of so many frames: a job's tracks, with all that its options leave out
    made invisible; the same every time.

    Raises:
      ValueError: see `guide_of`.
    """
    job = dataclasses.replace(job, follow=job.ways({}))
    trajectories, masks, _ = read_tracks(job, frames)
    return sparsified(trajectories, job.follow, _rng(job), *masks)


def read_tracks(job: Job, frames: int) -> tuple[Trajectories, list[Masks], bool]:
    """A job's tracks of so many frames, with their segments; the masks of the first frame (large,
    and perhaps small ones); and whether points were tracked backward too.

    Raises:
      ValueError: see `guide_of`.
    """
    if isinstance(job.tracks, Trajectories):
        forward, reverse = job.tracks.window(0, frames), None
    else:
        forward, reverse = read_pair(job.tracks, frames=frames, stored_hw=job.follow.stored_hw)
    masks = [] if job.segments is None else _masks(job.segments, 0)
    if masks:
        forward = with_segments(forward, masks[0])
    if reverse is None:
        return forward, masks, False
    if masks:
        reverse = with_segments(reverse, _masks(job.segments, frames - 1)[0], -1)
    return merge_two_way(forward, reverse), masks, True


def first_frame(source: VideoSource) -> UInt8[np.ndarray, "H W 3"]:
    """Of a video; ValueError for one that cannot be read."""
    return source[0] if isinstance(source, np.ndarray) else read_video(source, [0])[0]


@dataclasses.dataclass(frozen=True, eq=False)
class _Video:
    """A video whose first frames are read, fitted as images are."""

    source: VideoSource | None
    sampling: Sampling

    def read(
        self, size_hw: tuple[int, int], filter: Image.Resampling = Image.Resampling.LANCZOS
    ) -> Frames:
        source, count = self.source, self.sampling.frames
        is_array = isinstance(source, np.ndarray)
        held = len(source) if is_array else probe(source).num_frames
        if held < count:
            raise ValueError(
                f"{'a video in memory' if is_array else source} has {held} frames, {count} are "
                "needed: give a longer one, or make a shorter video (frames)"
            )
        frames = source[:count] if is_array else iter_frames(source, range(count))
        how = self.sampling.fit or "cover"
        return np.stack([fit_image(frame, size_hw, how, filter) for frame in frames])

    @property
    def hash(self) -> str:
        is_array = isinstance(self.source, np.ndarray)
        return digest_of(self.source) if is_array else file_hash(self.source)[:12]


def _ready_made(
    job: Job, sampling: Sampling, source: _Video, facts: dict[str, Any]
) -> Callable[[], Pair]:
    """Draws condition videos that were made elsewhere; those of identities may be alone."""
    given, follow, size_hw = job.control_videos, job.follow, tuple(sampling.size_hw)
    given = list(given) if isinstance(given, list | tuple) else [given]
    kept = kept_frames(follow, sampling.frames, _rng(job))[:, None, None, None]
    # Pixels between two identities are neither of them.
    filter = Image.Resampling.NEAREST if follow.native else Image.Resampling.BILINEAR
    sources = [_Video(one, sampling) for one in given]

    def videos() -> Pair:
        ids, *colours = (one.read(size_hw, filter) * kept for one in sources)
        if colours or follow.colour == "none" or job.source is None:
            return ids, colours[0] if colours else np.zeros_like(ids)
        return ids, source.read(size_hw) * (ids[..., :1] > follow.threshold)

    facts["control_videos"] = [one.hash for one in sources]
    return videos


def _of_tracks(
    job: Job, sampling: Sampling, source: _Video, images: Sequence[Any], facts: dict[str, Any]
) -> Callable[[], Pair]:
    follow, size_hw = job.follow, tuple(sampling.size_hw)
    trajectories, masks, two_way = read_tracks(job, sampling.frames)
    steering = sparsified(trajectories, follow, _rng(job), *masks)
    draw = Drawing(follow, trajectories.size_hw, size_hw, sampling.fit or "cover")

    def videos() -> Pair:
        colours = None
        if follow.colour != "none" and job.source is not None:
            colours = source.read(draw.canvas_hw)
        elif follow.colour == "point" and images:
            how = "stretch" if draw.is_released else draw.fit
            colours = fit_image(images[0], draw.canvas_hw, how)[None]
        return draw(steering, colours, two_way)

    values = (value for value in vars(trajectories).values() if value is not None)
    facts |= {"tracks": digest_of(*values), "points": trajectories.num_points}
    return videos


def _masks(segments: Any, frame: int) -> list[Masks]:
    if isinstance(segments, np.ndarray):
        return [segments.astype(bool)]
    return [frame_masks(path, frame) for path in split_paths(segments)]


def _rng(job: Job) -> np.random.Generator:
    """Of what is chosen at random."""
    seed = job.follow.seed
    return np.random.default_rng([job.seed if seed is None else seed, _CHOICES])


def digest_of(*values: Any) -> str:
    """Tells arrays from others."""
    digest = hashlib.sha256()
    for array in map(np.asarray, values):
        digest.update(
            f"{array.dtype}{array.shape}".encode() + np.ascontiguousarray(array).tobytes()
        )
    return digest.hexdigest()[:12]
