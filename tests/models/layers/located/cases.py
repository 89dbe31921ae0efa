"""Cases of location-aware cross-attention and the definition that they are compared with.

The definition scales each token's texts by its G, pads them to their whole length, and projects
them anew: in float64, with nothing shared between tokens.
"""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tavid_jax.models.layers.located import (
    Laca,
    LocalTexts,
    cross_attention_port,
    init_laca,
    laca_caches,
)

BATCH, TEXTS, POSITIONS, LENGTH = 2, 3, 7, 16
HEADS, WIDTH, LAYERS = 2, 32, 2
GRID = (3, 4, 6)
EPSILON = 1e-6
SIZES = {"heads": HEADS, "epsilon": EPSILON, "dtype": jnp.float32}
# Blocks whose keys and queries are so small that epsilon shows in their norms.
SHRUNK = 1


def normal(seed: int, *shape: int, size: float = 1.0) -> np.ndarray:
    return (size * np.random.default_rng((8, seed)).standard_normal(shape)).astype(np.float32)


def cross_stack(seed: int = 0, width: int = WIDTH, layers: int = LAYERS) -> dict[str, Any]:
    """A published cross-attention, all tensors random, one block of it shrunk."""
    small = np.where(np.arange(layers) == SHRUNK, 1e-3, 1).astype(np.float32)
    stack = {}
    for i, name in enumerate("qkvo"):
        scale = small if name in "qk" else np.ones_like(small)
        kernel = normal(seed + 2 * i, layers, width, width, size=width**-0.5)
        bias = normal(seed + 2 * i + 1, layers, width, size=0.5)
        stack[name] = {"kernel": kernel * scale[:, None, None], "bias": bias * scale[:, None]}
    for i, name in enumerate(("q_norm", "k_norm")):
        stack[name] = {"scale": 1 + normal(seed + 10 + i, layers, width, size=0.3)}
    return jax.tree.map(jnp.asarray, stack)


def moved(params: Any, size: float = 0.5) -> Any:
    """Parameters that have learned something: noise on every tensor, small where it is small."""
    leaves, tree = jax.tree.flatten(params)

    def move(i, leaf):
        leaf = np.asarray(leaf)
        rms = np.sqrt(np.mean(leaf**2, axis=tuple(range(1, leaf.ndim)), keepdims=True))
        rms = np.where(rms == 0, leaf.shape[-2] ** -0.5, rms)
        return jnp.asarray(leaf + rms * normal(200 + i, *leaf.shape, size=size), jnp.float32)

    return tree.unflatten([move(i, leaf) for i, leaf in enumerate(leaves)])


@dataclasses.dataclass(frozen=True)
class Near:
    """Which trajectories cover a token: (B, T, N) arrays."""

    member: np.ndarray
    gauss: np.ndarray
    share: np.ndarray


def near(overlap: str = "owner", grid=GRID, texts: int = TEXTS, batch: int = BATCH) -> Near:
    """Random neighbourhoods: many tokens in none, and some in several unless there are owners."""
    rng = np.random.default_rng(3)
    shape = (batch, math.prod(grid), texts)
    member = rng.random(shape) < 0.35
    if overlap == "owner":
        member &= np.cumsum(member, axis=-1) == 1
    gauss = np.where(member, rng.uniform(0.02, 1, shape), 1).astype(np.float32)
    share = member.astype(np.float32)
    if overlap == "blend":
        share = np.where(member, gauss, 0) / np.maximum((gauss * member).sum(-1, keepdims=True), 1)
        share = share / np.maximum(share.sum(-1, keepdims=True), 1e-30)
    return Near(member, gauss, share.astype(np.float32))


def local_texts(
    where: Near,
    text: Any,
    lengths: np.ndarray,
    strength: Any,
    grid=GRID,
    spare: int = 2,
) -> LocalTexts:
    """The batch that a model is given; so many unused pairs per frame beyond the fullest one."""
    frames = grid[0]
    batch, tokens, _ = where.member.shape
    counts = where.member.reshape(batch, frames, -1).sum(-1)
    size = frames * (int(counts.max()) + spare)
    token = np.full((batch, size), tokens, np.int32)
    owner = np.zeros((batch, size), np.int32)
    gauss, share = np.ones((batch, size), np.float32), np.zeros((batch, size), np.float32)
    for b in range(batch):
        t, n = np.nonzero(where.member[b])
        token[b, : len(t)], owner[b, : len(t)] = t, n
        gauss[b, : len(t)], share[b, : len(t)] = where.gauss[b, t, n], where.share[b, t, n]
    return LocalTexts(
        text=text,
        lengths=jnp.asarray(lengths, jnp.int32),
        token=jnp.asarray(token),
        owner=jnp.asarray(owner),
        gauss=jnp.asarray(gauss),
        share=jnp.asarray(share),
        strength=jnp.asarray(strength, jnp.float32),
    )


LENGTHS = np.array([[6, 2, 0], [1, 5, 4]], np.int32)


