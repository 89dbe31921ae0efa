"""CogVideoX on eight devices equals CogVideoX on one: values and gradients, ports included."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tavid_jax.models.cogvideox.config import PRESETS
from tavid_jax.models.cogvideox.sharding import SHARDING
from tavid_jax.models.cogvideox.transformer import CogVideoX, param_shapes
from tavid_jax.models.layers.lora import LoraRule, init_lora
from tavid_jax.models.layers.ports import AttentionBias, Ports, Probe, Residuals
from tavid_jax.parallel.mesh import make_mesh
from tavid_jax.parallel.sharding import batch_sharding, describe, paths, shardings_for
from tests.models.cogvideox import tiny

SIZE, TOKENS = (3, 4, 6), 18
GRID = (3, 2, 3)
RULES = (
    LoraRule("blocks/attn/(q|k|v|o)", 4, layers=(1,), stream="condition", name="steer"),
    LoraRule("blocks/mlp/fc[12]", 4, name="all"),
)
TIMESTEPS = jnp.array([3, 40])
# Every array is split, however small.
EVERYTHING = dataclasses.replace(SHARDING, min_size=1)

CASES = {
    # mesh, heads, implementation of attention
    "all axes": (dict(fsdp=2, context=2, tensor=2), 4, "auto"),
    "all-to-all, padding": (dict(fsdp=2, context=4), 4, "auto"),
    "ring, padding": (dict(fsdp=1, context=8), 3, "chunked"),
}


def config_of(heads: int):
    return tiny.config_of(num_heads=heads, learned_positions=True)


def normal(seed: int, *shape: int) -> jax.Array:
    return jnp.array(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def example(config) -> dict[str, Any]:
    """Everything that a gradient is taken of, but the parameters."""
    latents, text, target = (jnp.array(x) for x in tiny.inputs(config, SIZE, seed=1))
    return {
        "latents": latents,
        "text": text,
        "target": target,
        "condition": normal(2, 2, TOKENS, config.dim),
        "residuals": normal(3, 1, 2, TOKENS, config.dim),
        "bias": normal(4, 2, 1, TOKENS, config.text_length),
        "columns": jnp.abs(normal(5, 2, config.text_length)),
    }


def predict(model: CogVideoX, params, given, ports=None):
    return model.apply(
        {"params": params},
        given["latents"],
        TIMESTEPS,
        given["text"],
        condition=given.get("condition"),
        ports=ports,
        method="predict",
    )


@functools.partial(jax.jit, static_argnums=0)
def train(model: CogVideoX, params, given):
    """((loss, prediction), gradients by the adapters and inputs)."""

    def loss(adapters, given):
        ports = Ports(
            probe=Probe(
                jnp.array([2.0, 1.0]), given["columns"], lambda m: jnp.sum(m**2), rows=(1, 7)
            ),
            attention_bias=AttentionBias(given["bias"], jnp.array([0.5, 1.0])),
            residuals=Residuals(given["residuals"], layers=(1,)),
        )
        out = predict(model, {**params, "lora": adapters}, given, ports)
        return jnp.mean((out.sample - given["target"]) ** 2) + out.probe, out.sample

    return jax.value_and_grad(loss, (0, 1), has_aux=True)(params["lora"], given)


def close(got, want, what: str, floor: float = 0.0) -> None:
    """To 1e-5 of the root mean square; of what vanishes, to 1e-5 of `floor`."""
    got, want = np.asarray(got), np.asarray(want)
    error = np.abs(got - want).max() / max(np.sqrt(np.mean(want**2)), floor)
    assert error <= 1e-5, f"{what}: {error:.1e}"


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, marks=pytest.mark.slow if "padding" in case else ()) for case in CASES],
)
def test_training_on_eight_devices_equals_one(case):
    axes, heads, attention = CASES[case]
    config = config_of(heads)
    model = CogVideoX(config, lora=RULES, remat="full", attention=attention)
    params, given = tiny.params_of(model), example(config)
    (want_loss, want), want_slopes = train(model, params, given)
    mesh = make_mesh(axes)
    assert ("padding" in case) == bool(TOKENS % mesh.shape["context"])
    with jax.set_mesh(mesh):
        params = jax.device_put(params, shardings_for(params, mesh, EVERYTHING))
        residuals = given.pop("residuals")
        if mesh.shape["fsdp"] > 1:
            given = jax.device_put(given, batch_sharding(mesh))
        (loss, got), slopes = train(model, params, {**given, "residuals": residuals})
    np.testing.assert_allclose(loss, want_loss, rtol=1e-5)
    close(got, want, "prediction")
    typical = np.median([np.sqrt(np.mean(x**2)) for x in jax.tree.leaves(want_slopes)])
    for (path, ours), theirs in zip(paths(slopes), jax.tree.leaves(want_slopes), strict=True):
        close(ours, theirs, path, floor=1e-2 * typical)


def test_a_cache_made_on_the_mesh_is_read_there():
    """Its tokens stay split and padded, and one example's serve the batch."""
    config = config_of(4)
    model = CogVideoX(config)
    params, given = tiny.params_of(model), example(config)
    given["condition"] = jnp.repeat(given["condition"][:1], 2, axis=0)
    run = jax.jit(functools.partial(predict, model))
    want = run(params, given).sample
    without = {name: x for name, x in given.items() if name != "condition"}

    @jax.jit
    def walk(params, condition):
        def alone(m):
            times = {"condition": m.embed_time(jnp.zeros((1,)))}
            return m.blocks({"condition": condition}, times, GRID, Ports(kv_out=("condition",)))

        return model.apply({"params": params}, method=alone).caches

    with jax.set_mesh(make_mesh(dict(fsdp=2, context=4))):
        caches = walk(params, given["condition"][:1])
        got = run(params, without, Ports(kv_in=caches)).sample
    cache = caches["condition"]
    assert (cache.length, cache.k.shape[1:3]) == (TOKENS, (1, 20))
    assert cache.k.sharding.shard_shape(cache.k.shape)[2] == 5
    close(got, want, "prediction")


