"""Maps of attention probability between video and text, without the matrix they are cut from.

A map needs the logits of a few rows and the log-sum-exp of each row over all keys. Both are made
for some heads and rows at a time and made again in the backward pass, so that heads x rows x keys
never exist at once, while gradients reach the queries and the keys of all tokens. (The residual
of an attention kernel is no substitute: its gradient may be zero.)

Queries and keys pass through the probe on their way to attention. So in the backward pass
attention's gradients are there first, and the probe adds its own to them head by head: no second
gradient of all keys exists. A loop of no rounds, where a layer is not looked at, costs nothing.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from einops import rearrange
from jax.sharding import NamedSharding
from jaxtyping import Array, Float

from tavid_jax.models.layers.attention import Part, Query
from tavid_jax.models.layers.ports import Probe
from tavid_jax.models.layers.streams import TEXT, VIDEO
from tavid_jax.parallel.sharding import constrain, partition

# Most logits that one device makes at once: 32 MiB in float32, a third of one head of CogVideoX
# at 480 x 720 x 49, whose first frame against all tokens is 1350 x 17776.
MAX_LOGITS = 2**23
# Direction -> (who asks, who is asked about).
_DIRECTIONS = {"video_to_text": (VIDEO, TEXT), "text_to_video": (TEXT, VIDEO)}


class Seen(NamedTuple):
    """What the joint attention of one block saw.

    Attributes:
      queries: post-norm and post-rotary queries, by stream.
      parts: all keys that these were given, by stream; padding is counted off by their lengths.
    """

    queries: Mapping[str, Query]
    parts: Mapping[str, Part]


class _How(NamedTuple):
    """What of one map is known when it is compiled.

    Attributes:
      rows: (start, stop) of the video tokens.
      by_text: whether the text asks; otherwise the video does.
      reals: how many keys of each part are no padding.
      place: of the part that is asked about.
      sizes: see `_sizes`.
      share: (layers that are looked at, of all): for those who count operations.
    """

    rows: tuple[int, int]
    by_text: bool
    reals: tuple[int, ...]
    place: int
    sizes: tuple[int, int, int]
    share: tuple[int, int]


def observe(probe: Probe, seen: Seen) -> Any:
    """The score of one block's map: any tree of float32 arrays.

    Raises:
      ValueError: see `attention_map`.
    """
    return probe.score(attention_map(probe, seen))


def attention_map(probe: Probe, seen: Seen) -> Float[Array, "B *M R"]:
    """The map, or maps, that a probe looks at, see `ports.Probe`; differentiable, float32.

    An attention bias is not part of it: the softmax is that of the queries and keys alone.

    Raises:
      ValueError: no text or no video here, rows that are not video tokens, columns that are not
        the text's, an unknown direction or choice of keys.
    """
    return watch(probe, seen, jnp.bool_(True))[1]


def watch(
    probe: Probe, seen: Seen, active: Array, share: tuple[int, int] = (1, 1)
) -> tuple[Seen, Float[Array, "B *M R"]]:
    """What attention is to go on with, in place of what was seen, and the maps of it.

    Args:
      probe: what to look at.
      seen: the queries and keys of a block.
      active: whether this layer is looked at; otherwise the maps are zero, at no cost.
      share: (layers that are looked at, of all).

    Raises:
      ValueError: see `attention_map`.
    """
    each = [probe]
    if probe.direction == "both":
        each = [probe.replace(direction=direction) for direction in _DIRECTIONS]
    for one in each:
        _check(one, seen)
    columns = probe.columns.astype(jnp.float32)
    many = columns if columns.ndim == 3 else columns[:, None]
    maps = []
    for one in each:
        seen, found = _watch_one(one, seen, active, share, many)
        maps.append(found)
    if columns.ndim == 2 and len(maps) == 1:
        return seen, maps[0][:, 0]
    return seen, jnp.concatenate(maps, axis=1)


def _watch_one(
    probe: Probe, seen: Seen, active: Array, share: tuple[int, int], columns: Float[Array, "B M L"]
) -> tuple[Seen, Float[Array, "B M R"]]:
    asking, target = _DIRECTIONS[probe.direction]
    names = list(seen.parts) if probe.among == "all" else [target]
    parts = [seen.parts[name] for name in names]
    query, by_text = seen.queries[asking], asking == TEXT
    rows = query.q if by_text else query.q[:, slice(*probe.rows)]
    how = _How(
        rows=probe.rows,
        by_text=by_text,
        reals=tuple(part.real for part in parts),
        place=names.index(target),
        sizes=_sizes(rows, parts),
        share=share,
    )
    q, ks, maps = _watched(how, active, query.q, [part.k for part in parts], columns)
    passed = {name: part.replace(k=k) for name, part, k in zip(names, parts, ks, strict=True)}
    return Seen({**seen.queries, asking: query.replace(q=q)}, {**seen.parts, **passed}), maps


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _watched(how: _How, active: Any, q: Array, ks: list[Array], columns: Array) -> Any:
    """(q, ks, maps (B, M, R)): the first two as they are."""
    return q, ks, _maps(how, active, q, ks, columns)


def _watched_forward(how: _How, active: Any, q: Array, ks: list[Array], columns: Array) -> Any:
    return _watched(how, active, q, ks, columns), (active, q, ks, columns)


def _watched_backward(how: _How, kept: Any, gradients: Any) -> Any:
    """Adds to the gradients that attention gives to its queries and keys, some heads at a time."""
    active, q, ks, columns = kept
    to_q, to_ks, to_maps = gradients
    rows, heads = _asking(how, q), q.shape[2]
    ways, steps, _ = how.sizes

    def some_heads(step: Array, added: Any) -> Any:
        to_rows, to_columns, to_ks = added
        mine = [_heads(x, step, ways, steps) for x in (rows, *ks)]
        _, back = jax.vjp(lambda c, q, *ks: _sum_over(how, q, ks, c) / heads, columns, *mine)
        weights, first, *others = back(to_maps)
        to_rows = _add_heads(to_rows, first, step, ways, steps)
        pairs = zip(to_ks, others, strict=True)
        to_ks = [_add_heads(x, y, step, ways, steps) for x, y in pairs]
        return to_rows, to_columns + weights, to_ks

    nothing = jnp.zeros_like(rows), jnp.zeros_like(columns)
    to_rows, to_columns, to_ks = _loop(how, active, some_heads, (*nothing, to_ks))
    start, stop = (0, q.shape[1]) if how.by_text else how.rows
    around = [(0, 0)] * q.ndim
    around[1] = (start, q.shape[1] - stop)
    return None, to_q + jnp.pad(to_rows, around), to_ks, to_columns


_watched.defvjp(_watched_forward, _watched_backward)


def _maps(
    how: _How, active: Any, q: Array, ks: Sequence[Array], columns: Float[Array, "B M L"]
) -> Float[Array, "B M R"]:
    """The mean over heads."""
    rows, heads = _asking(how, q), q.shape[2]
    ways, steps, _ = how.sizes
    start, stop = how.rows

    def some_heads(step: Array, total: Array) -> Array:
        q, *others = (_heads(x, step, ways, steps) for x in (rows, *ks))
        return total + _sum_over(how, q, others, columns)

    nothing = jnp.zeros((*columns.shape[:2], stop - start), jnp.float32)
    return _loop(how, active, some_heads, nothing) / heads


def _asking(how: _How, q: Float[Array, "B Q K D"]) -> Float[Array, "B R K D"]:
    """The rows that ask."""
    if how.by_text:
        return q
    # Every device asks for all rows, each about its own keys.
    return constrain(q[:, slice(*how.rows)], "batch", None, "heads", None)


def _loop(how: _How, active: Any, body: Callable, carry: Any) -> Any:
    """Over the steps of the heads, or over none."""
    (taken, layers), steps = how.share, how.sizes[1]
    # The name tells who counts operations how often this is done, of all layers.
    with jax.named_scope(f"rounds_{steps * taken}_of_{layers}"):
        return jax.lax.fori_loop(0, jnp.where(active, steps, 0), body, carry)


def _heads(
    x: Float[Array, "B S K D"], step: Array, ways: int, steps: int
) -> Float[Array, "B k S D"]:
    """The heads of one step, first as products want them; those that lie on different devices are
    taken in one."""
    apart = rearrange(x, "b s (ways steps k) d -> b s ways steps k d", ways=ways, steps=steps)
    mine = jax.lax.dynamic_index_in_dim(apart, step, 3, keepdims=False)
    return rearrange(mine, "b s ways k d -> b (ways k) s d")


def _add_heads(
    x: Float[Array, "B S K D"], added: Float[Array, "B k S D"], step: Array, ways: int, steps: int
) -> Float[Array, "B S K D"]:
    apart = rearrange(x, "b s (ways steps k) d -> b s ways steps k d", ways=ways, steps=steps)
    mine = jax.lax.dynamic_index_in_dim(apart, step, 3, keepdims=False)
    mine = mine + rearrange(added, "b (ways k) s d -> b s ways k d", ways=ways).astype(x.dtype)
    apart = jax.lax.dynamic_update_index_in_dim(apart, mine, step, 3)
    return rearrange(apart, "b s ways steps k d -> b s (ways steps k) d")


def _sum_over(
    how: _How, q: Float[Array, "B k Q D"], ks: Sequence[Array], columns: Float[Array, "B M L"]
) -> Float[Array, "B M R"]:
    """Probabilities between queries and the target's keys, one of the two summed with the weights
    of the text, some rows at a time; the sum over these heads."""
    *_, chunk = how.sizes
    start, stop = how.rows
    chunked = rearrange(_fill_up(q, chunk, 2), "b k (chunks q) d -> chunks b k q d", q=chunk)

    @functools.partial(jax.checkpoint, prevent_cse=False)  # the loop below does that
    def by_text(q: Array, weights: Array) -> Array:
        probabilities = _probabilities(q, ks, how.reals, how.place)
        return jnp.einsum("bkqs,bmq->bms", probabilities, weights)[..., start:stop]

    @functools.partial(jax.checkpoint, prevent_cse=False)
    def by_video(q: Array) -> Array:
        probabilities = _probabilities(q, ks, how.reals, how.place)[..., : columns.shape[2]]
        return jnp.einsum("bkqs,bms->bmq", probabilities, columns)

    if how.by_text:
        filled = _fill_up(columns, chunk, 2)
        weights = rearrange(filled, "b m (chunks q) -> chunks b m q", q=chunk)
        return jax.lax.map(lambda some: by_text(*some), (chunked, weights)).sum(0)
    found = rearrange(jax.lax.map(by_video, chunked), "chunks b m q -> b m (chunks q)")
    return found[..., : q.shape[2]]


def _check(probe: Probe, seen: Seen) -> None:
    if probe.direction not in _DIRECTIONS:
        known = ", ".join([*_DIRECTIONS, "both"])
        raise ValueError(f"probe.direction={probe.direction!r}: choose one of {known}")
    if probe.among not in ("all", "own"):
        raise ValueError(f"probe.among={probe.among!r}: choose one of all, own")
    asking, answering = _DIRECTIONS[probe.direction]
    for role, name, there in (
        ("queries", asking, seen.queries),
        ("keys", answering, seen.parts),
    ):
        if name not in there:
            raise ValueError(
                f"a {probe.direction} probe needs the {role} of the stream {name!r}: here are "
                f"those of {', '.join(there) or 'none'}"
            )
    start, stop = probe.rows
    tokens = seen.parts[VIDEO].real if VIDEO in seen.parts else seen.queries[VIDEO].q.shape[1]
    if not 0 <= start < stop <= tokens:
        raise ValueError(f"probe.rows={probe.rows} must lie within the {tokens} video tokens")
    text = seen.parts[TEXT].real if TEXT in seen.parts else seen.queries[TEXT].q.shape[1]
    batch = seen.queries[asking].q.shape[0]
    shape = probe.columns.shape
    if len(shape) not in (2, 3) or (shape[0], shape[-1]) != (batch, text):
        raise ValueError(
            f"probe.columns has shape {shape}: give one weight for each of the {text} text "
            f"positions of {batch} examples, (B, L), or of several maps of each, (B, M, L)"
        )


def _probabilities(
    q: Float[Array, "B K Q D"], ks: Sequence[Array], reals: Sequence[int], place: int
) -> Float[Array, "B K Q S"]:
    """The columns of part `place` of the softmax over the real keys of all parts."""
    logits = []
    for k, real in zip(ks, reals, strict=True):
        x = jnp.einsum("bkqd,bksd->bkqs", q, k, preferred_element_type=jnp.float32)
        x = x * q.shape[-1] ** -0.5
        # A mask and no slice: tokens may be split over devices.
        logits.append(
            x if real == k.shape[2] else jnp.where(jnp.arange(k.shape[2]) < real, x, -jnp.inf)
        )
    tops = [jnp.max(x, axis=-1, keepdims=True) for x in logits]
    # It only guards against overflow: the result does not depend on it.
    top = jax.lax.stop_gradient(jnp.max(jnp.concatenate(tops, axis=-1), axis=-1, keepdims=True))
    total = sum(jnp.sum(jnp.exp(x - top), axis=-1, keepdims=True) for x in logits)
    return jnp.exp(logits[place] - top) / total


def _sizes(q: Float[Array, "B Q K D"], parts: Sequence[Part]) -> tuple[int, int, int]:
    """(devices over which heads are split, steps over each one's heads, query rows in a step).

    As many heads and rows at once as `MAX_LOGITS` allows.
    """
    batch, rows, local_heads, _ = _on_one_device(q.shape, "batch", None, "heads", None)
    keys = sum(
        _on_one_device(part.k.shape, "batch", "tokens" if part.split else None, None, None)[1]
        for part in parts
    )
    chunks = math.ceil(rows * batch * keys / MAX_LOGITS)
    chunk = math.ceil(rows / chunks)
    together = max(1, MAX_LOGITS // (batch * keys * rows))
    steps = next(
        n
        for n in range(1, local_heads + 1)
        if local_heads % n == 0 and local_heads // n <= together
    )
    return q.shape[2] // local_heads, steps, chunk


def _on_one_device(shape: tuple[int, ...], *logical_axes: str | None) -> tuple[int, ...]:
    """The part of an activation that lies on one device of the active mesh."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return shape
    return NamedSharding(mesh, partition(shape, *logical_axes)).shard_shape(shape)


def _fill_up(x: Array, chunk: int, axis: int) -> Array:
    """Zeros behind an axis up to a multiple of `chunk`."""
    missing = -x.shape[axis] % chunk
    return jnp.pad(x, [(0, missing if i == axis else 0) for i in range(x.ndim)])
