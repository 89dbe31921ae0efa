"""What belongs together: a generated video, its trajectories with their words, its prompt.

All files of a case have the same stem, in every method's folder and in that of the trajectories:

    <stem>.json, .npz, ...   trajectories, a text for each one
    <stem>.txt               the prompt; or jobs.jsonl there, with "name" and "prompt"
    <stem>.objects.png       ids of objects in frame 0, grey or palette; object k is segment k of
                             the trajectories. Tells how large crops are; not needed.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tavid_jax.data import files
from tavid_jax.data.clip import ClipError
from tavid_jax.data.davis import OBJECTS
from tavid_jax.data.video import VideoInfo
from tavid_jax.scoring.motion.trackfiles import SUFFIXES
from tavid_jax.scoring.providers import ScoringError
from tavid_jax.untrusted.errors import UntrustedError, told
from tavid_jax.untrusted.texts import parse_json, read_text

JOBS = "jobs.jsonl"


@dataclasses.dataclass(frozen=True)
class Case:
    """One generated video and what it is judged by.

    Attributes:
      method: what made it.
      name: stem of all files.
      video: the generated one.
      tracks: file of the trajectories that were given to the method.
      prompt: "" = unknown.
      objects: picture of ids of the objects in frame 0; None if unknown.
    """

    method: str
    name: str
    video: VideoInfo
    tracks: Path
    prompt: str = ""
    objects: Path | None = None


def find_cases(
    methods: Mapping[str, str | os.PathLike],
    *,
    tracks: str | os.PathLike | None = None,
    prompts: str | os.PathLike | None = None,
) -> tuple[list[Case], files.Skipped]:
    """Looks for the files of every generated video.

    Args:
      methods: name -> folder of videos.
      tracks: folder of trajectories; None: beside each video.
      prompts: file of jobs (.jsonl) or captions (.csv); None: jobs.jsonl or <stem>.txt in the
        folder of trajectories.

    Returns:
      The cases, method by method, and (path, reason) of videos that cannot be judged.

    Raises:
      ScoringError: two videos of one name in one method, no such folder, nothing to judge.
      ClipError: no such folder of videos, an unreadable file of prompts.
    """
    if tracks is not None and not Path(tracks).is_dir():
        raise ScoringError(f"--tracks {tracks}: no such folder")
    words = {} if prompts is None else read_prompts(prompts)
    beside = functools.cache(_prompts_in)  # each folder's are read once
    cases, skipped = [], []
    for method, folder in methods.items():
        infos, broken = files.probe_all(_videos(folder))
        skipped += broken
        places: dict[str, str] = {}
        for info in infos:
            name = files.stem(info.path)
            if name in places:
                raise ScoringError(f"{info.path}: {places[name]} has the same name; keep one")
            places[name] = info.path
            try:
                cases.append(_case(method, name, info, tracks, words, beside))
            except ScoringError as error:
                skipped.append((info.path, str(error)))
    if not cases:
        reasons = "; ".join(f"{path}: {reason}" for path, reason in skipped)
        raise ScoringError(f"no video can be judged ({reasons or 'none found'})")
    return cases, skipped


def read_prompts(path: str | os.PathLike) -> dict[str, str]:
    """Name -> prompt, of a file of jobs (.jsonl) or of captions (see `files.read_captions`).

    Raises:
      ClipError: unreadable; naming the line, one that is no JSON object with name and prompt.
    """
    path = Path(path)
    if path.suffix.lower() == ".csv":
        return files.read_captions(path)
    try:
        lines = read_text(path).split("\n")
    except (OSError, UntrustedError) as error:
        raise ClipError(f"{path}: prompts cannot be read ({told(error)})") from error
    found = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            fields = parse_json(line)
            found[fields["name"]] = str(fields["prompt"])
        except (ValueError, KeyError, TypeError) as error:
            raise ClipError(f"{path}, line {number}: needs a name and a prompt") from error
    return found


def _videos(folder: str | os.PathLike) -> Sequence[Path]:
    """Videos of a folder; pictures beside them are no frames."""
    return files.find_videos(Path(folder))


def _case(
    method: str,
    name: str,
    info: VideoInfo,
    folder: str | os.PathLike | None,
    words: Mapping[str, str],
    beside: Callable[[Path], Mapping[str, str]],
) -> Case:
    place = Path(info.path).parent if folder is None else Path(folder)
    found = files.find_tracks(info.path, place, SUFFIXES)
    if found is None:
        raise ScoringError(f"no trajectories {name}{SUFFIXES[1]} or {name}.json in {place}")
    objects = place / f"{name}{OBJECTS}"
    return Case(
        method,
        name,
        info,
        Path(found),
        words.get(name) or beside(place).get(name) or files.find_caption(place / f"{name}.mp4"),
        objects if objects.is_file() else None,
    )


def _prompts_in(place: Path) -> Mapping[str, str]:
    """Those of the jobs that lie in a folder."""
    jobs = place / JOBS
    return read_prompts(jobs) if jobs.is_file() else {}
