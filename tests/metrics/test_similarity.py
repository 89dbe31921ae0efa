"""TrajErr and TrajSIM: stored values of the definitions, invariances, masks."""

import math

import numpy as np
import pytest

from tavid_jax.metrics.similarity import trajectory_error, trajectory_similarity


@pytest.fixture
def stored(goldens):
    return goldens("track_and_vbench_aggregation")


def tracks(stored) -> list[np.ndarray]:
    return [stored[key][None] for key in ("pred", "gt", "vis")]


@pytest.mark.parametrize(("unit", "name"), [("axes", "wh"), ("diagonal", "diag")])
def test_stored_error(stored, unit, name):
    record = trajectory_error(*tracks(stored), (480, 832), unit=unit)
    expected = float(stored[f"trajerr_norm_{name}"])
    assert record["trajectory_error"] == pytest.approx(expected, rel=1e-9)
    assert record["per_clip"] == [pytest.approx(expected, rel=1e-9)]


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
    nothing = np.zeros_like(seen)
    assert math.isnan(trajectory_error(prediction, truth, nothing, (4, 4))["trajectory_error"])
    for of in ("path", "velocity"):
        record = trajectory_similarity(prediction, truth, nothing, of=of)
        assert math.isnan(record["trajectory_similarity"]) and record["n"] == 0
