"""Maps of attention probability between video and text, without the matrix they are cut from.

A map needs the logits of a few rows and the log-sum-exp of each row over all keys. Both are made
for some heads and rows at a time and made again in the backward pass, so that heads x rows x keys
never exist at once, while gradients reach the queries and the keys of all tokens. (The residual
of an attention kernel is no substitute: its gradient may be zero.)
"""

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from einops import rearrange, reduce
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


class Question(NamedTuple):
    """What one map is made of: laid out for the loops, before anything is computed.

    Attributes:
      q: queries (steps, chunks, B, q, k, D), by heads and rows.
      ks: keys of every part (steps, B, S, k, D).
      reals: how many keys of each part are no padding.
      place: of the part that is asked about.
      rows: real queries.
    """

    q: Array
    ks: list[Array]
    reals: tuple[int, ...]
    place: int
    rows: int


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
    return answer(probe, ask(probe, seen))


def ask(probe: Probe, seen: Seen) -> list[Question]:
    """What a probe needs of a block, for each direction; whoever may skip the answer takes this
    alone across, so that no gradient of what is not needed has to exist.

    Raises:
      ValueError: see `attention_map`.
    """
    if probe.direction == "both":
        return [ask(probe.replace(direction=way), seen)[0] for way in _DIRECTIONS]
    _check(probe, seen)
    start, stop = probe.rows
    asking, target = _DIRECTIONS[probe.direction]
    q = seen.queries[asking].q
    if asking == VIDEO:
        # Every device asks for all rows, each about its own keys.
        q = constrain(q[:, start:stop], "batch", None, "heads", None)
    parts = seen.parts if probe.among == "all" else {target: seen.parts[target]}
    return [_laid_out(q, parts, target)]


def answer(probe: Probe, questions: Sequence[Question]) -> Float[Array, "B *M R"]:
    """The maps of `attention_map`."""
    columns = probe.columns.astype(jnp.float32)
    many = columns if columns.ndim == 3 else columns[:, None]
    maps = []
    for question, direction in zip(questions, _ways(probe), strict=True):
        if direction == "video_to_text":
            maps.append(_mean_over_heads(question, None, many))
        else:
            start, stop = probe.rows
            maps.append(_mean_over_heads(question, many, None)[..., start:stop])
    if columns.ndim == 2 and len(maps) == 1:
        return maps[0][:, 0]
    return jnp.concatenate(maps, axis=1)


@jax.custom_vjp
def score_last(x: Array, score: Any) -> tuple[Array, Any]:
    """Both as they are; in the backward pass the score waits until the gradient of x is there.

    Nothing else tells when the gradients of queries and keys that a score gives are made: if early,
    they take memory for as long as the MLP's backward pass goes on.
    """
    return x, score


def _score_last_forward(x: Array, score: Any) -> tuple[tuple[Array, Any], None]:
    return (x, score), None


def _score_last_backward(_: None, gradients: tuple[Array, Any]) -> tuple[Array, Any]:
    return jax.lax.optimization_barrier(gradients)


score_last.defvjp(_score_last_forward, _score_last_backward)


def _ways(probe: Probe) -> tuple[str, ...]:
    return tuple(_DIRECTIONS) if probe.direction == "both" else (probe.direction,)


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


def _laid_out(q: Float[Array, "B Q K D"], parts: Mapping[str, Part], target: str) -> Question:
    """Heads that lie on different devices are taken in one step."""
    ways, steps, chunk = _sizes(q, list(parts.values()))
    heads = {"ways": ways, "steps": steps}
    pattern = "b (chunks q) (ways steps k) d -> steps chunks b q (ways k) d"
    return Question(
        q=rearrange(_fill_up(q, chunk), pattern, q=chunk, **heads),
        ks=[
            rearrange(part.k, "b s (ways steps k) d -> steps b s (ways k) d", **heads)
            for part in parts.values()
        ],
        reals=tuple(part.real for part in parts.values()),
        place=list(parts).index(target),
        rows=q.shape[1],
    )


def _mean_over_heads(
    question: Question,
    row_weights: Float[Array, "B M Q"] | None,
    key_weights: Float[Array, "B M L"] | None,
) -> Float[Array, "B M R"]:
    """Probabilities between the queries and the target's keys, one of the two summed with weights.

    Weights of the keys leave one value for each query, weights of the queries one for each key.
    """
    reals, place = question.reals, question.place
    steps, _, _, chunk, together, _ = question.q.shape

    @functools.partial(jax.checkpoint, prevent_cse=False)  # the loops below do that
    def some_rows(q, weights, ks):
        probabilities = _probabilities(q, ks, reals, place)
        if key_weights is None:
            return jnp.einsum("bkqs,bqm->kbms", probabilities, weights)
        return jnp.einsum("bkqs,bms->kbmq", probabilities[..., : key_weights.shape[2]], key_weights)

    def some_heads(q, ks):
        return jax.lax.map(lambda rows: some_rows(*rows, ks), (q, chunked_weights))

    chunked_weights = None
    if row_weights is not None:
        filled = _fill_up(jnp.swapaxes(row_weights, 1, 2), chunk)
        chunked_weights = rearrange(filled, "b (chunks q) m -> chunks b q m", q=chunk)
    sums = jax.lax.map(lambda step: some_heads(*step), (question.q, question.ks))
    if row_weights is not None:
        return reduce(sums, "steps chunks k b m s -> b m s", "sum") / (steps * together)
    mean = reduce(sums, "steps chunks k b m q -> b m (chunks q)", "sum") / (steps * together)
    return mean[..., : question.rows]


def _probabilities(
    q: Float[Array, "B Q K D"], ks: Sequence[Array], reals: Sequence[int], place: int
) -> Float[Array, "B K Q S"]:
    """The columns of part `place` of the softmax over the real keys of all parts."""
    logits = []
    for k, real in zip(ks, reals, strict=True):
        x = jnp.einsum("bqkd,bskd->bkqs", q, k, preferred_element_type=jnp.float32)
        x = x * q.shape[-1] ** -0.5
        # A mask and no slice: tokens may be split over devices.
        logits.append(
            x if real == k.shape[1] else jnp.where(jnp.arange(k.shape[1]) < real, x, -jnp.inf)
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


def _fill_up(x: Array, chunk: int) -> Array:
    """Zeros behind the rows (axis 1) up to a multiple of `chunk`."""
    missing = -x.shape[1] % chunk
    return jnp.pad(x, [(0, missing if axis == 1 else 0) for axis in range(x.ndim)])
