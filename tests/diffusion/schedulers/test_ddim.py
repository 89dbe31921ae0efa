"""CogVideoX's DDIM against diffusers and the exact flow of a Gaussian."""

import numpy as np
import pytest

from tavid_jax.diffusion.schedulers.ddim import ddim

STEPS = (1, 6, 10, 30, 50, 7, 37, 99)


@pytest.mark.parity
@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("snr_shift", [1.0, 3.0])
def test_diffusers(steps, snr_shift):
    pytest.importorskip("diffusers")
    from tests.diffusion.schedulers import peers

    sampler = ddim(steps, snr_shift=snr_shift)
    peers.assert_equal_runs(lambda: peers.ddim_peer(steps, snr_shift), sampler, seed=steps)


def gaussian_error(steps: int, spread: float = 0.3) -> float:
    """Data N(0, spread^2): probability flow maps noise x to exactly spread * x."""
    sampler = ddim(steps)
    x = 1.0
    for i in range(steps):
        alpha, sigma = sampler.alphas[i], sampler.sigmas[i]
        x0 = alpha * spread**2 * x / (alpha**2 * spread**2 + sigma**2)
        x = sampler.table["x"][i] * x + sampler.table["x0"][i] * x0
    return abs(x - spread)


def test_first_order():
    orders = [np.log2(gaussian_error(n) / gaussian_error(2 * n)) for n in (50, 125)]
    assert all(0.7 < order < 1.3 for order in orders), orders
