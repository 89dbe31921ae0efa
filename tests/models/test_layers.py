"""The shared layers against definitions written out in numpy or against Flax."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tavid_jax.models.latte import anchors
from tavid_jax.models.latte.attention import merge_heads, split_heads
from tavid_jax.models.latte.context import block_mean
from tavid_jax.models.layers.attention.xla import attend_heads
from tavid_jax.models.layers.embeddings import cos_sin_embedding, fourier_features, sin_cos_table
from tavid_jax.models.layers.linear import linear, scale_inputs, scale_outputs, torch_linear
from tavid_jax.models.layers.mlp import exact_gelu
from tavid_jax.models.layers.norms import rms_norm
from tavid_jax.models.layers.temporal import temporal_conv, temporal_conv_transpose


def normal(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape)


def test_gelu_is_the_exact_one():
    x = jnp.linspace(-4, 4, 101)
    np.testing.assert_allclose(exact_gelu(x), jax.nn.gelu(x, approximate=False), atol=1e-6)
    assert float(jnp.abs(exact_gelu(x) - jax.nn.gelu(x, approximate=True)).max()) > 1e-4


def test_rms_norm_epsilon_and_precision():
    x = 1e-3 * normal(0, 4, 8)
    want = x / np.sqrt(np.mean(np.square(x), -1, keepdims=True) + 1e-6)
    np.testing.assert_allclose(rms_norm(x), want, rtol=1e-5)
    assert rms_norm(x.astype(jnp.bfloat16)).dtype == jnp.float32


def test_folded_scales():
    params = torch_linear(jax.random.key(0), 4, 3)
    x, inner, outer = normal(1, 5, 4), normal(2, 4), normal(3, 3)
    folded = scale_outputs(scale_inputs(params, inner), outer)
    want = outer * linear(params, inner * x, jnp.float32)
    np.testing.assert_allclose(linear(folded, x, jnp.float32), want, atol=1e-5)


def test_attention_against_numpy_and_scale():
    q, k, v = normal(0, 2, 3, 8), normal(1, 2, 5, 8), normal(2, 2, 5, 8)
    scores = np.einsum("bqd,bkd->bqk", q, k) / np.sqrt(8)
    weights = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    np.testing.assert_allclose(attend_heads(q, k, v), weights @ np.asarray(v), atol=1e-5)


@pytest.mark.parametrize("axis, shape", [("space", (2, 3, 2, 4, 5)), ("time", (2, 4, 2, 3, 5))])
def test_heads_move_to_the_front_and_back(axis, shape):
    x = normal(0, 2, 3, 4, 10)
    split = split_heads(x, 2, axis)
    assert split.shape == shape
    np.testing.assert_array_equal(merge_heads(split, axis), x)


def test_two_sinusoidal_conventions():
    table = sin_cos_table(np.array([2.0]), 4)[0]
    np.testing.assert_allclose(table, [np.sin(2), np.sin(0.02), np.cos(2), np.cos(0.02)], rtol=1e-6)
    got = cos_sin_embedding(jnp.array([2.0]), 4)[0]
    np.testing.assert_allclose(got, [np.cos(2), np.cos(0.02), np.sin(2), np.sin(0.02)], rtol=1e-5)


def test_fourier_features():
    got = fourier_features(jnp.array([[0.5, -1.0]]), jnp.array([[1.0, 2.0], [0.0, 3.0]]))[0]
    want = np.array([np.cos(-1.5), np.cos(-3), np.sin(-1.5), np.sin(-3)]) / 2
    np.testing.assert_allclose(got, want, atol=1e-6)


@pytest.mark.parametrize("stride", [1, 2, 4, 6])
def test_temporal_conv_equals_flax(stride):
    params = {"kernel": normal(0, 7, 3, 4), "bias": normal(1, 4)}
    x = normal(2, 2, 13, 5, 3)
    got = temporal_conv(params, x, stride=stride, padding="edge", dtype=jnp.float32)
    padded = jnp.pad(x, ((0, 0), (3, 3), (0, 0), (0, 0)), mode="edge")
    conv = nn.Conv(4, (7,), strides=(stride,), padding="VALID")
    want = conv.apply({"params": params}, padded.swapaxes(1, 2)).swapaxes(1, 2)
    np.testing.assert_allclose(got, want, atol=1e-4)


@pytest.mark.parametrize("stride", [4, 5])
def test_temporal_conv_transpose_equals_flax(stride):
    params = {"kernel": normal(0, 7, 3, 4), "bias": normal(1, 4)}
    z = normal(2, 2, 4, 5, 3)
    got = temporal_conv_transpose(params, z, stride=stride, dtype=jnp.float32)
    deconv = nn.ConvTranspose(4, (7,), strides=(stride,), padding=[(3, 3)])
    want = deconv.apply({"params": params}, z.swapaxes(1, 2)).swapaxes(1, 2)
    assert got.shape[1] == 3 * stride + 1
    np.testing.assert_allclose(got, want, atol=1e-4)


def test_block_mean_does_not_count_the_padding():
    x = jnp.ones((1, 15, 2))
    np.testing.assert_array_equal(block_mean(x, (3, 5), 2), np.ones((1, 6, 2)))
    ramp = jnp.arange(6.0).reshape(1, 6, 1)  # 2 x 3 cells
    np.testing.assert_allclose(block_mean(ramp, (2, 3), 2)[0, :, 0], [2.0, 3.5])


def test_anchors():
    dense = anchors.pixel_anchors((4, 6))
    np.testing.assert_allclose(dense[1, 4], [2 * 4.5 / 6 - 1, 2 * 1.5 / 4 - 1], rtol=1e-6)
    cell = anchors.cell_anchors((4, 6), 2, (1, 0))
    np.testing.assert_array_equal(cell[1, 2], dense[3, 4])
    within = anchors.anchors_within_cell((4, 6), 2)
    np.testing.assert_allclose(within[1, 1], dense[3, 5] - dense[2, 4], atol=1e-6)
    centre = anchors.cell_centres((4, 6), 2)[1, 0]
    np.testing.assert_allclose(centre, [2 * 0.5 * 2 / 6 - 1, 2 * 1.5 * 2 / 4 - 1], rtol=1e-6)
