"""Forecasts that are exact for the motions they assume."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tavid_jax.tracks import baselines

HISTORY, FUTURE = 6, 5


def _motion(order, seed=0):
    """A random polynomial motion of three points over history and future."""
    rng = np.random.default_rng(seed)
    t = np.arange(HISTORY + FUTURE)[None, :, None]
    coefficients = rng.normal(size=(order + 1, 3, 1, 2))
    xy = 30 + sum(c * t**k for k, c in enumerate(coefficients))
    return xy[:, :HISTORY].astype(np.float32), xy[:, HISTORY:].astype(np.float32)


@pytest.mark.parametrize("xp", [np, jnp], ids=["numpy", "jax"])
@pytest.mark.parametrize("order, name", list(enumerate(baselines.BASELINES)))
def test_exact_for_their_own_motion_and_no_other(order, name, xp):
    forecast = baselines.BASELINES[name]
    history, future = _motion(order)
    out = forecast(xp.asarray(history), FUTURE)
    assert isinstance(out, jax.Array) == (xp is jnp) and out.dtype == np.float32
    np.testing.assert_allclose(out, future, rtol=1e-4, atol=1e-3)
    history, future = _motion(order + 1)
    assert np.abs(forecast(history, FUTURE) - future).max() > 0.1


@pytest.mark.parametrize("xp", [np, jnp], ids=["numpy", "jax"])
@pytest.mark.parametrize("order, name", list(enumerate(baselines.BASELINES)))
def test_occluded_end_is_not_read_when_visibility_is_given(order, name, xp):
    forecast = baselines.BASELINES[name]
    history, future = _motion(order)
    visibility = np.ones(history.shape[:2], bool)
    visibility[0, -2:] = False
    history[0, -2:] += 50.0  # the tracker drifted behind the occluder
    out = forecast(xp.asarray(history), FUTURE, xp.asarray(visibility))
    np.testing.assert_allclose(out, future, rtol=1e-4, atol=1e-3)
    blind = forecast(history, FUTURE)
    assert np.abs(blind[0] - future[0]).max() > 10
    np.testing.assert_allclose(blind[1:], future[1:], rtol=1e-4, atol=1e-3)


def test_a_single_visible_frame_is_no_velocity():
    history, _ = _motion(1)
    visibility = np.zeros(history.shape[:2], bool)
    visibility[:, 2] = True
    out = baselines.constant_velocity(history, FUTURE, visibility)
    np.testing.assert_array_equal(out, baselines.constant_velocity(history, FUTURE))
    still = baselines.stand_still(history, FUTURE, visibility)
    np.testing.assert_array_equal(still, np.repeat(history[:, 2:3], FUTURE, axis=1))


def test_clipped_to_the_frame():
    history = np.array([[[50.0, 10.0], [60.0, 10.0]]], np.float32)
    out = baselines.constant_velocity(history, 3, clip_hw=(64, 64))
    np.testing.assert_allclose(out[0], [[62.999, 10]] * 3, atol=1e-4)


def test_batches_and_jit():
    history = np.stack([_motion(1, seed)[0] for seed in range(4)])
    whole = jax.jit(lambda h: baselines.constant_velocity(h, FUTURE))(history)
    one = baselines.constant_velocity(history[2], FUTURE)
    np.testing.assert_allclose(whole[2], one, rtol=1e-6)


def test_errors():
    with pytest.raises(ValueError, match=r"order 1 needs 2 frames, got 1"):
        baselines.constant_velocity(np.zeros((2, 1, 2)), 3)
    with pytest.raises(ValueError, match=r"order 3"):
        baselines.extrapolate(np.zeros((2, 9, 2)), 3, 3)
