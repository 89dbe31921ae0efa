"""Numbers of many scenes: seeds, intervals, what does not apply; true clips and painted ones."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tavid_jax.data.segments import object_tracks
from tavid_jax.methods.tgt import judging
from tests.methods.tgt.small import OBJECTS, scene

NAN = math.nan


def values(epe: list[float], **others: list[float]) -> judging.Values:
    nothing = np.full(len(epe), NAN)
    given = {name: np.array(column) for name, column in ({"epe": epe} | others).items()}
    return {name: given.get(name, nothing) for name in judging.VALUES}


def test_true_clips_are_where_their_trajectories_say():
    clips = [scene(i) for i in range(8)]
    goals = [judging.goal_of(clip, OBJECTS.known(clip)) for clip in clips]
    right = judging.values_of(
        [judging.judge(c.video, g) for c, g in zip(clips, goals, strict=True)]
    )
    assert set(right) == set(judging.VALUES)
    assert np.nanmax(right["epe"]) < 1.5 and np.nanmean(right["epe"]) < 0.5
    assert not right["missing"].any() and not np.nansum(right["swap"])
    # The other way round: entities are there, where they should not be.
    back = [judging.judge(c.video[::-1], g) for c, g in zip(clips, goals, strict=True)]
    wrong = judging.values_of(back)
    assert np.nanmean(wrong["epe"]) > 4 and not wrong["missing"].any()
    grey = np.full_like(clips[0].video, 60)
    gone = judging.values_of([judging.judge(grey, goals[0])])
    assert gone["missing"].tolist() == [1.0] and gone["colours"].tolist() == [0.0]


def test_trajectories_that_are_asked_for_may_differ_from_the_clips():
    """A person draws where the entities should go; their words find them."""
    clip = scene(1)
    asked = object_tracks(clip)
    moved = asked.replace(tracks=asked.tracks + np.float32([3, -4]))
    apart = judging.judge(clip.video, judging.goal_of(clip, moved))
    same = judging.judge(clip.video, judging.goal_of(clip, asked))
    assert apart.epe == pytest.approx(5.0, abs=same.epe + 1e-6)


def test_seeds_are_averaged_scene_by_scene_where_they_apply():
    first, second = values([1.0, 2.0, NAN, NAN]), values([3.0, NAN, 5.0, NAN])
    means = judging.over_seeds([first, second])
    np.testing.assert_array_equal(means["epe"], [2.0, 2.0, 5.0, NAN])
    assert set(means) == set(judging.VALUES) and np.isnan(means["swap"]).all()


def test_means_with_intervals_over_scenes():
    each = [values([1.0, 2.0, NAN], swap=[0.0, 1.0, NAN]), values([3.0, 4.0, NAN])]
    found = judging.measure(each, resamples=200)
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
    found = judging.compare([values(list(first))], [values(list(second))], "epe", resamples=200)
    assert found["scenes"] == 38 and found["difference"] == pytest.approx(-0.5)
    np.testing.assert_allclose(found["interval"], -0.5)
    seeds = [values(list(first)), values(list(first + 1.0))]
    found = judging.compare(seeds, [values(list(second))], "epe", resamples=200)
    assert found["difference"] == pytest.approx(0.0, abs=1e-9)
    none = judging.compare([values([NAN])], [values([1.0])], "epe", resamples=200)
    assert none["scenes"] == 0 and math.isnan(none["difference"])
