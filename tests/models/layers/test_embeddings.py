"""The timestep embedding at the timesteps and widths of the published transformers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tavid_jax.models.layers.embeddings import timestep_embedding

WIDTHS = [16, 256, 512, 1920, 3072]


def timesteps(seed=0) -> np.ndarray:
    """Every integer up to 1000 and some fractions."""
    fractions = 1000 * np.random.default_rng(seed).random(200)
    return np.concatenate([np.arange(1001), fractions]).astype(np.float32)


@pytest.mark.parametrize("dim", WIDTHS)
def test_against_float64(dim):
    t = timesteps()
    angles = t.astype(np.float64)[:, None] * 10000.0 ** (-np.arange(dim // 2) / (dim // 2))
    want = np.concatenate([np.cos(angles), np.sin(angles)], axis=-1)
    # An angle of 1000 is itself known to 3e-5 in float32, and so is its frequency.
    np.testing.assert_allclose(timestep_embedding(jnp.asarray(t), dim), want, atol=1e-4)


@pytest.mark.parity
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("dim", WIDTHS)
def test_equals_diffusers(dim, seed):
    """Frequencies differ in about one of a hundred, by one unit in the last place."""
    embeddings = pytest.importorskip("diffusers.models.embeddings")
    import torch

    t = timesteps(seed)
    want = embeddings.Timesteps(dim, flip_sin_to_cos=True, downscale_freq_shift=0)(torch.tensor(t))
    error = np.abs(timestep_embedding(jnp.asarray(t), dim) - want.numpy())
    assert error.max() < 7e-5
    assert np.sqrt(np.mean(error**2)) < 2e-6
    assert np.mean(error > 1e-6) < 0.01


def test_any_shape_and_integers():
    t = jnp.asarray([[0, 999, 17], [250, 3, 1]])
    whole = timestep_embedding(t, 32)
    assert whole.shape == (2, 3, 32) and whole.dtype == jnp.float32
    np.testing.assert_array_equal(whole, timestep_embedding(t.astype(jnp.float32), 32))
    np.testing.assert_array_equal(timestep_embedding(t[0, 1], 32), whole[0, 1])
    np.testing.assert_array_equal(whole[0, 0], [1.0] * 16 + [0.0] * 16)  # cosines come first


def test_compiled_equals_eager():
    t = jnp.asarray(timesteps())
    compiled = jax.jit(timestep_embedding, static_argnums=1)(t, 64)
    np.testing.assert_allclose(compiled, timestep_embedding(t, 64), atol=2e-7)


@pytest.mark.parametrize("dim", [0, 7])
def test_odd_width_is_refused(dim):
    with pytest.raises(ValueError, match=f"even width, got {dim}"):
        timestep_embedding(jnp.zeros(2), dim)
