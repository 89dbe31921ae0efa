"""Makes the helpers beside the tests importable and gives small random models."""

import sys
from pathlib import Path

import jax
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="module", autouse=True)
def _quick_compilation():
    """These tests compile a lot and compute little."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture
def rng() -> np.random.Generator:
    """Seeded numpy randomness."""
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def randomised():
    """Adds noise to every parameter, so that branches which start at zero are exercised."""

    @jax.jit
    def add(params, scale: float = 0.3):
        leaves, tree = jax.tree.flatten(params)
        keys = jax.random.split(jax.random.key(7), len(leaves))
        noisy = [
            a + scale * a.shape[-1:][0] ** -0.5 * jax.random.normal(k, a.shape)
            if a.ndim
            else a + 0.1
            for a, k in zip(leaves, keys, strict=True)
        ]
        return jax.tree.unflatten(tree, noisy)

    return add


@pytest.fixture(scope="session")
def relative_error():
    """max |got - want| / rms(want)."""

    def measure(got, want) -> float:
        got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
        assert got.shape == want.shape
        return float(np.abs(got - want).max() / np.sqrt(np.mean(want**2)))

    return measure
