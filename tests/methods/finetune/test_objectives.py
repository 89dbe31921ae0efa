"""What is asked of a backbone: noisy states, targets, timesteps, one key per example."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tavid_jax.diffusion import vprediction
from tavid_jax.methods.finetune.objectives import FlowMatching, VPrediction

SHAPE = (2, 3, 4, 5)
OBJECTIVES = {"flow": FlowMatching(3.0), "v": VPrediction(), "v shifted": VPrediction(3.0)}


def keys(count: int, seed: int = 0) -> jax.Array:
    return jax.random.split(jax.random.key(seed), count)


def latents(count: int) -> jax.Array:
    rng = np.random.default_rng(0)
    return jnp.asarray(rng.standard_normal((count, *SHAPE)), jnp.float32)


def over(values: jax.Array) -> jax.Array:
    return values.reshape(-1, 1, 1, 1, 1)


def is_normal(noise: jax.Array) -> bool:
    noise = np.asarray(noise)
    return abs(noise.mean()) < 0.02 and abs(noise.std() - 1) < 0.02


def test_flow_lies_on_the_straight_path():
    x = latents(200)
    noised = FlowMatching(3.0).noised(x, keys(200))
    noise = noised.target + x
    assert is_normal(noise)
    sigma = over(noised.timestep / 1000)
    np.testing.assert_allclose(noised.state, (1 - sigma) * x + sigma * noise, atol=1e-5)
    # The data come back from the state and the target.
    np.testing.assert_allclose(noised.state - sigma * noised.target, x, atol=1e-5)


def test_v_is_that_of_the_schedule():
    x = latents(200)
    for snr_shift in (1.0, 3.0):
        noised = VPrediction(snr_shift).noised(x, keys(200))
        steps = np.asarray(noised.timestep)
        np.testing.assert_array_equal(steps, np.round(steps))
        assert steps.min() >= 0 and steps.max() <= 999
        alphas = vprediction.zero_snr_alphas(snr_shift)[steps.astype(int)]
        a = over(jnp.asarray(alphas, jnp.float32))
        recovered = jnp.sqrt(a) * noised.state - jnp.sqrt(1 - a) * noised.target
        np.testing.assert_allclose(recovered, x, atol=1e-5)
        noise = jnp.sqrt(1 - a) * noised.state + jnp.sqrt(a) * noised.target
        assert is_normal(noise)


@pytest.mark.parametrize("shift", [1, 3.0, 12.0])
def test_levels_are_uniform_before_the_shift(shift: float, key_reuse_checked):
    count = 4000
    timestep = FlowMatching(shift).noised(jnp.zeros((count, 1, 1, 1, 1)), keys(count)).timestep
    sigma = np.asarray(timestep, np.float64) / 1000
    uniform = np.sort(sigma / (shift - (shift - 1) * sigma))
    # Kolmogorov-Smirnov at 1 in 1000.
    assert np.abs(uniform - (np.arange(count) + 0.5) / count).max() < 1.95 / count**0.5
    assert sigma.min() >= 0 and sigma.max() <= 1


@pytest.mark.parametrize(
    ("shift", "published"), [(3.0, {937: 832.5, 374: 166.5}), (5.0, {302: 79.92, 92: 19.98})]
)
def test_the_shift_is_that_of_the_samplers(shift: float, published: dict):
    """Timesteps that Wan's samplers visit (whole numbers) and where they stand without a shift."""
    one_each = keys(20_000)
    empty = jnp.zeros((len(one_each), 1, 1, 1, 1))
    straight, shifted = (
        np.asarray(FlowMatching(s).noised(empty, one_each).timestep) for s in (1.0, shift)
    )
    order = np.argsort(straight)
    for timestep, where in published.items():
        found = np.interp(where, straight[order], shifted[order])
        assert timestep <= found < timestep + 1


def test_experts_learn_their_side_of_the_boundary():
    """Levels within a range keep the shares that they have in the whole."""
    count, boundary, shift = 4000, 0.875, 12.0
    empty = jnp.zeros((count, 1, 1, 1, 1))

    def sigmas(levels, seed):
        drawn = FlowMatching(shift, levels).noised(empty, keys(count, seed))
        return np.asarray(drawn.timestep, np.float64) / 1000

    everything = sigmas((0.0, 1.0), 0)
    high, low = sigmas((boundary, 1), 1), sigmas((0, boundary), 2)
    assert high.min() >= boundary and high.max() <= 1
    assert low.min() >= 0 and low.max() <= boundary
    for part, whole in (
        (high, everything[everything >= boundary]),
        (low, everything[everything < boundary]),
    ):
        for share in (0.1, 0.5, 0.9):
            assert abs(np.mean(part < np.quantile(whole, share)) - share) < 0.04
    # 1000 * 0.875 itself: the high-noise expert serves it.
    assert 1000 * np.float32(high.min()) >= 875


@pytest.mark.parametrize("name", OBJECTIVES)
def test_noise_belongs_to_its_example(name: str, key_reuse_checked):
    objective, x, one_each = OBJECTIVES[name], latents(6), keys(6)
    last = jax.random.clone(one_each)[4:]
    whole, part = objective.noised(x, one_each), objective.noised(x[4:], last)
    for ours, theirs in zip(part, whole, strict=True):
        np.testing.assert_array_equal(ours, theirs[4:])
    alike = objective.noised(jnp.zeros_like(x), keys(6, seed=1))
    flat = np.asarray(alike.state).reshape(6, -1)
    assert len(np.unique(flat[:, 0])) == 6 and len(np.unique(alike.timestep)) > 1


@pytest.mark.parametrize("name", OBJECTIVES)
def test_latents_of_any_type_become_float32(name: str):
    noised = OBJECTIVES[name].noised(latents(2).astype(jnp.bfloat16), keys(2))
    assert {part.dtype for part in noised} == {jnp.dtype("float32")}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(shift=0.0), "model.shift 0.0 must be above 0"),
        (dict(levels=(0.9, 0.5)), r"model.levels \(0.9, 0.5\): give the lowest and the highest"),
        (dict(levels=(0, 875)), "from 0 to 1"),
    ],
)
def test_bad_levels(options: dict, message: str):
    with pytest.raises(ValueError, match=message):
        FlowMatching(**options)
