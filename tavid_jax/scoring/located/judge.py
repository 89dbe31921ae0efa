"""Judges whether the entities that texts name follow their trajectories, video by video."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from tavid_jax.data.davis import read_ids
from tavid_jax.data.tracker import DISTracker, Tracker
from tavid_jax.data.video import read_video, scale_points
from tavid_jax.metrics.clip_t import cosines
from tavid_jax.metrics.crops import OBJECT, CropRule, box_sizes, crop_boxes
from tavid_jax.metrics.located import MARGIN
from tavid_jax.metrics.trajerr import query_frames
from tavid_jax.scoring.each import judge_each
from tavid_jax.scoring.located.cases import Case
from tavid_jax.scoring.located.entities import Detector, Located, Look, locate
from tavid_jax.scoring.motion.following import follow
from tavid_jax.scoring.motion.trackfiles import check_video, read_trajectories
from tavid_jax.scoring.progress import Stage, silent
from tavid_jax.scoring.providers import PairFeatures, Progress, ScoringError
from tavid_jax.tracks.trajectories import Trajectories

Frames = UInt8[np.ndarray, "T H W 3"]


@dataclasses.dataclass(frozen=True)
class Judges:
    """What looks at the videos, and by which rules.

    Attributes:
      tracker: follows points, for all methods alike.
      detector: finds entities by their words; None leaves out what needs it.
      look: in which frames it looks; None: what it is made for.
      pairs: towers for CLIP-T, one column each, the first one beside the published values.
      crop: of local CLIP-T.
      missing: what an entity that is not found costs, see `metrics.located.MISSING`.
      margin: see `metrics.located.identity_swaps`.
    """

    tracker: Tracker = DISTracker()
    detector: Detector | None = None
    look: Look | None = None
    pairs: tuple[PairFeatures, ...] = ()
    crop: CropRule = OBJECT
    missing: str = "centre"
    margin: float | int = MARGIN

    @property
    def networks(self) -> list[str]:
        """A name for each of `pairs`; numbered where two have one name."""
        names = [pair.name for pair in self.pairs]
        count = [names[:k].count(name) for k, name in enumerate(names)]
        return [f"{name} ({k + 1})" if k else name for name, k in zip(names, count, strict=True)]

    @property
    def looks(self) -> Look | None:
        """In which frames entities are looked for; None without a detector."""
        return None if self.detector is None else self.look or self.detector.look

    def describe(self) -> dict[str, Any]:
        """All that the numbers depend on."""
        about: dict[str, Any] = {"tracker": {"name": self.tracker.fingerprint}}
        if self.detector is not None:
            about["detector"] = {**self.detector.describe(), "look": self.looks}
        about |= zip(self.networks, (pair.describe() for pair in self.pairs), strict=True)
        return about | {"crop": self.crop.name, "missing": self.missing, "margin": self.margin}


@dataclasses.dataclass(frozen=True, eq=False)
class CaseScores:
    """One judged video.

    Attributes:
      case: its files.
      given: one trajectory for each entity.
      worded: entities that have words.
      located: where the entities were found; None without a detector.
      followed: points followed from where the trajectories start, px as `given`.
      boxes: of the crops, px of the video's frames.
      frames: network -> cosines of the frames with the prompt.
      crops: network -> cosines of the crops with their words, 0 where there is none.
    """

    case: Case
    given: Trajectories
    worded: Bool[np.ndarray, " N"]
    located: Located | None
    followed: Float[np.ndarray, "N T 2"]
    boxes: Int[np.ndarray, "N T 4"]
    frames: dict[str, np.ndarray]
    crops: dict[str, np.ndarray]

    @property
    def cropped(self) -> Bool[np.ndarray, "N T"]:
        """Where there is a crop with words."""
        return self.boxes.any(axis=-1) & self.worded[:, None]


@dataclasses.dataclass(frozen=True, eq=False)
class LocatedScores:
    """All judged videos, by method in the order in which they were given."""

    cases: tuple[CaseScores, ...]
    judges: Judges
    skipped: tuple[tuple[str, str], ...] = ()


def judge_located(
    cases: Sequence[Case],
    judges: Judges,
    *,
    skipped: Sequence[tuple[str, str]] = (),
    max_frames: int | None = None,
    stage: Stage = silent,
) -> LocatedScores:
    """Judges every case.

    Args:
      cases: see `find_cases`.
      judges: what looks at them.
      skipped: what was left out before.
      max_frames: only so many frames of each video, from the first on.
      stage: reports progress.

    Raises:
      ScoringError: files that do not fit together, texts that the detector cannot read, no video
        that can be judged.
    """
    given = [_read(case, max_frames) for case in cases]  # before hours of work
    scored, left = judge_each(
        cases,
        given,
        lambda case, read, report: _judge(case, read, judges, report),
        skipped,
        stage,
    )
    return LocatedScores(scored, judges, left)


def representatives(trajectories: Trajectories) -> Int[np.ndarray, " n"]:
    """One point for each entity: the first of every segment, and all that belong to none."""
    if trajectories.segment is None:
        return np.arange(trajectories.num_points)
    _, first = np.unique(trajectories.segment, return_index=True)
    loose = np.flatnonzero(trajectories.segment == 0)
    return np.union1d(first[trajectories.segment[first] > 0], loose)


def _read(case: Case, max_frames: int | None) -> Trajectories:
    trajectories = read_trajectories(case.tracks, max_frames=max_frames)
    check_video(case.video, trajectories, case.tracks)
    given = trajectories.take(representatives(trajectories))
    if not given.visibility.any():
        raise ScoringError(f"{case.tracks}: no point is visible in any frame")
    if case.objects is not None and case.objects.is_file():
        read_ids(case.objects)
    return given


def _judge(
    case: Case, given: Trajectories, judges: Judges, report: Callable[[str], Progress]
) -> CaseScores:
    report("reading")
    video = read_video(case.video.path, range(given.num_frames))
    query = query_frames(given.visibility)
    report("following points")
    start = given.tracks[np.arange(given.num_points), np.maximum(query, 0)]
    followed = follow(judges.tracker, video, start, query, given.size_hw).tracks
    texts = given.texts or ("",) * given.num_points
    worded = np.array([bool(text) for text in texts])
    located = None
    if judges.detector is not None and worded.any():
        located = _located(video, given, query, worded, judges, report("looking for entities"))
    boxes = _boxes(case, video.shape[1:3], given, judges.crop)
    scores = CaseScores(case, given, worded, located, followed, boxes, {}, {})
    for network, pair in zip(judges.networks, judges.pairs, strict=True):
        if case.prompt:
            features = pair.pictures(list(video), report(f"frames, {network}"))
            scores.frames[network] = cosines(features, pair.texts([case.prompt]))
        if scores.cropped.any():
            scores.crops[network] = _crops(video, scores, pair, report(f"crops, {network}"))
    return scores


def _located(
    video: Frames,
    given: Trajectories,
    query: np.ndarray,
    worded: np.ndarray,
    judges: Judges,
    progress: Progress,
) -> Located:
    """Of all entities; those without words are nowhere."""
    found = locate(
        video,
        [text for text in given.texts if text],
        query[worded],
        given.size_hw,
        judges.detector,
        judges.tracker,
        look=judges.look,
        progress=progress,
    )
    tracks, boxes = np.full(given.tracks.shape, np.nan), np.full((given.num_points, 4), np.nan)
    detected = np.zeros(given.num_points, bool)
    tracks[worded], detected[worded], boxes[worded] = found
    return Located(tracks, detected, boxes)


def _boxes(case: Case, hw: tuple[int, int], given: Trajectories, rule: CropRule) -> np.ndarray:
    sizes = None
    if case.objects is not None and given.segment is not None:
        ids = read_ids(case.objects)
        scale = np.array(hw) / np.array(ids.shape)
        sizes = box_sizes(ids, given.segment) * scale
    tracks = scale_points(given.tracks, given.size_hw, hw)
    return crop_boxes(tracks, given.visibility, sizes, hw, rule)


def _crops(video: Frames, scores: CaseScores, pair: PairFeatures, progress: Progress) -> np.ndarray:
    where = np.argwhere(scores.cropped)
    cut = []
    for n, t in where:
        x0, y0, x1, y1 = scores.boxes[n, t]
        cut.append(np.ascontiguousarray(video[t, y0:y1, x0:x1]))
    words = pair.texts([scores.given.texts[n] for n, _ in where])
    found = np.zeros(scores.cropped.shape)
    found[tuple(where.T)] = cosines(pair.pictures(cut, progress), words)
    return found
