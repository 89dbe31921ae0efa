"""Numbers of many scenes: where entities are, by `data.synthetic.located_judging`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from tavid_jax.data.synthetic.located_judging import VALUES, Goal, Located, goal_of, judge
from tavid_jax.data.synthetic.located_judging import values_of as _values_of
from tavid_jax.metrics import bootstrap, result

Frames = UInt8[np.ndarray, "T H W 3"]
# Name of `VALUES` -> one value per scene, NaN where it does not apply.
Values = dict[str, Float[np.ndarray, " C"]]
__all__ = ["VALUES", "Goal", "Located", "goal_of", "judge"]


def values_of(judged: Sequence[Located]) -> Values:
    """See `Values`."""
    return dict(_values_of(judged))


def over_seeds(each: Sequence[Values]) -> Values:
    """The mean of several trainings, scene by scene, of those in which it applies."""
    means = {}
    for name in VALUES:
        stacked = np.stack([values[name] for values in each])
        means[name] = result.ratio(np.nansum(stacked, 0), np.isfinite(stacked).sum(0))
    return means


def measure(each: Sequence[Values], resamples: int) -> dict[str, Any]:
    """{name: {"value", "interval", "scenes", "seeds"}}: means with 95 % intervals over scenes, and
    the mean of every training alone."""
    means, found = over_seeds(each), {}
    for name in VALUES:
        interval = bootstrap.mean_interval(means[name], num_resamples=resamples)
        found[name] = {
            "value": interval.mean,
            "interval": [interval.low, interval.high],
            "scenes": interval.n,
            "seeds": [_mean(values[name]) for values in each],
        }
    return found


def _mean(values: Float[np.ndarray, " C"]) -> float:
    return result.finite_mean(values) if np.isfinite(values).any() else math.nan


def compare(
    first: Sequence[Values], second: Sequence[Values], name: str, resamples: int
) -> dict[str, Any]:
    """First minus second in a value, paired over scenes: {"difference", "interval", "scenes"}."""
    a, b = over_seeds(first)[name], over_seeds(second)[name]
    found = bootstrap.paired_difference(a, b, num_resamples=resamples)
    return {"difference": found.mean, "interval": [found.low, found.high], "scenes": found.n}
