"""Densities of noise levels: their shares, diffusers' draws, ranges and strata."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tavid_jax.diffusion import levels
from tavid_jax.diffusion.levels import CosMap, LogitNormal, Mode, Uniform, draw, make_density

DENSITIES = {
    "uniform": Uniform(),
    "logit_normal": LogitNormal(),
    "noisy": LogitNormal(0.7, 0.5),
    "mode": Mode(),
    "ends": Mode(-0.8),
    "cosmap": CosMap(),
}
EACH = pytest.mark.parametrize("name", DENSITIES)


def keys(count: int, seed: int = 0) -> jax.Array:
    return jax.random.split(jax.random.key(seed), count)


@EACH
def test_quantiles_and_shares_are_inverse(name: str):
    density = DENSITIES[name]
    u = np.linspace(0.02, 0.98, 13)
    quantiles = np.asarray(density.quantile(jnp.asarray(u, jnp.float32)))
    assert np.all(np.diff(quantiles) > 0)
    np.testing.assert_allclose([density.share(float(t)) for t in quantiles], u, atol=2e-6)
    assert density.share(0) == 0 and density.share(1) == 1
    ends = np.asarray(density.quantile(jnp.array([0.0, 1.0])))
    np.testing.assert_allclose(ends, [0, 1], atol=1e-6)


def test_densities_are_those_of_their_formulas():
    """The slope of the share: at t = 0.3, and at the middle."""

    def slope(density, t: float) -> float:
        return (density.share(t + 1e-4) - density.share(t - 1e-4)) / 2e-4

    logit, t = np.log(0.3 / 0.7), 0.3
    normal = np.exp(-0.5 * ((logit - 0.7) / 0.5) ** 2) / (0.5 * np.sqrt(2 * np.pi))
    np.testing.assert_allclose(slope(DENSITIES["noisy"], t), normal / (0.3 * 0.7), rtol=1e-4)
    for t in (0.3, 0.5):
        cosine = 2 / (np.pi * (1 - 2 * t + 2 * t**2))
        np.testing.assert_allclose(slope(CosMap(), t), cosine, rtol=1e-6)
    # The mode density's maximum is in the middle, 1 / (1 + s - s pi / 2).
    np.testing.assert_allclose(slope(Mode(1.29), 0.5), 1 / (1 + 1.29 - 1.29 * np.pi / 2), rtol=1e-4)
    # A cosine schedule with uniform times has the noise-to-signal ratio tan(pi u / 2).
    u = jnp.linspace(0.1, 0.9, 5)
    found = CosMap().quantile(u)
    np.testing.assert_allclose(found / (1 - found), jnp.tan(0.5 * jnp.pi * u), rtol=1e-5)


@pytest.mark.parity
@pytest.mark.parametrize("name", ["uniform", "logit_normal", "mode"])
def test_diffusers_draws(name: str):
    """Its density of SD3 trainings, from the same random numbers."""
    import torch
    from diffusers.training_utils import compute_density_for_timestep_sampling

    options = dict(logit_mean=0.4, logit_std=0.8, mode_scale=1.29)

    def seeded() -> torch.Generator:
        return torch.Generator().manual_seed(0)

    theirs = compute_density_for_timestep_sampling(name, 500, **options, generator=seeded())
    if name == "logit_normal":
        drawn = torch.normal(0.4, 0.8, (500,), generator=seeded())
        u = jax.scipy.special.ndtr((jnp.asarray(drawn.numpy()) - 0.4) / 0.8)
    else:
        u = jnp.asarray(torch.rand((500,), generator=seeded()).numpy())
        # It runs the other way, which changes no distribution.
        u = 1 - u if name == "mode" else u
    ours = make_density(name, **options).quantile(u)
    np.testing.assert_allclose(ours, theirs.numpy(), atol=2e-5)


@pytest.mark.parity
def test_diffusers_trainers_look_levels_up_from_the_noisy_end():
    """So their draw u is the level 1 - u, and their mean has the other sign."""
    import torch
    from diffusers import FlowMatchEulerDiscreteScheduler
    from diffusers.training_utils import compute_density_for_timestep_sampling

    scheduler = FlowMatchEulerDiscreteScheduler()
    draws = compute_density_for_timestep_sampling(
        "logit_normal", 4000, 0.6, 0.7, generator=torch.Generator().manual_seed(0)
    )
    theirs = scheduler.timesteps[(draws * 1000).long()].numpy() / 1000
    ours = draw(keys(4000), LogitNormal(-0.6, 0.7))
    for share in (0.1, 0.5, 0.9):
        assert abs(np.mean(ours < np.quantile(theirs, share)) - share) < 0.03


@EACH
@pytest.mark.parametrize("stratified", [False, True])
def test_draws_have_the_density_within_their_range(name: str, stratified: bool, key_reuse_checked):
    density, low, high = DENSITIES[name], 0.2, 0.7
    t = np.asarray(draw(keys(4000), density, low, high, stratified))
    assert t.dtype == np.float32 and t.min() >= low and t.max() <= high
    whole = density.share(high) - density.share(low)
    expected = [(density.share(x) - density.share(low)) / whole for x in np.sort(t).tolist()]
    # Kolmogorov-Smirnov at 1 in 1000; strata leave next to nothing of it.
    distance = np.abs(np.array(expected) - (np.arange(4000) + 0.5) / 4000).max()
    assert distance < (1e-3 if stratified else 1.95 / 4000**0.5)


def test_strata_hold_one_draw_each_wherever_they_begin():
    found = [np.asarray(levels.strata(keys(16, seed))) for seed in range(3)]
    for u in found:
        np.testing.assert_array_equal(np.sort(np.floor(u * 16)), np.arange(16))
    assert len({int(u[0] * 16) for u in found}) > 1


def test_a_single_examples_level_is_uniform_over_batches():
    """Also at one place of the batch, as it stays with one host for a whole run."""
    many = jnp.stack([keys(8, seed) for seed in range(400)])
    third = np.sort(np.asarray(jax.vmap(levels.strata)(many))[:, 3])
    assert np.abs(third - (np.arange(400) + 0.5) / 400).max() < 1.95 / 400**0.5


def test_strata_make_the_mean_of_a_batch_vary_less():
    many = jnp.stack([keys(16, seed) for seed in range(300)])
    spread = [
        np.asarray(jax.vmap(lambda k, s=s: draw(k, Uniform(), stratified=s))(many)).mean(1).std()
        for s in (False, True)
    ]
    assert spread[1] < 0.1 * spread[0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: make_density("beta"), "model.timesteps 'beta' is none of uniform, logit_normal"),
        (lambda: LogitNormal(0, 0), "model.logit_std 0 must be above 0"),
        (lambda: Mode(1.8), "model.mode_scale 1.8 must lie in -1.0 .. 1.75"),
        (lambda: Mode(-1.1), "model.mode_scale -1.1"),
        (
            lambda: levels.check_range(LogitNormal(-5), 0.9, 1.0),
            "only a share of .* LogitNormal.* lies between 0.9 and 1",
        ),
    ],
)
def test_what_cannot_be_drawn_is_refused(call, message: str):
    with pytest.raises(ValueError, match=message):
        call()
