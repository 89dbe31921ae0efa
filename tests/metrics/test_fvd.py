"""FVD: the conventions of the public tools."""

import numpy as np
import pytest
from scipy import linalg

from tavid_jax.metrics.fvd import fvd


def test_stylegan_v_golden(goldens):
    file = goldens("frechet_generic")
    record = fvd(file["feat1"], file["feat2"], frames=16)
    assert record["fvd"] == pytest.approx(float(file["fd_styleganv_biased_cov"]), rel=1e-8)
    assert (record["n"], record["real"]) == (40, 50)
    assert record["settings"]["frames"] == 16
    assert record["settings"]["unbiased"] is False


def test_videogpt_is_unbiased_without_eps(goldens):
    first, second = (goldens("frechet_generic")[key] for key in ("feat1", "feat2"))
    root = linalg.sqrtm(np.cov(first.T) @ np.cov(second.T)).real
    expected = np.square(first.mean(0) - second.mean(0)).sum()
    expected += np.trace(np.cov(first.T) + np.cov(second.T) - 2 * root)
    record = fvd(first, second, convention="videogpt")
    assert record["fvd"] == pytest.approx(expected, rel=1e-8)
    assert fvd(first, first, convention="videogpt")["fvd"] == pytest.approx(0, abs=1e-6)


def test_few_videos_of_many_features():
    """Fewer videos than dimensions, as in practice: still the definition."""
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(5, 30)), rng.normal(1, 2, (6, 30))
    root = linalg.sqrtm(np.cov(first.T, bias=True) @ np.cov(second.T, bias=True)).real
    expected = np.square(first.mean(0) - second.mean(0)).sum()
    expected += np.trace(np.cov(first.T, bias=True) + np.cov(second.T, bias=True) - 2 * root)
    assert fvd(first, second)["fvd"] == pytest.approx(expected, rel=1e-5)
