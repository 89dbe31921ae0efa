"""What is touched: the masked object, another one, or nothing; and whether the mask decides it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from tavid_jax.data.clip import Clip
from tavid_jax.methods.finetune.judging import judge_video
from tavid_jax.metrics import bootstrap

Frames = UInt8[np.ndarray, "T H W 3"]
# Values per scene. "masked": the object that the true clip's actor touches, which the mask marks
# where a model reads one. "followed": with the mask of a look-alike instead, the look-alike.
# "flips": both; "flips_of_touching": the same, of the scenes in which both videos touch something.
VALUES = (
    "masked",
    "other",
    "none",
    "aim",
    "followed",
    "flips",
    "flips_of_touching",
    "first_frame",
)
Values = dict[str, Float[np.ndarray, " C"]]


@dataclasses.dataclass(frozen=True)
class Judged:
    """One scene: what was touched with its own mask, and with that of a look-alike.

    Attributes:
      touched: whether anything was touched.
      right: whether it was the marked object.
      first_frame: error of the first frame, in units of 1/255.
    """

    touched: bool
    right: bool
    first_frame: float


def judge(frames: Frames, clip: Clip, target: int) -> Judged:
    """Looks at a video made for a clip whose object `target` was marked.

    Exact on synthetic scenes, see `data.synthetic.judging.judge_contact`.

    Raises:
      ValueError: a clip without a known actor and target.
    """
    found = judge_video("contact", frames, clip.replace(target=target)).values
    return Judged(bool(found["touched"]), bool(found["target"]), found["first_frame"])


def values_of(own: Sequence[Judged], swapped: Sequence[Judged] | None) -> Values:
    """Name of `VALUES` -> one value per scene, NaN where it does not apply.

    Args:
      own: with the mask of the target.
      swapped: of the same scenes, noise and images, with the mask of a look-alike; None for models
        that read no mask.
    """
    rows = []
    for i, one in enumerate(own):
        row = dict.fromkeys(VALUES, math.nan)
        row |= {
            "masked": float(one.right),
            "other": float(one.touched and not one.right),
            "none": float(not one.touched),
            "aim": float(one.right) if one.touched else math.nan,
            "first_frame": one.first_frame,
        }
        if swapped is not None:
            other = swapped[i]
            flips = float(one.right and other.right)
            row |= {"followed": float(other.right), "flips": flips}
            row["flips_of_touching"] = flips if one.touched and other.touched else math.nan
        rows.append(row)
    return {name: np.array([row[name] for row in rows]) for name in VALUES}


def over_seeds(each: Sequence[Values]) -> Values:
    """The mean of several trainings, scene by scene; what one of them lacks is left out."""
    stacked = {name: np.stack([values[name] for values in each]) for name in VALUES}
    counts = {name: np.isfinite(x).sum(0) for name, x in stacked.items()}
    return {
        name: np.where(counts[name] > 0, np.nansum(x, 0) / np.maximum(counts[name], 1), np.nan)
        for name, x in stacked.items()
    }


def measure(each: Sequence[Values], resamples: int) -> dict[str, Any]:
    """{name: {"value", "interval", "scenes", "seeds"}}: means with 95 % intervals over scenes, and
    the mean of every training alone."""
    means = over_seeds(each)
    return {name: _mean(means[name], [v[name] for v in each], resamples) for name in VALUES}


def _mean(column: np.ndarray, each: Sequence[np.ndarray], resamples: int) -> dict[str, Any]:
    found = bootstrap.mean_interval(column, num_resamples=resamples)
    seeds = [float(np.nanmean(x)) if np.isfinite(x).any() else math.nan for x in each]
    return {
        "value": found.mean,
        "interval": [found.low, found.high],
        "scenes": found.n,
        "seeds": seeds,
    }


def compare(
    first: Sequence[Values], second: Sequence[Values], name: str, resamples: int
) -> dict[str, Any]:
    """First minus second in a value, paired over scenes: {"difference", "interval", "scenes"}."""
    a, b = over_seeds(first)[name], over_seeds(second)[name]
    found = bootstrap.paired_difference(a, b, num_resamples=resamples)
    return {"difference": found.mean, "interval": [found.low, found.high], "scenes": found.n}


def against_other(each: Sequence[Values], resamples: int) -> dict[str, Any]:
    """How much more often the masked object is touched than a look-alike, of which there are as
    many or more: above zero is above chance. {"difference", "interval", "scenes"}."""
    means = over_seeds(each)
    found = bootstrap.paired_difference(means["masked"], means["other"], num_resamples=resamples)
    return {"difference": found.mean, "interval": [found.low, found.high], "scenes": found.n}
