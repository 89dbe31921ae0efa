"""Normalisations against PyTorch's, where a wrong epsilon or statistic would show."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tavid_jax.models.layers.norms import group_norm, layer_norm, rms_norm

# Spread near sqrt(epsilon), so that epsilon matters; and far from zero, so that the variance
# must not be a difference of large numbers.
INPUTS = {"plain": (1.0, 0.0), "small": (2e-3, 0.0), "far": (1.0, 300.0)}


def draw(rng, name, shape):
    spread, offset = INPUTS[name]
    x = offset + spread * rng.standard_normal(shape)
    scale, bias = rng.standard_normal((2, shape[-1]))
    return tuple(jnp.asarray(a, jnp.float32) for a in (x, scale, bias))


def as_torch(x):
    return torch.tensor(np.asarray(x))


@pytest.mark.parametrize("epsilon", [1e-5, 1e-6])
@pytest.mark.parametrize("name", INPUTS)
@pytest.mark.parametrize("shape", [(2, 5, 7), (3, 2, 4, 16)])
def test_layer_norm_equals_torch(rng, name, shape, epsilon):
    x, scale, bias = draw(rng, name, shape)
    inputs = [as_torch(a).double().requires_grad_() for a in (x, scale, bias)]
    want = F.layer_norm(inputs[0], shape[-1:], *inputs[1:], eps=epsilon)
    weights = rng.standard_normal(shape)
    (want * torch.tensor(weights)).sum().backward()

    def loss(*arrays):
        return jnp.sum(layer_norm(*arrays, epsilon=epsilon) * weights)

    got = layer_norm(x, scale, bias, epsilon)
    # Around 300 a mean is known to 3e-5; a difference of squares would be wrong by 1e-2.
    np.testing.assert_allclose(got, want.detach(), atol=1e-3 if name == "far" else 5e-6)
    for a, b in zip(jax.grad(loss, argnums=(0, 1, 2))(x, scale, bias), inputs, strict=True):
        b = b.grad.numpy()
        assert np.abs(a - b).max() <= 1e-4 * np.sqrt(np.mean(b**2))


@pytest.mark.parametrize("epsilon", [1e-5, 1e-6])
@pytest.mark.parametrize("name", INPUTS)
@pytest.mark.parametrize("shape, groups", [((2, 3, 5, 2, 12), 4), ((3, 7, 6), 2), ((2, 4, 5), 1)])
def test_group_norm_equals_torch(rng, name, shape, groups, epsilon):
    x, scale, bias = draw(rng, name, shape)
    first = np.moveaxis(np.asarray(x, np.float64), -1, 1).copy()
    affine = (as_torch(a).double() for a in (scale, bias))
    want = F.group_norm(torch.tensor(first), groups, *affine, eps=epsilon).numpy()
    got = group_norm(x, groups, scale, bias, epsilon)
    assert np.abs(got - np.moveaxis(want, 1, -1)).max() <= (1e-3 if name == "far" else 1e-5)
    plain = group_norm(x, groups, epsilon=epsilon)
    np.testing.assert_allclose(plain * scale + bias, got, rtol=1e-6, atol=1e-6)


def test_epsilons_can_be_told_apart(rng):
    x, _, _ = draw(rng, "small", (4, 8))
    for norm in (layer_norm, rms_norm):
        assert np.abs(norm(x, epsilon=1e-5) - norm(x, epsilon=1e-6)).max() > 1e-2


def test_layer_norm_without_scale_or_bias(rng):
    x, scale, bias = draw(rng, "plain", (4, 8))
    plain = layer_norm(x)
    np.testing.assert_allclose(np.mean(plain, -1), 0, atol=1e-6)
    np.testing.assert_allclose(np.var(plain, -1), 1, rtol=1e-5)
    np.testing.assert_allclose(layer_norm(x, scale), plain * scale, rtol=1e-6)
    np.testing.assert_allclose(layer_norm(x, bias=bias), plain + bias, rtol=1e-6)


@pytest.mark.parametrize("name", INPUTS)
def test_rms_norm_equals_torch(rng, name):
    x, scale, _ = draw(rng, name, (2, 5, 12))
    want = F.rms_norm(as_torch(x), (12,), as_torch(scale), eps=1e-6)
    np.testing.assert_allclose(rms_norm(x, scale, 1e-6), want, atol=5e-6)


@pytest.mark.parametrize("norm", [layer_norm, rms_norm, lambda x, scale: group_norm(x, 4, scale)])
def test_statistics_of_half_precision_are_taken_in_float32(rng, norm):
    x, scale, _ = draw(rng, "plain", (4, 512))
    x = jnp.asarray(x, jnp.bfloat16)
    got = norm(x, jnp.asarray(scale, jnp.bfloat16))
    want = norm(x.astype(jnp.float32), jnp.asarray(scale, jnp.bfloat16).astype(jnp.float32))
    assert got.dtype == jnp.float32
    np.testing.assert_array_equal(got, want)