def drawn(grid=GRID, width: int = WIDTH) -> dict[str, jax.Array]:
    """Tokens, prompt, texts, and what the published block adds."""
    tokens = math.prod(grid)
    given = {
        "x": normal(20, BATCH, tokens, width),
        "published": normal(21, BATCH, tokens, width),
        "prompt": normal(22, BATCH, LENGTH, width),
        "text": normal(23, BATCH, TEXTS, POSITIONS, width),
        "strength": np.array([0.3, 0.8], np.float32),
    }
    return jax.tree.map(jnp.asarray, given)


def answered(params, laca: Laca, given, where: Near, base, layer: int, grid=GRID, **options):
    """What the port gives in one of the replaced blocks; `cached`: its texts come from a cache."""
    cached = options.pop("cached", False)
    lengths = options.pop("lengths", LENGTHS)
    texts = local_texts(where, given["text"], lengths, given["strength"], grid)
    if cached:
        caches = laca_caches(params, laca, given["prompt"], given["text"], base=base, **SIZES)
        options["caches"], texts = caches, texts.replace(text=None)
    options = {**SIZES, **options}
    port = cross_attention_port(
        params, laca, texts, grid=grid, text_length=LENGTH, base=base, **options
    )
    own = jax.tree.map(lambda leaf: leaf[layer], port.params)
    context = {} if cached else {"text": given["prompt"]}
    return port.apply(own, given["x"], context, lambda: given["published"], port.inputs)


def merged(params, laca: Laca, base, layer: int):
    """One block's weights in float64, a low-rank form multiplied out."""
    wide = jax.tree.map(lambda leaf: np.asarray(leaf[layer], np.float64), params)
    if laca.rank is None:
        return wide
    block = layer if laca.layers is None else laca.layers[layer]
    for name in "qkvo":
        a, b = wide[name]["a"], wide[name]["b"]
        kernel = np.asarray(base[name]["kernel"][block], np.float64)
        bias = np.asarray(base[name]["bias"][block], np.float64)
        wide[name] = {"kernel": kernel + laca.scale * a @ b, "bias": bias}
    return wide


def defined(weights, laca: Laca, given, where: Near, xp: Any = np):
    """The definition, in float64; `xp` is numpy, or jax.numpy with `jax.enable_x64`."""
    given = {k: xp.asarray(v, xp.float64) for k, v in given.items()}
    x = given["x"]

    def linear(name, y):
        return y @ weights[name]["kernel"] + weights[name]["bias"]

    def rms(y, name):
        return y / xp.sqrt(xp.mean(y**2, -1, keepdims=True) + EPSILON) * weights[name]["scale"]

    def heads(y):
        return y.reshape(*y.shape[:-1], HEADS, -1)

    def softmax(y):
        weight = xp.exp(y - y.max(-1, keepdims=True))
        return weight / weight.sum(-1, keepdims=True)

    def keys_values(text, gauss):
        """Of texts (..., P, D), scaled by G (...)."""
        g = gauss[..., None, None]
        scaled = {"input": (g * text, g * text), "value": (text, g * text), "none": (text, text)}
        for_k, for_v = scaled[laca.gaussian]
        return heads(rms(linear("k", for_k), "k_norm")), heads(linear("v", for_v))

    q = heads(rms(linear("q", x), "q_norm"))
    k, v = keys_values(given["prompt"], np.ones(BATCH))
    scale = q.shape[-1] ** -0.5
    weight = softmax(xp.einsum("btkd,bpkd->btkp", q, k) * scale)
    everywhere = xp.einsum("btkp,bpkd->btkd", weight, v)

    long, seen = explicit(given["text"], laca.mask_pads, xp)
    k, v = keys_values(long[:, None], where.gauss.astype(np.float64))
    logits = xp.einsum("btkd,btnpkd->btknp", q, k) * scale
    logits = xp.where(seen[:, None, None], logits, -np.inf)
    if laca.overlap == "concat":
        logits = xp.where(where.member[:, :, None, :, None], logits, -1e30)
        weight = softmax(logits.reshape(*logits.shape[:3], -1)).reshape(logits.shape)
    else:
        weight = softmax(logits) * where.share.astype(np.float64)[:, :, None, :, None]
    near = xp.einsum("btknp,btnpkd->btkd", weight, v)
    covered = where.member.any(-1)[..., None]
    mixed = xp.where(covered[..., None], near, everywhere)
    own = linear("o", mixed.reshape(x.shape))
    strength = given["strength"][:, None, None]
    if laca.outside == "skip":
        strength = strength * covered
    return (1 - strength) * given["published"] + strength * own


def explicit(text, mask_pads: bool, xp: Any = np):
    """(texts with all their pads, which keys count)."""
    place = np.arange(LENGTH)
    length = LENGTHS[..., None]
    source = np.minimum(place, length)
    long = xp.take_along_axis(text, source[..., None], axis=2)
    return long, place < np.where(mask_pads & (length > 0), length, LENGTH)


def start(laca: Laca, base):
    """Parameters of a low-rank or a whole form, moved away from the published ones."""
    return moved(init_laca(base, laca, jax.random.key(5)))
