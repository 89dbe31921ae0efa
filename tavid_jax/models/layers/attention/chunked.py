"""Attention in pure JAX that never holds more than a block of the scores (online softmax).

Runs anywhere. The backward pass recomputes each block from the rows' log-sum-exp, so that memory
stays linear in the sequence there too (Dao et al., "FlashAttention", 2022; Rabe and Staats,
"Self-attention does not need O(n^2) memory", 2021).

`forward` and `backward` are also the two halves from which the ring builds attention over several
devices: `backward` takes the log-sum-exp over *all* keys and gives the share of those it is shown.
Layout inside: (B, K, S, D).
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from tavid_jax.models.layers.attention.xla import scores_of
from tavid_jax.parallel.sharding import target_platform

# Bytes of one block of float32 scores: what stays in cache on a CPU; elsewhere enough to keep
# the matrix units busy and little beside the activations.
BLOCK_BYTES = {"cpu": 2**22, "gpu": 2**27, "tpu": 2**27}
LEAST_ROWS, MOST_ROWS = 64, 1024
# Score of a key that must not be seen: finite, so that a block of such keys gives no NaN.
HIDDEN = -0.7 * float(jnp.finfo(jnp.float32).max)


class Blocks(NamedTuple):
    """Rows (queries) and columns (keys) of one block of scores."""

    rows: int
    keys: int


def choose_blocks(batch: int, heads: int, queries: int, keys: int) -> Blocks:
    """Blocks within `BLOCK_BYTES` where possible, twice as many keys as rows.

    The queries are shared evenly among the rows of blocks.
    """
    budget = BLOCK_BYTES.get(target_platform(), BLOCK_BYTES["gpu"])
    rows = MOST_ROWS
    while rows > LEAST_ROWS and 4 * batch * heads * rows * 2 * rows > budget:
        rows //= 2
    count = -(-queries // rows)
    return Blocks(rows=-(-queries // count), keys=min(2 * rows, keys))


def attend(
    q: Float[Array, "B Q K D"],
    k: Float[Array, "B S K D"],
    v: Float[Array, "B S K D"],
    bias: Float[Array, "#B #K #Q #S"] | None = None,
    *,
    scale: float,
    blocks: Blocks | None = None,
) -> Float[Array, "B Q K D"]:
    """softmax(scale q k^T + bias) v.

    Args:
      blocks: None chooses by shape and platform.
    """
    q, k, v = (jnp.swapaxes(x, 1, 2) for x in (q, k, v))
    blocks = blocks or choose_blocks(q.shape[0], q.shape[1], q.shape[2], k.shape[2])
    return jnp.swapaxes(_attend(q, k, v, bias, scale, blocks), 1, 2)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def _attend(q, k, v, bias, scale, blocks):
    return _forward(q, k, v, bias, None, scale, blocks)[0].astype(v.dtype)


def _attend_forward(q, k, v, bias, scale, blocks):
    out, lse = _forward(q, k, v, bias, None, scale, blocks)
    out = out.astype(v.dtype)
    return out, (q, k, v, bias, out, lse)


def _attend_backward(scale, blocks, saved, d_out):
    *inputs, out, lse = saved
    grads = _backward(*inputs, None, lse, row_delta(out, d_out), d_out, scale, blocks)
    return jax.tree.map(lambda grad, x: grad.astype(x.dtype), grads, tuple(inputs))


_attend.defvjp(_attend_forward, _attend_backward)


def forward(
    q: Float[Array, "B K Q D"],
    k: Float[Array, "B K S D"],
    v: Float[Array, "B K S D"],
    seen: Bool[Array, " S"] | None,
    scale: float,
) -> tuple[Float[Array, "B K Q D"], Float[Array, "B K Q"]]:
    """Attention and the log-sum-exp of its rows, both float32 (float64 if the inputs are).

    Args:
      seen: keys that count, the others are padding; None: all. Where none counts, the
        log-sum-exp is so low that the result has no weight beside another.
    """
    blocks = choose_blocks(q.shape[0], q.shape[1], q.shape[2], k.shape[2])
    return _forward(q, k, v, None, seen, scale, blocks)


def backward(
    q: Float[Array, "B K Q D"],
    k: Float[Array, "B K S D"],
    v: Float[Array, "B K S D"],
    seen: Bool[Array, " S"] | None,
    out: Float[Array, "B K Q D"],
    lse: Float[Array, "B K Q"],
    d_out: Float[Array, "B K Q D"],
    scale: float,
) -> tuple[Float[Array, "B K Q D"], Float[Array, "B K S D"], Float[Array, "B K S D"]]:
    """Cotangents of q, k and v, float32, given out and its log-sum-exp over all keys there are."""
    blocks = choose_blocks(q.shape[0], q.shape[1], q.shape[2], k.shape[2])
    return _backward(q, k, v, None, seen, lse, row_delta(out, d_out), d_out, scale, blocks)[:3]


def row_delta(
    out: Float[Array, "B K Q D"], d_out: Float[Array, "B K Q D"]
) -> Float[Array, "B K Q"]:
    """What the softmax's gradient subtracts in each row: the sum of out times its cotangent."""
    wide = jnp.promote_types(out.dtype, jnp.float32)
    return jnp.sum(out.astype(wide) * d_out.astype(wide), axis=-1)


