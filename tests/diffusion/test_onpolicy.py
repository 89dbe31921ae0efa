"""The roll-out against a hand-written one, and what may carry a gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tavid_jax.diffusion import losses, onpolicy

SHAPE = (3, 2, 4, 5)


def _ends(seed=0):
    z0, z1 = jax.random.normal(jax.random.key(seed), (2, *SHAPE))
    visible = jax.random.uniform(jax.random.key(7), SHAPE[:3]) < 0.5
    return z0, z1, losses.token_weights(visible)


def _model(params, z, t):
    return jnp.tanh(z * params["w"] + params["b"] * t[:, None, None, None])


PARAMS = {"w": jnp.linspace(0.3, 1.2, 5), "b": jnp.linspace(-1.0, 1.0, 5)}


def _by_hand(params, z0, z1, weights, config, detach=True):
    """Equations as written, in a Python loop; returns the two means."""
    logits = np.linspace(
        *np.log([r / (1 - r) for r in (config.t_min, config.t_max)]), config.steps + 1
    )
    grid = [float(t) for t in 1 / (1 + np.exp(-logits))]
    z = z0 if config.start == "source" else (1 - grid[0]) * z0 + grid[0] * z1
    w = weights / weights.sum(axis=(1, 2), keepdims=True)
    rollout = endpoint = 0.0
    for t, t_next in zip(grid[:-1], grid[1:], strict=True):
        v = _model(params, z, jnp.full(3, t))
        u1 = (z1 - z) / max(1 - t, config.tau)
        u0 = (z - z0) / max(t, config.tau)
        squared = config.data_weight * (v - u1) ** 2 + config.source_weight * (v - u0) ** 2
        rollout += (w * squared.mean(-1)).sum((1, 2)).mean()
        data = ((z + (1 - t) * v - z1) ** 2).mean()
        source = ((z - t * v - z0) ** 2).mean()
        endpoint += data + config.source_endpoint_weight * source
        z = z + (t_next - t) * v
        z = jax.lax.stop_gradient(z) if detach else z
    return rollout / config.steps, endpoint / config.steps


CONFIGS = [
    onpolicy.OnPolicyConfig(),
    onpolicy.OnPolicyConfig(steps=1, start="source"),
    onpolicy.OnPolicyConfig(
        steps=6, tau=0.3, source_weight=2.0, source_endpoint_weight=0.0, remat=True
    ),
]


@pytest.mark.parametrize("config", CONFIGS)
def test_values_and_gradients_equal_the_loop(config):
    z0, z1, weights = _ends()

    def scanned(params):
        out = onpolicy.on_policy(lambda z, t: _model(params, z, t), z0, z1, weights, config)
        return losses.divide(out.rollout) + 0.1 * losses.divide(out.endpoint)

    def manual(params):
        rollout, endpoint = _by_hand(params, z0, z1, weights, config)
        return rollout + 0.1 * endpoint

    value, gradient = jax.jit(jax.value_and_grad(scanned))(PARAMS)
    expected, expected_gradient = jax.jit(jax.value_and_grad(manual))(PARAMS)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    for name in PARAMS:
        np.testing.assert_allclose(gradient[name], expected_gradient[name], rtol=1e-4, atol=1e-5)


def test_the_loop_with_attached_states_has_another_gradient():
    """Shows that the test above can see a missing stop_gradient."""
    z0, z1, weights = _ends()
    gradient = [
        jax.grad(lambda p, d=detach: _by_hand(p, z0, z1, weights, onpolicy.OnPolicyConfig(), d)[0])(
            PARAMS
        )["w"]
        for detach in (True, False)
    ]
    assert np.abs(gradient[0] - gradient[1]).max() > 1e-2 * np.abs(gradient[0]).max()


def test_no_gradient_reaches_the_targets():
    z0, z1, weights = _ends()

    def loss(ends):
        out = onpolicy.on_policy(lambda z, t: _model(PARAMS, z, t), *ends, weights)
        return out.rollout[0] + out.endpoint[0]

    for gradient in jax.grad(loss)((z0, z1)):
        np.testing.assert_array_equal(gradient, 0)


def test_a_perfect_model_on_the_straight_path_has_no_loss():
    z0, z1, weights = _ends()
    config = onpolicy.OnPolicyConfig(tau=0.01)
    out = onpolicy.on_policy(lambda z, t: z1 - z0, z0, z1, weights, config)
    assert float(losses.divide(out.rollout)) < 1e-8
    assert float(losses.divide(out.endpoint)) < 1e-10


def test_clamped_denominators():
    z0, z1, _ = _ends()
    z = z0 + 1.0
    u1, u0 = onpolicy.rollout_targets(z, 0.01, z0, z1, tau=0.05)
    np.testing.assert_allclose(u0, 1 / 0.05, rtol=1e-4)
    np.testing.assert_allclose(u1, (z1 - z) / 0.99, rtol=1e-5)
    u1, _ = onpolicy.rollout_targets(z, 0.999, z0, z1, tau=0.05)
    np.testing.assert_allclose(u1, (z1 - z) / 0.05, rtol=1e-5)


def test_endpoint_ignores_visibility_and_rollout_does_not():
    z0, z1, weights = _ends()
    plain, weighted = (
        onpolicy.on_policy(lambda z, t: _model(PARAMS, z, t), z0, z1, w) for w in (None, weights)
    )
    np.testing.assert_array_equal(plain.endpoint[0], weighted.endpoint[0])
    assert abs(float(plain.rollout[0] - weighted.rollout[0])) > 1e-3


def test_pairs_accumulate():
    z0, z1, weights = _ends()

    def run(s):
        return onpolicy.on_policy(lambda z, t: _model(PARAMS, z, t), z0[s], z1[s], weights[s])

    whole, first, second = run(slice(0, 3)), run(slice(0, 1)), run(slice(1, 3))
    for name in ("rollout", "endpoint"):
        for i in range(2):
            parts = getattr(first, name)[i] + getattr(second, name)[i]
            np.testing.assert_allclose(parts, getattr(whole, name)[i], rtol=1e-5)


def test_the_model_is_traced_once():
    z0, z1, weights = _ends()
    calls = []

    def velocity(z, t):
        calls.append(t.shape)
        return z

    jax.jit(lambda: onpolicy.on_policy(velocity, z0, z1, weights))()
    assert calls == [(3,)]


def test_sub_batch_is_spread_over_the_batch():
    tree = {"a": jnp.arange(16), "b": jnp.arange(32).reshape(16, 2)}
    part = onpolicy.sub_batch(tree, 8)
    np.testing.assert_array_equal(part["a"], np.arange(0, 16, 2))
    np.testing.assert_array_equal(part["b"][:, 0], np.arange(0, 32, 4))
    np.testing.assert_array_equal(onpolicy.sub_batch(tree, 5)["a"], [0, 3, 6, 9, 12])
    np.testing.assert_array_equal(onpolicy.sub_batch(tree, 99)["a"], np.arange(16))
    assert onpolicy.sub_batch(jax.random.split(jax.random.key(0), 4), 2).shape == (2,)
    with pytest.raises(ValueError, match="at least one"):
        onpolicy.sub_batch(tree, 0)


@pytest.mark.parametrize("bad", [{"steps": 0}, {"tau": 0.0}, {"start": "middle"}])
def test_config_is_checked(bad):
    with pytest.raises(ValueError, match=f"on-policy {next(iter(bad))}="):
        onpolicy.OnPolicyConfig(**bad)
