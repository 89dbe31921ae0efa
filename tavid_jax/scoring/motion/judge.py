"""Judges generated videos by the trajectories that they were given, clip by clip and together."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, UInt8

from tavid_jax.data.tracker import DISTracker, Tracker
from tavid_jax.data.video import VideoInfo, read_video
from tavid_jax.metrics.consistency import FrameCosines, frame_cosines
from tavid_jax.metrics.fvd import Convention
from tavid_jax.metrics.trajerr import (
    ErrorSums,
    clip_error,
    counted_samples,
    query_frames,
    stand_still,
)
from tavid_jax.metrics.trajsim import SetSimilarity, set_similarity
from tavid_jax.scoring.each import judge_each
from tavid_jax.scoring.motion.cases import Case
from tavid_jax.scoring.motion.following import Followed, follow, foreground_points
from tavid_jax.scoring.motion.trackfiles import check_video, read_trajectories
from tavid_jax.scoring.progress import Stage, silent
from tavid_jax.scoring.providers import Features, Progress, ScoringError, VideoFeatures
from tavid_jax.scoring.targets import read_objects
from tavid_jax.tracks.trajectories import Trajectories

GENERATED, ORACLE, STILL = "generated", "oracle", "zero motion"
Frames = UInt8[np.ndarray, "T H W 3"]


@dataclasses.dataclass(frozen=True)
class Judges:
    """What looks at the videos; None leaves the measure out.

    Attributes:
      tracker: follows points, in generated and in real videos alike.
      frames: features for consistency.
      videos: features for FVD.
      convention: of FVD.
    """

    tracker: Tracker = DISTracker()
    frames: Features | None = None
    videos: VideoFeatures | None = None
    convention: Convention = "stylegan-v"

    def describe(self) -> dict[str, Any]:
        """Measure -> all that its numbers depend on."""
        about: dict[str, Any] = {"tracker": {"name": self.tracker.fingerprint}}
        if self.frames is not None:
            about["consistency"] = self.frames.describe()
        if self.videos is not None:
            about["fvd"] = {**self.videos.describe(), "convention": self.convention}
        return about


@dataclasses.dataclass(frozen=True, eq=False)
class Row:
    """What one kind of video (generated, real, standing still) is worth in one case.

    Attributes:
      error: TrajErr, of aligned trajectories.
      similarity: TrajSIM, of unaligned ones.
      cosines: consistency of the frames.
      feature: for FVD.
    """

    error: ErrorSums | None = None
    similarity: SetSimilarity | None = None
    cosines: FrameCosines | None = None
    feature: Float[np.ndarray, " D"] | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class CaseScores:
    """One judged case: a `Row` for each of GENERATED, ORACLE (with a real video) and STILL."""

    case: Case
    num_frames: int
    rows: dict[str, Row]


@dataclasses.dataclass(frozen=True, eq=False)
class MotionScores:
    """All judged cases.

    Attributes:
      cases: those that were judged.
      judges: what looked at them.
      skipped: (path, reason) of the others.
    """

    cases: tuple[CaseScores, ...]
    judges: Judges
    skipped: tuple[tuple[str, str], ...] = ()


def judge_motion(
    cases: Sequence[Case],
    judges: Judges,
    *,
    skipped: Sequence[tuple[str, str]] = (),
    max_frames: int | None = None,
    stage: Stage = silent,
) -> MotionScores:
    """Judges every case.

    Args:
      cases: see `find_cases`.
      judges: what looks at them.
      skipped: what was left out before.
      max_frames: only so many frames of each video, from the first on.
      stage: reports progress.

    Raises:
      ScoringError: a file of a case that does not fit the others; none that can be judged.
    """
    given = [_read(case, judges, max_frames) for case in cases]  # before hours of work
    real_features: dict[tuple[str, int], tuple] = {}
    scored, left = judge_each(
        cases,
        given,
        lambda case, read, report: _judge(case, read, judges, real_features, report),
        skipped,
        stage,
    )
    return MotionScores(scored, judges, left)


def _read(case: Case, judges: Judges, max_frames: int | None) -> Trajectories:
    """The case's trajectories, cut to the frames that are judged, checked against the videos."""
    trajectories = read_trajectories(case.tracks, max_frames=max_frames)
    length = trajectories.num_frames
    for video in (case.video, case.real):
        if video is None:
            continue
        check_video(video, trajectories, case.tracks)
    least = 2 if judges.videos is None else judges.videos.min_frames
    if length < least:
        raise ScoringError(f"{case.tracks}: {length} frames; at least {least} are needed")
    if not case.aligned and case.masks:
        _foreground(case, case.video.size_hw)
    elif not case.aligned and case.predicted is None:
        raise ScoringError(
            f"{case.video.path}: unaligned trajectories are compared with the foreground, so its "
            f"mask in frame 0 is needed: {case.name}.mask.png (or give --predicted)"
        )
    return trajectories


