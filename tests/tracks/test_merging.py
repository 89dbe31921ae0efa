"""Forward and reverse runs become one set; the golden is in test_condition_videos."""

import numpy as np
import pytest

from tavid_jax.tracks.merging import merge_two_way
from tavid_jax.tracks.trajectories import Trajectories, TrajectoryError


def grid_runs():
    """Everything moves 20 px to the right on a grid of 3 points: the left one is new at the end."""
    grid = np.array([[10, 10], [30, 10], [50, 10]], np.float32)
    move = np.array([[0, 0], [20, 0]], np.float32)
    forward = grid[:, None] + move
    reverse = grid[:, None] + move - move[-1]
    seen = np.ones((3, 2), bool)
    return Trajectories(forward, seen, (20, 60)), Trajectories(reverse, seen, (20, 60))


def test_both_rules_add_what_no_forward_track_ends_near():
    forward, reverse = grid_runs()
    for rule in ("forward_file", "positions"):
        merged = merge_two_way(forward, reverse, rule)
        assert merged.num_points == 4
        np.testing.assert_array_equal(merged.tracks[3], reverse.tracks[0])
    assert merge_two_way(forward, reverse, distance=20).num_points == 3


def test_only_positions_reads_the_reverse_run():
    forward, reverse = grid_runs()
    moved = reverse.replace(tracks=reverse.tracks + np.float32(12))
    by_file = merge_two_way(forward, moved)
    np.testing.assert_array_equal(by_file.tracks[3:], moved.tracks[:1])
    assert merge_two_way(forward, moved, "positions").num_points == 6
    fewer = reverse.take(np.array([0]))
    assert merge_two_way(forward, fewer, "positions").num_points == 4
    with pytest.raises(TrajectoryError, match="use rule 'positions'"):
        merge_two_way(forward, fewer)


def test_texts_follow_their_points():
    forward, reverse = grid_runs()
    assert merge_two_way(forward, reverse).texts is None
    said = reverse.replace(texts=("a", "b", "c"))
    assert merge_two_way(forward, said).texts == ("", "", "", "a")
    assert merge_two_way(forward.replace(texts=("x", "y", "z")), reverse).texts == (
        "x",
        "y",
        "z",
        "",
    )


def test_refusals():
    forward, reverse = grid_runs()
    with pytest.raises(TrajectoryError, match="num_frames: forward tracks have 2"):
        merge_two_way(forward, reverse.window(0, 1))
    with pytest.raises(TrajectoryError, match="segment: only one of"):
        merge_two_way(forward.replace(segment=np.zeros(3, int)), reverse)
    with pytest.raises(TrajectoryError, match="segment 2 does not exist"):
        merge_two_way(
            forward.replace(segment=np.zeros(3, int), segments=1),
            reverse.replace(segment=np.full(3, 2), segments=2),
        )
    with pytest.raises(TrajectoryError, match="no rule 'best'"):
        merge_two_way(forward, reverse, "best")
