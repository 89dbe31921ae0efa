"""Numbers of scenes that several trainings have made something of: means, intervals, differences.

A value of a scene may be NaN where it does not apply.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from tavid_jax.metrics import bootstrap, result

# Name -> one value per scene.
Values = Mapping[str, Float[np.ndarray, " C"]]


def over_seeds(each: Sequence[Values]) -> dict[str, Float[np.ndarray, " C"]]:
    """The mean of several trainings, scene by scene, of those in which a value applies."""
    means = {}
    for name in each[0]:
        stacked = np.stack([values[name] for values in each])
        means[name] = result.ratio(np.nansum(stacked, 0), np.isfinite(stacked).sum(0))
    return means


def measure(each: Sequence[Values], resamples: int) -> dict[str, Any]:
    """{name: {"value", "interval", "scenes", "seeds"}}: means with 95 % intervals over scenes, and
    the mean of every training alone."""
    found = {}
    for name, means in over_seeds(each).items():
        interval = bootstrap.mean_interval(means, num_resamples=resamples)
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
    return difference(over_seeds(first)[name], over_seeds(second)[name], resamples)


def difference(
    first: Float[np.ndarray, " C"], second: Float[np.ndarray, " C"], resamples: int
) -> dict[str, Any]:
    """The same of two values that are given."""
    found = bootstrap.paired_difference(first, second, num_resamples=resamples)
    return {"difference": found.mean, "interval": [found.low, found.high], "scenes": found.n}
