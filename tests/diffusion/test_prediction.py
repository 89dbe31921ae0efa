"""A network that knows the data gives them back through every sampler's velocity."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tavid_jax.diffusion import vprediction
from tavid_jax.diffusion.prediction import check_predicts, v_of_data, velocity_of_data
from tavid_jax.diffusion.schedulers.registry import make_sampler

SHAPE = (3, 2, 4, 5)


def normal(seed: int, *shape: int) -> jax.Array:
    return jax.random.normal(jax.random.key(seed), shape)


@pytest.mark.parametrize(
    ("family", "name", "options"),
    [
        ("wan", "euler", dict(shift=1.0)),
        ("wan", "euler", dict(shift=4.0)),
        ("wan", "unipc", dict(shift=5.0)),
        ("cogvideox", "ddim", {}),
        ("cogvideox", "ddim", dict(snr_shift=3.0)),
        ("cogvideox", "dpm", {}),
    ],
)
@pytest.mark.parametrize("steps", [1, 12])
def test_samplers_arrive_at_the_data(family: str, name: str, options: dict, steps: int):
    data, state_of = normal(0, *SHAPE), make_sampler(name, steps, family=family, **options)
    state = state_of.init(normal(1, *SHAPE))
    for index in range(steps):
        row = state_of.row(index)
        told = jnp.full(SHAPE[0], row["timestep"])
        if family == "wan":
            # The exact level; UniPC tells the model a rounded one.
            v = velocity_of_data(state.x, data, jnp.full(SHAPE[0], state_of.sigmas[index]))
        else:
            v = v_of_data(state.x, data, vprediction.alpha_at(told, options.get("snr_shift", 1.0)))
        np.testing.assert_allclose(state_of.x0_of(state.x, row, v), data, atol=2e-5)
        noise = normal(2 + index, *SHAPE) if state_of.needs_noise else None
        state = state_of.step(state, row, v, noise)
    np.testing.assert_allclose(state.x, data, atol=2e-5)


def test_the_velocity_of_true_data_is_that_of_training():
    data, noise = normal(0, *SHAPE), normal(1, *SHAPE)
    sigma = jnp.array([0.002, 0.5, 1.0])
    share = sigma.reshape(-1, 1, 1, 1)
    found = velocity_of_data((1 - share) * data + share * noise, data, sigma)
    np.testing.assert_allclose(found, noise - data, atol=5e-4)
    alpha = jnp.asarray(vprediction.zero_snr_alphas()[[0, 500, 999]], jnp.float32)
    found = v_of_data(vprediction.add_noise(data, noise, alpha), data, alpha)
    np.testing.assert_allclose(found, vprediction.velocity_target(data, noise, alpha), atol=5e-5)


def test_no_noise_is_finite_and_half_precision_becomes_float32():
    data, state = normal(0, *SHAPE).astype(jnp.bfloat16), normal(1, *SHAPE).astype(jnp.bfloat16)
    ends = jnp.array([0.0, 0.5, 1.0])
    for found in (velocity_of_data(state, data, ends), v_of_data(state, data, 1 - ends)):
        assert found.dtype == jnp.float32 and np.all(np.isfinite(found))
    floored = velocity_of_data(state, data, ends, floor=0.25)
    difference = state.astype(jnp.float32) - data.astype(jnp.float32)
    np.testing.assert_allclose(floored[0], difference[0] / 0.25, rtol=1e-6)
    np.testing.assert_allclose(floored[1], difference[1] / 0.5, rtol=1e-6)


def test_other_predictions_are_refused():
    with pytest.raises(ValueError, match="model.predicts 'noise' is none of velocity, data"):
        check_predicts("noise")
