"""Scores videos: what is measured in each, and what comes of all of them together."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, UInt8

from tavid_jax.data import files
from tavid_jax.data.tracker import DISTracker, Tracker
from tavid_jax.data.video import VideoError, VideoInfo, read_video
from tavid_jax.metrics import contact, result, vbench
from tavid_jax.metrics.contact import ContactRule
from tavid_jax.scoring.flows import DISFlow, DISMidpoint
from tavid_jax.scoring.providers import (
    Actors,
    Features,
    Flow,
    Found,
    Midpoint,
    Progress,
    ScoringError,
)
from tavid_jax.scoring.targets import Objects, carried, find_masks, read_objects

SAMPLED_FPS = 8.0  # VBench looks at motion at about this rate; so does contact
# Metric -> what it needs, in words.
NEEDS = {
    "subject_consistency": "weights of DINO (--dino)",
    "background_consistency": "weights of CLIP (--clip)",
    "contact_score": "a mask of the target in frame 0 (<stem>.target.png, see --masks)",
    "target_alignment": "one target and masks of other objects, too (<stem>.other.png)",
}


@dataclasses.dataclass(frozen=True)
class Providers:
    """What makes what is aggregated; None leaves the metric out.

    Attributes:
      subject: features for subject consistency.
      background: features for background consistency.
      flow: for the dynamic degree.
      midpoint: for motion smoothness.
      actors: finds the actor, for contact.
      tracker: carries masks.
    """

    subject: Features | None = None
    background: Features | None = None
    flow: Flow | None = dataclasses.field(default_factory=DISFlow)
    midpoint: Midpoint | None = dataclasses.field(default_factory=DISMidpoint)
    actors: Actors | None = None
    tracker: Tracker = DISTracker()

    def describe(self) -> dict[str, Any]:
        """Metric -> all that its provider's numbers depend on."""
        parts = {
            "subject_consistency": self.subject,
            "background_consistency": self.background,
            "dynamic_degree": self.flow,
            "motion_smoothness": self.midpoint,
            "contact_score": self.actors,
        }
        about = {name: part.describe() for name, part in parts.items() if part is not None}
        return {**about, "masks": {"name": self.tracker.fingerprint}}


@dataclasses.dataclass(frozen=True, eq=False)
class Touches:
    """Contact in one video, at sampled frames.

    Attributes:
      frames: source numbers of the sampled frames.
      objects: regions, targets first.
      actor: where the actor is.
      shares: `contact.overlaps` of each object.
    """

    frames: np.ndarray
    objects: Bool[np.ndarray, "S T H W"]
    actor: Found
    shares: Float[np.ndarray, "S T"]


@dataclasses.dataclass(frozen=True, eq=False)
class VideoScores:
    """What was measured in one video; None where a provider or a mask is missing.

    Attributes:
      info: the video.
      subject, background: consistency of frames 1 ...
      dynamic: see `vbench.DynamicDegree`.
      smoothness: in [0, 1].
      objects: masks of frame 0.
      touches: contact.
    """

    info: VideoInfo
    subject: Float[np.ndarray, " _"] | None = None
    background: Float[np.ndarray, " _"] | None = None
    dynamic: vbench.DynamicDegree | None = None
    smoothness: float | None = None
    objects: Objects | None = None
    touches: Touches | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Scores:
    """Scores of all videos together.

    Attributes:
      videos: those that were scored.
      metrics: name -> record (values, number of items, settings with the provider's name).
      left_out: metric -> what it would need.
      skipped: (path, reason) of broken videos.
      providers: see `Providers.describe`.
      rule: what counts as contact.
    """

    videos: tuple[VideoScores, ...]
    metrics: dict[str, dict[str, Any]]
    left_out: dict[str, str]
    skipped: tuple[tuple[str, str], ...]
    providers: dict[str, Any]
    rule: ContactRule


# Called with the video's number (from 0), how many there are, and what is done to it now.
Stage = Callable[[int, int, str], Progress]


def _silent(number: int, count: int, what: str) -> Progress:
    return lambda done, total: None


def score_videos(
    videos: files.Paths,
    providers: Providers,
    *,
    masks: str | os.PathLike | None = None,
    rule: ContactRule = contact.RULE,
    max_frames: int | None = None,
    stage: Stage = _silent,
    seen: Callable[[VideoScores, UInt8[np.ndarray, "T H W 3"]], None] | None = None,
) -> Scores:
    """Scores every video that the paths name.

    Args:
      videos: files, folders, globs; see `data.files.find_videos`.
      providers: what is measured with.
      masks: folder of masks; None: beside each video. See `targets`.
      rule: what counts as contact.
      max_frames: only so many frames of each video, from the first on.
      stage: reports progress.
      seen: called with each video's scores and its frames, before they are forgotten.

    Raises:
      ScoringError: nothing can be scored, or a mask cannot be used.
      ClipError: a path names nothing.
    """
    infos, skipped = files.probe_all(files.find_videos(videos))
    infos = [_cut(info, max_frames) for info in infos]
    skipped += [(i.path, f"{i.num_frames} frames: three are needed") for i in _short(infos)]
    infos = [info for info in infos if info.num_frames >= 3]
    if not infos:
        reasons = "; ".join(f"{path}: {reason}" for path, reason in skipped)
        raise ScoringError(f"no video can be scored ({reasons or 'none found'})")
    # Every mask is read before hours of work.
    objects = [read_objects(find_masks(i.path, masks), i.path, i.size_hw) for i in infos]
    scored = []
    for number, (info, found) in enumerate(zip(infos, objects, strict=True)):

        def report(what: str, number: int = number) -> Progress:
            return stage(number, len(infos), what)

        try:
            report("reading")
            frames = read_video(info.path, range(info.num_frames))
        except VideoError as error:
            skipped.append((info.path, str(error)))
            continue
        scored.append(_score(info, frames, found, providers, rule, report))
        if seen is not None:
            seen(scored[-1], frames)
    metrics = aggregate(scored, providers, rule)
    left_out = {name: need for name, need in NEEDS.items() if name not in metrics}
    return Scores(tuple(scored), metrics, left_out, tuple(skipped), providers.describe(), rule)


