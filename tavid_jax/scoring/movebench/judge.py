"""EPE of MoveBench: points are followed from where tracks start, and compared with the tracks.

Wan-Move's own script could not be read; this is our definition: queries are all tracks' places in
frame 0, distances are pixels of the generated video, over all later frames: of those in which the
track is visible (masked), and of all of them (where the benchmark's tracker guessed the place).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from tavid_jax.data.files import find_videos, probe_all, stem
from tavid_jax.data.movebench import MoveBenchClip
from tavid_jax.data.tracker import Tracker
from tavid_jax.data.trajectory_files import read_trajectories, resized
from tavid_jax.data.video import VideoInfo, read_video
from tavid_jax.metrics import result
from tavid_jax.metrics.epe import epe
from tavid_jax.scoring.motion.following import check_aspect, follow
from tavid_jax.scoring.progress import Stage, silent
from tavid_jax.scoring.providers import ScoringError
from tavid_jax.tracks.trajectories import Trajectories
from tavid_jax.untrusted.errors import reading
from tavid_jax.untrusted.pictures import check_picture


@dataclasses.dataclass(frozen=True)
class Score:
    """One video.

    Attributes:
      name: ID of the clip.
      masked, unmasked: records of `metrics.epe`.
      still: the masked record of points that do not move.
    """

    name: str
    masked: dict[str, Any]
    unmasked: dict[str, Any]
    still: dict[str, Any]


def judge(
    generated: str | Path,
    clips: Sequence[MoveBenchClip],
    tracker: Tracker,
    predicted: str | Path | None = None,
    stage: Stage = silent,
) -> tuple[list[Score], list[tuple[str, str]]]:
    """Judges the videos of a folder; (scores in the list's order, (ID, reason) of all others).

    Args:
      generated: folder of ID.mp4.
      clips: of `read_movebench`.
      tracker: follows points in the generated videos.
      predicted: folder of ID_tracks.npy (and ID_visibility.npy), found in the generated videos by
        another tracker, in their pixels: CoTracker's make numbers comparable with the paper's.
      stage: reports progress.

    Raises:
      ScoringError: no video that can be judged; tracks that do not fit.
    """
    good, broken = probe_all(find_videos(generated))
    videos, reasons = {stem(info.path): info for info in good}, dict(broken)
    scores: list[Score] = []
    skipped = [(stem(path), reason) for path, reason in reasons.items()]
    skipped += [(c.name, "no such video") for c in clips if c.name not in videos | dict(skipped)]
    for number, clip in enumerate(clips):
        if clip.name in videos:
            stage(number, len(clips), "following points")
            scores.append(_score(clip, videos[clip.name], tracker, predicted))
    if not scores:
        raise ScoringError(f"{generated}: holds no video of these clips, such as {clips[0].name}")
    return scores, skipped


def _score(
    clip: MoveBenchClip, video: VideoInfo, tracker: Tracker, predicted: str | Path | None
) -> Score:
    with reading(clip.image, ScoringError, "an image"):
        image_hw = check_picture(clip.image)
    given = read_trajectories(clip.tracks, size_hw=image_hw)
    if video.num_frames < given.num_frames:
        raise ScoringError(
            f"{video.path}: has {video.num_frames} frames, its tracks have {given.num_frames}"
        )
    check_aspect(video.size_hw, image_hw)
    given = resized(given, video.size_hw)
    start = given.tracks[:, 0]
    if predicted is None:
        frames = read_video(video.path, range(given.num_frames))
        query = np.zeros(given.num_points, np.int64)
        found = follow(tracker, frames, start, query, video.size_hw).tracks
    else:
        found = _predicted(Path(predicted) / f"{clip.name}_tracks.npy", given)
    target, seen = given.tracks[None], given.visibility[None]
    still = np.broadcast_to(start[:, None], given.tracks.shape)
    return Score(
        clip.name,
        epe(found[None], target, seen, skip_first=True),
        epe(found[None], target, None, skip_first=True),
        epe(np.ascontiguousarray(still)[None], target, seen, skip_first=True),
    )


def _predicted(path: Path, given: Trajectories) -> Float[np.ndarray, "N T 2"]:
    found = read_trajectories(path, size_hw=given.size_hw, frames=given.num_frames)
    if found.num_points != given.num_points:
        raise ScoringError(
            f"{path}: {found.num_points} points, {given.num_points} tracks were given: follow "
            "just their places in frame 0"
        )
    return found.tracks


def summary(scores: Sequence[Score]) -> dict[str, Any]:
    """All videos together, ready for JSON: EPE in px over all places ("pooled"), and the mean of
    the videos' own.

    Args:
      scores: at least one.
    """
    made: dict[str, Any] = {}
    for name in ("masked", "unmasked", "still"):
        records = [getattr(score, name) for score in scores]
        counts = np.array([record["n"] for record in records], np.float64)
        values = np.array([record["epe"] for record in records], np.float64)
        used = counts > 0
        pooled = result.ratio((values * counts)[used].sum(), counts.sum())
        mean = float(values[used].mean()) if used.any() else float("nan")
        made[name] = {"pooled": float(pooled), "mean": mean, "places": int(counts.sum())}
    made["videos"] = {
        score.name: {name: getattr(score, name)["epe"] for name in ("masked", "unmasked", "still")}
        for score in scores
    }
    return result.for_json(made)
