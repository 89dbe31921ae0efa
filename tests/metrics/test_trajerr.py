"""TrajErr: stored values of the definition, what counts, and what a lost object costs."""

import math

import numpy as np
import pytest

from tavid_jax.metrics.trajerr import (
    clip_error,
    counted_samples,
    query_frames,
    stand_still,
    trajectory_error,
)

HW = (100, 200)


@pytest.fixture
def stored(goldens):
    return goldens("track_and_vbench_aggregation")


@pytest.mark.parametrize("norm", ["wh", "diag"])
def test_stored_values(stored, norm):
    sums = clip_error(stored["pred"], stored["gt"], stored["vis"], (480, 832))
    record = trajectory_error([sums], norm=norm)
    expected = float(stored[f"trajerr_norm_{norm}"])
    assert record["trajectory_error"] == pytest.approx(expected, rel=1e-9)
    assert record["per_clip"] == [pytest.approx(expected, rel=1e-9)]
    assert record["pooled"]["pixels"] == pytest.approx(float(stored["epe_visible"]), rel=1e-9)
    assert record["settings"]["norm"] == norm


def line(points: int = 2, frames: int = 5) -> np.ndarray:
    """Points that move 10 px a frame to the right."""
    tracks = np.zeros((points, frames, 2), np.float32)
    tracks[..., 0] = 10 * np.arange(frames)
    return tracks


def test_what_counts():
    seen = np.array([[0, 1, 1, 0, 1], [1, 1, 1, 1, 1], [0, 0, 0, 0, 0]], bool)
    assert query_frames(seen).tolist() == [1, 0, -1]
    want = np.array([[0, 0, 1, 0, 1], [0, 1, 1, 1, 1], [0, 0, 0, 0, 0]], bool)
    np.testing.assert_array_equal(counted_samples(seen), want)
    # A tracker starts where a point is first given, not where it is first visible.
    given = np.array([0, 0, 1, 0, 1], bool)
    want = np.array([[0, 0, 0, 0, 1], [0, 0, 0, 0, 1], [0, 0, 0, 0, 0]], bool)
    np.testing.assert_array_equal(counted_samples(seen, given), want)
    np.testing.assert_array_equal(counted_samples(seen, np.broadcast_to(given, seen.shape)), want)


def test_norms_by_hand():
    truth, counted = line(), counted_samples(np.ones((2, 5), bool))
    prediction = truth + np.array([3, 4], np.float32)
    sums = clip_error(prediction, truth, counted, HW, thresholds=(5, 5.001, 9))
    for norm, expected in (
        ("pixels", 5.0),
        ("diag", 5 / math.hypot(*HW)),
        ("wh", math.hypot(3 / 200, 4 / 100)),
    ):
        record = trajectory_error([sums], norm=norm)
        assert record["trajectory_error"] == pytest.approx(expected, rel=1e-6)
    assert record["pck"] == {"5": 0.0, "5.001": 1.0, "9": 1.0}  # nearer, not as near
    assert record["settings"]["samples"] == 8


def test_standing_still_is_as_far_as_the_points_went():
    truth, seen = line(), np.ones((2, 5), bool)
    seen[1, :2] = False
    still = stand_still(truth, query_frames(seen))
    assert still[1, 0].tolist() == [20.0, 0.0]
    sums = clip_error(still, truth, counted_samples(seen), HW)
    assert sums.totals["pixels"] == pytest.approx((10 + 20 + 30 + 40) + (10 + 20))


def test_a_lost_object_is_not_rewarded():
    truth, counted = line(), counted_samples(np.ones((2, 5), bool))
    lost = stand_still(truth, np.zeros(2, int))
    seen = np.zeros((2, 5), bool)
    seen[0, :2] = True
    unseen = clip_error(lost, truth, counted, HW, seen=seen)
    assert unseen.totals == clip_error(lost, truth, counted, HW).totals
    assert trajectory_error([unseen])["seen"] == pytest.approx(1 / 8)
    assert math.isnan(trajectory_error([clip_error(lost, truth, counted, HW)])["seen"])


def test_clips_have_the_same_weight_and_empty_ones_none():
    truth = line(4)
    few = clip_error(truth[:1] + 1, truth[:1], np.ones((1, 5), bool), HW)
    many = clip_error(truth + 3, truth, np.ones((4, 5), bool), HW)
    none = clip_error(truth, truth, np.zeros((4, 5), bool), HW)
    record = trajectory_error([few, many, none], norm="pixels")
    root = math.sqrt(2)
    assert record["trajectory_error"] == pytest.approx(2 * root)
    assert record["pooled"]["pixels"] == pytest.approx((1 * 5 + 3 * 20) / 25 * root)
    assert record["n"] == 2 and math.isnan(record["per_clip"][2])
    assert math.isnan(trajectory_error([])["trajectory_error"])


def test_what_is_not_finite_breaks_the_clip():
    truth, counted = line(), np.ones((2, 5), bool)
    prediction = truth.copy()
    prediction[0, 3] = np.nan
    sums = clip_error(prediction, truth, counted, HW)
    assert math.isnan(trajectory_error([sums])["trajectory_error"])
    counted[0, 3] = False
    assert trajectory_error([clip_error(prediction, truth, counted, HW)])["trajectory_error"] == 0
