"""Blocks of the track VAE: attention over space and over time in turns, gated residuals.

x <- x + g_msa * Attn(RMS(x; norm1));  x <- x + g_mlp * MLP(RMS(x; norm3)).
In each stage the first, third, ... block attends over the tokens of a frame, the others over the
frames of a token.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, PRNGKeyArray

from tavid_jax.models.latte import parts
from tavid_jax.models.latte.attention import Axis, init_self_attention, self_attention
from tavid_jax.models.layers.depth import (
    Remat,
    as_pairs,
    remat_body,
    take_block,
    take_blocks,
    walk_depth,
)
from tavid_jax.models.layers.linear import Params, scale_inputs, scale_outputs, xavier_linear
from tavid_jax.models.layers.mlp import init_mlp, mlp
from tavid_jax.models.layers.norms import rms_norm
from tavid_jax.parallel.sharding import constrain


def init_axial_block(key: PRNGKeyArray, dim: int, mlp_dim: int) -> Params:
    """One block: Xavier linears, norms one, gates zero (the block starts as the identity).

    norm2 is never used; the published checkpoints have it, so it is carried along.
    """
    key_attn, key_mlp = jax.random.split(key)
    norm = {"scale": jnp.ones((dim,), jnp.float32)}
    return {
        "gate_msa": jnp.zeros((dim,), jnp.float32),
        "gate_mlp": jnp.zeros((dim,), jnp.float32),
        "norm1": norm,
        "norm2": norm,
        "norm3": norm,
        "attn": init_self_attention(key_attn, dim, xavier_linear),
        "mlp": init_mlp(key_mlp, dim, mlp_dim, dim, xavier_linear),
    }


def axial_block(
    params: Params, x: Float[Array, "B T N D"], *, axis: Axis, heads: int, dtype: DTypeLike
) -> Float[Array, "B T N D"]:
    """One gated residual block along `axis`.

    Norm weights and gates are the same for all tokens: they are folded into the neighbouring
    kernels, which spares two passes over the tokens forward and two reductions backward.
    """
    x = constrain(x, "batch", "time", "tokens", "embed")
    attn = {
        "qkv": scale_inputs(params["attn"]["qkv"], params["norm1"]["scale"]),
        "proj": scale_outputs(params["attn"]["proj"], params["gate_msa"]),
    }
    wide = {
        "fc1": scale_inputs(params["mlp"]["fc1"], params["norm3"]["scale"]),
        "fc2": scale_outputs(params["mlp"]["fc2"], params["gate_mlp"]),
    }

    def block(x: Array, _: None) -> Array:
        normed = rms_norm(x).astype(dtype)
        x = x + self_attention(attn, normed, axis=axis, heads=heads, qk_norm=False, dtype=dtype)
        return x + mlp(wide, rms_norm(x).astype(dtype), dtype)

    return parts.over_sequences(block, x, axis=axis)


def axial_stage(
    blocks: Params,
    span: range,
    x: Float[Array, "B T N D"],
    *,
    heads: int,
    dtype: DTypeLike,
    scan: bool,
    remat: Remat,
    after_first: Float[Array, "T 1 D"] | None = None,
) -> Float[Array, "B T N D"]:
    """The blocks `span` of a stack at one temporal resolution: space, time, space, ...

    The scanned unit is a (space, time) pair; a stage of odd length ends with a space block.
    `after_first` is added to x right after the first block.
    """
    two_of, layers = _pairs(blocks, span)

    def pair(x, layer):
        own, is_first = layer
        space, time = two_of(own)
        x = axial_block(space, x, axis="space", heads=heads, dtype=dtype)
        if after_first is not None:
            x = x + is_first.astype(dtype) * after_first.astype(dtype)
        return axial_block(time, x, axis="time", heads=heads, dtype=dtype)

    def last(x, params):
        return axial_block(params, x, axis="space", heads=heads, dtype=dtype)

    pairs = len(span) // 2
    if pairs:
        x = walk_depth(pair, x, (layers, jnp.arange(pairs) == 0), scan=scan, remat=remat)
    if len(span) % 2:
        x = remat_body(last, remat, in_scan=False)(x, take_block(blocks, span[-1]))
        if len(span) == 1 and after_first is not None:
            x = x + after_first.astype(dtype)
    return x


def _pairs(blocks: Params, span: range) -> tuple[Callable[[Any], tuple[Params, Params]], Any]:
    """(from a layer of the scan to its two blocks, the layers).

    A gradient wants the layers cut from the stack; sampling in parts picks them by number, which
    copies no half of the stack.
    """
    pairs = len(span) // 2
    if parts.numbers_at_once() is None:
        layers = as_pairs(take_blocks(blocks, span.start, span.start + 2 * pairs))
        return lambda layer: (take_block(layer, 0), take_block(layer, 1)), layers
    numbers = span.start + 2 * jnp.arange(pairs)
    return lambda i: (take_block(blocks, i), take_block(blocks, i + 1)), numbers
