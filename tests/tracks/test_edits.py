"""Tracks that a person changes."""

import numpy as np
import pytest

from tavid_jax.tracks.edits import Edit, EditError, edited
from tavid_jax.tracks.trajectories import Trajectories

SIZE_HW = (40, 60)


def tracks():
    """Four points that go right by 1 px a frame; the last one is not seen at first."""
    start = np.array([[5, 5], [30, 20], [50, 35], [30, 21]], np.float32)
    places = start[:, None] + np.arange(5)[:, None] * np.array([1, 0], np.float32)
    seen = np.ones((4, 5), bool)
    seen[3, 0] = seen[1, 3] = False
    return Trajectories(places, seen, SIZE_HW)


def test_a_region_moves_more_and_more():
    made = edited(tracks(), [Edit("move", (8, -4), (20, 10, 40, 30))])
    away = made.tracks - tracks().tracks
    np.testing.assert_allclose(away[1, [0, 1, 2, 4]], [[0, 0], [2, -1], [4, -2], [8, -4]])
    assert not away[1, 3].any() and not away[[0, 2, 3]].any()  # not seen, and elsewhere
    np.testing.assert_array_equal(made.visibility, tracks().visibility)


def test_ways_are_scaled_and_held():
    made = edited(tracks(), [Edit("scale", 3.0), Edit("still", region=(0, 0, 10, 10))])
    np.testing.assert_allclose(made.tracks[2, :, 0], 50 + 3 * np.arange(5))
    assert (made.tracks[0] == [5, 5]).all() and made.visibility[0].all()
    np.testing.assert_array_equal(made.tracks[3], tracks().tracks[3])


def test_tracks_are_left_out():
    left = edited(tracks(), [Edit("delete", region=(0, 0, 10, 10))])
    np.testing.assert_array_equal(left.tracks, tracks().tracks[1:])
    kept = edited(tracks(), [Edit("keep", region=(5, 5, 30, 20))])  # edges count
    np.testing.assert_array_equal(kept.tracks, tracks().tracks[:2])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Edit("turn"), "no edit 'turn': there are move, scale, still, delete, keep"),
        (lambda: Edit("move", 3.0), r"edit 'move': 'by' must be \[dx, dy\] px, got 3.0"),
        (lambda: Edit("scale"), "edit 'scale': 'by' must be a factor, got None"),
        (lambda: Edit("scale", float("nan")), "'by' must be a factor, got nan"),
        (lambda: Edit("still", 1.0), "edit 'still': takes no 'by', got 1.0"),
        (lambda: Edit("keep", region=(9, 0, 3, 4)), "x0 <= x1"),
        (
            lambda: edited(tracks(), [Edit("scale", 1.0), Edit("still", region=(0, 0, 1, 1))]),
            r"edit 2 \('still'\): no track is visible in the first frame in the region \[0, 0, 1",
        ),
        (
            lambda: edited(tracks().take(np.arange(3)), [Edit("delete")]),
            r"edit 1 \('delete'\) leaves no track",
        ),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(EditError, match=message):
        make()
