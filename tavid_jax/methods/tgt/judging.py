"""Where entities are in a toy video: found by their colours, never by their trajectories."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from tavid_jax.data.synthetic import judging as judge_toy
from tavid_jax.metrics import bootstrap, result
from tavid_jax.metrics.located import epe_detect, identity_swaps
from tavid_jax.tracks.trajectories import Trajectories

Frames = UInt8[np.ndarray, "T H W 3"]
# Values per scene. "epe": px of the frame; "swapped": share of the entities that are nearer to
# another one's trajectory; "missing": share of those whose colour is not seen in half of the frames
# in which the target is; "colours": whether every colour is seen; "clean": whether little else is.
VALUES = ("epe", "swapped", "missing", "colours", "clean")
# Targets nearer together than this share of the frame's side, on the mean over frames, cannot be
# swapped.
MARGIN = 0.15
Values = dict[str, Float[np.ndarray, " C"]]


@dataclasses.dataclass(frozen=True)
class Judged:
    """One video.

    Attributes:
      places: where entities are, px (N, T, 2), NaN where one is not seen.
      detected: whether each is seen in half of the frames in which its target is.
      clean: whether little else than the named colours is in the picture.
    """

    places: np.ndarray
    detected: np.ndarray
    clean: bool


def colours_of(targets: Trajectories) -> list[str]:
    """The colour that each text names: "a red disc" -> "red".

    Raises:
      ValueError: texts that name no colour of the toy scenes.
    """
    found = [one.colour for text in targets.texts for one in judge_toy.expected_objects(text)]
    if len(found) != targets.num_points:
        raise ValueError(f"texts {targets.texts}: each has to name one object, 'a red disc'")
    return found


def judge(frames: Frames, targets: Trajectories) -> Judged:
    """Looks for the entities of trajectories in a video.

    Args:
      frames: of the video.
      targets: one trajectory for each object, of distinct colours.
    """
    colours = colours_of(targets)
    places = judge_toy.centres(frames, colours)
    seen = np.isfinite(places).all(-1)
    wanted = targets.visibility
    share = result.ratio((seen & wanted).sum(1), wanted.sum(1))
    expected = [judge_toy.expected_objects(text)[0] for text in targets.texts]
    verdict = judge_toy.judge_objects(frames, [one._replace(kind="") for one in expected])
    return Judged(places, share >= 0.5, verdict.clean)


def values_of(judged: Sequence[Judged], targets: Sequence[Trajectories]) -> Values:
    """Name of `VALUES` -> one value per scene, NaN where it does not apply."""
    found, aims, visible, detected = _padded(judged, targets)
    size_hw = tuple(targets[0].size_hw)
    how: dict[str, Any] = dict(size_hw=size_hw, reference_hw=size_hw)
    errors = epe_detect(found, aims, visible, detected, missing="centre", **how)
    swaps = identity_swaps(found, aims, visible, detected, margin=MARGIN * min(size_hw), **how)
    shown = visible.any(-1)
    missing = result.ratio((shown & ~detected).sum(1), shown.sum(1))
    return {
        "epe": np.asarray(errors["per_clip"]),
        "swapped": np.asarray(swaps["per_clip"]),
        "missing": missing,
        "colours": (missing == 0).astype(np.float64),
        "clean": np.array([one.clean for one in judged], np.float64),
    }


def _padded(
    judged: Sequence[Judged], targets: Sequence[Trajectories]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(places, targets, visibility, detected) of all scenes; what fills up is visible nowhere."""
    most, frames = max(t.num_points for t in targets), targets[0].num_frames
    found = np.full((len(targets), most, frames, 2), np.nan)
    aims, visible = np.zeros_like(found), np.zeros(found.shape[:3], bool)
    detected = np.zeros(found.shape[:2], bool)
    for c, (one, aim) in enumerate(zip(judged, targets, strict=True)):
        count = aim.num_points
        found[c, :count], aims[c, :count] = one.places, aim.tracks
        visible[c, :count], detected[c, :count] = aim.visibility, one.detected
    return found, aims, visible, detected


def over_seeds(each: Sequence[Values]) -> Values:
    """The mean of several trainings, scene by scene, of those in which it applies."""
    means = {}
    for name in VALUES:
        stacked = np.stack([values[name] for values in each])
        count = np.isfinite(stacked).sum(0)
        means[name] = result.ratio(np.nansum(stacked, 0), count)
    return means


def measure(each: Sequence[Values], resamples: int) -> dict[str, Any]:
    """{name: {"value", "interval", "scenes", "seeds"}}: means with 95 % intervals over scenes, and
    the mean of every training alone."""
    means, found = over_seeds(each), {}
    for name in VALUES:
        if not np.isfinite(means[name]).any():
            found[name] = {"value": math.nan, "interval": [math.nan] * 2, "scenes": 0, "seeds": []}
            continue
        interval = bootstrap.mean_interval(means[name], num_resamples=resamples)
        found[name] = {
            "value": interval.mean,
            "interval": [interval.low, interval.high],
            "scenes": interval.n,
            "seeds": [result.finite_mean(values[name]) for values in each],
        }
    return found


def compare(
    first: Sequence[Values], second: Sequence[Values], name: str, resamples: int
) -> dict[str, Any]:
    """First minus second in a value, paired over scenes: {"difference", "interval", "scenes"}."""
    a, b = over_seeds(first)[name], over_seeds(second)[name]
    found = bootstrap.paired_difference(a, b, num_resamples=resamples)
    return {"difference": found.mean, "interval": [found.low, found.high], "scenes": found.n}
