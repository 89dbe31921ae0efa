"""Frechet distance: the public codes' values, closed forms, and agreement of its routes."""

import numpy as np
import pytest
from scipy import linalg

from tavid_jax.metrics import frechet
from tavid_jax.metrics.frechet import frechet_distance, frechet_distances


def features(seed: int, n: int, dim: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(seed, 1 + seed, (n, dim)) @ rng.normal(size=(dim, dim))


def test_golden(goldens):
    file = goldens("frechet_generic")
    first, second = file["feat1"], file["feat2"]
    distance = frechet_distance(first, second)
    assert distance == pytest.approx(float(file["fd_fvmd_eps1e5"]), rel=1e-8)
    assert distance == pytest.approx(float(file["fd_trajloom"]), rel=1e-8)
    biased = frechet_distance(first, second, eps=0.0, unbiased=False)
    assert biased == pytest.approx(float(file["fd_styleganv_biased_cov"]), rel=1e-8)


def test_one_dimension_has_a_closed_form():
    first, second = features(1, 50, 1), features(2, 60, 1)
    means = (first.mean() - second.mean()) ** 2
    spread = (first.std(ddof=1) - second.std(ddof=1)) ** 2
    assert frechet_distance(first, second, eps=0.0) == pytest.approx(means + spread, rel=1e-10)


def test_general_square_root_agrees():
    first, second = features(0, 40, 6), features(1, 30, 6)
    root = linalg.sqrtm(np.cov(first.T) @ np.cov(second.T))
    traces = np.trace(np.cov(first.T)) + np.trace(np.cov(second.T))
    means = ((first.mean(0) - second.mean(0)) ** 2).sum()
    expected = means + traces - 2 * np.trace(root).real
    assert frechet_distance(first, second, eps=0.0) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("eps", [0.0, 1e-5, 1e-2])
def test_subspace_equals_all_dimensions(eps):
    first, second = features(0, 7, 40), features(1, 9, 40)
    full = frechet_distance(first, second, eps=eps, root="eigen")
    low = frechet_distance(first, second, eps=eps, root="subspace")
    assert low == pytest.approx(full, rel=1e-7)
    assert frechet_distance(first, second, eps=eps) == low  # few features: auto takes it


def test_nuclear_norm_is_exact_without_eps():
    first, second = features(0, 7, 40), features(1, 9, 40)
    exact = frechet_distance(first, second, eps=0.0, root="subspace")
    assert frechet_distance(first, second, root="nuclear") == pytest.approx(exact, rel=1e-8)


def test_many_features_use_all_dimensions():
    first, second = features(0, 30, 5), features(1, 30, 5)
    assert frechet_distance(first, second) == frechet_distance(first, second, root="eigen")


def test_equal_sets_give_minus_two_eps_per_dimension():
    first = features(0, 6, 300)
    assert frechet_distance(first, first) == pytest.approx(-2 * 1e-5 * 300, rel=1e-3)


def test_symmetric():
    first, second = features(0, 8, 12), features(1, 20, 12)
    assert frechet_distance(first, second) == pytest.approx(
        frechet_distance(second, first), rel=1e-9
    )


def test_float32_features_are_summed_in_float64():
    first = (features(0, 20, 4) + 1e4).astype(np.float32)
    second = (features(1, 20, 4) + 1e4).astype(np.float32)
    expected = frechet_distance(first.astype(np.float64), second.astype(np.float64))
    assert frechet_distance(first, second) == expected


def test_bad_inputs_are_named():
    good = features(0, 5, 3)
    with pytest.raises(ValueError, match="second set has 1 feature"):
        frechet_distance(good, good[:1])
    with pytest.raises(ValueError, match="3 and 2 dimensions"):
        frechet_distance(good, good[:, :2])
    broken = good.copy()
    broken[0, 0] = np.inf
    with pytest.raises(ValueError, match="first set holds values that are not finite"):
        frechet_distance(broken, good)


@pytest.mark.parametrize("rows", [8, 30], ids=["some thin", "all full"])
def test_choices_of_columns_are_distances_of_the_columns(rows, monkeypatch):
    monkeypatch.setattr(frechet, "ROWS", 7)  # the last block is not full
    first, second = features(0, rows, 24), features(1, rows + 1, 24)
    choices = [slice(0, 10), slice(10, None), slice(None)]
    alone = [frechet_distance(first[:, own], second[:, own]) for own in choices]
    np.testing.assert_allclose(frechet_distances(first, second, choices), alone, rtol=1e-9)
