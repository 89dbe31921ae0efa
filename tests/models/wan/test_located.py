"""Location-aware cross-attention in Wan: when it changes nothing, and that it learns everywhere."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tavid_jax.models.layers.located import (
    Laca,
    LocalTexts,
    cross_attention_port,
    init_laca,
    laca_caches,
)
from tavid_jax.models.layers.ports import Ports
from tavid_jax.models.wan.checks import check_located
from tavid_jax.models.wan.config import PRESETS, WanConfig
from tavid_jax.models.wan.transformer import Wan, param_shapes
from tavid_jax.parallel.flops import count
from tavid_jax.parallel.sharding import paths
from tests.models.layers.located import cases

CONFIG = WanConfig(
    num_heads=cases.HEADS,
    head_dim=cases.WIDTH // cases.HEADS,
    ffn_dim=48,
    num_layers=3,
    in_channels=4,
    out_channels=3,
    freq_dim=16,
    text_dim=24,
    text_length=cases.LENGTH,
)
REAL = 5  # tokens of the prompt


@functools.cache
def base() -> dict[str, Any]:
    """Every tensor random, with keys of cross-attention near the root of epsilon."""
    given = inputs()
    shapes = jax.eval_shape(
        lambda: Wan(CONFIG).init(jax.random.key(0), *(given[k] for k in ("x", "time", "text")))
    )["params"]

    def draw(index: int, path: str, shape: tuple[int, ...]) -> jax.Array:
        if path.endswith("scale"):
            return 1 + cases.normal(index, *shape, size=0.3)
        size = shape[-2] ** -0.5 if len(shape) > 1 else 0.3
        shrunk = 1e-2 if "cross/k/" in path else 1.0
        return cases.normal(index, *shape, size=size * shrunk)

    leaves = [jnp.asarray(draw(i, p, leaf.shape)) for i, (p, leaf) in enumerate(paths(shapes))]
    return jax.tree.unflatten(jax.tree.structure(shapes), leaves)


@functools.cache
def inputs() -> dict[str, jax.Array]:
    frames, rows, cols = cases.GRID
    text = cases.normal(2, cases.BATCH, cases.LENGTH, CONFIG.text_dim)
    local = cases.normal(3, cases.BATCH, cases.TEXTS, cases.POSITIONS, CONFIG.text_dim)
    padded = np.arange(cases.POSITIONS) >= cases.LENGTHS[..., None]
    given = {
        "x": cases.normal(1, cases.BATCH, frames, 2 * rows, 2 * cols, CONFIG.in_channels),
        "time": np.array([999.0, 300.0], np.float32),
        "text": np.where((np.arange(cases.LENGTH) >= REAL)[:, None], 0, text),
        "local": np.where(padded[..., None], 0, local),
    }
    return jax.tree.map(jnp.asarray, given)


@functools.partial(jax.jit, static_argnums=0)
def published(model: Wan, params, given):
    return model.apply({"params": params}, given["x"], given["time"], given["text"])


def predicted(model: Wan, laca: Laca, params, own, given, texts, cached: bool = False):
    def run(model: Wan):
        sizes = {"heads": CONFIG.num_heads, "epsilon": CONFIG.epsilon, "dtype": model.dtype}
        cross = params["blocks"]["cross"]
        embedded, more = model.embed_text(given["local"].reshape(-1, *given["local"].shape[2:])), {}
        embedded = embedded.reshape(*given["local"].shape[:3], -1)
        if cached:
            prompt = model.embed_text(given["text"])
            more["caches"] = laca_caches(own, laca, prompt, embedded, base=cross, **sizes)
            embedded = None
        port = cross_attention_port(
            own,
            laca,
            texts.replace(text=embedded),
            grid=cases.GRID,
            text_length=CONFIG.text_length,
            base=cross,
            **sizes,
            **more,
        )
        ports = Ports(cross_attention=port)
        return model.predict(given["x"], given["time"], given["text"], ports=ports).sample

    return model.apply({"params": params}, method=run)


def texts_of(where: cases.Near, lengths=cases.LENGTHS, strength=(0.3, 0.8)):
    return cases.local_texts(where, None, lengths, strength)


def same(got, want, tolerance: float = 1e-6) -> None:
    error = np.sqrt(np.mean(np.square(np.asarray(got, np.float64) - want)) / np.mean(want**2))
    assert error <= tolerance, error


@pytest.mark.parametrize("laca", [Laca(), Laca(rank=2, layers=(0, 2), outside="skip")])
def test_at_strength_zero_and_at_the_start_it_is_the_published_model(laca: Laca):
    start = init_laca(base()["blocks"]["cross"], laca, jax.random.key(1))
    run = jax.jit(functools.partial(predicted, Wan(CONFIG), laca))
    want = published(Wan(CONFIG), base(), inputs())
    where = cases.near()
    moved = cases.moved(start)
    np.testing.assert_array_equal(
        run(base(), moved, inputs(), texts_of(where, strength=(0.0, 0.0))), want
    )
    nowhere = texts_of(where)
    nowhere = nowhere.replace(
        token=jnp.full_like(nowhere.token, math.prod(cases.GRID)),
        share=jnp.zeros_like(nowhere.share),
    )
    for strength in ((0.4, 1.0), (1.7, -0.5)):
        same(run(base(), start, inputs(), nowhere.replace(strength=jnp.array(strength))), want)
    assert np.abs(run(base(), moved, inputs(), texts_of(where)) - want).max() > 0.05


def test_a_text_that_is_the_prompt_changes_nothing():
    given = inputs()
    prompt = jnp.repeat(given["text"][:, None, : cases.POSITIONS], cases.TEXTS, axis=1)
    texts = texts_of(cases.near("blend"), np.full((2, 3), REAL, np.int32))
    want = published(Wan(CONFIG), base(), given)
    laca = Laca(gaussian="none", overlap="blend")
    own = init_laca(base()["blocks"]["cross"], laca)
    run = jax.jit(functools.partial(predicted, Wan(CONFIG), laca))
    same(run(base(), own, {**given, "local": prompt}, texts), want)


@pytest.mark.slow
def test_scanned_and_rematerialised_it_learns_the_same():
    """Every tensor of it, from texts that are cached or not."""
    laca, texts = Laca(), texts_of(cases.near())

    def step(model: Wan, own, cached: bool):
        def loss(own):
            out = predicted(model, laca, base(), own, inputs(), texts, cached)
            return jnp.mean(out**2), out

        return jax.grad(loss, has_aux=True)(own)

    own = cases.moved(init_laca(base()["blocks"]["cross"], laca))
    run = jax.jit(step, static_argnums=(0, 2))
    want, out = run(Wan(CONFIG, scan=False), own, False)
    got, other = run(Wan(CONFIG, remat="full"), own, True)
    same(other, out, 2e-6)
    for (path, ours), theirs in zip(paths(got), jax.tree.leaves(want), strict=True):
        theirs = np.asarray(theirs, np.float64)
        assert np.sqrt(np.mean(theirs**2, axis=tuple(range(1, theirs.ndim)))).min() > 1e-6, path
        same(ours, theirs, 1e-4)


def test_some_blocks_have_one():
    laca = Laca(layers=(0, 2))
    own = cases.moved(init_laca(base()["blocks"]["cross"], laca))
    args = (base(), own, inputs(), texts_of(cases.near()))
    scanned, unrolled = (
        jax.jit(functools.partial(predicted, model, laca))(*args)
        for model in (Wan(CONFIG), Wan(CONFIG, scan=False))
    )
    same(scanned, np.asarray(unrolled, np.float64))


@pytest.mark.parametrize(("outside", "most"), [("prompt", 0.01), ("skip", 0.02)])
def test_it_costs_little(outside: str, most: float):
    """Of a block of 14B at 81x480x832 with five texts, beyond what the prompt's projections cost;
    "skip" in all."""
    config, grid, laca = WanConfig(num_layers=1), (21, 30, 52), Laca(outside=outside)
    d, tokens, pairs = config.dim, math.prod(grid), 5 * 21 * 25
    model = Wan(config, dtype=jnp.bfloat16, attention="xla")

    def shape(*sizes: int, dtype=jnp.float32):
        return jax.ShapeDtypeStruct(sizes, dtype)

    integers, numbers = shape(1, pairs, dtype=jnp.int32), shape(1, pairs)
    texts = LocalTexts(
        text=shape(1, 5, 33, d),
        lengths=shape(1, 5, dtype=jnp.int32),
        token=integers,
        owner=integers,
        gauss=numbers,
        share=numbers,
        strength=shape(1),
    )
    sizes = {"heads": config.num_heads, "epsilon": config.epsilon, "dtype": jnp.bfloat16}

    def run(params, own, texts, video, text):
        def blocks(model: Wan):
            ports = Ports()
            if own is not None:
                port = cross_attention_port(
                    own, laca, texts, grid=grid, text_length=512, implementation="xla", **sizes
                )
                ports = Ports(cross_attention=port)
            times = {"video": model.embed_time(jnp.zeros(1))}
            return model.blocks({"video": video}, times, {"text": text}, grid, ports).streams

        return model.apply({"params": params}, method=blocks)

    params = param_shapes(config)
    own = jax.eval_shape(lambda cross: init_laca(cross, laca), params["blocks"]["cross"])
    given = texts, shape(1, tokens, d), shape(1, 512, d)
    alone, whole = (count(run, params, o, *given).flops for o in (None, own))
    # q' and o' of all tokens, and the attention to the prompt with its keys and values.
    prompt = 4 * tokens * d * d + 4 * 512 * d * (d + tokens) if outside == "prompt" else 0
    assert 0 < whole - alone - prompt < most * alone


def test_models_that_cannot_have_one_are_refused():
    with pytest.raises(ValueError, match="also reads an image .*use a text-to-video model"):
        check_located(PRESETS["wan2.1-i2v-14b"], Laca())
    with pytest.raises(ValueError, match="block 30 of 30 does not exist"):
        check_located(PRESETS["wan2.1-t2v-1.3b"], Laca(layers=(3, 30)))
    check_located(PRESETS["wan2.2-ti2v-5b"], Laca(layers=(29,)))
