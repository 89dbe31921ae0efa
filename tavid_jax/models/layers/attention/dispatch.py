"""`attention`: checks what it is given, chooses an implementation, and minds the mesh."""

import math
from collections.abc import Mapping, Sequence

import jax

from tavid_jax.models.layers.attention import chunked, cudnn, splash, xla
from tavid_jax.models.layers.attention.checks import check
from tavid_jax.models.layers.attention.choice import IMPLEMENTATIONS, choose
from tavid_jax.models.layers.attention.local import attend_parts
from tavid_jax.models.layers.attention.ring import Halves, attend_ring
from tavid_jax.models.layers.attention.sharded import attend_sharded, divided_by, exchange
from tavid_jax.models.layers.attention.types import Part, Query
from tavid_jax.parallel.sharding import auto_axes

__all__ = ["IMPLEMENTATIONS", "attention"]

_ATTEND = {
    "xla": xla.attend,
    "chunked": chunked.attend,
    "cudnn": cudnn.attend,
    "splash": splash.attend,
}
# What works in a ring; a step of the plain implementation there is the chunked one.
_HALVES = {
    "xla": Halves(chunked.forward, chunked.backward),
    "chunked": Halves(chunked.forward, chunked.backward),
    "splash": Halves(splash.forward, splash.backward),
}


def attention(
    queries: Sequence[Query],
    parts: Sequence[Part],
    *,
    implementation: str = "auto",
    scale: float | None = None,
    biases: Mapping[tuple[int, int], jax.Array] | None = None,
) -> tuple[jax.Array, ...]:
    """Every query attends to all real keys of all parts: one softmax over their union.

    Who sees whom is said by calling this with the parts that the queries may see. Under a mesh
    (`jax.set_mesh`) the work is divided over batch, heads and, for arrays with `split`, tokens.

    Args:
      queries: one or more streams of queries; they do not influence one another.
      parts: one or more streams of keys and values.
      implementation: "xla" (whole score tensor), "chunked" (any platform, memory linear in the
        tokens), "cudnn" (NVIDIA GPUs), "splash" (TPUs), or "auto", which chooses by platform and
        shape and logs its choice.
      scale: of the scores; None is D^-0.5.
      biases: {(query index, part index): bias}; added to the scaled scores, broadcastable to
        (B, K, Q, S of the part).

    Returns:
      One array (B, Q, K, D) per query, in v's dtype.

    Raises:
      ValueError: shapes that do not belong together, an unknown implementation or one that
        cannot run here, tokens that the mesh cannot split.
    """
    biases = dict(biases or {})
    check(queries, parts, biases)
    q = queries[0].q
    scale = q.shape[-1] ** -0.5 if scale is None else float(scale)
    rows, keys = sum(x.q.shape[1] for x in queries), sum(part.real for part in parts)
    chosen = choose(
        implementation,
        dtype=q.dtype,
        head_dim=q.shape[-1],
        score_bytes=4 * q.shape[0] * q.shape[2] * rows * keys // divided_by(queries, parts),
        biased=bool(biases),
    )
    attend = _ATTEND[chosen]
    if math.prod(auto_axes().values()) == 1:
        return attend_parts(attend, [x.q for x in queries], parts, biases, scale)
    how = exchange(queries, parts, ring=chosen in _HALVES and not biases)
    if how == "ring":
        return attend_ring(_HALVES[chosen], queries, parts, scale)
    return attend_sharded(attend, how, queries, parts, biases, scale)
