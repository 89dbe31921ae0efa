"""Streams: the kinds of tokens that walk through a backbone side by side, as separate arrays.

"video" tokens are denoised; "text" tokens go along with them (CogVideoX) or are only looked at
(Wan); "condition" tokens belong to a clean video that steers the others and see only themselves.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from tavid_jax.models.layers.attention import Part, Query
from tavid_jax.models.layers.kv_cache import KVCache
from tavid_jax.models.layers.ports import Ports
from tavid_jax.parallel.sharding import auto_axes, constrain, padded_tokens

VIDEO, TEXT, CONDITION, IMAGE = "video", "text", "condition", "image"
# Streams whose tokens are split over the mesh axis `context`; the others lie on every device.
SPLIT = (VIDEO, CONDITION)


def pad_all(tokens: Mapping[str, Array], dtype: DTypeLike) -> dict[str, Array]:
    """Tokens as the mesh wants them: split streams padded with zeros to a multiple of its axis."""
    return {name: pad(name, x.astype(dtype)) for name, x in tokens.items()}


def pad(name: str, tokens: Float[Array, "B N D"]) -> Float[Array, "B P D"]:
    """One stream of `pad_all`."""
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


def check_heads(heads: int) -> None:
    """Raises ValueError for heads that the mesh axis `tensor` does not divide.

    Each of its devices would compute all of them again.
    """
    ways = auto_axes().get("tensor", 1)
    if heads % ways:
        divisors = [str(n) for n in range(1, heads + 1) if heads % n == 0]
        raise ValueError(
            f"{heads} heads cannot be split over the mesh axis tensor={ways}: set it to one of "
            f"{', '.join(divisors)} and put the other devices on fsdp or context, which takes any "
            "number of heads"
        )


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
        if batch % examples:
            raise ValueError(
                f"kv_in[{name!r}] is of {examples} examples, the batch has {batch}: "
                "give one for all, one each, or one for every group of equal size"
            )


def of_batch(x: Float[Array, "b S K D"], batch: int) -> Float[Array, "B S K D"]:
    """Keys or values of fewer examples, each of which serves B / b neighbours."""
    return x if x.shape[0] == batch else jnp.repeat(x, batch // x.shape[0], axis=0)


def serving(part: Part, batch: int) -> Part:
    """A part for the queries of `batch` examples, see `of_batch`."""
    return part.replace(k=of_batch(part.k, batch), v=of_batch(part.v, batch))


def biases(
    bias: tuple[str, str, Array] | None, queries: Mapping[str, Query], keys: Mapping[str, Part]
) -> dict[tuple[int, int], Array] | None:
    """The bias of a port as `attention` wants it, by the places of its two streams.

    Raises:
      ValueError: the port names a stream that is not there.
    """
    if bias is None:
        return None
    asking, answering, values = bias
    for role, name, present in (("query", asking, queries), ("key", answering, keys)):
        if name not in present:
            raise ValueError(
                f"attention_bias.{role}={name!r}: the streams here are {', '.join(present)}"
            )
    rows, columns = queries[asking].q.shape[1], keys[answering].k.shape[1]
    # The bias is of real tokens: it grows with their padding.
    missing = [
        0 if have == 1 else want - have
        for have, want in zip(values.shape[2:], (rows, columns), strict=True)
    ]
    values = jnp.pad(values, ((0, 0), (0, 0), (0, missing[0]), (0, missing[1])))
    return {(list(queries).index(asking), list(keys).index(answering)): values}


def check_tokens(
    tokens: Mapping[str, Array], times: Mapping[str, Any], known: Sequence[str], grid_tokens: int
) -> None:
    """Raises ValueError for unknown streams, a stream without a time, or tokens off the grid."""
    for name, x in tokens.items():
        if name not in known:
            raise ValueError(f"stream {name!r}: this model knows {', '.join(known)}")
        if name not in times:
            raise ValueError(f"stream {name!r} has no timestep: times has {', '.join(times)}")
        if name in SPLIT and x.shape[1] != grid_tokens:
            raise ValueError(f"stream {name!r} has {x.shape[1]} tokens, the grid has {grid_tokens}")
    if not tokens:
        raise ValueError(f"no stream to walk: give some of {', '.join(known)}")


def check_channels(
    latents: Array, extra: Array | None, in_channels: int, extra_channels: int
) -> None:
    """Raises ValueError for latents, or additional channels, of another width than the model's."""
    if latents.shape[-1] != in_channels:
        raise ValueError(f"latents of {latents.shape[-1]} channels: this model reads {in_channels}")
    given = 0 if extra is None else extra.shape[-1]
    if given != extra_channels:
        raise ValueError(f"{given} extra channels: the config has {extra_channels}")


def check_bias(ports: Ports, tokens: Mapping[str, Array]) -> None:
    """Raises ValueError if the bias port names a stream that is not there, or does not fit it.

    Args:
      ports: what is plugged in.
      tokens: of all streams that do not come as a cache; not padded.
    """
    bias = ports.attention_bias
    if bias is None:
        return
    lengths = {name: x.shape[1] for name, x in tokens.items()}
    for name, kept in ports.kv_in.items():
        lengths[name] = kept.k.shape[2] if kept.length is None else kept.length
    for name in (bias.query, bias.key):
        if name not in lengths:
            raise ValueError(f"attention_bias: no stream {name!r} among {', '.join(lengths)}")
    wanted = lengths[bias.query], lengths[bias.key]
    rank, sizes = len(bias.bias.shape), bias.bias.shape[2:]
    if rank != 4 or any(have not in (1, want) for have, want in zip(sizes, wanted, strict=True)):
        raise ValueError(
            f"attention_bias.bias has shape {bias.bias.shape}: give (batch, heads, rows, columns), "
            f"{wanted[0]} rows for the {bias.query} queries and {wanted[1]} columns for the "
            f"{bias.key} keys, or one for all"
        )
