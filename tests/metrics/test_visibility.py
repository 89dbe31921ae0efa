"""Scores of predicted visibility."""

import math

import numpy as np
import pytest

from tavid_jax.metrics.visibility import visibility_scores


def flags(*rows: str) -> np.ndarray:
    """("1100", ...) -> bool (C, 1, T), one row per clip."""
    return np.array([[[c == "1" for c in row]] for row in rows])


def test_counts_by_hand():
    # hits 2, false alarms 1, misses 3, rejections 2
    scores = visibility_scores(flags("1110", "0000"), flags("1101", "1100"))
    assert scores["accuracy"] == pytest.approx(4 / 8)
    assert scores["precision"] == pytest.approx(2 / 3)
    assert scores["recall"] == pytest.approx(2 / 5)
    assert scores["f1"] == pytest.approx(2 * (2 / 3) * (2 / 5) / (2 / 3 + 2 / 5))
    assert scores["base_rate"] == pytest.approx(5 / 8)
    assert scores["accuracy_per_clip"] == [0.5, 0.5]
    assert scores["f1_per_clip"] == [pytest.approx(4 / 6), 0.0]
    assert scores["n"] == 8


def test_perfect_prediction():
    truth = flags("1010")
    scores = visibility_scores(truth, truth)
    assert [scores[k] for k in ("accuracy", "precision", "recall", "f1")] == [1.0] * 4


def test_always_visible_has_the_base_rate_as_accuracy():
    truth = np.random.default_rng(0).random((2, 5, 7)) < 0.8
    scores = visibility_scores(np.ones_like(truth), truth)
    assert scores["accuracy"] == scores["base_rate"] == pytest.approx(truth.mean())


def test_samples_that_do_not_count():
    scores = visibility_scores(flags("1110"), flags("1001"), valid=flags("1001"))
    assert scores["n"] == 2 and scores["accuracy"] == 0.5
    assert scores["precision"] == 1.0 and scores["recall"] == 0.5


def test_ratio_without_a_case_is_nan():
    scores = visibility_scores(flags("0000"), flags("0000"))
    assert scores["accuracy"] == 1.0
    assert all(math.isnan(scores[k]) for k in ("precision", "recall", "f1"))
    nothing = visibility_scores(flags("1"), flags("1"), valid=flags("0"))
    assert math.isnan(nothing["accuracy"]) and nothing["n"] == 0
