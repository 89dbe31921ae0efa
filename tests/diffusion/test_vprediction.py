"""CogVideoX's noise schedule and v-prediction: published numbers, diffusers, and identities."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tavid_jax.diffusion import vprediction

# a_t of the released configs, to the digits given.
PUBLISHED = {
    1.0: {
        0: 0.99915,
        1: 0.9982334461,
        19: 0.9810104569,
        100: 0.8867612845,
        250: 0.6524570153,
        500: 0.2410187828,
        750: 0.0327991131,
        979: 8.578784e-5,
        998: 1.967888e-7,
    },
    3.0: {0: 0.9974543276, 19: 0.9465729792, 500: 0.0953281009},
}
SHAPE = (5, 2, 3, 4)


def normal(seed: int, *shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def predicted_x0(x_t: jax.Array, v: jax.Array, alphas: jax.Array) -> jax.Array:
    a = alphas.reshape(-1, *[1] * (x_t.ndim - 1))
    return jnp.sqrt(a) * x_t - jnp.sqrt(1 - a) * v


def levels(*steps: int, snr_shift: float = 1.0) -> jax.Array:
    return jnp.asarray(vprediction.zero_snr_alphas(snr_shift)[list(steps)], jnp.float32)


@pytest.mark.parametrize("snr_shift", PUBLISHED)
def test_the_published_numbers(snr_shift: float):
    alphas = vprediction.zero_snr_alphas(snr_shift)
    assert alphas.shape == (1000,) and alphas.dtype == np.float64
    expected = PUBLISHED[snr_shift]
    # Half a unit of the last digit that is given.
    np.testing.assert_allclose(alphas[list(expected)], list(expected.values()), rtol=3e-7)
    assert alphas[-1] == 0.0
    assert np.all(np.diff(alphas) < 0)


def test_a_shift_of_one_changes_nothing_and_more_is_noisier():
    assert np.all(vprediction.zero_snr_alphas(3)[1:-1] < vprediction.zero_snr_alphas(1)[1:-1])
    np.testing.assert_array_equal(vprediction.zero_snr_alphas(), vprediction.zero_snr_alphas(1))


@pytest.mark.parity
@pytest.mark.parametrize("snr_shift", PUBLISHED)
def test_diffusers_scheduler(snr_shift: float):
    """Its tables, noisy states and targets."""
    torch = pytest.importorskip("torch")
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.CogVideoXDDIMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        snr_shift_scale=snr_shift,
        timestep_spacing="trailing",
        clip_sample=False,
    )
    np.testing.assert_allclose(
        vprediction.zero_snr_alphas(snr_shift),
        scheduler.alphas_cumprod.double().numpy(),
        rtol=1e-9,
        atol=1e-12,
    )
    steps = (0, 19, 500, 998, 999)
    x0, noise = normal(0, *SHAPE), normal(1, *SHAPE)
    given = [torch.from_numpy(np.array(x)) for x in (x0, noise)]
    alphas = levels(*steps, snr_shift=snr_shift)
    for ours, theirs in (
        (vprediction.add_noise, scheduler.add_noise),
        (vprediction.velocity_target, scheduler.get_velocity),
    ):
        np.testing.assert_allclose(
            ours(x0, noise, alphas),
            theirs(*given, torch.tensor(steps)).numpy(),
            rtol=1e-5,
            atol=1e-6,
        )


def test_the_last_step_is_pure_noise():
    x0, noise = normal(2, 1, 3), normal(3, 1, 3)
    alpha = levels(999)
    np.testing.assert_array_equal(vprediction.add_noise(x0, noise, alpha), noise)
    np.testing.assert_array_equal(vprediction.velocity_target(x0, noise, alpha), -x0)


def test_the_data_come_back():
    x0, noise, alphas = normal(4, *SHAPE), normal(5, *SHAPE), levels(0, 19, 500, 998, 999)
    x_t = vprediction.add_noise(x0, noise, alphas)
    v = vprediction.velocity_target(x0, noise, alphas)
    np.testing.assert_allclose(predicted_x0(x_t, v, alphas), x0, atol=1e-6)


def test_weighted_error_of_the_data_is_the_error_of_v():
    """CogVideoX's loss as it is published, 1 / (1 - a) (x0^ - x0)^2, is the squared error of v."""
    x0, noise, alphas = normal(6, *SHAPE), normal(7, *SHAPE), levels(19, 100, 500, 998, 999)
    x_t = vprediction.add_noise(x0, noise, alphas)
    target = vprediction.velocity_target(x0, noise, alphas)
    guess = target + normal(8, *SHAPE)
    error = predicted_x0(x_t, guess, alphas) - x0
    weight = 1 / (1 - alphas).reshape(-1, 1, 1, 1)
    np.testing.assert_allclose(weight * error**2, (guess - target) ** 2, rtol=1e-4, atol=1e-5)


def test_alphas_are_looked_up_at_the_nearest_step():
    found = vprediction.alpha_at(jnp.array([0.0, 498.6, 500.4, 999.0]), 3.0)
    np.testing.assert_array_equal(found, levels(0, 499, 500, 999, snr_shift=3.0))
    assert found.dtype == jnp.float32


@pytest.mark.parametrize("function", ["add_noise", "velocity_target"])
def test_everything_is_float32(function: str):
    x = normal(9, *SHAPE).astype(jnp.bfloat16)
    out = getattr(vprediction, function)(x, normal(10, *SHAPE), levels(0, 19, 500, 998, 999))
    assert out.dtype == jnp.float32
