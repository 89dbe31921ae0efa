"""Attention over tokens that lie on several devices, for any number of heads.

Every device keeps its queries while the split keys and values go round; the partial results are
combined by their log-sum-exp (Liu et al., "Ring Attention", 2023). Backward the keys go round
once more, with the sums of their cotangents. Streams that every device has whole are counted
once: their keys are attended to where the queries are, and their queries get one partial result
per device.

Each step is one call of a kernel's `forward` or `backward` half (chunked.py, splash.py), so
memory stays that of the kernel. The gradient is written out, because that of a kernel's
log-sum-exp is not to be had (JAX's own functions return zeros for it).
"""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from tavid_jax.models.layers.attention.local import joined, split_like
from tavid_jax.models.layers.attention.sharded import CONTEXT, map_devices, spec
from tavid_jax.models.layers.attention.types import Part, Query


class Halves(NamedTuple):
    """A kernel in two halves, on arrays (B, K, S, D) of one device.

    Attributes:
      forward: (q, k, v, seen, scale) -> (out, log-sum-exp of the rows (B, K, Q)), float32.
      backward: (q, k, v, seen, out, lse, d_out, scale) -> float32 cotangents (d_q, d_k, d_v)
        of these keys' share, where out and lse are those over all keys.
      Both: `seen` (S,) bool tells real keys from padding; None if all are real.
    """

    forward: Callable[..., tuple[jax.Array, jax.Array]]
    backward: Callable[..., tuple[jax.Array, jax.Array, jax.Array]]


class Setting(NamedTuple):
    """What of a ring is fixed when it is traced.

    Attributes:
      lengths: per split part (tokens on one device, real tokens on all).
    """

    halves: Halves
    scale: float
    lengths: tuple[tuple[int, int], ...]

    def seen(self, device: jax.Array) -> jax.Array | None:
        """Which of the split keys of a device are real."""
        ways = jax.lax.axis_size(CONTEXT)
        if all(real == ways * size for size, real in self.lengths):
            return None
        kept = [device * size + jnp.arange(size) < real for size, real in self.lengths]
        return jnp.concatenate(kept)

    def forward(self, q, keys, seen=None):
        return self.halves.forward(q, *keys, seen, self.scale)

    def backward(self, q, keys, result, d_out, seen=None):
        return self.halves.backward(q, *keys, seen, *result, d_out, self.scale)


def attend_ring(
    halves: Halves, queries: Sequence[Query], parts: Sequence[Part], scale: float
) -> tuple[jax.Array, ...]:
    """One output per query, placed like it; at least one part is split."""
    q_specs = tuple(spec(x.q.shape, x.split) for x in queries)
    kv_specs = tuple(spec(x.k.shape, x.split) for x in parts)
    split_rows, split_keys = [x.split for x in queries], [x.split for x in parts]

    def body(qs, ks, vs):
        lengths = [(k.shape[1], p.real) for k, p in zip(ks, parts, strict=True) if p.split]
        setting = Setting(halves, scale, tuple(lengths))
        real = [
            [x if p.split else x[:, : p.real] for x, p in zip(xs, parts, strict=True)]
            for xs in (ks, vs)
        ]
        pairs = zip(_pack(real[0], split_keys), _pack(real[1], split_keys), strict=True)
        keys = tuple(None if k is None else (k, v) for k, v in pairs)
        outs = _ring(setting, _pack(qs, split_rows), keys)
        return _unpack(outs, qs, split_rows, vs[0].dtype)

    run = map_devices(body, (q_specs, kv_specs, kv_specs), q_specs)
    return run(tuple(x.q for x in queries), tuple(x.k for x in parts), tuple(x.v for x in parts))


def _pack(arrays, split: Sequence[bool]):
    """(the split arrays, the whole ones), each joined and heads first, or None."""
    groups = [
        [x for x, s in zip(arrays, split, strict=True) if s == kind] for kind in (True, False)
    ]
    return tuple(jnp.swapaxes(joined(group), 1, 2) if group else None for group in groups)


def _unpack(packed, like, split: Sequence[bool], dtype):
    """The inverse of `_pack`."""
    arrays = [None] * len(like)
    for group, kind in zip(packed, (True, False), strict=True):
        places = [i for i, s in enumerate(split) if s == kind]
        if places:
            group = jnp.swapaxes(group, 1, 2).astype(dtype)
            pieces = split_like(group, [like[i] for i in places])
            for i, piece in zip(places, pieces, strict=True):
                arrays[i] = piece
    return tuple(arrays)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _ring(setting: Setting, rows, keys):
    """Outputs (split, whole) of queries (split, whole) and keys ((k, v), (k, v) or None)."""
    return _ring_forward(setting, rows, keys)[0]


