"""T5 and umT5 on eight devices equal themselves on one, and their parameters are divided."""

import dataclasses
import functools
import math

import jax
import numpy as np
import pytest

from tavid_jax.models.text.config import TEXT_PRESETS, T5Config
from tavid_jax.models.text.sharding import SHARDING
from tavid_jax.models.text.t5 import T5Encoder, param_shapes
from tavid_jax.parallel.mesh import make_mesh
from tavid_jax.parallel.sharding import batch_sharding, paths, shardings_for

T5 = T5Config(vocab_size=50, dim=16, num_heads=4, head_dim=6, ffn_dim=24, num_layers=2)
UMT5 = dataclasses.replace(T5, shared_bias=False)
MESHES = {"all axes": {"fsdp": 2, "context": 2, "tensor": 2}, "tensor 4": {"fsdp": 2, "tensor": 4}}
TOKENS = 21


def random_params(config: T5Config):
    rng = np.random.default_rng(0)
    leaves = paths(param_shapes(config))
    drawn = [
        (rng.standard_normal(leaf.shape) * (0.3 if len(leaf.shape) > 1 else 1)).astype(np.float32)
        for _, leaf in leaves
    ]
    return jax.tree.unflatten(jax.tree.structure(param_shapes(config)), drawn)


@functools.partial(jax.jit, static_argnums=0)
def features(model: T5Encoder, params, ids, mask):
    return model.apply({"params": params}, ids, mask)


@pytest.mark.parametrize("mesh", MESHES)
@pytest.mark.parametrize("config", [T5, UMT5], ids=["t5", "umt5"])
def test_equals_one_device(config: T5Config, mesh: str):
    params = random_params(config)
    rng = np.random.default_rng(1)
    ids = rng.integers(0, config.vocab_size, (4, TOKENS)).astype(np.int32)
    mask = np.arange(TOKENS) < np.array([TOKENS, 3, 9, 1])[:, None]
    mask = None if config.shared_bias else mask
    want = features(T5Encoder(config), params, ids, mask)
    devices = make_mesh(MESHES[mesh])
    placed = jax.device_put(params, shardings_for(params, devices, SHARDING))
    ids, mask = jax.device_put((ids, mask), batch_sharding(devices))
    with jax.set_mesh(devices):
        got = features(T5Encoder(config), placed, ids, mask)
    np.testing.assert_allclose(got, want, rtol=0, atol=2e-5)


@pytest.mark.parametrize("name", TEXT_PRESETS)
def test_every_device_holds_its_share(name: str):
    """Of the published sizes, over fsdp and tensor."""
    shapes = param_shapes(TEXT_PRESETS[name])
    placed = shardings_for(shapes, make_mesh({"fsdp": 4, "tensor": 2}), SHARDING)
    total = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes))
    share = sum(
        math.prod(sharding.shard_shape(leaf.shape))
        for leaf, sharding in zip(jax.tree.leaves(shapes), jax.tree.leaves(placed), strict=True)
    )
    assert total / 8 <= share < 1.001 * total / 8
