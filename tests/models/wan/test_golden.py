"""Condition stream, its adapters and its cache reproduce FlexTraj's published Wan code."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_weights import relative_error

from tavid_jax import weights
from tavid_jax.models.layers.linear import linear
from tavid_jax.models.layers.lora import LoraRule
from tavid_jax.models.layers.ports import Ports
from tavid_jax.models.wan.config import WanConfig
from tavid_jax.models.wan.transformer import Wan

pytestmark = pytest.mark.parity

RULE = LoraRule("blocks/(attn/(q|k|v|o)|cross/(q|o))", rank=4, stream="condition")


@pytest.fixture(scope="module")
def golden(goldens):
    return goldens("flextraj_wan_tiny")


@pytest.fixture(scope="module")
def network(golden):
    """(model, parameters with adapters, {"kernel", "bias"} of the fusion)."""
    sizes = json.loads(str(golden["config"]))["kwargs"]
    config = WanConfig(
        num_heads=sizes["num_heads"],
        head_dim=sizes["dim"] // sizes["num_heads"],
        ffn_dim=sizes["ffn_dim"],
        num_layers=sizes["num_layers"],
        in_channels=sizes["in_dim"],
        out_channels=sizes["out_dim"],
        freq_dim=sizes["freq_dim"],
        text_dim=sizes["text_dim"],
    )
    published = {k.removeprefix("sd/"): v for k, v in golden.items() if k.startswith("sd/")}

    def adapter(node: str, name: str) -> dict[str, jax.Array]:
        keys = [f"sd_lora/blocks.{i}.{node}.{name}.lora_" for i in range(config.num_layers)]
        return {
            side.lower(): jnp.stack([golden[f"{key}{side}.weight"].T for key in keys])
            for side in "AB"
        }

    lora = {
        "attn": {name: adapter("self_attn", name) for name in "qkvo"},
        "cross": {name: adapter("cross_attn", name) for name in "qo"},
    }
    params = weights.port("wan", published, config)
    params = {**params, "lora": {RULE.name: {"blocks": lora}}}
    fusion = {
        "kernel": jnp.asarray(golden["sd_lora/fuse_linear.weight"].T),
        "bias": jnp.asarray(golden["sd_lora/fuse_linear.bias"]),
    }
    return Wan(config, lora=(RULE,)), params, fusion


def last(x: np.ndarray) -> jax.Array:
    return jnp.moveaxis(jnp.asarray(x), 1, -1)


@functools.partial(jax.jit, static_argnums=(0, 1))
def run(model: Wan, write: bool, params, fusion, latents, timestep, text, videos, caches):
    """The prediction; the condition as tokens (`videos`), or as a cache."""
    bound = model.bind({"params": params})
    condition = None
    if videos is not None:
        identity, colour = (bound.embed_video(video) for video in videos)
        condition = identity + linear(fusion, colour, jnp.float32)
    # The first latent frame is clean.
    times = jnp.tile(timestep[:, None], (1, latents.shape[1])).at[:, 0].set(0)
    ports = Ports(kv_in=caches, kv_out=("condition",) if write else ())
    return bound.predict(latents, times, text, condition=condition, ports=ports)


def inputs(golden, when: str, prompt: str):
    return (
        last(golden[f"in/latents_{when}"]),
        jnp.asarray(golden[f"in/timestep_{when}"]),
        jnp.asarray(golden[f"in/context{prompt}"]),
    )


def test_values_and_caches(golden, network):
    model, *weights_ = network
    videos = last(golden["in/cond_id"]), last(golden["in/cond_color"])

    def close(got, name: str):
        assert relative_error(got, golden[f"out/{name}"]) <= 2e-5

    written = {}
    for prompt in ("", "_neg"):
        out = run(model, True, *weights_, *inputs(golden, "t371", prompt), videos, {})
        close(jnp.moveaxis(out.sample, -1, 1), f"v_uncached_t371{prompt}")
        written[prompt] = out.caches
        close(out.caches["condition"].v[:, 0].reshape(2, 60, 56), f"cache_v{prompt}")
    out = run(model, True, *weights_, *inputs(golden, "t1000", ""), videos, {})
    close(jnp.moveaxis(out.sample, -1, 1), "v_uncached_t1000")
    close(jnp.moveaxis(out.sample, -1, 1), "v_write_t1000")
    # The condition sees its prompt, but not the time: the cache of t = 1000 serves t = 371.5.
    np.testing.assert_array_equal(out.caches["condition"].k, written[""]["condition"].k)
    for prompt in ("", "_neg"):
        given = inputs(golden, "t371", prompt)
        read = run(model, False, *weights_, *given, None, written[prompt])
        close(jnp.moveaxis(read.sample, -1, 1), f"v_read_t371{prompt}")
    assert not np.allclose(written[""]["condition"].k[1], written["_neg"]["condition"].k[1])
