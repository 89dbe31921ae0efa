"""Trajectories from files of any kind that `data.trajectory_files` reads."""

from __future__ import annotations

import os
import zipfile

import numpy as np

from tavid_jax.data import trajectory_files
from tavid_jax.data.clip import ClipError
from tavid_jax.data.video import VideoInfo
from tavid_jax.scoring.motion.following import check_aspect
from tavid_jax.scoring.providers import ScoringError
from tavid_jax.tracks.trajectories import Trajectories, TrajectoryError
from tavid_jax.untrusted.errors import reading
from tavid_jax.untrusted.npy import load_npz

SUFFIXES = (".tracks.npz", ".tracks.json", ".npz", ".json", "_tracks.npy", ".npy")


def read_trajectories(
    path: str | os.PathLike, *, finite: bool = False, max_frames: int | None = None
) -> Trajectories:
    """See `data.trajectory_files.read_trajectories`.

    Args:
      path: a file.
      max_frames: only so many frames, from the first on.
      finite: refuse places in an npz file that are not finite, of invisible points too.

    Raises:
      ScoringError: unreadable, or not of the kind that it seems to be.
    """
    try:
        trajectories = trajectory_files.read_trajectories(path)
    except (ClipError, TrajectoryError) as error:
        raise ScoringError(str(error)) from error
    if finite and not _is_finite(path):
        raise ScoringError(
            f"{path}: tracks hold places that are not finite; where a tracker loses a point, write "
            "the last place it had: an error is measured there too"
        )
    if max_frames is None:
        return trajectories
    return trajectories.window(0, min(trajectories.num_frames, max_frames))


def check_video(video: VideoInfo, trajectories: Trajectories, path: str | os.PathLike) -> None:
    """Raises ScoringError unless a video has the frames and the shape of its trajectories.

    Args:
      video: what is judged.
      trajectories: cut to the frames that are judged.
      path: their file, for the error.
    """
    if video.num_frames < trajectories.num_frames:
        raise ScoringError(
            f"{video.path}: has {video.num_frames} frames, its trajectories {path} have "
            f"{trajectories.num_frames}; judge fewer with --frames {video.num_frames}"
        )
    try:
        check_aspect(video.size_hw, trajectories.size_hw)
    except ValueError as error:
        raise ScoringError(f"{video.path}: {error}") from error


def _is_finite(path: str | os.PathLike) -> bool:
    if not zipfile.is_zipfile(path):
        return True
    with reading(path, ScoringError, "an npz file"):
        numbers = [array for array in load_npz(path).values() if array.dtype.kind == "f"]
    return all(np.isfinite(values).all() for values in numbers)
