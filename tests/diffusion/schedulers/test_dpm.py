"""CogVideoX's DPM against diffusers on its own noise, published factors, and what it samples."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tavid_jax.diffusion.denoise import denoise
from tavid_jax.diffusion.schedulers.dpm import dpm


@pytest.mark.parity
@pytest.mark.parametrize("steps", [1, 2, 3, 6, 7, 10, 30, 37, 50, 99])
@pytest.mark.parametrize("snr_shift", [1.0, 3.0])
def test_diffusers(steps, snr_shift):
    pytest.importorskip("diffusers")
    from tests.diffusion.schedulers import peers

    peers.assert_equal_runs(
        lambda: peers.dpm_peer(steps, snr_shift),
        dpm(steps, snr_shift=snr_shift),
        seed=steps,
        noise=peers.replayed_noise(steps, seed=steps),
    )


@pytest.mark.parametrize(
    ("index", "factors"),
    [
        (1, (0.4780604, 0.0149410, 1, 0, 0.8781245)),
        (2, (0.6377555, 0.0180012, 1.3046099, 0.3046099, 0.7697397)),
        (25, (0.9129937, 0.0701070, 1.4909493, 0.4909493, 0.3138567)),
        (48, (0.4728117, 0.5271371, 1.8062950, 0.8062950, 0.1005311)),
        (49, (0, 1, 1, 0, 0)),
    ],
)
def test_published_factors(index, factors):
    table = dpm(50).table
    ours = [table[name][index] for name in ("x", "x0", "k_here", "k", "noise")]
    np.testing.assert_allclose(ours, factors, atol=6e-8)


def test_the_ends():
    sampler = dpm(50)
    first = {name: column[0] for name, column in sampler.table.items()}
    alpha, sigma = sampler.alphas[1], sampler.sigmas[1]
    assert first["x"] == 0 and first["k"] == 0
    # From pure noise: the data and new noise in the shares of the next level.
    np.testing.assert_allclose([first["x0"], first["noise"]], [alpha, sigma], rtol=1e-14)


def test_the_spread_of_gaussian_data_is_sampled():
    spread, sampler = 0.5, dpm(50)
    alphas, sigmas = (jnp.asarray(a, jnp.float32) for a in (sampler.alphas, sampler.sigmas))

    def predict(x, timestep, row):
        alpha, sigma = alphas[row["index"]], sigmas[row["index"]]
        x0 = alpha * spread**2 * x / (alpha**2 * spread**2 + sigma**2)
        return (alpha * x - x0) / sigma

    keys = jax.random.split(jax.random.key(0), 2)
    x = jax.random.normal(jax.random.key(1), (2, 20_000))
    out = jax.jit(lambda x: denoise(predict, sampler, x, noise=keys).x)(x)
    assert abs(float(out.std()) - spread) < 0.02  # 50 steps, not infinitely many
    # The start is forgotten: its noise was replaced step by step.
    assert abs(float((out * x).mean())) < 0.01


def test_a_step_without_noise():
    sampler = dpm(3)
    x = jnp.ones((1, 2))
    with pytest.raises(ValueError, match="sampler dpm is stochastic"):
        sampler.step(sampler.init(x), sampler.row(0), x)
