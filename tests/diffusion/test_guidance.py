"""Guidance: published scales, intervals, and the combinations' algebra."""

import jax.numpy as jnp
import numpy as np
import pytest

from tavid_jax.diffusion import guidance
from tavid_jax.diffusion.schedulers.ddim import ddim
from tavid_jax.diffusion.schedulers.unipc import unipc

TIMESTEPS = ddim(50).timesteps
# By raw timestep, G = 6, n = 50, from t = 999 to t = 19.
PUBLISHED = """
2.2915 2.5435 6.9744 6.4204 2.7881 4.2719 1.0376 4.1704 1.6180 6.9831 1.0048 2.8720 6.9768 1.6331
4.3297 2.4366 6.3773 6.0068 3.4479 3.1981 1.6548 6.6100 1.1947 4.2953 6.9854 1.5213 1.7616 1.0579
4.1275 1.4823 2.0026 5.9477 4.1432 6.5305 6.1398 6.9999 6.1684 1.1199 2.0975 6.6850 6.9992 2.3432
6.2128 1.2505 6.9996 6.8644 1.0636 1.0000 1.0000 1.1234
"""


def test_dynamic_guidance_as_published():
    scales = guidance.dynamic_cfg(6, TIMESTEPS)
    assert scales.dtype == np.float64
    np.testing.assert_allclose(scales, [float(x) for x in PUBLISHED.split()], atol=5.1e-5)


def test_dynamic_guidance_by_index_falls():
    scales = guidance.dynamic_cfg(6.0, TIMESTEPS, by="index")
    np.testing.assert_allclose(
        scales[:6], [7.0, 6.8644, 6.5093, 6.0114, 5.4377, 4.8414], atol=5.1e-5
    )
    assert np.all(np.diff(scales) < 0) and scales[-1] >= 1


def test_constant_and_interval():
    scales = guidance.constant(5, 50)
    timesteps = unipc(50).timesteps
    limited = guidance.within(scales, timesteps, 0.3, 0.875)
    inside = (timesteps >= 300) & (timesteps <= 875)
    np.testing.assert_array_equal(limited, np.where(inside, 5.0, 1.0))
    assert 0 < inside.sum() < 50
    np.testing.assert_array_equal(guidance.is_guided(limited), inside)
    np.testing.assert_array_equal(guidance.within(scales, timesteps, 0, 1), scales)


def branches(*names):
    """Predictions in which both conditions' effects add up."""
    rng = np.random.default_rng(0)
    none, g, loc = (jnp.asarray(rng.standard_normal((2, 3)), jnp.float32) for _ in range(3))
    all_of_them = {"none": none, "glob": none + g, "loc": none + loc, "both": none + g + loc}
    return jnp.stack([all_of_them[name] for name in names]), (none, g, loc)


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("literal", lambda none, g, loc: none + 5 * loc + 4 * g),
        ("semantic", lambda none, g, loc: none + 5 * g + 4 * loc),
        ("global", lambda none, g, loc: none + 5 * g),
        ("local", lambda none, g, loc: none + 4 * loc),
        ("combined", lambda none, g, loc: none + 5 * (g + loc)),
        ("global_given", lambda none, g, loc: none + 5 * g + loc),
        ("local_given", lambda none, g, loc: none + g + 4 * loc),
    ],
)
def test_dual_guidance_of_additive_effects(mode, expected):
    given, parts = branches(*guidance.BRANCHES[mode])
    out = guidance.dual_cfg(given, 5.0, 4, mode)
    np.testing.assert_allclose(out, expected(*parts), atol=2e-5)


@pytest.mark.parametrize(
    ("mode", "scales", "guided"),
    [
        ("literal", (5, 1), True),
        ("literal", (1, 1), False),  # "both" alone
        ("combined", (1, 4), False),
        ("local_given", (5, 1), False),
        ("local_given", (1, 4), True),
        ("global", (1, 4), False),  # "glob" alone
        ("local", (5, 1), False),
        ("local", (1, 4), True),
    ],
)
def test_steps_of_dual_guidance(mode, scales, guided):
    pair = (np.full(50, float(scale)) for scale in scales)
    made = guidance.dual_scales(*pair, TIMESTEPS, (0.2, 0.6), mode)
    inside = (TIMESTEPS >= 200) & (TIMESTEPS <= 600)
    np.testing.assert_array_equal(made[~inside], 1.0)
    np.testing.assert_array_equal(guidance.is_guided(made), inside & guided)
    column = int(mode in guidance.BY_LOCAL)
    np.testing.assert_array_equal(made[inside, column], scales[column])


def test_dual_guidance_with_equal_scales_is_ordinary_if_effects_add_up():
    given, _ = branches(*guidance.BRANCHES["literal"])
    ordinary = guidance.cfg(given[0], given[3], 3.0)
    for mode in ("literal", "semantic"):
        out = guidance.dual_cfg(given, 3.0, jnp.float32(3.0), mode)
        np.testing.assert_allclose(out, ordinary, atol=1e-5)


def test_the_printed_equation_is_the_default():
    none, glob, loc, both = given = jnp.asarray(np.random.default_rng(1).normal(size=(4, 2, 3, 1)))
    expected = none + 5 * (both - glob) + 4 * (both - loc)
    np.testing.assert_allclose(guidance.dual_cfg(given, 5, 4), expected, rtol=1e-6)


def test_ordinary_guidance():
    without, given = jnp.asarray([[1.0]]), jnp.asarray([[3.0]])
    np.testing.assert_array_equal(guidance.cfg(without, given, 6), [[13.0]])
    np.testing.assert_array_equal(guidance.cfg(without, given, 1.0), given)
    half = guidance.cfg(without.astype(jnp.bfloat16), given.astype(jnp.bfloat16), jnp.float32(1.1))
    assert half.dtype == jnp.float32
    np.testing.assert_allclose(half, [[3.2]], rtol=1e-6)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: guidance.dynamic_cfg(6, TIMESTEPS, "step"), "by 'step': use timestep or index"),
        (lambda: guidance.within(TIMESTEPS, TIMESTEPS, 0.5, 0.2), r"\[0.5, 0.2\]: needs 0 <= low"),
        (lambda: guidance.within(TIMESTEPS, TIMESTEPS, 0, 875), r"\[0, 875\]: needs"),
        (lambda: guidance.dual_cfg(jnp.ones((4, 1, 1)), 1, 1, "both"), "'both': use one of liter"),
        (lambda: guidance.dual_cfg(jnp.ones((2, 1, 1)), 1, 1), "2 branches: literal takes 4, none"),
        (lambda: guidance.dual_cfg(jnp.ones((4, 1, 1)), 1, 1, "global"), "takes 2, none, glob"),
    ],
)
def test_bad_input(call, match):
    with pytest.raises(ValueError, match=match):
        call()