def _ring_forward(setting, rows, keys):
    (split_q, whole_q), (split_keys, whole_keys) = rows, keys
    split = whole = (None, None)
    if split_q is not None:
        split = _go_round(setting, split_q, split_keys)
        if whole_keys is not None:
            split = _combine(split, setting.forward(split_q, whole_keys))
    if whole_q is not None:
        seen = setting.seen(jax.lax.axis_index(CONTEXT))
        whole = _combine_devices(setting.forward(whole_q, split_keys, seen))
        if whole_keys is not None:
            whole = _combine(whole, setting.forward(whole_q, whole_keys))
    return (split[0], whole[0]), (rows, keys, split, whole)


def _go_round(setting: Setting, q, keys):
    """The attention of q to the split keys of all devices, and its log-sum-exp."""
    ways, own = jax.lax.axis_size(CONTEXT), jax.lax.axis_index(CONTEXT)

    def step(carry, shift):
        keys, result = carry
        # Sent before the product, so that the next keys travel while these are used.
        coming = _send_on(keys)
        new = setting.forward(q, keys, setting.seen((own - shift) % ways))
        return (coming, _combine(result, new)), None

    first = setting.forward(q, keys, setting.seen(own))
    if ways == 1:
        return first
    (keys, result), _ = jax.lax.scan(step, (_send_on(keys), first), jnp.arange(1, ways - 1))
    last = setting.forward(q, keys, setting.seen((own + 1) % ways))
    return _combine(result, last)


def _ring_backward(setting, saved, d_outs):
    rows, (split_keys, whole_keys), split, whole = saved
    d_split_keys = jax.tree.map(_wide_zeros, split_keys)
    d_whole_keys = jax.tree.map(_wide_zeros, whole_keys)
    d_split_q = d_whole_q = None
    if rows[0] is not None:
        grads = _go_round_backward(setting, rows[0], split_keys, split, d_outs[0])
        d_split_q, d_split_keys = grads
        if whole_keys is not None:
            d_q, *d_whole_keys = setting.backward(rows[0], whole_keys, split, d_outs[0])
            d_split_q = d_split_q + d_q
    if rows[1] is not None:
        # Every device has a copy of these answers: the loss feels each, all are made from the
        # shares of all devices, and the cotangents of whole arrays are summed over the devices.
        d_out = jax.lax.psum(d_outs[1], CONTEXT)
        seen = setting.seen(jax.lax.axis_index(CONTEXT))
        d_whole_q, *d_keys = setting.backward(rows[1], split_keys, whole, d_out, seen)
        d_split_keys = _add(d_split_keys, d_keys)
        if whole_keys is not None:
            grads = setting.backward(rows[1], whole_keys, whole, d_out)
            d_q, *d_keys = (x / jax.lax.axis_size(CONTEXT) for x in grads)
            d_whole_q = d_whole_q + d_q
            d_whole_keys = _add(d_whole_keys, d_keys)
    d_rows = (d_split_q, d_whole_q)
    d_keys = (tuple(d_split_keys), None if whole_keys is None else tuple(d_whole_keys))
    given = (rows, (split_keys, whole_keys))
    return jax.tree.map(lambda d, x: d.astype(x.dtype), (d_rows, d_keys), given)


_ring.defvjp(_ring_forward, _ring_backward)


def _go_round_backward(setting: Setting, q, keys, result, d_out):
    """Cotangents of q and of this device's split keys: their sums travel with the keys."""
    ways, own = jax.lax.axis_size(CONTEXT), jax.lax.axis_index(CONTEXT)

    def step(carry, shift):
        d_q, keys, d_keys = carry
        seen = setting.seen((own - shift) % ways)
        more, *new = setting.backward(q, keys, result, d_out, seen)
        return (d_q + more, *_send_on((keys, _add(d_keys, new)))), None

    start = (_wide_zeros(q), keys, jax.tree.map(_wide_zeros, keys))
    (d_q, _, d_keys), _ = jax.lax.scan(step, start, jnp.arange(ways))
    return d_q, d_keys


def _send_on(tree):
    ways = jax.lax.axis_size(CONTEXT)
    return jax.lax.ppermute(tree, CONTEXT, [(i, (i + 1) % ways) for i in range(ways)])


def _combine(one, other):
    """Attention over the union of two sets of keys, from (out, log-sum-exp) over each."""
    (out, lse), (other_out, other_lse) = one, other
    top = jnp.maximum(lse, other_lse)
    weight, other_weight = jnp.exp(lse - top), jnp.exp(other_lse - top)
    total = weight + other_weight
    out = (out * weight[..., None] + other_out * other_weight[..., None]) / total[..., None]
    return out, top + jnp.log(total)


def _combine_devices(result):
    """The same over the sets of keys of all devices."""
    out, lse = result
    top = jax.lax.pmax(lse, CONTEXT)
    weight = jnp.exp(lse - top)
    total = jax.lax.psum(weight, CONTEXT)
    out = jax.lax.psum(out * weight[..., None], CONTEXT) / total[..., None]
    return out, top + jnp.log(total)


def _wide_zeros(x: jax.Array) -> jax.Array:
    return jnp.zeros(x.shape, jnp.promote_types(x.dtype, jnp.float32))


def _add(one, other):
    return tuple(a + b for a, b in zip(one, other, strict=True))
