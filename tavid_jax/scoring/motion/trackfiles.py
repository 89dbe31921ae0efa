"""Trajectories from files: the fields of `Trajectories` by name in an npz."""

from __future__ import annotations

import os
import zipfile

import numpy as np

from tavid_jax.scoring.providers import ScoringError
from tavid_jax.tracks.trajectories import Trajectories, TrajectoryError

SUFFIXES = (".tracks.npz", ".npz")


def read_trajectories(path: str | os.PathLike, *, finite: bool = False) -> Trajectories:
    """Reads `tracks` (N, T, 2) px, `visibility` (N, T), `size_hw`, and `segment` (N,) if there.

    Args:
      path: an npz file.
      finite: refuse places that are not finite, of invisible points too.

    Raises:
      ScoringError: unreadable, a missing field, or one that breaks the rules of `Trajectories`.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            fields = {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise ScoringError(f"{path}: cannot be read as an npz file ({error})") from error
    for name in ("tracks", "visibility", "size_hw"):
        if name not in fields:
            raise ScoringError(f"{path}: field {name!r} is missing; there are {sorted(fields)}")
    if finite and not np.isfinite(fields["tracks"]).all():
        raise ScoringError(
            f"{path}: tracks hold places that are not finite; where a tracker loses a point, write "
            "the last place it had: an error is measured there too"
        )
    segment = fields.get("segment")
    segments = int(fields.get("segments", 0 if segment is None else segment.max(initial=0)))
    try:
        height, width = (int(n) for n in fields["size_hw"])
        return Trajectories(
            fields["tracks"],
            fields["visibility"],
            (height, width),
            segment=segment,
            segments=segments,
        )
    except (TrajectoryError, TypeError, ValueError) as error:
        raise ScoringError(f"{path}: {error}") from error
