"""Confidence intervals by resampling clips, paired where two methods saw the same clips.

The percentile bootstrap (Efron & Tibshirani 1993, chapter 13). A clip is the unit that is drawn:
points and frames of one clip are not independent. Values that are NaN are left out, and in a
paired comparison their partner too. The same inputs and seed give the same interval.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Num

CHUNK = 1 << 22  # drawn indices held at a time


class Interval(NamedTuple):
    """A mean over clips with its confidence interval."""

    mean: float
    low: float
    high: float
    n: int  # clips behind it

    @property
    def excludes_zero(self) -> bool:
        """Whether the whole interval lies on one side of 0 (False when it is undefined)."""
        return self.low > 0 or self.high < 0


def mean_interval(
    values: Float[np.ndarray, "C"],
    *,
    level: float = 0.95,
    num_resamples: int = 10_000,
    seed: int = 0,
) -> Interval:
    """Mean of a per-clip value and its interval.

    Args:
      values: one value per clip; those that are not finite are left out.
      level: share of resampled means that the interval holds, in (0, 1).
      num_resamples: how often the clips are drawn anew.
      seed: of the draws.

    Returns:
      The interval; low and high are NaN with fewer than two clips, the mean too with none.
    """
    _check_level(level)
    kept = values[np.isfinite(values)].astype(np.float64)
    if len(kept) < 2:
        mean = float(kept[0]) if len(kept) else math.nan
        return Interval(mean, math.nan, math.nan, len(kept))
    means = _resampled_means(kept, num_resamples, seed)
    return _interval(float(kept.mean()), means, level, len(kept))


def paired_difference(
    first: Float[np.ndarray, "C"],
    second: Float[np.ndarray, "C"],
    *,
    level: float = 0.95,
    num_resamples: int = 10_000,
    seed: int = 0,
) -> Interval:
    """Interval of mean(first - second) over the clips where both are finite.

    Negative means that `first` is smaller; `excludes_zero` says whether the sign is settled.
    Other arguments as in `mean_interval`.
    """
    difference = first.astype(np.float64) - second
    return mean_interval(difference, level=level, num_resamples=num_resamples, seed=seed)


def pooled_interval(
    values: Float[np.ndarray, "C"],
    weights: Num[np.ndarray, "C"],
    *,
    level: float = 0.95,
    num_resamples: int = 10_000,
    seed: int = 0,
) -> Interval:
    """Mean over the items of all clips (a micro average) and its interval; clips are drawn.

    Args:
      values: the mean of each clip's items; clips whose value is not finite are left out.
      weights: how many items each clip has; of those without any, nothing is used.

    Other arguments and the result as in `mean_interval`.
    """
    return _pooled([(values, weights)], level, num_resamples, seed)


def pooled_difference(
    first: Float[np.ndarray, "C"],
    first_weights: Num[np.ndarray, "C"],
    second: Float[np.ndarray, "C"],
    second_weights: Num[np.ndarray, "C"],
    *,
    level: float = 0.95,
    num_resamples: int = 10_000,
    seed: int = 0,
) -> Interval:
    """Interval of the difference of two micro averages over the clips where both are finite.

    Negative means that `first` is smaller. Arguments as in `pooled_interval`.
    """
    both = [(first, first_weights), (second, second_weights)]
    return _pooled(both, level, num_resamples, seed)


def _pooled(
    sides: list[tuple[np.ndarray, np.ndarray]], level: float, num_resamples: int, seed: int
) -> Interval:
    """Pooled mean of the first side, minus that of the second if there is one."""
    _check_level(level)
    kept = np.all([np.isfinite(values) & (weights > 0) for values, weights in sides], axis=0)
    columns = []
    for values, weights in sides:
        weight = weights[kept].astype(np.float64)
        columns += [values[kept] * weight, weight]

    def pooled(sums: np.ndarray) -> np.ndarray:
        means = sums[..., ::2] / sums[..., 1::2]
        return means[..., 0] - means[..., 1:].sum(axis=-1)

    count = int(kept.sum())
    if not count:
        return Interval(math.nan, math.nan, math.nan, 0)
    table = np.stack(columns, axis=-1)
    mean = float(pooled(table.sum(axis=0)))
    if count < 2:
        return Interval(mean, math.nan, math.nan, count)
    return _interval(mean, pooled(_resampled_means(table, num_resamples, seed)), level, count)


def _interval(mean: float, means: Float[np.ndarray, "R"], level: float, count: int) -> Interval:
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(mean, float(low), float(high), count)


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"level is {level}, it must lie between 0 and 1")


def _resampled_means(
    values: Float[np.ndarray, "C *K"], num_resamples: int, seed: int
) -> Float[np.ndarray, "R *K"]:
    rng = np.random.default_rng(seed)
    rows = max(1, CHUNK // len(values))
    means = []
    for start in range(0, num_resamples, rows):
        shape = (min(rows, num_resamples - start), len(values))
        means.append(values[rng.integers(len(values), size=shape)].mean(axis=1))
    return np.concatenate(means)