def _cut(info: VideoInfo, most: int | None) -> VideoInfo:
    return dataclasses.replace(info, num_frames=min(info.num_frames, most or info.num_frames))


def _short(infos: Sequence[VideoInfo]) -> list[VideoInfo]:
    return [info for info in infos if info.num_frames < 3]


def sampled(num_frames: int, fps: float | int) -> np.ndarray:
    """Numbers of the frames that are looked at: every n-th, so that about 8 pass in a second."""
    return np.arange(0, num_frames, max(1, round(fps / SAMPLED_FPS)))


def _score(
    info: VideoInfo,
    frames: UInt8[np.ndarray, "T H W 3"],
    objects: Objects | None,
    providers: Providers,
    rule: ContactRule,
    report: Callable[[str], Progress],
) -> VideoScores:
    some = sampled(len(frames), info.fps)
    values: dict[str, Any] = {"objects": objects}
    if providers.subject is not None:
        features = providers.subject(frames, report("subject consistency"))
        values["subject"] = vbench.consistency(features)
    if providers.background is not None:
        features = providers.background(frames, report("background consistency"))
        values["background"] = vbench.consistency(features)
    if providers.flow is not None and len(some) > 1:
        values["dynamic"] = _dynamic(frames[some], providers.flow, report("dynamic degree"))
    if providers.midpoint is not None:
        progress = report("motion smoothness")
        values["smoothness"] = _smoothness(frames, providers.midpoint, progress)
    if providers.actors is not None and objects is not None:
        report("carrying the masks")
        regions = carried(frames, objects, providers.tracker)[:, some]
        actor = providers.actors(frames[some], regions, report("looking for the actor"))
        shares = [contact.overlaps(actor.region, region, rule) for region in regions]
        values["touches"] = Touches(some, regions, actor, np.stack(shares))
    return VideoScores(info, **values)


def _dynamic(
    frames: UInt8[np.ndarray, "T H W 3"], flow: Flow, progress: Progress
) -> vbench.DynamicDegree:
    scores = []
    for t in range(len(frames) - 1):
        scores.append(vbench.flow_size(flow(frames[t], frames[t + 1])))
        progress(t + 1, len(frames) - 1)
    return vbench.is_dynamic(np.array(scores), frames.shape[1:3])


def _smoothness(
    frames: UInt8[np.ndarray, "T H W 3"], midpoint: Midpoint, progress: Progress
) -> float:
    odd, errors = vbench.odd_frames(len(frames)), []
    for t in odd:
        errors.append(vbench.midpoint_error(frames[t], midpoint(frames[t - 1], frames[t + 1])))
        progress(len(errors), len(odd))
    return vbench.smoothness(np.array(errors))


def aggregate(
    videos: Sequence[VideoScores], providers: Providers, rule: ContactRule
) -> dict[str, dict[str, Any]]:
    """Name -> record, of the metrics that were measured in any video."""
    metrics = {}
    for name, part in (("subject", providers.subject), ("background", providers.background)):
        frames = [getattr(video, name) for video in videos if getattr(video, name) is not None]
        if frames and part is not None:
            pooled = np.concatenate(frames)
            values = {f"{name}_consistency": float(pooled.mean())}
            values["per_video"] = [float(clip.mean()) for clip in frames]
            metrics[f"{name}_consistency"] = result.record(
                values, n=len(pooled), videos=len(frames), network=part.name
            )
    dynamic = [video.dynamic.dynamic for video in videos if video.dynamic is not None]
    if dynamic and providers.flow is not None:
        metrics["dynamic_degree"] = result.record(
            {"dynamic_degree": float(np.mean(dynamic)), "per_video": dynamic},
            n=len(dynamic),
            flow=providers.flow.name,
            sampled_fps=SAMPLED_FPS,
        )
    smooth = [video.smoothness for video in videos if video.smoothness is not None]
    if smooth and providers.midpoint is not None:
        metrics["motion_smoothness"] = result.record(
            {"motion_smoothness": float(np.mean(smooth)), "per_video": smooth},
            n=len(smooth),
            midpoint=providers.midpoint.name,
        )
    if providers.actors is None:
        return metrics
    names = {"actor": providers.actors.name, "target": providers.tracker.fingerprint}
    return metrics | _contact(videos, rule, names)


def _contact(
    videos: Sequence[VideoScores], rule: ContactRule, names: dict[str, str]
) -> dict[str, dict[str, Any]]:
    metrics = {}
    touching = [v for v in videos if v.touches is not None and v.objects is not None]
    targets = [share for v in touching for share in v.touches.shares[: v.objects.num_targets]]
    if targets:
        metrics["contact_score"] = contact.contact_score(targets, rule, **names)
        metrics["contact_score"]["settings"]["sampled_fps"] = SAMPLED_FPS
    # With several targets there is no one right choice.
    choices = [v for v in touching if v.objects.num_targets == 1 and len(v.objects.names) > 1]
    if choices:
        shares = [v.touches.shares for v in choices]
        record = contact.target_alignment(shares, [0] * len(shares), rule, **names)
        record["settings"]["sampled_fps"] = SAMPLED_FPS
        metrics["target_alignment"] = record
    return metrics
