"""Published factors of the squared error."""

import jax.numpy as jnp
import numpy as np
import pytest

from tavid_jax.diffusion import weighting
from tavid_jax.diffusion.levels import CosMap

SHARES = jnp.array([0.05, 0.3, 0.5, 0.9, 0.99])


@pytest.mark.parity
@pytest.mark.parametrize("name", ["sigma_sqrt", "cosmap"])
def test_diffusers_weights(name: str):
    import torch
    from diffusers.training_utils import compute_loss_weighting_for_sd3

    theirs = compute_loss_weighting_for_sd3(name, torch.tensor(SHARES.tolist()))
    np.testing.assert_allclose(getattr(weighting, name)(SHARES), theirs.numpy(), rtol=1e-5)


def test_uniform_draws_with_the_cosine_factor_are_that_density():
    found = weighting.cosmap(SHARES)
    slopes = [(CosMap().share(t + 1e-4) - CosMap().share(t - 1e-4)) / 2e-4 for t in SHARES.tolist()]
    np.testing.assert_allclose(found, slopes, rtol=1e-3)


def test_the_bell_of_wans_public_trainers():
    """Numbers of the trainer's own table, at shift 5."""
    shares = jnp.array([1.0, 5000 / 6000, 0.5, 0.004980, 0.98])
    found = weighting.bell(shares)
    np.testing.assert_allclose(found[:2], [0.0, 1.025], atol=1e-3)
    np.testing.assert_allclose(found[2:4], [2.076, 0.03], atol=5e-3)
    even = jnp.linspace(1.0, 0.0, 1001)[:-1]
    for shift in (1.0, 5.0, 12.0):
        levels = shift * even / (1 + (shift - 1) * even)
        np.testing.assert_allclose(weighting.bell(levels, shift).mean(), 1.0, rtol=1e-4)


def test_data_that_are_nearly_clean_count_more_but_not_without_end():
    np.testing.assert_allclose(weighting.low_noise(jnp.array([0.0, 0.8])), [5.0, 1.0], rtol=1e-6)
    assert float(weighting.sigma_sqrt(jnp.zeros(1))[0]) == pytest.approx(1e6)
