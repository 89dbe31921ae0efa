"""Wan on eight devices equals Wan on one: values and gradients, ports included."""

import dataclasses
import functools
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tavid_jax.models.layers import streams
from tavid_jax.models.layers.linear import linear
from tavid_jax.models.layers.located import Laca, init_laca
from tavid_jax.models.layers.lora import LoraRule
from tavid_jax.models.layers.ports import AttentionBias, CrossAttention, Ports, Probe, Residuals
from tavid_jax.models.wan.config import WanConfig
from tavid_jax.models.wan.sharding import LOCATED_SHARDING as SHARDING
from tavid_jax.models.wan.transformer import Wan
from tavid_jax.parallel.mesh import make_mesh
from tavid_jax.parallel.sharding import batch_sharding, describe, paths, shardings_for


@pytest.fixture(scope="module", autouse=True)
def _quick_compilation():
    """These tests compile a lot and compute little."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


CONFIG = WanConfig(
    num_heads=4,
    head_dim=12,
    ffn_dim=64,
    num_layers=2,
    in_channels=4,
    out_channels=3,
    freq_dim=16,
    text_dim=24,
    text_length=6,
    image_dim=20,
)
RULES = (
    LoraRule("blocks/(attn/(q|k|v|o)|cross/(q|o))", rank=4, layers=(1,), stream="condition"),
    LoraRule("blocks/mlp/fc[12]", rank=4, name="mlp"),
)
BATCH = 2
# Twelve heads and 18 tokens: all-to-all, or a ring over padded tokens.
MESHES = {
    "all axes": {"fsdp": 2, "context": 2, "tensor": 2},
    "context 4": {"fsdp": 2, "context": 4},
    "ring": {"fsdp": 1, "context": 8},
}


def mesh_of(name: str):
    return make_mesh(MESHES[name])


def normal(seed: int, *shape: int, size: float = 1.0) -> jax.Array:
    return jnp.asarray(size * np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def random_like(tree: Any) -> Any:
    """Every tensor random; norms around one."""

    def draw(index: int, path: str, shape: tuple[int, ...]) -> jax.Array:
        if path.endswith("scale"):
            return 1 + normal(index, *shape, size=0.3)
        return normal(index, *shape, size=shape[-2] ** -0.5 if len(shape) > 1 else 0.3)

    leaves = [draw(i, path, leaf.shape) for i, (path, leaf) in enumerate(paths(tree))]
    return jax.tree.unflatten(jax.tree.structure(tree), leaves)


def example(config: WanConfig, latent: tuple[int, int, int]) -> dict[str, jax.Array]:
    tokens = int(np.prod(config.grid(latent)))
    return {
        "latents": normal(1, BATCH, *latent, config.in_channels),
        "text": normal(2, BATCH, config.text_length, config.text_dim),
        "image": normal(3, BATCH, 5, config.image_dim),
        "timestep": jnp.array([[0.0, 999.0, 500.0], [0.0, 20.0, 640.0]]),
        "condition": normal(4, BATCH, tokens, config.dim),
        "clean": jnp.zeros((BATCH,)),
    }


def mixed_in(params, x, context, base, inputs):
    """Half of the published block, and a projection weighted token by token."""
    weights = streams.pad("video", inputs["weights"])
    return 0.5 * base() + weights * linear(params, x, jnp.float32)


def all_ports(config: WanConfig, tokens: int) -> dict[str, Any]:
    """As arguments of `Ports`; everything in them is differentiated."""
    d = config.dim
    copies = {"kernel": normal(5, 1, d, d, size=d**-0.5), "bias": normal(6, 1, d)}
    return {
        "residuals": Residuals(values=normal(7, 2, BATCH, tokens, d, size=0.3)),
        "cross_attention": CrossAttention(
            params=copies,
            inputs={"weights": normal(8, BATCH, tokens, 1)},
            apply=mixed_in,
            layers=(1,),
        ),
        "attention_bias": AttentionBias(
            bias=normal(9, 1, config.num_heads, tokens, config.text_length),
            layers=jnp.array([0.5, -1.0]),
        ),
        "probe": Probe(
            layers=jnp.array([1.0, 2.0]),
            columns=jnp.ones((BATCH, config.text_length)).at[:, 0].set(2.0),
            score=lambda column: jnp.sum(column**2),
            rows=(1, 5),
        ),
    }


def predict(model: Wan, params, given, ports=None):
    return model.apply(
        {"params": params},
        given["latents"],
        given["timestep"],
        given["text"],
        image=given["image"],
        condition=given.get("condition"),
        condition_timestep=given.get("clean"),
        ports=ports,
        method=Wan.predict,
    )


@functools.partial(jax.jit, static_argnums=0)
def train(model: Wan, trained, given):
    """((loss, velocity), gradients)."""

    def loss(trained):
        joined = {**given, "condition": trained["condition"]}
        out = predict(model, trained["params"], joined, Ports(**trained["ports"]))
        return jnp.mean(out.sample**2) + out.probe, out.sample

    return jax.value_and_grad(loss, has_aux=True)(trained)


def initial(model: Wan, given) -> Any:
    arguments = given["latents"], given["timestep"], given["text"]
    shapes = jax.eval_shape(
        lambda: model.init(jax.random.key(0), *arguments, image=given["image"])["params"]
    )
    return random_like(shapes)


# Every array is split, however small.
EVERYTHING = dataclasses.replace(SHARDING, min_size=1)


@pytest.fixture(scope="module")
def alone():
    """(model, what is trained, data, the same step on one device)."""
    config = dataclasses.replace(CONFIG, num_heads=12, head_dim=6)
    given = example(config, (3, 4, 6))
    condition = given.pop("condition")
    model = Wan(config, lora=RULES, remat="full")
    trained = {
        "params": initial(model, given),
        "condition": condition,
        "ports": all_ports(config, condition.shape[1]),
    }
    return model, trained, given, train(model, trained, given)


@pytest.mark.parametrize("name", ["all axes", pytest.param("ring", marks=pytest.mark.slow)])
def test_training_on_eight_devices_equals_one(alone, name: str):
    model, trained, given, ((want_loss, want), want_slopes) = alone
    mesh = mesh_of(name)
    with jax.set_mesh(mesh):
        places = shardings_for(trained["params"], mesh, EVERYTHING)
        spread = {**trained, "params": jax.device_put(trained["params"], places)}
        data = jax.device_put(given, batch_sharding(mesh)) if mesh.shape["fsdp"] > 1 else given
        (loss, got), slopes = train(model, spread, data)
    np.testing.assert_allclose(loss, want_loss, rtol=1e-5)
    assert_close(got, want, "sample")
    typical = np.median([np.sqrt(np.mean(x**2)) for x in jax.tree.leaves(want_slopes)])
    for (path, ours), theirs in zip(paths(slopes), jax.tree.leaves(want_slopes), strict=True):
        assert_close(ours, theirs, path, floor=1e-2 * typical)


def assert_close(got, want, what: str, floor: float = 0.0) -> None:
    """To 1e-5 in the root mean square; what vanishes, to 1e-5 of `floor`."""
    got, want = np.asarray(got), np.asarray(want)
    error = np.sqrt(np.mean((got - want) ** 2)) / max(np.sqrt(np.mean(want**2)), floor)
    assert error <= 1e-5, f"{what}: {error:.1e}"


def test_a_cache_made_on_the_mesh_is_read_there():
    """Its tokens stay split and padded."""
    given = example(CONFIG, (3, 2, 6))
    model = Wan(CONFIG)
    params = initial(model, given)
    run = jax.jit(functools.partial(predict, model))
    want = run(params, given).sample
    silent = {k: v for k, v in given.items() if k != "condition"}
    with jax.set_mesh(mesh_of("context 4")):
        kept = run(params, given, Ports(kv_out=("condition",))).caches
        got = run(params, silent, Ports(kv_in=kept)).sample
    cache = kept["condition"]
    assert (cache.length, cache.k.shape[2]) == (9, 12)
    assert cache.k.sharding.shard_shape(cache.k.shape)[2] == 3
    assert_close(got, want, "sample")


def test_looking_at_text_needs_no_exchange():
    """Video queries are split, text is on every device: only self-attention moves tokens."""
    config = dataclasses.replace(CONFIG, num_layers=1)
    given = {k: v for k, v in example(config, (3, 4, 8)).items() if k != "condition"}
    params = initial(Wan(config), given)
    everywhere = jax.NamedSharding(mesh := mesh_of("ring"), jax.P())

    def moves(model: Wan, ports) -> list[str]:
        with jax.set_mesh(mesh):
            placed = jax.device_put((params, given, ports), everywhere)
            program = jax.jit(functools.partial(predict, model)).lower(*placed).compile()
        found = r"= \S+ (all-gather|all-to-all|collective-permute|all-reduce|reduce-scatter)"
        return sorted(set(re.findall(found, program.as_text())))

    whole = moves(Wan(config), None)
    assert "collective-permute" in whole  # the ring of self-attention

    def blind(params, x, context, base, inputs):
        return jnp.zeros_like(x)

    nothing = CrossAttention(params={}, inputs={}, apply=blind)
    assert moves(Wan(config), Ports(cross_attention=nothing)) == whole


def test_heads_that_the_mesh_cannot_split_are_refused():
    model = Wan(dataclasses.replace(CONFIG, num_heads=6))
    given = example(model.config, (3, 2, 2))

    def init():
        names = ("latents", "timestep", "text")
        inputs = [given[name] for name in names]
        jax.eval_shape(lambda: model.init(jax.random.key(0), *inputs, image=given["image"]))

    with jax.set_mesh(make_mesh({"tensor": 4, "fsdp": 2})):
        with pytest.raises(ValueError, match="6 heads .* tensor=4: set it to one of 1, 2, 3, 6"):
            init()
    with jax.set_mesh(make_mesh({"tensor": 2, "fsdp": 4})):
        init()


def test_places_of_the_parameters():
    model = Wan(CONFIG, lora=RULES)
    shapes = jax.eval_shape(lambda: initial(model, example(CONFIG, (3, 4, 4))))
    shapes |= located(shapes)
    assert SHARDING.unused(shapes) == []
    mesh = mesh_of("all axes")
    table = dataclasses.replace(SHARDING, min_size=2**9)
    assert describe(shardings_for(shapes, mesh, table), shapes) == PLACES.strip("\n")


def located(shapes) -> dict[str, Any]:
    """A location-aware cross-attention of the first block, whole and low-rank."""
    cross = {k: v for k, v in shapes["blocks"]["cross"].items() if not k.startswith("image")}

    def init(rank: int | None):
        key = None if rank is None else jax.random.key(0)
        return jax.eval_shape(lambda c: init_laca(c, Laca(layers=(0,), rank=rank), key), cross)

    return {"laca": init(None), "low": {"laca": init(4)}}


def test_moments_and_experts_lie_like_their_parameters():
    model = Wan(CONFIG, lora=RULES)
    shapes = jax.eval_shape(lambda: initial(model, example(CONFIG, (3, 4, 4))))
    mesh = mesh_of("all axes")
    wanted = jax.tree.leaves(shardings_for(shapes, mesh, SHARDING))
    for tree in ({"opt_state": {"mu": shapes}}, {"frozen": {"high_noise": shapes}}):
        assert jax.tree.leaves(shardings_for(tree, mesh, SHARDING)) == wanted


PLACES = """
blocks/attn/k/bias               2x48     everywhere
blocks/attn/k/kernel             2x48x48  -, fsdp, tensor
blocks/attn/k_norm/scale         2x48     everywhere
blocks/attn/o/bias               2x48     everywhere
blocks/attn/o/kernel             2x48x48  -, tensor, fsdp
blocks/attn/q/bias               2x48     everywhere
blocks/attn/q/kernel             2x48x48  -, fsdp, tensor
blocks/attn/q_norm/scale         2x48     everywhere
blocks/attn/v/bias               2x48     everywhere
blocks/attn/v/kernel             2x48x48  -, fsdp, tensor
blocks/cross/image_k/bias        2x48     everywhere
blocks/cross/image_k/kernel      2x48x48  -, fsdp, tensor
blocks/cross/image_k_norm/scale  2x48     everywhere
blocks/cross/image_v/bias        2x48     everywhere
blocks/cross/image_v/kernel      2x48x48  -, fsdp, tensor
blocks/cross/k/bias              2x48     everywhere
blocks/cross/k/kernel            2x48x48  -, fsdp, tensor
blocks/cross/k_norm/scale        2x48     everywhere
blocks/cross/o/bias              2x48     everywhere
blocks/cross/o/kernel            2x48x48  -, tensor, fsdp
blocks/cross/q/bias              2x48     everywhere
blocks/cross/q/kernel            2x48x48  -, fsdp, tensor
blocks/cross/q_norm/scale        2x48     everywhere
blocks/cross/v/bias              2x48     everywhere
blocks/cross/v/kernel            2x48x48  -, fsdp, tensor
blocks/cross_norm/bias           2x48     everywhere
blocks/cross_norm/scale          2x48     everywhere
blocks/mlp/fc1/bias              2x64     everywhere
blocks/mlp/fc1/kernel            2x48x64  -, fsdp, tensor
blocks/mlp/fc2/bias              2x48     everywhere
blocks/mlp/fc2/kernel            2x64x48  -, tensor, fsdp
blocks/modulation                2x6x48   everywhere
image_embed/fc1/bias             20       everywhere
image_embed/fc1/kernel           20x20    fsdp, tensor
image_embed/fc2/bias             48       everywhere
image_embed/fc2/kernel           20x48    tensor, fsdp
image_embed/norm1/bias           20       everywhere
image_embed/norm1/scale          20       everywhere
image_embed/norm2/bias           48       everywhere
image_embed/norm2/scale          48       everywhere
laca/k/bias                      1x48     everywhere
laca/k/kernel                    1x48x48  -, fsdp, tensor
laca/k_norm/scale                1x48     everywhere
laca/o/bias                      1x48     everywhere
laca/o/kernel                    1x48x48  -, tensor, fsdp
laca/q/bias                      1x48     everywhere
laca/q/kernel                    1x48x48  -, fsdp, tensor
laca/q_norm/scale                1x48     everywhere
laca/v/bias                      1x48     everywhere
laca/v/kernel                    1x48x48  -, fsdp, tensor
lora/default/blocks/attn/k/a     1x48x4   -, fsdp, -
lora/default/blocks/attn/k/b     1x4x48   -, -, fsdp
lora/default/blocks/attn/o/a     1x48x4   -, fsdp, -
lora/default/blocks/attn/o/b     1x4x48   -, -, fsdp
lora/default/blocks/attn/q/a     1x48x4   -, fsdp, -
lora/default/blocks/attn/q/b     1x4x48   -, -, fsdp
lora/default/blocks/attn/v/a     1x48x4   -, fsdp, -
lora/default/blocks/attn/v/b     1x4x48   -, -, fsdp
lora/default/blocks/cross/o/a    1x48x4   -, fsdp, -
lora/default/blocks/cross/o/b    1x4x48   -, -, fsdp
lora/default/blocks/cross/q/a    1x48x4   -, fsdp, -
lora/default/blocks/cross/q/b    1x4x48   -, -, fsdp
lora/mlp/blocks/mlp/fc1/a        2x48x4   -, fsdp, -
lora/mlp/blocks/mlp/fc1/b        2x4x64   -, -, fsdp
lora/mlp/blocks/mlp/fc2/a        2x64x4   -, fsdp, -
lora/mlp/blocks/mlp/fc2/b        2x4x48   -, -, fsdp
low/laca/k/a                     1x48x4   -, fsdp, -
low/laca/k/b                     1x4x48   -, -, fsdp
low/laca/k_norm/scale            1x48     everywhere
low/laca/o/a                     1x48x4   -, fsdp, -
low/laca/o/b                     1x4x48   -, -, fsdp
low/laca/q/a                     1x48x4   -, fsdp, -
low/laca/q/b                     1x4x48   -, -, fsdp
low/laca/q_norm/scale            1x48     everywhere
low/laca/v/a                     1x48x4   -, fsdp, -
low/laca/v/b                     1x4x48   -, -, fsdp
out_modulation                   2x48     everywhere
out_proj/bias                    12       everywhere
out_proj/kernel                  48x12    fsdp, -
patch_embed/bias                 48       everywhere
patch_embed/kernel               16x48    -, fsdp
text_embed/fc1/bias              48       everywhere
text_embed/fc1/kernel            24x48    fsdp, tensor
text_embed/fc2/bias              48       everywhere
text_embed/fc2/kernel            48x48    tensor, fsdp
time_embed/fc1/bias              48       everywhere
time_embed/fc1/kernel            16x48    fsdp, tensor
time_embed/fc2/bias              48       everywhere
time_embed/fc2/kernel            48x48    tensor, fsdp
time_proj/bias                   288      everywhere
time_proj/kernel                 48x288   fsdp, tensor
"""
