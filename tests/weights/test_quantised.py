"""Keeping kernels in 8 bits: which, how well, while loading, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tavid_jax import weights
from tavid_jax.models.layers.linear import is_quantised, linear
from tavid_jax.weights import quantised
from tavid_jax.weights.table import walk

qwix = pytest.importorskip("qwix")


@pytest.fixture
def params():
    rng = np.random.default_rng(0)

    def draw(*shape):
        return jnp.asarray(rng.standard_normal(shape), jnp.float32)

    return {
        "embed": {"kernel": draw(7, 6)},
        "table": draw(5, 6),
        "blocks": {
            "attn": {"q": {"kernel": draw(3, 8, 6), "bias": draw(3, 6)}},
            "norm": {"scale": draw(3, 6)},
            "conv": {"kernel": draw(3, 5, 8, 6)},
        },
        "high/blocks": {"fc": {"kernel": draw(2, 4, 6)}},
    }


def test_which_parameters_are_kept_in_8_bits(params):
    narrow = quantised.quantise(params)
    chosen = {path for path, leaf in walk(narrow) if is_quantised(leaf)}
    assert chosen == {"blocks/attn/q/kernel", "high/blocks/fc/kernel"}
    for path, leaf in walk(params):
        if path not in chosen:
            assert dict(walk(narrow))[path] is leaf
    other = quantised.quantise(params, patterns=("embed/kernel",))
    assert {path for path, leaf in walk(other) if is_quantised(leaf)} == {"embed/kernel"}
    with pytest.raises(weights.WeightsError, match="no kernel matches blocks/attn/k"):
        quantised.quantise(params, patterns=("blocks/attn/k",))


@pytest.mark.parametrize("shape", [(64, 33), (3, 64, 33)])
def test_every_weight_is_within_half_a_step(shape):
    kernel = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    kernel *= np.logspace(-3, 2, 33, dtype=np.float32)  # channels of very different sizes
    leaf = quantised.quantise_leaf(kernel)
    assert leaf.qvalue.dtype == np.int8 and leaf.scale.shape == (*shape[:-2], 1, 33)
    step = np.abs(kernel).max(axis=-2, keepdims=True) / 127.5
    np.testing.assert_allclose(leaf.scale, step, rtol=1e-6)
    error = np.abs(np.asarray(qwix.dequantize(jax.tree.map(jnp.asarray, leaf))) - kernel)
    assert (error <= 0.501 * step).all()
    axes = (0, 2) if len(shape) == 3 else (1,)
    whole = qwix.quantize(jnp.asarray(kernel), jnp.int8, channelwise_axes=axes)
    np.testing.assert_array_equal(whole.qvalue, leaf.qvalue)


def test_zeros_stay_zero():
    leaf = quantised.quantise_leaf(np.zeros((4, 3), np.float32))
    assert np.isfinite(leaf.scale).all() and not leaf.qvalue.any()


def test_error_and_bytes_are_measured(params):
    narrow = quantised.quantise(params)
    errors = quantised.measured_error(params, narrow)
    assert errors.keys() == {"blocks/attn/q/kernel", "high/blocks/fc/kernel"}
    kernel = np.asarray(params["blocks"]["attn"]["q"]["kernel"])
    wide = np.asarray(quantised.dequantise(narrow)["blocks"]["attn"]["q"]["kernel"])
    want = np.sqrt(np.mean((wide - kernel) ** 2) / np.mean(kernel**2))
    assert errors["blocks/attn/q/kernel"] == pytest.approx(want, rel=1e-3) and 0 < want < 0.01
    saved = quantised.num_bytes(params) - quantised.num_bytes(narrow)
    assert saved == 3 * (3 * 8 * 6 + 2 * 4 * 6) - 4 * (3 * 6 + 2 * 6)


def test_kernels_are_quantised_while_loading(tmp_path, tiny, tiny_model):
    kind, config, state = tiny("t2v")
    tiny_model("t2v").save_pretrained(tmp_path)
    placed = []

    def place(path, array):
        placed.append((path, array.dtype, array.shape))
        return jnp.asarray(array)

    got = weights.load(None, tmp_path, place=quantised.quantising(place), dtype="bf16")
    want = quantised.quantise(weights.port(kind, state, config, dtype="bf16"))
    assert jax.tree.structure(got) == jax.tree.structure(want)
    jax.tree.map(np.testing.assert_array_equal, got, want)
    q = [(dtype.name, shape) for path, dtype, shape in placed if path == "blocks/attn/q/kernel"]
    assert q == [("int8", (2, 32, 32)), ("float32", (2, 1, 32))]
    assert got["blocks"]["attn"]["q"]["bias"].dtype == jnp.bfloat16


def test_a_projection_takes_either(params):
    layer = {"kernel": params["embed"]["kernel"], "bias": jnp.arange(6.0)}
    x = jnp.asarray(np.random.default_rng(1).standard_normal((4, 7)), jnp.float32)
    narrow = {
        **layer,
        "kernel": jax.tree.map(jnp.asarray, quantised.quantise_leaf(layer["kernel"])),
    }
    want = x @ qwix.dequantize(narrow["kernel"]) + layer["bias"]
    np.testing.assert_allclose(linear(narrow, x, jnp.float32), want, rtol=1e-6)
    assert linear(narrow, x, jnp.bfloat16).dtype == jnp.bfloat16


def test_writing_8_bits_as_a_checkpoint_is_refused(tiny):
    kind, config, state = tiny("t2v")
    params = weights.port(kind, state, config)
    narrow = quantised.quantise(params)
    with pytest.raises(weights.WeightsError, match="kept in 8 bits: widen all with"):
        weights.export(kind, narrow, config)
    back = weights.export(kind, quantised.dequantise(narrow), config)
    assert back.keys() == state.keys()


def test_without_the_library_the_error_says_so(params, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "qwix", None)
    with pytest.raises(weights.WeightsError, match="pip install qwix"):
        quantised.quantise(params)
