"""MoveBench's list as jobs: each at its picture's own size, with a seed of its own."""

from __future__ import annotations

import os

from tavid_jax.data.movebench import read_movebench
from tavid_jax.data.trajectory_files import read_trajectories
from tavid_jax.pipelines.images import read_image
from tavid_jax.pipelines.jobs import Job


def move_bench_jobs(
    root: str | os.PathLike, language: str = "en", kind: str = "single", seed: int = 0
) -> list[Job]:
    """Jobs of a list, named by their IDs; the seed counts on from job to job, as published.

    Args:
      root, language, kind: see `read_movebench`.
      seed: of the first one.

    Raises:
      MoveBenchError: see there; ValueError: a picture that cannot be read; ClipError: tracks.
    """
    jobs = []
    for index, clip in enumerate(read_movebench(root, language, kind)):
        height, width = read_image(clip.image).shape[:2]
        tracks = read_trajectories(clip.tracks, size_hw=(height, width))
        options = {"size_hw": (height, width), "frames": tracks.num_frames}
        jobs.append(
            Job(
                prompt=clip.caption,
                image=clip.image,
                tracks=clip.tracks,
                seed=seed + index,
                name=clip.name,
                options=options,
            )
        )
    return jobs
