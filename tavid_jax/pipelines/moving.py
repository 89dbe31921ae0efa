"""Wan-Move in a job: its tracks read and checked, and the image's latent moved along them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
from jaxtyping import Float, Int, UInt8

from tavid_jax.data.trajectory_files import read_trajectories, resized, split_paths
from tavid_jax.pipelines.backbones import Backbone, WanBackbone
from tavid_jax.pipelines.follow import Follow
from tavid_jax.pipelines.following import Guide, digest_of
from tavid_jax.pipelines.images import cover_hw, fit_image
from tavid_jax.pipelines.jobs import Job
from tavid_jax.pipelines.move import Move
from tavid_jax.pipelines.settings import Sampling
from tavid_jax.pipelines.steering import sparsified
from tavid_jax.tracks import coordinates
from tavid_jax.tracks.latent_replacement import cell_sources, latent_cells, replaced
from tavid_jax.tracks.trajectories import Trajectories
from tavid_jax.viz.tracks import draw_trails

# Entry of a task's conditions: the latent that was not moved, for the branch without the prompt.
STILL = "still"
# Options of `Follow` that say which tracks steer; all others are of condition videos.
_CHOOSING = ("keep_points", "choose", "keep_frames", "random_frames", "stored_hw", "seed")


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class MoveGuide(Guide):
    """Tracks along which the image's latent is moved; the first video shows them on the image.

    Attributes:
      trajectories: in pixels of the video.
      sources: which cell of the image's latent each cell shows, -1 = its own.
      uncond_motion: see `Move`.
    """

    trajectories: Trajectories
    sources: Int[np.ndarray, "F h w"]
    uncond_motion: bool = True
    LABELS: ClassVar = ("tracks", "")


def move_guide(
    job: Job,
    sampling: Sampling,
    backbone: Backbone,
    images: Sequence[UInt8[np.ndarray, "h w 3"]],
    known: Move | None,
) -> MoveGuide:
    """Reads and checks the tracks that an image moves along.

    Args:
      job: with tracks of as many frames as the video, in pixels of its image.
      sampling: size and length of the video, and how the image is fitted to it.
      backbone: a Wan that reads its image in channels.
      images: the image, as it was given.
      known: how the model was trained to move; None: it was not.

    Raises:
      ValueError: a backbone or a job that has no image's latent to move, or has more than that;
        tracks that cannot be read, of another number of frames or another size, or none of which
        is seen in the first frame.
    """
    check_reads_image(backbone)
    _check_job(job, images)
    move = (known or Move()).changed(job.move)
    shown = images[0]
    image_hw = (int(shown.shape[0]), int(shown.shape[1]))
    read = _read(job, image_hw, int(sampling.frames), move.rescale)
    rng = np.random.default_rng([_seed(job), 9])
    steering = sparsified(_fitted(read, sampling), job.ways({}), rng)
    _, rows, columns = backbone.geometry.latent(backbone.stride, backbone.model.config.patch_size)
    size_hw, grid_hw = (int(sampling.size_hw[0]), int(sampling.size_hw[1])), (rows, columns)
    cells = latent_cells(
        steering.tracks, steering.visibility, size_hw, grid_hw, strategy=move.strategy
    )
    started = int((cells[:, 0, 0] >= 0).sum())
    if not started and not move.wrap_invalid_source:
        raise ValueError(
            f"tracks: none of {steering.num_points} is visible in the first frame, which is the "
            "image: there is nothing to move; give tracks that start on it"
        )
    sources = cell_sources(cells, grid_hw, move.wrap_invalid_source)
    written = int((sources >= 0).sum())
    facts = {
        "tracks": digest_of(read.tracks, read.visibility),
        "points": read.num_points,
        "in_first_frame": started,
        "cells": written,
        "move": dataclasses.asdict(move),
        "follow": {name: getattr(job.ways({}), name) for name in _CHOOSING},
    }
    background = fit_image(shown, size_hw, sampling.fit or "cover")

    def videos() -> tuple[np.ndarray, np.ndarray]:
        seen = steering.visibility & steering.visibility[:, :1]
        drawn = draw_trails(background, steering.tracks, seen)
        return drawn, np.zeros_like(drawn)

    return MoveGuide(
        videos,
        facts,
        is_empty=not written,
        trajectories=steering,
        sources=sources,
        uncond_motion=move.uncond_motion,
    )


def moved_entries(
    guide: MoveGuide, conditions: Mapping[str, np.ndarray]
) -> dict[str, Float[np.ndarray, "F h w C"]]:
    """ "condition", the latent of the image and grey frames, moved along the tracks; and as it was,
    for the branch without the prompt, where that one lacks the motion.

    Args:
      guide: of the video.
      conditions: with "condition".
    """
    latent = conditions["condition"]
    entries = {"condition": replaced(latent, guide.sources)}
    return entries if guide.uncond_motion else entries | {STILL: latent}


def check_reads_image(backbone: Backbone) -> None:
    """Raises ValueError for a backbone without the latent of an image to move."""
    if not isinstance(backbone, WanBackbone) or not backbone.has_image:
        raise ValueError(
            "tracks move the latent of an image, which this model does not read: use a Wan "
            "image-to-video by channels, such as wan-move-14b-480p, or wan2.1-i2v-14b"
        )


def _check_job(job: Job, images: Sequence[np.ndarray]) -> None:
    for name in ("control_videos", "segments", "texts", "source"):
        if getattr(job, name) is not None:
            raise ValueError(f"{name}: this model moves its image along tracks, and reads no other")
    if len(images) > 1:
        raise ValueError("last_image: tracks move the first image; leave one of them out")
    known, ways = Follow(), job.ways({})
    for field in dataclasses.fields(Follow):
        if field.name not in _CHOOSING and getattr(ways, field.name) != getattr(known, field.name):
            raise ValueError(
                f"follow: {field.name} is of condition videos; tracks that move an image have "
                f"{', '.join(_CHOOSING)}"
            )


def _read(job: Job, image_hw: tuple[int, int], frames: int, rescale: bool) -> Trajectories:
    """In pixels of the image."""
    read = job.tracks
    if not isinstance(read, Trajectories):
        if len(split_paths(read)) > 1:
            raise ValueError(f"tracks {read}: two files; tracks that move an image are of one")
        stored_hw = job.ways({}).stored_hw
        how = dict(size_hw=image_hw, stored_hw=stored_hw, rescale=rescale)
        read = read_trajectories(read, **how)
    elif tuple(read.size_hw) != image_hw:
        if not rescale:
            raise ValueError(
                f"tracks are in pixels of {_wh(read.size_hw)}, the image is {_wh(image_hw)}: give "
                "those of this image, or bring them to it by move={'rescale': True}"
            )
        read = resized(read, image_hw)
    if read.num_frames != frames:
        raise ValueError(
            f"tracks have {read.num_frames} frames, the video {frames}: give tracks of so many, or "
            "make a video of theirs (frames)"
        )
    return read


def _fitted(trajectories: Trajectories, sampling: Sampling) -> Trajectories:
    """In pixels of the video, to which the image is fitted."""
    size_hw = (int(sampling.size_hw[0]), int(sampling.size_hw[1]))
    if sampling.fit == "stretch":
        return resized(trajectories, size_hw)
    covered = cover_hw(trajectories.size_hw, size_hw)
    offset = ((covered[1] - size_hw[1]) // 2, (covered[0] - size_hw[0]) // 2)
    tracks = coordinates.crop(
        coordinates.resize(trajectories.tracks, trajectories.size_hw, covered), offset
    )
    return trajectories.replace(tracks=tracks, size_hw=size_hw)


def _seed(job: Job) -> int:
    seed = job.ways({}).seed
    return job.seed if seed is None else seed


def _wh(size_hw: Sequence[int]) -> str:
    return f"{size_hw[1]}x{size_hw[0]}"