def _forward(q, k, v, bias, seen, scale, blocks):
    """(out, log-sum-exp of the rows), a row of blocks after another."""
    wide = jnp.promote_types(q.dtype, jnp.float32)
    rows = _as_blocks(q, blocks.rows)
    bias = _pad_bias(bias, rows)

    def one_row(index_and_q):
        row, q_row = index_and_q

        def step(state, start, size):
            bias_block = _bias_block(bias, row, blocks.rows, start, size)
            scores = scores_of(q_row, _keys(k, start, size), bias_block, scale)
            return _online(state, _hide(scores, seen, start), _keys(v, start, size))

        lead = q_row.shape[:3]
        state = (
            jnp.full((*lead, 1), HIDDEN, wide),
            jnp.zeros((*lead, 1), wide),
            jnp.zeros((*lead, v.shape[-1]), wide),
        )
        top, total, mixed = _walk(step, state, k.shape[2], blocks.keys)
        return mixed / total, (top + jnp.log(total))[..., 0]

    out, lse = jax.lax.map(one_row, (jnp.arange(len(rows)), rows))
    return _from_blocks(out, q.shape[2]), _from_blocks(lse, q.shape[2])


def _online(state, scores, v):
    """One more block of keys into (running maximum, sum of weights, weighted values)."""
    top, total, mixed = state
    new_top = jnp.maximum(top, jnp.max(scores, axis=-1, keepdims=True))
    weights = jnp.exp(scores - new_top)
    shrink = jnp.exp(top - new_top)
    added = jnp.einsum(
        "bkqs,bksd->bkqd", weights.astype(v.dtype), v, preferred_element_type=mixed.dtype
    )
    total = total * shrink + jnp.sum(weights, axis=-1, keepdims=True)
    return new_top, total, mixed * shrink + added


def _backward(q, k, v, bias, seen, lse, delta, d_out, scale, blocks):
    """Cotangents of q, k, v and bias; those of the keys are summed over the rows of blocks."""
    wide = lse.dtype
    rows = tuple(_as_blocks(x, blocks.rows) for x in (q, d_out.astype(v.dtype), lse, delta))
    padded = _pad_bias(bias, rows[0])

    def one_row(sums, index_and_row):
        row, row_arrays = index_and_row

        def step(state, start, size):
            d_q, d_k, d_v, d_bias = state
            k_block, v_block = _keys(k, start, size), _keys(v, start, size)
            bias_block = _bias_block(padded, row, blocks.rows, start, size)
            scores = _hide(scores_of(row_arrays[0], k_block, bias_block, scale), seen, start)
            dq, dk, dv, d_scores = _block_backward(*row_arrays, k_block, v_block, scores, scale)
            d_bias = _add_bias_block(d_bias, d_scores, row, blocks.rows, start)
            return d_q + dq, _add_keys(d_k, dk, start), _add_keys(d_v, dv, start), d_bias

        state = (jnp.zeros(row_arrays[0].shape, wide), *sums)
        d_q, *sums = _walk(step, state, k.shape[2], blocks.keys)
        return tuple(sums), d_q

    sums = (
        jnp.zeros(k.shape, wide),
        jnp.zeros(v.shape, wide),
        None if bias is None else jnp.zeros(padded.shape, wide),
    )
    (d_k, d_v, d_bias), d_q = jax.lax.scan(one_row, sums, (jnp.arange(len(rows[0])), rows))
    if bias is not None:
        d_bias = d_bias[:, :, : bias.shape[2]]
    return _from_blocks(d_q, q.shape[2]), d_k, d_v, d_bias


