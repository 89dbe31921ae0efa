"""Adaptive normalisation: shift, scale and gate derived from one vector per sample."""

import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from tavid_jax.models.layers.linear import Params, linear
from tavid_jax.models.layers.mlp import silu
from tavid_jax.models.layers.norms import rms_norm


def init_modulation(n_in: int, n_out: int, num_branches: int) -> Params:
    """Zero kernel; bias zero but for the gates, which are one.

    The output is (shift, scale, gate) of branch 0, then of branch 1, ...: at initialisation
    every branch is a plain pre-norm residual branch, fully open.
    """
    gates = jnp.tile(jnp.array([0.0, 0.0, 1.0]), num_branches)
    return {
        "kernel": jnp.zeros((n_in, 3 * num_branches * n_out), jnp.float32),
        "bias": jnp.repeat(gates, n_out),
    }


def modulations(
    params: Params, condition: Float[Array, "B E"], num_branches: int, dtype: DTypeLike
) -> list[tuple[Array, Array, Array]]:
    """Per branch (shift, scale, gate), each (B, 1, 1, D), ready to broadcast over (B, L, N, D).

    The product is made on (B, E): the condition is never copied to tokens.
    """
    out = linear(params, silu(condition), dtype)[:, None, None, :]
    parts = jnp.split(out, 3 * num_branches, axis=-1)
    return [tuple(parts[i : i + 3]) for i in range(0, len(parts), 3)]


def modulated_norm(
    x: Float[Array, "B L N D"],
    shift: Float[Array, "B 1 1 D"],
    scale: Float[Array, "B 1 1 D"],
    dtype: DTypeLike,
) -> Float[Array, "B L N D"]:
    """rms_norm(x) * (1 + scale) + shift, in float32, returned in `dtype`."""
    return (rms_norm(x) * (1.0 + scale.astype(jnp.float32)) + shift).astype(dtype)


def scale_shift(
    normed: Float[Array, "B N D"],
    scale: Float[Array, "B G D"],
    shift: Float[Array, "B G D"],
    dtype: DTypeLike,
    length: int | None = None,
) -> Float[Array, "B N D"]:
    """normed * (1 + scale) + shift in float32, returned in `dtype`; `over_tokens` explains G."""
    tokens = normed.shape[1]
    scale, shift = over_tokens(scale, tokens, length), over_tokens(shift, tokens, length)
    return (normed.astype(jnp.float32) * (1.0 + scale) + shift).astype(dtype)


def add_gated(
    x: Float[Array, "B N D"],
    gate: Float[Array, "B G D"],
    y: Float[Array, "B N D"],
    length: int | None = None,
) -> Float[Array, "B N D"]:
    """x + gate * y in float32, returned in x's dtype; `over_tokens` explains G."""
    gate = over_tokens(gate, x.shape[1], length)
    return (x.astype(jnp.float32) + gate * y.astype(jnp.float32)).astype(x.dtype)


def over_tokens(
    vectors: Float[Array, "B G D"], tokens: int, length: int | None = None
) -> Float[Array, "B M D"]:
    """Vectors of G groups of successive tokens, float32, ready to broadcast over (B, N, D).

    One group serves all tokens as it is (M = 1). Otherwise each is repeated for its share of the
    `length` real tokens (default: all of them), and the last one for the padding behind (M = N).
    """
    vectors = vectors.astype(jnp.float32)
    groups = vectors.shape[1]
    if groups == 1:
        return vectors
    repeated = jnp.repeat(vectors, (length or tokens) // groups, axis=1)
    return jnp.pad(repeated, ((0, 0), (0, tokens - repeated.shape[1]), (0, 0)), mode="edge")
