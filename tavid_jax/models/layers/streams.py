"""Streams: the kinds of tokens that walk through a backbone side by side, as separate arrays.

"video" tokens are denoised; "text" tokens go along with them (CogVideoX) or are only looked at
(Wan); "condition" tokens belong to a clean video that steers the others and see only themselves.
"""

from collections.abc import Mapping, Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float

from tavid_jax.models.layers.attention import KVCache, Part, Query
from tavid_jax.parallel.sharding import constrain, padded_tokens

VIDEO, TEXT, CONDITION, IMAGE = "video", "text", "condition", "image"
# Streams whose tokens are split over the mesh axis `context`; the others lie on every device.
SPLIT = (VIDEO, CONDITION)


def pad_stream(name: str, tokens: Float[Array, "B N D"]) -> Float[Array, "B P D"]:
    """Tokens as the mesh wants them: split streams padded with zeros to a multiple of its axis."""
    missing = padded_tokens(tokens.shape[1]) - tokens.shape[1] if name in SPLIT else 0
    return place(name, jnp.pad(tokens, ((0, 0), (0, missing), (0, 0))))


def place(name: str, tokens: Float[Array, "B N D"]) -> Float[Array, "B N D"]:
    """Lays a stream's tokens out over the mesh."""
    return constrain(tokens, "batch", "tokens" if name in SPLIT else None, "embed")


def query(name: str, q: Float[Array, "B N K D"]) -> Query:
    """A stream's queries."""
    return Query(q=q, split=name in SPLIT)


def part(
    name: str, k: Float[Array, "B N K D"], v: Float[Array, "B N K D"], length: int | None
) -> Part:
    """A stream's keys and values; `length` of them are real, the rest is padding."""
    return Part(k=k, v=v, length=length, split=name in SPLIT)


def cache(
    name: str, k: Float[Array, "L B N K D"], v: Float[Array, "L B N K D"], length: int | None
) -> KVCache:
    """Keys and values of a stream in all layers."""
    return KVCache(k=k, v=v, length=length, split=name in SPLIT)


def check_caches(
    caches: Mapping[str, KVCache], depth: int, batch: int, heads: tuple[int, int]
) -> None:
    """Raises ValueError for a cache of another depth, batch or head shape than the model's."""
    for name, kept in caches.items():
        layers, examples, _, *found = kept.k.shape
        if layers != depth or tuple(found) != heads:
            raise ValueError(
                f"kv_in[{name!r}] holds {layers} layers of {found[0]} heads of {found[1]}: "
                f"this model has {depth} layers of {heads[0]} heads of {heads[1]}"
            )
        if examples not in (1, batch):
            raise ValueError(
                f"kv_in[{name!r}] is of {examples} examples, the batch has {batch}: "
                "give one for all, or one each"
            )


def of_batch(x: Float[Array, "b S K D"], batch: int) -> Float[Array, "B S K D"]:
    """Keys or values of one example serve the whole batch."""
    return x if x.shape[0] == batch else jnp.broadcast_to(x, (batch, *x.shape[1:]))


def biases(
    bias: tuple[str, str, Array] | None, queries: Sequence[str], keys: Sequence[str]
) -> dict[tuple[int, int], Array] | None:
    """The bias of a port as `attention` wants it, by the places of its two streams.

    Raises:
      ValueError: the port names a stream that is not there.
    """
    if bias is None:
        return None
    query_stream, key_stream, values = bias
    for role, name, present in (("query", query_stream, queries), ("key", key_stream, keys)):
        if name not in present:
            raise ValueError(
                f"attention_bias.{role}={name!r}: the streams here are {', '.join(present)}"
            )
    return {(list(queries).index(query_stream), list(keys).index(key_stream)): values}
