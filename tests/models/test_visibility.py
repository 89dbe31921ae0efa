"""VisibilityHead: options, initial values and bad inputs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tavid_jax.models.latte.visibility import VisibilityConfig, VisibilityHead

FUTURE = jax.random.normal(jax.random.key(0), (2, 5, 4, 3))
LAST = jax.random.normal(jax.random.key(1), (2, 4, 3))


def build(**changes):
    head = VisibilityHead(VisibilityConfig(latent_channels=3, hidden=6, depth=2, **changes))
    return head, jax.jit(head.init)(jax.random.key(2), FUTURE, LAST)


def test_parameter_count_of_the_released_model():
    head = VisibilityHead(VisibilityConfig())
    future = jax.ShapeDtypeStruct((1, 21, 390, 16), jnp.float32)
    shapes = jax.eval_shape(head.init, jax.random.key(0), future)
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == 38_209


def test_history_is_read_only_when_asked():
    head, params = build()
    np.testing.assert_array_equal(head.apply(params, FUTURE), head.apply(params, FUTURE, LAST))
    head, params = build(use_hist_last=True)
    moved = head.apply(params, FUTURE, LAST + 1)
    assert float(jnp.abs(head.apply(params, FUTURE, LAST) - moved).max()) > 1e-4
    assert params["params"]["in_proj"]["kernel"].shape == (6, 6)
    _, params = build(use_hist_last=True, use_delta=True)
    assert params["params"]["in_proj"]["kernel"].shape == (9, 6)


def test_tokens_are_independent_and_time_is_local():
    head, params = build()
    base = head.apply(params, FUTURE)
    touched = head.apply(params, FUTURE.at[0, 0, 1].add(1.0))
    changed = np.abs(np.asarray(touched - base)) > 1e-6
    assert base.shape == (2, 5, 4)
    # Two convolutions of three taps reach two frames, in the same token only.
    assert changed[0, :3, 1].all() and changed.sum() == 3


def test_scan_equals_unrolled():
    head, params = build()
    unrolled = VisibilityHead(head.config, scan=False)
    np.testing.assert_allclose(
        head.apply(params, FUTURE), unrolled.apply(params, FUTURE), atol=1e-6
    )


def test_initial_values():
    _, params = build()
    net = params["params"]["temporal_net"]
    limit = (3 * 6) ** -0.5
    assert 0.9 * limit < float(jnp.abs(net["kernel"]).max()) <= limit
    assert float(jnp.abs(net["bias"]).max()) > 0


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="kernel_size must be odd, got 4"):
        VisibilityConfig(kernel_size=4)
    with pytest.raises(ValueError, match="use_delta needs use_hist_last"):
        VisibilityConfig(use_delta=True)
    head, params = build(use_hist_last=True)
    with pytest.raises(ValueError, match="history_last is missing"):
        head.apply(params, FUTURE)
    with pytest.raises(ValueError, match=r"future must have shape \(any, any, any, 3\)"):
        head.apply(params, FUTURE[..., :2])