def _block_backward(q, d_out, lse, delta, k, v, scores, scale):
    """One block's shares of the cotangents of q, k, v and the cotangent of its scores."""
    product = functools.partial(jnp.einsum, preferred_element_type=lse.dtype)
    weights = jnp.exp(scores - lse[..., None])
    d_v = product("bkqs,bkqd->bksd", weights.astype(v.dtype), d_out)
    d_scores = weights * (product("bkqd,bksd->bkqs", d_out, v) - delta[..., None])
    low = (d_scores * scale).astype(q.dtype)
    d_q = product("bkqs,bksd->bkqd", low, k)
    return d_q, product("bkqs,bkqd->bksd", low, q), d_v, d_scores


def _walk(step, state, keys, block):
    """state = step(state, start, size) over all blocks of keys, the shorter last one included."""
    whole = keys // block
    if whole:
        state = jax.lax.fori_loop(0, whole, lambda i, s: step(s, i * block, block), state)
    return step(state, whole * block, keys % block) if keys % block else state


def _as_blocks(x: Array, rows: int) -> Array:
    """(B, K, Q, ...) -> (blocks, B, K, rows, ...), zeros behind the last query.

    Rows of zeros are harmless: they are cut off again, and their cotangents are zero.
    """
    count = -(-x.shape[2] // rows)
    padding = [(0, 0)] * x.ndim
    padding[2] = (0, count * rows - x.shape[2])
    x = jnp.pad(x, padding).reshape(*x.shape[:2], count, rows, *x.shape[3:])
    return jnp.moveaxis(x, 2, 0)


def _from_blocks(x: Array, queries: int) -> Array:
    """The inverse of `_as_blocks`."""
    x = jnp.moveaxis(x, 0, 2)
    return x.reshape(*x.shape[:2], -1, *x.shape[4:])[:, :, :queries]


def _keys(x: Array, start, size: int) -> Array:
    return jax.lax.dynamic_slice_in_dim(x, start, size, axis=2)


def _add_keys(total: Array, block: Array, start) -> Array:
    old = _keys(total, start, block.shape[2])
    return jax.lax.dynamic_update_slice_in_dim(total, old + block, start, axis=2)


def _hide(scores: Array, seen: Array | None, start) -> Array:
    """Scores of keys that are padding become `HIDDEN`."""
    if seen is None:
        return scores
    block = jax.lax.dynamic_slice_in_dim(seen, start, scores.shape[-1])
    return jnp.where(block, scores, HIDDEN)


def _pad_bias(bias: Array | None, rows: Array) -> Array | None:
    """Rows of zeros for the queries that `_as_blocks` added."""
    if bias is None or bias.shape[2] == 1:
        return bias
    missing = rows.shape[0] * rows.shape[3] - bias.shape[2]
    return jnp.pad(bias, ((0, 0), (0, 0), (0, missing), (0, 0)))


def _bias_corner(bias, row, rows, start):
    return (0, 0, row * rows if bias.shape[2] > 1 else 0, start if bias.shape[3] > 1 else 0)


def _bias_block(bias: Array | None, row, rows: int, start, size: int) -> Array | None:
    """What belongs to one block of scores; dimensions of size 1 stay so."""
    if bias is None:
        return None
    sizes = (*bias.shape[:2], min(rows, bias.shape[2]), min(size, bias.shape[3]))
    return jax.lax.dynamic_slice(bias, _bias_corner(bias, row, rows, start), sizes)


def _add_bias_block(total: Array | None, d_scores: Array, row, rows: int, start) -> Array | None:
    """Adds the cotangent of a block of scores, summed where the bias is broadcast."""
    if total is None:
        return None
    old = _bias_block(total, row, rows, start, d_scores.shape[3])
    broadcast = tuple(i for i in range(4) if old.shape[i] != d_scores.shape[i])
    new = old + jnp.sum(d_scores, axis=broadcast, keepdims=True)
    return jax.lax.dynamic_update_slice(total, new, _bias_corner(total, row, rows, start))
