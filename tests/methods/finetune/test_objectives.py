"""What is asked of a backbone: noisy states, targets, timesteps, one key per example."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tavid_jax.diffusion import vprediction
from tavid_jax.diffusion.levels import LogitNormal, Mode
from tavid_jax.methods.finetune.objectives import (
    WEIGHTINGS,
    FlowMatching,
    VPrediction,
    objective_of,
    read_flow,
)
from tests.methods.finetune import tiny

SHAPE = (2, 3, 4, 5)
OBJECTIVES = {
    "flow": FlowMatching(3.0),
    "flow data": FlowMatching(3.0, predicts="data", weighting="low_noise", density=Mode()),
    "v": VPrediction(),
    "v shifted": VPrediction(3.0),
    "v data": VPrediction(predicts="data", density=LogitNormal()),
}


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


@pytest.mark.parametrize("kind", [FlowMatching, VPrediction])
def test_data_prediction_changes_the_target_alone(kind):
    x = latents(4)
    for published, data in zip(
        kind().noised(x, keys(4)), kind(predicts="data").noised(x, keys(4)), strict=True
    ):
        same = np.array_equal(published, data)
        assert same or np.array_equal(data, x)
    np.testing.assert_array_equal(kind(predicts="data").noised(x, keys(4)).target, x)


def loss(noised, output: jax.Array) -> np.ndarray:
    squared = jnp.square(output - noised.target).reshape(len(output), -1).mean(1)
    return np.asarray(noised.weight * squared)


def test_errors_of_data_with_their_weight_are_those_of_the_velocity():
    """CogVideoX's public trainer has 1 / (1 - a) on the data's error: the loss of v."""
    x, wrong = latents(64), 0.1 * latents(64)[::-1]
    for make, factor in (
        (VPrediction, lambda t: np.sqrt(1 - vprediction.zero_snr_alphas()[t.astype(int)])),
        (FlowMatching, lambda t: t / 1000),
    ):
        velocity = make().noised(x, keys(64))
        data = make(predicts="data", weighting="sigma_sqrt").noised(x, keys(64))
        share = jnp.asarray(factor(np.asarray(velocity.timestep)), jnp.float32)
        # x0 = a x - share v: an error of the data is share times one of the velocity.
        error = over(wrong.std() / share) * jnp.sign(wrong)
        expected = loss(velocity, velocity.target + error)
        found = loss(data, data.target + over(share) * error)
        np.testing.assert_allclose(found, expected, rtol=1e-4)
        np.testing.assert_array_equal(velocity.weight, 1)


def test_weights_by_name():
    x, sigma = latents(500), None
    for name in WEIGHTINGS:
        noised = FlowMatching(3.0, predicts="data", weighting=name).noised(x, keys(500))
        sigma = np.asarray(noised.timestep) / 1000
        expected = {
            "none": np.ones_like(sigma),
            "low_noise": 1 / (sigma + 0.2),
            "sigma_sqrt": np.maximum(sigma, 1e-3) ** -2.0,
            "cosmap": 2 / np.pi / (1 - 2 * sigma + 2 * sigma**2),
        }
        if name in expected:
            np.testing.assert_allclose(noised.weight, expected[name], rtol=1e-4)
    # The last one is the bell, with mean 1 at its own shift.
    assert abs(noised.weight.mean() - 1) < 0.1 and noised.weight.max() > 1.2 > noised.weight.std()


def test_steps_are_uniform(key_reuse_checked):
    steps = np.asarray(VPrediction().noised(jnp.zeros((20_000, 1, 1, 1, 1)), keys(20_000)).timestep)
    assert steps.min() == 0 and steps.max() == 999
    assert abs(steps.mean() - 499.5) < 6 and abs((steps < 250).mean() - 0.25) < 0.01


@pytest.mark.parametrize("name", ["flow", "v"])
def test_levels_follow_their_density_and_strata(name: str, key_reuse_checked):
    empty, kind = jnp.zeros((2000, 1, 1, 1, 1)), type(OBJECTIVES[name])
    noisier = LogitNormal(1.0, 0.3)
    options = dict(shift=1.0) if name == "flow" else {}
    t = kind(density=noisier, stratified=True, **options).noised(empty, keys(2000)).timestep
    for share in (0.1, 0.5, 0.9):
        level = 1000 * float(noisier.quantile(jnp.float32(share)))
        assert abs(np.mean(np.asarray(t) < level) - share) < 8e-3  # a step holds as much


def test_experts_have_their_part_of_another_density():
    flow = FlowMatching(12.0, (0.875, 1.0), density=LogitNormal(0.5))
    sigma = np.asarray(flow.noised(jnp.zeros((500, 1, 1, 1, 1)), keys(500)).timestep) / 1000
    assert sigma.min() >= 0.875 and len(np.unique(sigma)) > 490


def test_the_config_says_it_all():
    model = tiny.config(
        timesteps="logit_normal",
        logit_mean=0.3,
        logit_std=0.9,
        stratified=True,
        predicts="data",
        weighting="low_noise",
        shift=3.0,
    ).model
    flow = read_flow(model)
    options = ("data", "low_noise", LogitNormal(0.3, 0.9), True)
    assert flow == FlowMatching(3.0, (0.0, 1.0), *options)
    assert objective_of(tiny.method("wan t2v").backbone, flow) is flow
    assert objective_of(tiny.method("cogvideox 2b").backbone, flow) == VPrediction(3.0, *options)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (FlowMatching, dict(predicts="noise"), "model.predicts 'noise' is none of velocity, data"),
        (FlowMatching, dict(weighting="snr"), "model.weighting 'snr' is none of none, low_noise"),
        (VPrediction, dict(weighting="low_noise"), "'low_noise' is that of model.predicts='data'"),
        (VPrediction, dict(weighting="bell"), "model.weighting 'bell' is Wan's: set it to 'none'"),
        (VPrediction, dict(weighting="sigma_sqrt"), "the error of v is that of the data over"),
        (
            FlowMatching,
            dict(shift=1, levels=(0.99, 1), density=LogitNormal(-4)),
            "only a share of .* of what LogitNormal",
        ),
    ],
)
def test_what_does_not_go_together(kind, options: dict, message: str):
    with pytest.raises(ValueError, match=message):
        kind(**options)


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