def shapes_with_adapters(config):
    base = param_shapes(config)
    return base | {"lora": jax.eval_shape(lambda: init_lora(jax.random.key(0), base, RULES))}


FULL_MESH = dict(fsdp=2, context=2, tensor=2)


def test_places_of_the_parameters():
    """Of the published image-to-video model with adapters."""
    shapes = shapes_with_adapters(PRESETS["cogvideox-5b-i2v"])
    assert SHARDING.unused(shapes) == []
    found = describe(shardings_for(shapes, make_mesh(FULL_MESH), SHARDING), shapes)
    assert found == PLACES.strip("\n")


@pytest.mark.parametrize("name", PRESETS)
def test_depth_is_never_split(name):
    shapes = shapes_with_adapters(PRESETS[name])
    specs = shardings_for(shapes, make_mesh(FULL_MESH), EVERYTHING)
    for path, sharding in paths(specs):
        if "blocks/" in path:
            assert not sharding.spec or sharding.spec[0] is None, path


def test_moments_lie_like_their_parameters():
    shapes = shapes_with_adapters(config_of(4))
    mesh = make_mesh(FULL_MESH)
    wanted = jax.tree.leaves(shardings_for(shapes, mesh, EVERYTHING))
    moments = {"opt_state": {"mu": shapes}}
    assert jax.tree.leaves(shardings_for(moments, mesh, EVERYTHING)) == wanted


PLACES = """
blocks/attn/k/bias          42x3072        everywhere
blocks/attn/k/kernel        42x3072x3072   -, fsdp, tensor
blocks/attn/k_norm/bias     42x64          everywhere
blocks/attn/k_norm/scale    42x64          everywhere
blocks/attn/o/bias          42x3072        everywhere
blocks/attn/o/kernel        42x3072x3072   -, tensor, fsdp
blocks/attn/q/bias          42x3072        everywhere
blocks/attn/q/kernel        42x3072x3072   -, fsdp, tensor
blocks/attn/q_norm/bias     42x64          everywhere
blocks/attn/q_norm/scale    42x64          everywhere
blocks/attn/v/bias          42x3072        everywhere
blocks/attn/v/kernel        42x3072x3072   -, fsdp, tensor
blocks/mlp/fc1/bias         42x12288       everywhere
blocks/mlp/fc1/kernel       42x3072x12288  -, fsdp, tensor
blocks/mlp/fc2/bias         42x3072        everywhere
blocks/mlp/fc2/kernel       42x12288x3072  -, tensor, fsdp
blocks/mod1/bias            42x18432       everywhere
blocks/mod1/kernel          42x512x18432   -, -, fsdp
blocks/mod2/bias            42x18432       everywhere
blocks/mod2/kernel          42x512x18432   -, -, fsdp
blocks/norm1/bias           42x3072        everywhere
blocks/norm1/scale          42x3072        everywhere
blocks/norm2/bias           42x3072        everywhere
blocks/norm2/scale          42x3072        everywhere
final_norm/bias             3072           everywhere
final_norm/scale            3072           everywhere
lora/all/blocks/mlp/fc1/a   42x3072x4      -, fsdp, -
lora/all/blocks/mlp/fc1/b   42x4x12288     -, -, fsdp
lora/all/blocks/mlp/fc2/a   42x12288x4     -, fsdp, -
lora/all/blocks/mlp/fc2/b   42x4x3072      -, -, fsdp
lora/steer/blocks/attn/k/a  1x3072x4       -, fsdp, -
lora/steer/blocks/attn/k/b  1x4x3072       -, -, fsdp
lora/steer/blocks/attn/o/a  1x3072x4       -, fsdp, -
lora/steer/blocks/attn/o/b  1x4x3072       -, -, fsdp
lora/steer/blocks/attn/q/a  1x3072x4       -, fsdp, -
lora/steer/blocks/attn/q/b  1x4x3072       -, -, fsdp
lora/steer/blocks/attn/v/a  1x3072x4       -, fsdp, -
lora/steer/blocks/attn/v/b  1x4x3072       -, -, fsdp
out_mod/bias                6144           everywhere
out_mod/kernel              512x6144       -, fsdp
out_norm/bias               3072           everywhere
out_norm/scale              3072           everywhere
out_proj/bias               64             everywhere
out_proj/kernel             3072x64        everywhere
patch_embed/bias            3072           everywhere
patch_embed/kernel          128x3072       everywhere
pos_embed                   17776x3072     -, fsdp
text_embed/bias             3072           everywhere
text_embed/kernel           4096x3072      fsdp, -
time_embed/fc1/bias         512            everywhere
time_embed/fc1/kernel       3072x512       fsdp, -
time_embed/fc2/bias         512            everywhere
time_embed/fc2/kernel       512x512        everywhere
"""
