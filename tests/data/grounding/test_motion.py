"""What counts as motion, with a still and with a moving camera."""

import numpy as np
import pytest

from tavid_jax.data.grounding.motion import MotionRule, camera, judge, steadied, way

HW = (60, 80)  # diagonal 100
T = 6


def line(start, velocity, frames=T):
    return np.float32([np.add(start, np.multiply(t, velocity)) for t in range(frames)])


def test_ways_are_measured_where_points_are_seen():
    tracks = np.stack([line((10, 10), (3, 4)), line((40, 40), (0, 0)), line((5, 5), (2, 0))])
    seen = np.ones((3, T), bool)
    seen[2, :2] = False
    seen[2, 4:] = False
    np.testing.assert_allclose(way(tracks, seen), [25, 0, 2])
    moved = judge(tracks, seen, HW, MotionRule(seen=0.7))
    assert (moved.median, moved.furthest) == pytest.approx((0.02, 0.25))
    assert moved.seen == pytest.approx(14 / 18) and not moved.reason


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        (MotionRule(least=0.03), "the median way is 2.0% of the diagonal, at least 3.0%"),
        (MotionRule(furthest=0.3), "the longest way is 25.0% of the diagonal, at least 30.0%"),
        (MotionRule(seen=0.9), "points are seen in 78% of places, at least 90% are wanted"),
        (MotionRule(seen=0.1, compensate=True), "the camera's motion is not known"),
    ],
)
def test_the_reason_says_which_bound_was_missed(rule, reason):
    tracks = np.stack([line((10, 10), (3, 4)), line((40, 40), (0, 0)), line((5, 5), (2, 0))])
    seen = np.ones((3, T), bool)
    seen[2, [0, 1, 4, 5]] = False
    assert reason in judge(tracks, seen, HW, rule).reason


def seen_through(points, shift, angle, scale):
    """Places of points after the camera has moved, frame by frame."""
    made = []
    for t in range(T):
        c, s = np.cos(angle * t) * scale**t, np.sin(angle * t) * scale**t
        made.append(points[:, t] @ np.array([[c, -s], [s, c]]).T + np.multiply(t, shift))
    return np.stack(made, axis=1).astype(np.float32)


def test_the_motion_of_the_camera_is_taken_off():
    rng = np.random.default_rng(0)
    still = np.repeat(rng.uniform(0, 60, (40, 1, 2)), T, axis=1)
    still[:10] += np.arange(T)[:, None] * [2.0, -1.0]  # others move too
    ground = seen_through(still, (2, -1), 0.02, 1.01)
    objects = np.stack([line((20, 20), (0, 0)), line((30, 10), (3, 0))])
    shown = seen_through(objects, (2, -1), 0.02, 1.01)
    everywhere = np.ones((40, T), bool)
    found = steadied(shown, camera(ground, everywhere))
    np.testing.assert_allclose(found, objects, atol=0.05)
    seen = np.ones((2, T), bool)
    plain, less = (
        judge(shown[:1], seen[:1], HW, MotionRule(compensate=on), (ground, everywhere))
        for on in (False, True)
    )
    assert not plain.reason and plain.median > 0.08
    assert less.median < 0.001 and "little motion" in less.reason
    assert camera(ground[:4], everywhere[:4]) is None


def test_a_frame_without_ground_keeps_the_camera_before_it():
    rng = np.random.default_rng(1)
    ground = np.repeat(rng.uniform(0, 60, (12, 1, 2)), T, axis=1) + np.arange(T)[:, None] * [1.0, 0]
    seen = np.ones((12, T), bool)
    seen[:, 3] = False
    moved = camera(ground.astype(np.float32), seen)
    np.testing.assert_allclose(moved[:, 0, 2], [0, 1, 2, 2, 4, 5], atol=1e-3)
