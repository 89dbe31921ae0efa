"""Attention on one device: parts are joined, padding is cut off, one kernel call does the rest."""

from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp

from tavid_jax.models.layers.attention.types import Part

Biases = Mapping[tuple[int, int], jax.Array]
# (q (B,Q,K,D), k (B,S,K,D), v (B,S,K,D), bias or None, scale=) -> (B,Q,K,D)
Attend = Callable[..., jax.Array]


def attend_parts(
    attend: Attend,
    queries: Sequence[jax.Array],
    parts: Sequence[Part],
    biases: Biases,
    scale: float,
) -> tuple[jax.Array, ...]:
    """One output per query; every query attends to the real keys of all parts.

    A kernel that works in whole blocks is given whole blocks: joining and padding are one copy.
    """
    keys = sum(part.real for part in parts)
    rows = sum(q.shape[1] for q in queries)
    blocks = getattr(attend, "whole_blocks", None)
    padded = (rows, keys) if blocks is None else blocks(rows, keys)
    k = joined([part.k[:, : part.real] for part in parts], padded[1])
    v = joined([part.v[:, : part.real] for part in parts], padded[1])
    if not biases:
        options = {} if padded[1] == keys else {"keys": keys}
        out = attend(joined(queries, padded[0]), k, v, None, scale=scale, **options)
        return split_like(out, queries)
    rows = [joined_bias(biases, i, q, parts) for i, q in enumerate(queries)]
    return tuple(attend(q, k, v, bias, scale=scale) for q, bias in zip(queries, rows, strict=True))


def joined(arrays: Sequence[jax.Array], length: int | None = None) -> jax.Array:
    """Token sequences (B, S, K, D) behind one another; zeros behind them, up to `length`."""
    missing = 0 if length is None else length - sum(x.shape[1] for x in arrays)
    if missing:
        first = arrays[0]
        zeros = jnp.zeros((first.shape[0], missing, *first.shape[2:]), first.dtype)
        arrays = [*arrays, zeros]
    return arrays[0] if len(arrays) == 1 else jnp.concatenate(arrays, axis=1)


def split_like(out: jax.Array, queries: Sequence[jax.Array]) -> tuple[jax.Array, ...]:
    """The inverse of `joined`, for the answers to the queries."""
    pieces, start = [], 0
    for q in queries:
        pieces.append(out[:, start : start + q.shape[1]])
        start += q.shape[1]
    return tuple(pieces)


def joined_bias(
    biases: Biases, index: int, q: jax.Array, parts: Sequence[Part]
) -> jax.Array | None:
    """The biases of one query behind one another, zero for parts without one; None if none has.

    Dimensions of size 1 stay so, except that of the keys.
    """
    own = {j: biases[index, j] for j in range(len(parts)) if (index, j) in biases}
    if not own:
        return None
    lead = jnp.broadcast_shapes(*(bias.shape[:3] for bias in own.values()))
    dtype = jnp.result_type(*own.values())
    pieces = []
    for j, part in enumerate(parts):
        bias = own.get(j, jnp.zeros((), dtype))
        bias = bias[..., : part.real] if j in own else bias
        pieces.append(jnp.broadcast_to(bias, (*lead, part.real)).astype(dtype))
    return jnp.concatenate(pieces, axis=-1)
