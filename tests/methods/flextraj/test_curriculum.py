"""Which control an example gets: shares, ranges, and how they change over a training."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from tavid_jax.methods.flextraj.curriculum import TASKS, Mixture, Schedule
from tavid_jax.pipelines.follow import Follow

COLOURED = Follow(colour="frame")


def drawn(mixture: Mixture, count: int = 3000, base: Follow = COLOURED, segments: bool = True):
    rng = np.random.default_rng(0)
    return [mixture.draw(rng, base, segments) for _ in range(count)]


def share(found, of) -> float:
    return sum(map(of, found)) / len(found)


def test_tasks_come_in_the_shares_of_their_weights():
    found = drawn(Mixture(dense=2, spatial=1, temporal=4, unaligned=1))
    counts = Counter(one.task for one in found)
    shares = [counts[name] / len(found) for name in TASKS]
    np.testing.assert_allclose(shares, [0.25, 0.125, 0.5, 0.125], atol=0.03)


def test_colours_are_kept_in_a_share_but_never_of_unaligned_points():
    found = drawn(Mixture(dense=1, unaligned=1, colour=0.7))
    dense = [one for one in found if one.task == "dense"]
    assert share(dense, lambda one: one.follow.colour == "frame") == pytest.approx(0.7, abs=0.03)
    unaligned = [one.follow for one in found if one.task == "unaligned"]
    assert all(f.colour == "none" and f.unaligned == "scale" for f in unaligned)
    scales = np.array([f.scale for f in unaligned])
    assert 0.3 <= scales.min() < 0.4 and 1.7 < scales.max() <= 1.8
    plain = drawn(Mixture(colour=1.0), 50, base=Follow())
    assert all(one.follow.colour == "none" for one in plain)  # there are none to keep


def test_points_are_as_often_few_as_many():
    """On a logarithmic scale; whole segments only where there are any."""
    mixture = Mixture(dense=0, spatial=1, regions=0.25, points=(1e-3, 1e-1), areas=(0.2, 0.4))
    found = drawn(mixture)
    regions = [one.follow for one in found if one.follow.choose == "region"]
    assert len(regions) / len(found) == pytest.approx(0.25, abs=0.03)
    assert {f.keep_points for f in regions} == {0.2, 0.4}
    points = np.array([o.follow.keep_points for o in found if o.follow.choose == "random"])
    assert points.min() >= 1e-3 and points.max() <= 1e-1
    assert np.median(np.log10(points)) == pytest.approx(-2, abs=0.1)
    assert all(o.follow.choose == "random" for o in drawn(mixture, 200, segments=False))


def test_frames_and_dropped_conditions():
    mixture = Mixture(dense=0, temporal=1, frames=(0.0, 0.5), random_frames=0.5, dropout=0.2)
    found = drawn(mixture)
    assert {one.follow.keep_frames for one in found} == {0.0, 0.5}
    assert share(found, lambda o: o.follow.keep_frames == 0.0) == pytest.approx(0.5, abs=0.03)
    assert share(found, lambda o: o.follow.random_frames) == pytest.approx(0.5, abs=0.03)
    assert share(found, lambda o: o.dropped) == pytest.approx(0.2, abs=0.03)
    assert len({one.follow.seed for one in found}) > 2990


def test_a_schedule_goes_evenly_from_mixture_to_mixture():
    """Weights count as shares, whatever their sums are."""
    first = Mixture(dense=1, colour=1.0, points=(0.1, 0.2))
    second = Mixture(dense=30, spatial=10, colour=0.2, dropout=0.4)
    schedule = Schedule((first, second), (10, 20))
    assert schedule.at(0) == first and schedule.at(10).weights == (1, 0, 0, 0)
    middle = schedule.at(15)
    np.testing.assert_allclose(middle.weights, [0.875, 0.125, 0, 0])
    assert middle.colour == pytest.approx(0.6) and middle.dropout == pytest.approx(0.2)
    assert middle.points == (0.1, 0.2)  # ranges belong to the mixture that is left
    assert schedule.at(20) == second == schedule.at(10**6)
    assert schedule.changes and not Schedule((first,)).changes


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(dense=0), "weights dense=0, spatial=0, .* not all zero"),
        (dict(dense=-1, spatial=2), "dense=-1.* must not be negative"),
        (dict(colour=1.5), r"control.colour 1.5 must lie in \[0, 1\]"),
        (dict(dropout=-0.1), "control.dropout -0.1"),
        (dict(points=(0.2, 0.1)), "control.points .* the smaller first, up to 1"),
        (dict(points=(0.5, 2.0)), "control.points"),
        (dict(scale=(0.0, 1.0)), "control.scale .* above 0"),
        (dict(frames=()), "control.frames .* shares from 0 to 1"),
        (dict(areas=(0.5, 1.2)), "control.areas"),
    ],
)
def test_mixtures_that_are_refused(fields: dict, message: str):
    with pytest.raises(ValueError, match=message):
        Mixture(**fields)


@pytest.mark.parametrize(
    ("count", "steps", "message"),
    [(2, (0,), "2 mixtures at 1 steps"), (0, (), "0 mixtures"), (2, (5, 5), "must ascend")],
)
def test_schedules_that_are_refused(count: int, steps: tuple, message: str):
    with pytest.raises(ValueError, match=message):
        Schedule((Mixture(),) * count, steps)
