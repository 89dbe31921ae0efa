"""Distributions of times, the straight path, and the anchored sources."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tavid_jax.diffusion import paths, sources, times


def _keys(seed, count):
    return jax.random.split(jax.random.key(seed), count)


def test_mixture_has_the_shares_of_both_parts(key_reuse_checked):
    t = np.asarray(times.sample_times(_keys(0, 40_000), "mixture", small_prob=0.2, small_max=0.1))
    # Below 0.1: the small part and the logit-normal's own tail, P(N < logit 0.1) = 0.0140.
    expected = 0.2 + 0.8 * 0.01400
    assert abs(np.mean(t < 0.1) - expected) < 0.008
    # The small part is flat: half of it lies under 0.05 (the tail there is 0.0016).
    assert abs(np.mean(t < 0.05) - (0.1 + 0.8 * 0.0016)) < 0.006
    rest = t[t > 0.1]
    assert abs(np.median(rest) - 0.5067) < 0.01


def test_logit_normal_has_normal_logits():
    t = times.logit_normal(_keys(1, 20_000), mean=0.5, std=0.8)
    logits = jax.scipy.special.logit(t)
    assert abs(float(logits.mean()) - 0.5) < 0.03
    assert abs(float(logits.std()) - 0.8) < 0.03


@pytest.mark.parametrize("kind", sorted(times.KINDS))
def test_times_stay_inside(kind):
    t = times.sample_times(_keys(2, 5_000), kind, eps=0.125)
    assert float(t.min()) == 0.125 and float(t.max()) <= 0.875 and t.dtype == jnp.float32


def test_times_belong_to_their_clip():
    keys = _keys(3, 8)
    whole = times.sample_times(keys)
    parts = jnp.concatenate([times.sample_times(keys[:3]), times.sample_times(keys[3:])])
    np.testing.assert_array_equal(whole, parts)
    assert len(np.unique(whole)) == 8


def test_unknown_times_are_named():
    with pytest.raises(ValueError, match=r"'cosine'.*mixture"):
        times.sample_times(_keys(0, 2), "cosine")


def test_logit_grid_is_symmetric_and_dense_at_the_ends():
    grid = np.asarray(times.logit_grid(0.02, 0.98, 4))
    np.testing.assert_allclose(grid[[0, 2, 4]], [0.02, 0.5, 0.98], atol=1e-6)
    np.testing.assert_allclose(grid + grid[::-1], 1, atol=1e-6)
    assert grid[1] - grid[0] < grid[2] - grid[1]
    with pytest.raises(ValueError, match="t_min < t_max"):
        times.logit_grid(0.5, 0.5, 4)


def test_uniform_grid():
    np.testing.assert_allclose(times.uniform_grid(4), [0, 0.25, 0.5, 0.75, 1])


def test_path_joins_source_and_data():
    z0, z1 = jax.random.normal(jax.random.key(0), (2, 3, 4, 5))
    t = jnp.array([0.0, 0.25, 1.0])
    z = paths.interpolate(z0, z1, t)
    np.testing.assert_allclose(z[0], z0[0])
    np.testing.assert_allclose(z[1], 0.75 * z0[1] + 0.25 * z1[1], rtol=1e-6)
    np.testing.assert_allclose(z[2], z1[2])
    np.testing.assert_allclose(z0 + paths.target_velocity(z0, z1), z1, rtol=1e-5, atol=1e-6)


def test_tube_noise_has_its_width_everywhere():
    z = jnp.zeros((64, 20, 30))
    noisy = paths.interpolate(z, z, jnp.linspace(0, 1, 64), _keys(4, 64), sigma=0.05)
    np.testing.assert_allclose(np.std(noisy, axis=(1, 2)), 0.05, rtol=0.2)
    assert abs(float(noisy.mean())) < 1e-3
    with pytest.raises(ValueError, match="one key per clip"):
        paths.interpolate(z, z, jnp.zeros(64), sigma=0.05)


def test_path_computes_in_float32():
    z = jnp.ones((2, 3), jnp.bfloat16)
    assert paths.interpolate(z, z, jnp.zeros(2)).dtype == jnp.float32
    assert paths.target_velocity(z, z).dtype == jnp.float32


LENGTH, TOKENS, CHANNELS = 5, 8, 4


def _draw(mode, **options):
    last = 3.0 + jax.random.normal(jax.random.key(9), (200, TOKENS, CHANNELS))
    z0 = sources.draw_source(_keys(5, 200), last, LENGTH, mode, **options)
    return np.asarray(last), np.asarray(z0)


def test_noise_is_standard_normal(key_reuse_checked):
    _, z0 = _draw("noise")
    np.testing.assert_allclose(z0.mean(axis=(0, 2, 3)), 0, atol=0.05)
    np.testing.assert_allclose(z0.std(axis=(0, 2, 3)), 1, atol=0.05)


def test_anchor_first_moves_the_first_step_only():
    last, z0 = _draw("anchor_first", std=0.1)
    _, noise = _draw("noise")
    np.testing.assert_array_equal(z0[:, 1:], noise[:, 1:])
    residual = (z0[:, 0] - last) / 0.1
    assert abs(residual.mean()) < 0.05 and abs(residual.std() - 1) < 0.05
    # Fresh noise, not the number that the anchor replaced.
    assert abs(np.mean(residual * noise[:, 0])) < 0.05


def test_anchor_repeat_moves_every_step_with_fresh_noise():
    last, z0 = _draw("anchor_repeat", std=0.1)
    residual = (z0 - last[:, None]) / 0.1
    np.testing.assert_allclose(residual.std(axis=(0, 2, 3)), 1, atol=0.05)
    assert abs(np.mean(residual[:, 0] * residual[:, 1])) < 0.05


@pytest.mark.parametrize("mode", sources.MODES)
def test_fix_first_holds_the_anchor_exactly(mode):
    last, z0 = _draw(mode, fix_first=True)
    np.testing.assert_array_equal(z0[:, 0], last)
    assert not np.array_equal(z0[:, 1], last)


def test_sources_belong_to_their_clip():
    last = jnp.zeros((4, TOKENS, CHANNELS))
    keys = _keys(6, 4)
    whole = sources.draw_source(keys, last, LENGTH)
    part = sources.draw_source(keys[2:], last[2:], LENGTH)
    np.testing.assert_array_equal(whole[2:], part)


def test_unknown_source_is_named():
    with pytest.raises(ValueError, match=r"'anchor_last'.*anchor_repeat"):
        sources.draw_source(_keys(0, 1), jnp.zeros((1, 2, 3)), 2, "anchor_last")
