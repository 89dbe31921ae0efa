"""Texts of trajectories; other fields are tested where they are read."""

import numpy as np
import pytest

from tavid_jax.tracks.trajectories import Trajectories, TrajectoryError, joined_texts

BARE = Trajectories(np.zeros((2, 5, 2), np.float32), np.ones((2, 5), bool), (8, 8))


def test_texts_are_kept_without_the_space_around_them():
    made = BARE.replace(texts=(" a red\tcat ", "\n"))
    assert made.texts == ("a red\tcat", "")
    assert made.window(1, 2).texts == made.texts
    assert made.take(np.array([1, 0, 0])).texts == ("", "a red\tcat", "a red\tcat")
    assert made.take(np.array([False, True])).texts == ("",)


def test_joined_texts():
    made = BARE.replace(texts=("a", "b"))
    assert joined_texts(BARE, BARE) is None
    assert joined_texts(BARE, made) == ("", "", "a", "b")
    assert joined_texts(made, BARE.take(np.array([0]))) == ("a", "b", "")


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (("a", "b", "c"), "texts must be one for each of 2 points, got 3: a text needs a traj"),
        (("a",), 'for each of 2 points, got 1: .* takes ""'),
    ],
)
def test_texts_that_do_not_fit(texts, words):
    with pytest.raises(TrajectoryError, match=words):
        BARE.replace(texts=texts)
