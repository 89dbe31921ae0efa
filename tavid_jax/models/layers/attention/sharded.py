"""Attention under a mesh: who computes what, and what devices exchange for it.

Batch and heads are divided wherever the mesh axes divide them; that needs no exchange. Tokens that
lie over `context` are brought together in one of four ways:

  own      no part is split: every device answers its own queries.
  heads    all-to-all: every device gets all tokens of its share of the heads, and gives back its
           share of the tokens. Needs heads that the axis divides.
  ring     keys and values travel from device to device (ring.py). Any number of heads.
  gather   every device gets all keys and values. For what the ring cannot do.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.sharding import PartitionSpec

from tavid_jax.models.layers.attention.local import Attend, Biases, attend_parts
from tavid_jax.models.layers.attention.types import Part, Query
from tavid_jax.parallel.sharding import auto_axes, context_ways, partition

CONTEXT = "context"
HEADS = 2  # dimension of (B, S, K, D)
TOKENS = 1


def spec(shape: tuple[int, ...], split: bool) -> PartitionSpec:
    """Where an array (B, S, K, D) lies."""
    return partition(shape, "batch", "tokens" if split else None, "heads", None)


def divided_by(queries: Sequence[Query], parts: Sequence[Part]) -> int:
    """Over how many devices the scores of a call are divided."""
    axes = auto_axes()
    places = spec(queries[0].q.shape, split=False)
    names = [n for p in places if p for n in ((p,) if isinstance(p, str) else p)]
    split = any(x.split for x in (*queries, *parts))
    return math.prod(axes[name] for name in names) * (context_ways() if split else 1)


def exchange(queries: Sequence[Query], parts: Sequence[Part], ring: bool) -> str:
    """How the tokens are brought together: "own", "heads", "ring" or "gather".

    Args:
      ring: whether the implementation can work in a ring.
    """
    ways = context_ways()
    if ways == 1 or not any(part.split for part in parts):
        return "own"
    places = partition(queries[0].q.shape, None, None, "heads", None)
    heads = queries[0].q.shape[HEADS] // (auto_axes()["tensor"] if places[HEADS] else 1)
    if heads % ways == 0:
        return "heads"
    return "ring" if ring else "gather"


def map_devices(body: Callable[..., Any], in_specs: Any, out_specs: Any) -> Callable[..., Any]:
    """`body` on every device of the active mesh, with its share of the arguments."""
    # Pallas calls do not say how their results vary over the mesh, so that is not checked.
    return jax.shard_map(
        body,
        in_specs=in_specs,
        out_specs=out_specs,
        axis_names=set(auto_axes()),
        check_vma=False,
    )


def attend_sharded(
    attend: Attend,
    how: str,
    queries: Sequence[Query],
    parts: Sequence[Part],
    biases: Biases,
    scale: float,
) -> tuple[jax.Array, ...]:
    """One output per query, placed like it.

    Args:
      attend: an implementation for one device.
      how: from `exchange`: "own", "heads" or "gather".
    """
    q_specs = [spec(x.q.shape, x.split) for x in queries]
    kv_specs = [spec(x.k.shape, x.split) for x in parts]
    whole_rows = how == "heads"
    bias_specs = {
        index: _bias_spec(bias.shape, queries[index[0]].split and not whole_rows)
        for index, bias in biases.items()
    }

    def body(qs, ks, vs, biases):
        if how == "heads":
            qs = [_to_heads(x, query.split) for x, query in zip(qs, queries, strict=True)]
            ks, vs = (
                [_to_heads(x, p.split) for x, p in zip(xs, parts, strict=True)] for xs in (ks, vs)
            )
            biases = {i: b if b.shape[1] == 1 else _own_share(b, 1) for i, b in biases.items()}
        elif how == "gather":
            ks, vs = (
                [_gather(x) if p.split else x for x, p in zip(xs, parts, strict=True)]
                for xs in (ks, vs)
            )
        whole = [Part(k, v, length=p.length) for k, v, p in zip(ks, vs, parts, strict=True)]
        outs = attend_parts(attend, qs, whole, biases, scale)
        if how == "heads":
            outs = [_to_tokens(x, query.split) for x, query in zip(outs, queries, strict=True)]
        return tuple(outs)

    run = map_devices(body, (q_specs, kv_specs, kv_specs, bias_specs), tuple(q_specs))
    return run([x.q for x in queries], [x.k for x in parts], [x.v for x in parts], dict(biases))


def _bias_spec(shape: tuple[int, ...], split_rows: bool) -> PartitionSpec:
    return partition(shape, "batch", "heads", "tokens" if split_rows else None, None)


def _to_heads(x: jax.Array, split: bool) -> jax.Array:
    """All tokens of this device's share of the heads."""
    if not split:
        return _own_share(x, HEADS)
    return jax.lax.all_to_all(x, CONTEXT, split_axis=HEADS, concat_axis=TOKENS, tiled=True)


def _to_tokens(x: jax.Array, split: bool) -> jax.Array:
    """The inverse of `_to_heads`."""
    if not split:
        return jax.lax.all_gather(x, CONTEXT, axis=HEADS, tiled=True)
    return jax.lax.all_to_all(x, CONTEXT, split_axis=TOKENS, concat_axis=HEADS, tiled=True)


def _own_share(x: jax.Array, axis: int) -> jax.Array:
    size = x.shape[axis] // jax.lax.axis_size(CONTEXT)
    start = jax.lax.axis_index(CONTEXT) * size
    return jax.lax.dynamic_slice_in_dim(x, start, size, axis)


_gather = functools.partial(jax.lax.all_gather, axis_name=CONTEXT, axis=TOKENS, tiled=True)
