"""Numbers of many scenes: seeds, intervals, differences, what does not apply."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tavid_jax.methods.finetune.seeds import compare, measure, over_seeds

NAN = math.nan
NAMES = ("epe", "swap", "colours")


def values(epe: list[float], **others: list[float]) -> dict[str, np.ndarray]:
    nothing = np.full(len(epe), NAN)
    given = {name: np.array(column) for name, column in ({"epe": epe} | others).items()}
    return {name: given.get(name, nothing) for name in NAMES}


def test_seeds_are_averaged_scene_by_scene_where_they_apply():
    first, second = values([1.0, 2.0, NAN, NAN]), values([3.0, NAN, 5.0, NAN])
    means = over_seeds([first, second])
    np.testing.assert_array_equal(means["epe"], [2.0, 2.0, 5.0, NAN])
    assert set(means) == set(NAMES) and np.isnan(means["swap"]).all()


def test_means_with_intervals_over_scenes():
    each = [values([1.0, 2.0, NAN], swap=[0.0, 1.0, NAN]), values([3.0, 4.0, NAN])]
    found = measure(each, resamples=200)
    epe = found["epe"]
    assert (epe["value"], epe["scenes"], epe["seeds"]) == (2.5, 2, [1.5, 3.5])
    assert epe["interval"][0] <= 2.5 <= epe["interval"][1]
    assert found["swap"]["value"] == 0.5 and math.isnan(found["swap"]["seeds"][1])
    nothing = found["colours"]
    assert nothing["scenes"] == 0 and math.isnan(nothing["value"])


def test_differences_are_paired_over_scenes_in_which_both_apply():
    rng = np.random.default_rng(0)
    hard = rng.uniform(1, 9, 40)
    first, second = hard.copy(), hard + 0.5
    first[0], second[1] = NAN, NAN
    found = compare([values(list(first))], [values(list(second))], "epe", resamples=200)
    assert found["scenes"] == 38 and found["difference"] == pytest.approx(-0.5)
    np.testing.assert_allclose(found["interval"], -0.5)
    seeds = [values(list(first)), values(list(first + 1.0))]
    found = compare(seeds, [values(list(second))], "epe", resamples=200)
    assert found["difference"] == pytest.approx(0.0, abs=1e-9)
    none = compare([values([NAN])], [values([1.0])], "epe", resamples=200)
    assert none["scenes"] == 0 and math.isnan(none["difference"])
