"""Bootstrap intervals: coverage, pairing, NaN, determinism."""

import math

import numpy as np
import pytest

from tavid_jax.metrics import bootstrap
from tavid_jax.metrics.bootstrap import mean_interval, paired_difference


def test_matches_the_normal_interval():
    values = np.random.default_rng(0).normal(3, 2, 400)
    interval = mean_interval(values)
    half = 1.96 * values.std(ddof=1) / np.sqrt(400)
    assert interval.mean == pytest.approx(values.mean())
    assert interval.low == pytest.approx(values.mean() - half, abs=0.15 * half)
    assert interval.high == pytest.approx(values.mean() + half, abs=0.15 * half)
    assert interval.n == 400


def test_covers_the_true_mean_as_often_as_it_says():
    rng = np.random.default_rng(1)
    intervals = [
        mean_interval(rng.normal(0, 1, 60), level=0.8, num_resamples=400, seed=i)
        for i in range(200)
    ]
    covered = np.mean([i.low <= 0 <= i.high for i in intervals])
    assert 0.7 < covered < 0.88


def test_pairing_removes_what_the_clips_share():
    rng = np.random.default_rng(2)
    difficulty = rng.gamma(2, 5, 200)
    first, second = difficulty + rng.normal(-0.3, 0.5, 200), difficulty + rng.normal(0, 0.5, 200)
    paired = paired_difference(first, second)
    assert paired.high < 0 and paired.excludes_zero
    a, b = mean_interval(first), mean_interval(second)
    assert a.high > b.low  # apart from each other they overlap
    assert paired.mean == pytest.approx(a.mean - b.mean)


def test_nan_leaves_its_partner_out_too():
    first = np.array([1.0, np.nan, 3.0, 4.0])
    second = np.array([0.0, 9.0, np.nan, 1.0])
    assert paired_difference(first, second) == mean_interval(np.array([1.0, 3.0]))
    assert paired_difference(first, second).n == 2


def test_seed_decides_the_draws():
    values = np.random.default_rng(3).normal(size=50)
    assert mean_interval(values, seed=4) == mean_interval(values, seed=4)
    assert mean_interval(values, seed=4) != mean_interval(values, seed=5)


def test_chunks_keep_the_number_of_draws(monkeypatch):
    values = np.random.default_rng(3).normal(size=50)
    whole = bootstrap._resampled_means(values, 1000, seed=0)
    monkeypatch.setattr(bootstrap, "CHUNK", 50 * 64)
    np.testing.assert_array_equal(bootstrap._resampled_means(values, 1000, seed=0), whole)


def test_too_few_clips():
    single = mean_interval(np.array([2.0, np.nan]))
    assert single.mean == 2.0 and single.n == 1
    assert math.isnan(single.low) and math.isnan(single.high) and not single.excludes_zero
    assert math.isnan(mean_interval(np.array([np.nan])).mean)


def test_equal_values_have_no_width():
    interval = paired_difference(np.ones(9), np.zeros(9))
    assert (interval.low, interval.mean, interval.high) == (1.0, 1.0, 1.0)


def test_level_is_checked():
    with pytest.raises(ValueError, match="level is 95"):
        mean_interval(np.ones(3), level=95.0)
