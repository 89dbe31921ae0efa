"""What is touched: the masked object, another one, or nothing; and whether the mask decides it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from tavid_jax.data.clip import Clip
from tavid_jax.methods.finetune import seeds
from tavid_jax.methods.finetune.judging import judge_video

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


def against_other(each: Sequence[Values], resamples: int) -> dict[str, Any]:
    """How much more often the masked object is touched than a look-alike, of which there are as
    many or more: above zero is above chance. {"difference", "interval", "scenes"}."""
    means = seeds.over_seeds(each)
    return seeds.difference(means["masked"], means["other"], resamples)
