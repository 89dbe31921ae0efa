"""Blocks of the track VAE: attention over space and over time in turns, gated residuals.

x <- x + g_msa * Attn(RMS(x; norm1));  x <- x + g_mlp * MLP(RMS(x; norm3)).
In each stage the first, third, ... block attends over the tokens of a frame, the others over the
frames of a token.
"""

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.typing import DTypeLike
from jaxtyping import Array, Float, PRNGKeyArray

from tavid_jax.models.latte import parts
from tavid_jax.models.latte.attention import ACTIVATIONS, Axis, init_self_attention, self_attention
from tavid_jax.models.layers.axial import walk_axial
from tavid_jax.models.layers.depth import Remat
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
    x = checkpoint_name(constrain(x, "batch", "time", "tokens", "embed"), "block_input")
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

    See `walk_axial`. A gradient wants the blocks cut from the stack; sampling in parts picks them
    by number, which copies no half of the stack.
    """

    def block(params: Params, x: Array, axis: Axis) -> Array:
        return axial_block(params, x, axis=axis, heads=heads, dtype=dtype)

    return walk_axial(
        block,
        blocks,
        x,
        dtype=dtype,
        scan=scan,
        remat=remat,
        names=ACTIVATIONS,
        after_first=after_first,
        span=span,
        by_number=parts.numbers_at_once() is not None,
    )
