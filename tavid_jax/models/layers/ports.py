"""The ports of a backbone: what a method may plug into it without changing it.

A backbone is written once, as published. An unused port leaves its program unchanged. Besides
those here there are: low-rank rules (lora.py), `embed` / `blocks` / `head` as calls of their own,
a timestep per stream, and extra input channels.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from tavid_jax.models.layers.kv_cache import KVCache


@flax.struct.dataclass
class Probe:
    """Looks at attention probabilities between video and text, and keeps only their score.

    "video_to_text": the map of query row n is sum_j columns[b, j] P[n, text j]. "text_to_video":
    the map of video key n is sum_j columns[b, j] P[text j, n]. P is the softmax over *all* keys of
    the joint sequence (see `among`), averaged over heads; n runs over the video tokens `rows`.
    Maps are not stacked: the carry accumulates sum_layer layers[layer] * score(map). An
    `AttentionBias` in the same call is not seen: P is what the unbiased logits give.

    Attributes:
      layers: weight of each layer (depth,), float32; a layer of weight zero costs nothing. A traced
        array, so that layers can be drawn anew in each step without compiling again.
      columns: weight of each text position (B, L), float32, e.g. one-hot at the target word; or
        (B, M, L), for M maps of each example.
      score: map (B, R), or maps (B, M, R) -> any tree of float32 arrays to accumulate.
      rows: (start, stop) of the video tokens; the first latent frame is (0, h * w).
      direction: which side asks; of "both" the maps that video asks for come first, so that
        there are twice as many, (B, 2 M, R), of columns (B, L) (B, 2, R).
      among: over which keys the softmax of P goes: "all", the joint sequence, as attention has it;
        or "own", those of the stream that is asked about alone (text; in the other direction,
        video).
      each: whether every layer's weighted score is handed out, stacked (depth, ...), instead of
        their sum: for looking at maps, at their cost in memory.
      most: how many layers have a weight at the most, where that is known; only those who count
        operations ahead read it. None is all of them.
    """

    # Any: as a pytree it may also hold shapes, shardings or None; so in all ports.
    layers: Any
    columns: Any
    score: Callable[[Array], Any] = flax.struct.field(pytree_node=False)
    rows: tuple[int, int] = flax.struct.field(pytree_node=False)
    direction: Literal["video_to_text", "text_to_video", "both"] = flax.struct.field(
        pytree_node=False, default="video_to_text"
    )
    among: Literal["all", "own"] = flax.struct.field(pytree_node=False, default="all")
    each: bool = flax.struct.field(pytree_node=False, default=False)
    most: int | None = flax.struct.field(pytree_node=False, default=None)


@flax.struct.dataclass
class AttentionBias:
    """Adds a bias to the logits between a stream of queries and a stream of keys.

    Attributes:
      bias: broadcastable to (B, K, queries, keys) of the two streams, in logits; finite, because it
        is multiplied by the weights (-1e9 hides a key).
      layers: weight of the bias in each layer (depth,).
      query, key: names of the streams, e.g. "video" and "text".
    """

    bias: Any
    layers: Any
    query: str = flax.struct.field(pytree_node=False, default="video")
    key: str = flax.struct.field(pytree_node=False, default="text")


@flax.struct.dataclass
class CrossAttention:
    """Replaces the cross-attention of some blocks.

    `apply(params, x, context, base, inputs)` returns what the block adds to its video tokens:
    params of this layer; x (B, N, D), the normalised tokens; context, the streams of embedded
    text and image tokens by name (without those that came as a cache); base(), what the published
    block would add; inputs, the tree below. Blocks outside `layers` are left as published.

    On a mesh whose `context` axis does not divide the tokens, x and base() are padded at the end:
    bring inputs that have one entry per token to the same length by `streams.pad`.

    Attributes:
      params: leaves with a leading axis over the *replaced* layers.
      inputs: what every call is given besides: owner maps, local texts, ...
      apply: see above.
      layers: the replaced blocks, ascending; None for all.
    """

    params: Any
    inputs: Any
    apply: Callable[[Any, Array, Mapping[str, Array], Callable[[], Array], Any], Array] = (
        flax.struct.field(pytree_node=False)
    )
    layers: tuple[int, ...] | None = flax.struct.field(pytree_node=False, default=None)


@flax.struct.dataclass
class Residuals:
    """Added to the video tokens behind some blocks, as a side network (ControlNet) does.

    Attributes:
      values: (n, B, N, D), one residual per block of `layers`, in the order of the tokens.
      layers: the blocks, ascending; None for all.
    """

    values: Any
    layers: tuple[int, ...] | None = flax.struct.field(pytree_node=False, default=None)


@flax.struct.dataclass
class Ports:
    """Everything that is plugged into one call of a backbone's blocks.

    Attributes:
      kv_in: further keys and values by name of the stream that they stand for: instead of
        projecting the stream's tokens anew (text, image, a condition walked before).
      kv_out: streams whose keys and values are handed out.
      probe, attention_bias, cross_attention, residuals: see there.
    """

    kv_in: Mapping[str, KVCache] = flax.struct.field(default_factory=dict)
    probe: Probe | None = None
    attention_bias: AttentionBias | None = None
    cross_attention: CrossAttention | None = None
    residuals: Residuals | None = None
    kv_out: tuple[str, ...] = flax.struct.field(pytree_node=False, default=())


@flax.struct.dataclass
class Walked:
    """What walking the blocks gives.

    Attributes:
      streams: the tokens of every stream behind the last block.
      caches: keys and values of the streams in `Ports.kv_out`.
      probe: the probe's accumulated score, or that of every layer; None without one.
    """

    streams: dict[str, Array]
    caches: dict[str, KVCache]
    probe: Any = None


class Prediction(NamedTuple):
    """What one evaluation of a backbone gives: see `Walked` for caches and probe.

    Attributes:
      sample: the predicted quantity (v or velocity) in the latent's layout, float32.
    """

    sample: Float[Array, "B F H W C"]
    caches: dict[str, KVCache]
    probe: Any


def places(layers: Sequence[int] | None, depth: int, what: str) -> tuple[Array, Array]:
    """(is the block among `layers`?, its index in the stack of these) for each of `depth` blocks.

    Raises:
      ValueError: no block, one that does not exist, or one named twice.
    """
    chosen = tuple(range(depth)) if layers is None else tuple(layers)
    if not chosen:
        raise ValueError(f"{what}: no block chosen; None chooses all {depth}")
    if len(set(chosen)) < len(chosen):
        raise ValueError(f"{what}: {chosen} names a block twice")
    outside = [i for i in chosen if not 0 <= i < depth]
    if outside:
        raise ValueError(f"{what}: block {outside[0]} of {depth} does not exist")
    member = jnp.zeros((depth,), bool).at[jnp.array(chosen, int)].set(True)
    index = jnp.zeros((depth,), jnp.int32)
    index = index.at[jnp.array(chosen, int)].set(jnp.arange(len(chosen), dtype=jnp.int32))
    return member, index


def at(stack: Any, index: Array) -> Any:
    """One entry of a stack, at an index that may be traced."""
    return jax.tree.map(lambda leaf: jax.lax.dynamic_index_in_dim(leaf, index, 0, False), stack)
