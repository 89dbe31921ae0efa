"""What belongs together: a generated video, its trajectories, the real video, predicted tracks.

All files of a case have the same stem. A folder may have one folder for each granularity in it
(dense, spatial, temporal, unaligned); what is the same for all of them, as real videos are, may lie
beside these.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path

from tavid_jax.data import files
from tavid_jax.data.video import VideoInfo
from tavid_jax.scoring.motion.trackfiles import SUFFIXES
from tavid_jax.scoring.providers import ScoringError
from tavid_jax.scoring.targets import find_masks

# Name of the folder -> name for people.
GRANULARITIES = {
    "dense": "dense",
    "spatial": "spatially sparse",
    "temporal": "temporally sparse",
    "unaligned": "unaligned",
}
Folder = str | os.PathLike | None
Reals = Mapping[tuple[str | None, str], Path]


@dataclasses.dataclass(frozen=True)
class Folders:
    """Where the files of cases lie.

    Attributes:
      tracks: `<stem>.tracks.npz` or `<stem>.npz`, what the model was given; None: beside the
        videos.
      real: real videos; None: there are none.
      predicted, predicted_real: as `tracks`, found by some tracker in the generated and in the real
        videos; None: they are tracked here.
      masks: `<stem>.mask.png`; None: beside the generated videos.
    """

    tracks: Folder = None
    real: Folder = None
    predicted: Folder = None
    predicted_real: Folder = None
    masks: Folder = None

    def __post_init__(self):
        for field in dataclasses.fields(self):
            folder = getattr(self, field.name)
            if folder is not None and not Path(folder).is_dir():
                option = field.name.replace("_", "-")
                raise ScoringError(f"--{option} {folder}: no such folder")


@dataclasses.dataclass(frozen=True)
class Case:
    """One generated video and what it is judged by.

    Attributes:
      granularity: key of `GRANULARITIES`.
      name: stem of all files.
      video: the generated one.
      tracks: file of the trajectories that were given to the model.
      real: the real video, None if unknown.
      predicted: file of tracks of the generated video, None = to be tracked.
      predicted_real: the same of the real video.
      masks: pictures of the foreground in frame 0, for unaligned trajectories.
    """

    granularity: str
    name: str
    video: VideoInfo
    tracks: Path
    real: VideoInfo | None = None
    predicted: Path | None = None
    predicted_real: Path | None = None
    masks: tuple[Path, ...] = ()

    @property
    def aligned(self) -> bool:
        """Whether trajectories lie on what they move."""
        return self.granularity != "unaligned"


def find_cases(
    generated: str | os.PathLike, folders: Folders, *, granularity: str = "dense"
) -> tuple[list[Case], files.Skipped]:
    """Looks for the files of every generated video.

    Args:
      generated: folder of videos, or of a folder for each granularity.
      folders: of everything else.
      granularity: of videos that lie in no folder of that name.

    Returns:
      The cases, and (path, reason) of videos that cannot be judged.

    Raises:
      ScoringError: an unknown granularity, or nothing to judge.
      ClipError: no such folder of videos.
    """
    if granularity not in GRANULARITIES:
        known = ", ".join(GRANULARITIES)
        raise ScoringError(f"granularity {granularity!r} is unknown; known: {known}")
    root = Path(generated)
    infos, skipped = files.probe_all(files.find_videos(root))
    reals = _by_stem(folders.real)
    cases = []
    for info in infos:
        try:
            cases.append(_case(info, _kind(info.path, root) or granularity, folders, reals))
        except ScoringError as error:
            skipped.append((info.path, str(error)))
    if not cases:
        reasons = "; ".join(f"{path}: {reason}" for path, reason in skipped)
        raise ScoringError(f"no video can be judged ({reasons or 'none found'})")
    order = list(GRANULARITIES)
    return sorted(cases, key=lambda case: order.index(case.granularity)), skipped


def _case(info: VideoInfo, kind: str, folders: Folders, reals: Reals) -> Case:
    stem, beside = files.stem(info.path), Path(info.path).parent

    def file(folder: Folder, what: str) -> Path:
        for place in _places(folder, kind):
            found = files.find_tracks(info.path, place, SUFFIXES)
            if found is not None:
                return Path(found)
        names = " or ".join(stem + suffix for suffix in SUFFIXES)
        raise ScoringError(f"no {what} {names} in {folder}")

    def known(folder: Folder, what: str) -> Path | None:
        return None if folder is None else file(folder, what)

    masks = (find_masks(info.path, place) for place in _places(folders.masks or beside, kind))
    return Case(
        kind,
        stem,
        info,
        file(folders.tracks or beside, "trajectories"),
        None if folders.real is None else _real(stem, kind, reals),
        known(folders.predicted, "predicted tracks"),
        known(folders.predicted_real, "predicted tracks of the real video"),
        next((tuple(found) for found in masks if found), ()),
    )


def _real(stem: str, kind: str, reals: Reals) -> VideoInfo:
    path = reals.get((kind, stem), reals.get((None, stem)))
    if path is None:
        raise ScoringError(f"no real video named {stem}")
    good, broken = files.probe_all([path])
    if broken:
        raise ScoringError(f"the real video {path} is broken: {broken[0][1]}")
    return good[0]


def _by_stem(folder: Folder) -> dict[tuple[str | None, str], Path]:
    """(granularity, None = for all; stem) -> video."""
    if folder is None:
        return {}
    return {
        (_kind(path, Path(folder)), files.stem(path)): path for path in files.find_videos(folder)
    }


def _kind(path: str | os.PathLike, root: Path) -> str | None:
    """The granularity whose folder below `root` (or whose own folder, as root) a file lies in."""
    below = Path(path).relative_to(root).parts[:-1] if root.is_dir() else ()
    return next((part for part in (root.name, *below) if part in GRANULARITIES), None)


def _places(folder: Folder, kind: str) -> list[Path]:
    """Where to look, the granularity's own folder first."""
    return [place for place in (Path(folder) / kind, Path(folder)) if place.is_dir()]
