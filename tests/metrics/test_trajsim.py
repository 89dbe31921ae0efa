"""TrajSIM: stored values of the definitions, invariances, matching, masks."""

import math

import numpy as np
import pytest

from tavid_jax.metrics.trajsim import (
    set_similarity,
    similarity_of_sets,
    trajectory_similarity,
)


@pytest.fixture
def stored(goldens):
    return goldens("track_and_vbench_aggregation")


def tracks(stored) -> list[np.ndarray]:
    return [stored[key][None] for key in ("pred", "gt", "vis")]


@pytest.mark.parametrize(("of", "name"), [("path", "path_cos"), ("velocity", "velocity_cos")])
def test_stored_similarity(stored, of, name):
    record = trajectory_similarity(*tracks(stored), of=of)
    expected = float(stored[f"trajsim_{name}"])
    assert record["trajectory_similarity"] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("of", ["path", "velocity"])
def test_shift_and_scale_keep_the_similarity(stored, of):
    _, truth, seen = tracks(stored)
    record = trajectory_similarity(3 * truth + [5.0, -7.0], truth, seen, of=of)
    assert record["trajectory_similarity"] == pytest.approx(1)
    against = trajectory_similarity(-truth, truth, seen, of=of)
    assert against["trajectory_similarity"] == pytest.approx(-1)


def test_nothing_visible_is_nan(stored):
    prediction, truth, seen = tracks(stored)
    for of in ("path", "velocity"):
        record = trajectory_similarity(prediction, truth, np.zeros_like(seen), of=of)
        assert math.isnan(record["trajectory_similarity"]) and record["n"] == 0


def turning(seed: int = 0, points: int = 40, frames: int = 7) -> np.ndarray:
    """Random points of a disc that turns by 8 degrees a frame, in float64."""
    first = 30 * np.random.default_rng(seed).uniform(-1, 1, (points, 2))
    angle = np.radians(8) * np.arange(frames)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return np.einsum("ijt,nj->nti", turn, first)


def everything(tracks: np.ndarray) -> np.ndarray:
    return np.ones(tracks.shape[:2], bool)


def test_place_size_and_order_do_not_matter():
    condition = turning()
    other = (2.5 * condition + [70, -20])[::-1].copy()
    found = set_similarity(condition, everything(condition), other, everything(other))
    assert found.value == pytest.approx(1, abs=1e-6) and found.matched == 1
    assert found.cosines.shape == (40,)
    # Other points of the same motion are near enough to tell it.
    dense = turning(1, 400)
    found = set_similarity(condition, everything(condition), dense, everything(dense))
    assert 0.9 < found.value < 1


def test_the_opposite_motion_and_none():
    condition = turning()
    back = 2 * condition[:, :1] - condition
    found = set_similarity(condition, everything(condition), back, everything(back))
    assert found.value == pytest.approx(-1, abs=1e-6)
    still = np.broadcast_to(condition[:, :1], condition.shape)
    found = set_similarity(condition, everything(condition), still, everything(still))
    assert found.value == 0 and found.matched == 1


def test_a_cosine_by_hand():
    """Two points; in boxes of diagonal 10 the ways are (1, 0) and (1, 1) in the last frame."""
    condition = np.zeros((2, 2, 2))
    condition[1] += [6, 8]
    generated = condition.copy()
    condition[:, 1] += [10, 0]
    generated[:, 1] += [10, 10]
    found = set_similarity(condition, everything(condition), generated, everything(generated))
    assert found.value == pytest.approx(1 / math.sqrt(2), abs=1e-6)
    # The same, told which point is which.
    found = set_similarity(
        condition,
        everything(condition),
        generated,
        everything(generated),
        same_points_of=(30, 40),
    )
    assert found.value == pytest.approx(1 / math.sqrt(2), abs=1e-6)


def test_far_and_hidden_points_are_no_partners():
    """Corners of a square and its middle, all pushed aside; the generated set has no middle."""
    first = np.array([[0, 0], [8, 0], [0, 8], [8, 8], [4, 4]], np.float64)
    condition = np.stack([first, first + [5, 0]], axis=1)
    corners, seen = condition[:4], np.ones((4, 2), bool)
    found = set_similarity(condition, everything(condition), corners, seen)
    assert found.matched == 4 / 5 and np.isnan(found.cosines[4])
    assert found.value == pytest.approx(1, abs=1e-6)
    near = set_similarity(condition, everything(condition), corners, seen, far=0.6)
    assert near.matched == 1
    seen[0, 0] = False  # the box around the other three is the same
    found = set_similarity(condition, everything(condition), corners, seen)
    assert found.matched == 3 / 5 and np.isnan(found.cosines[0])


def test_what_hardly_moves_and_what_is_hidden_at_first_do_not_count():
    condition = turning()
    condition[3] = condition[3, :1]
    seen = everything(condition)
    seen[5, 0] = False
    found = set_similarity(condition, seen, condition, everything(condition))
    assert np.flatnonzero(np.isnan(found.cosines)).tolist() == [3, 5]
    assert found.value == pytest.approx(1, abs=1e-6) and found.matched == 1
    still = np.broadcast_to(condition[:, :1], condition.shape).copy()
    nothing = set_similarity(still, everything(still), condition, everything(condition))
    assert math.isnan(nothing.value) and math.isnan(nothing.matched)


def test_losing_the_points_does_not_help():
    condition, lost = turning(), everything(turning())
    lost[:20, 1:] = False
    found = set_similarity(condition, everything(condition), condition, lost)
    assert found.value == pytest.approx(0.5, abs=1e-6)


def test_no_box_is_nan():
    condition = turning()
    one, seen = condition[:1], everything(condition[:1])
    assert math.isnan(set_similarity(condition, everything(condition), one, seen).value)
    assert math.isnan(set_similarity(one, np.zeros_like(seen), one, seen).value)


def test_a_data_set():
    condition = turning()
    same = set_similarity(condition, everything(condition), condition, everything(condition))
    none = set_similarity(
        condition, everything(condition), condition[:1], everything(condition[:1])
    )
    record = similarity_of_sets([same, none])
    assert record["trajectory_similarity"] == pytest.approx(1, abs=1e-6)
    assert record["n"] == 1 and math.isnan(record["per_clip"][1])
    assert record["settings"]["definition"] == "tavid_jax"


def test_different_lengths_are_named():
    condition = turning()
    with pytest.raises(ValueError, match="7 frames, the generated tracks 5"):
        short = condition[:, :5]
        set_similarity(condition, everything(condition), short, everything(short))