def _judge(
    case: Case,
    given: Trajectories,
    judges: Judges,
    real_features: dict[tuple[str, int], tuple],
    report: Callable[[str], Progress],
) -> CaseScores:
    report("reading")
    length = given.num_frames
    generated = _frames(case.video, length)
    real = None if case.real is None else _frames(case.real, length)
    measure = _errors if case.aligned else _similarities
    report("following points")
    motion = measure(case, given, judges.tracker, generated, real)
    rows = {name: _motion_row(found) for name, found in motion.items()}

    def update(name: str, **values: Any) -> None:
        if name in rows:
            rows[name] = dataclasses.replace(rows[name], **values)

    if judges.frames is not None:
        features = judges.frames(generated, report("consistency"))
        update(GENERATED, cosines=frame_cosines(features))
        ones = np.ones(length - 1)  # a frame is like itself
        update(STILL, cosines=FrameCosines(ones, ones))
        if real is not None:
            features = judges.frames(real, report("consistency of the real video"))
            update(ORACLE, cosines=frame_cosines(features))
    if judges.videos is not None and real is not None:
        report("features for FVD")
        update(GENERATED, feature=judges.videos(generated))
        key = (case.real.path, length)
        if key not in real_features:
            still = np.repeat(real[:1], length, axis=0)
            real_features[key] = judges.videos(real), judges.videos(still)
        update(ORACLE, feature=real_features[key][0])
        update(STILL, feature=real_features[key][1])
    return CaseScores(case, length, rows)


def _frames(video: VideoInfo, length: int) -> Frames:
    return read_video(video.path, range(length))


def _motion_row(found: ErrorSums | SetSimilarity) -> Row:
    return Row(error=found) if isinstance(found, ErrorSums) else Row(similarity=found)


def _errors(
    case: Case, given: Trajectories, tracker: Tracker, generated: Frames, real: Frames | None
) -> dict[str, ErrorSums]:
    """Row -> TrajErr; the same points, queries and tracker for all."""
    query, counted = query_frames(given.visibility), counted_samples(given.visibility)
    still = stand_still(given.tracks, query)

    def tracked(frames: Frames, file) -> Followed:
        if file is not None:
            return _predicted(file, given, given.num_points)
        return follow(tracker, frames, still[:, 0], query, given.size_hw)

    def error(tracks: np.ndarray, seen: np.ndarray | None = None) -> ErrorSums:
        return clip_error(tracks, given.tracks, counted, given.size_hw, seen=seen)

    rows = {GENERATED: error(*tracked(generated, case.predicted))}
    if real is not None:
        rows[ORACLE] = error(*tracked(real, case.predicted_real))
    return {**rows, STILL: error(still)}


def _similarities(
    case: Case, given: Trajectories, tracker: Tracker, generated: Frames, real: Frames | None
) -> dict[str, SetSimilarity]:
    """Row -> TrajSIM of the given foreground and of points on the video's own."""
    if given.segment is not None and (given.segment > 0).any():
        given = given.take(given.segment > 0)

    def tracked(frames: Frames, file) -> Followed:
        if file is not None:
            return _predicted(file, given, None)
        places = foreground_points(_foreground(case, frames.shape[1:3]))
        return follow(tracker, frames, places, np.zeros(len(places), int), frames.shape[1:3])

    def similarity(found: Followed) -> SetSimilarity:
        return set_similarity(given.tracks, given.visibility, found.tracks, found.seen)

    found = tracked(generated, case.predicted)
    rows = {GENERATED: similarity(found)}
    if real is not None:
        known = case.predicted_real is not None or case.masks
        unknown = SetSimilarity(np.nan, np.full(given.num_points, np.nan), np.nan)
        rows[ORACLE] = similarity(tracked(real, case.predicted_real)) if known else unknown
    still = stand_still(found.tracks, np.zeros(len(found.tracks), int))
    return {**rows, STILL: similarity(Followed(still, np.ones(still.shape[:2], bool)))}


def _foreground(case: Case, size_hw: tuple[int, int]) -> Bool[np.ndarray, "H W"]:
    """All masks together. The real video has the same frame 0: it is the given image."""
    objects = read_objects(list(case.masks), case.video.path, size_hw)
    return objects.masks[: objects.num_targets].any(axis=0)


def _predicted(file, given: Trajectories, count: int | None) -> Followed:
    """Tracks of some tracker, in the pixels of the given ones."""
    found = read_trajectories(file, finite=True)
    if found.num_frames < given.num_frames or count not in (None, found.num_points):
        wanted = f"{given.num_frames} frames" + ("" if count is None else f" of {count} points")
        raise ScoringError(
            f"{file}: {found.num_frames} frames of {found.num_points} points, but the trajectories "
            f"that were given have {wanted}; follow just these points"
        )
    if found.size_hw != given.size_hw:
        raise ScoringError(
            f"{file}: pixels of {found.size_hw[1]}x{found.size_hw[0]}, the trajectories that were "
            f"given have {given.size_hw[1]}x{given.size_hw[0]}; write both in the same"
        )
    found = found.window(0, given.num_frames)
    return Followed(found.tracks, found.visibility)
