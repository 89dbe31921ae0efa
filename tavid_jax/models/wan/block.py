"""The Wan block: self-attention over video tokens, cross-attention to text (and image), MLP.

Condition tokens walk beside the video with weights of the video (and low-rank terms of their
own): they see themselves and the text, video tokens see them too.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from einops import rearrange
from jax.ad_checkpoint import checkpoint_name
from jax.typing import DTypeLike
from jaxtyping import Array, Float, PRNGKeyArray

from tavid_jax.models.layers import streams
from tavid_jax.models.layers.attention import Part, Query, attention
from tavid_jax.models.layers.linear import Params, project, xavier_linear
from tavid_jax.models.layers.mlp import init_mlp, stream_mlp
from tavid_jax.models.layers.modulation import add_gated, scale_shift
from tavid_jax.models.layers.norms import init_norm, layer_norm, rms_norm
from tavid_jax.models.layers.probe import Seen
from tavid_jax.models.layers.rotary import Rotary, halved, heads_first, rotate
from tavid_jax.models.layers.streams import CONDITION, IMAGE, TEXT, VIDEO
from tavid_jax.models.layers.walk import Plugs, Tokens
from tavid_jax.models.wan.config import WanConfig


class Time(NamedTuple):
    """What a timestep amounts to; G groups of successive tokens have one each.

    Attributes:
      vector: modulates the head.
      six: modulates every block: shift, scale, gate of attention, then of the MLP.
    """

    vector: Float[Array, "B G D"]
    six: Float[Array, "B G 6 D"]


class BlockContext(NamedTuple):
    """What all blocks of one walk share.

    Attributes:
      times: of each stream.
      rotary: table of each stream.
      lengths: real tokens of each stream; the rest is padding.
      context: embedded text and image tokens by stream; empty where they come as a cache.
      text_bias: added to the logits of the text's keys, or None.
      heads, epsilon: of attention, and of all norms.
      dtype: of the matrix products.
      implementation: of attention.
    """

    times: Mapping[str, Time]
    rotary: Mapping[str, Rotary]
    lengths: Mapping[str, int]
    context: Mapping[str, Array]
    text_bias: Array | None
    heads: int
    epsilon: float
    dtype: DTypeLike
    implementation: str


def init_block(key: PRNGKeyArray, config: WanConfig) -> Params:
    """Parameters of one block: Xavier kernels, zero biases, modulation N(0, 1) / sqrt(D)."""
    d = config.dim
    key_attn, key_cross, key_mlp, key_mod = jax.random.split(key, 4)
    cross = _init_attention(key_cross, d, "qkvo")
    if config.image_dim is not None:
        key_k, key_v = jax.random.split(jax.random.fold_in(key_cross, 1))
        cross["image_k"] = xavier_linear(key_k, d, d)
        cross["image_v"] = xavier_linear(key_v, d, d)
        cross["image_k_norm"] = init_norm(d, bias=False)
    return {
        "modulation": jax.random.normal(key_mod, (6, d)) * d**-0.5,
        "attn": _init_attention(key_attn, d, "qkvo"),
        "cross_norm": init_norm(d),
        "cross": cross,
        "mlp": init_mlp(key_mlp, d, config.ffn_dim, d, xavier_linear),
    }


def _init_attention(key: PRNGKeyArray, dim: int, names: str) -> dict[str, Params]:
    keys = jax.random.split(key, len(names))
    linears = {name: xavier_linear(k, dim, dim) for name, k in zip(names, keys, strict=True)}
    return {**linears, "q_norm": init_norm(dim, bias=False), "k_norm": init_norm(dim, bias=False)}


def block(
    params: Params, tokens: Tokens, plugs: Plugs, *, context: BlockContext
) -> tuple[Tokens, dict[str, Part], Any]:
    """One block on every stream: (tokens, this block's keys and values, the probe's score).

    The probe sees the cross-attention of video queries to text keys.
    """
    table = params["modulation"].astype(jnp.float32)
    six = {name: jnp.unstack(table + context.times[name].six, axis=2) for name in tokens}

    normed = {name: _modulated(x, *six[name][:2], name, context) for name, x in tokens.items()}
    mixed, parts = _self_attention(params["attn"], normed, plugs, context)
    tokens = {
        name: _gated(x, six[name][2], mixed[name], name, context) for name, x in tokens.items()
    }

    mixed, context_parts, score = _cross_attention(params, tokens, plugs, context)
    tokens = {name: (x + mixed[name].astype(x.dtype)) for name, x in tokens.items()}

    out = {}
    for name, x in tokens.items():
        y = _modulated(x, *six[name][3:5], name, context)
        y = stream_mlp(params["mlp"], y, context.dtype, name)
        out[name] = _gated(x, six[name][5], y, name, context)
    return out, {**parts, **context_parts}, score


def _modulated(x: Array, shift: Array, scale: Array, name: str, context: BlockContext) -> Array:
    y = layer_norm(x, epsilon=context.epsilon)
    return scale_shift(y, scale, shift, context.dtype, context.lengths[name])


def _gated(x: Array, gate: Array, y: Array, name: str, context: BlockContext) -> Array:
    return add_gated(x, gate, y, context.lengths[name])


def _normed(
    params: Params, norm: Params, x: Float[Array, "B S D"], name: str, context: BlockContext
) -> Float[Array, "B S D"]:
    """A projection, RMS-normalised over all heads together."""
    y = project(params, x, context.dtype, name)
    return rms_norm(y, norm["scale"], context.epsilon).astype(context.dtype)


def _turned(
    params: Params, which: str, x: Float[Array, "B N D"], name: str, context: BlockContext
) -> Float[Array, "B N K d"]:
    """Queries ("q") or keys ("k") of self-attention, heads in halves."""
    weights = halved(params[which], context.heads)
    norm = halved(params[f"{which}_norm"], context.heads)
    y = heads_first(_normed(weights, norm, x, name, context), context.heads)
    return jnp.swapaxes(rotate(y, context.rotary[name], "half", heads_first=True), 1, 2)


def _as_heads(x: Float[Array, "B S D"], context: BlockContext) -> Float[Array, "B S K d"]:
    return rearrange(x, "b n (k d) -> b n k d", k=context.heads)


def _value_heads(params: Params, x: Array, name: str, context: BlockContext) -> Array:
    return _as_heads(project(params, x, context.dtype, name), context)


def _self_attention(
    params: Params, normed: Tokens, plugs: Plugs, context: BlockContext
) -> tuple[Tokens, dict[str, Part]]:
    queries, parts = {}, {}
    for name, x in normed.items():
        q, k = (_turned(params, which, x, name, context) for which in "qk")
        v = checkpoint_name(_value_heads(params["v"], x, name, context), "value")
        queries[name] = streams.query(name, checkpoint_name(q, "query"))
        parts[name] = streams.part(name, checkpoint_name(k, "key"), v, context.lengths[name])
    mixed = {}
    for name, asked in queries.items():
        answering = {name: parts[name]}
        if name == VIDEO:
            answering.update({n: p for n, p in plugs.parts.items() if n in streams.SPLIT})
            answering.update({CONDITION: parts[CONDITION]} if CONDITION in parts else {})
        out = _mix(name, asked, answering, plugs, context)
        mixed[name] = project(params["o"], out, context.dtype, name)
    return mixed, parts


def _mix(
    name: str, query: Query, answering: dict[str, Part], plugs: Plugs, context: BlockContext
) -> Float[Array, "B N D"]:
    """Attention of one stream to the given keys, heads joined."""
    answering = {n: streams.serving(p, query.q.shape[0]) for n, p in answering.items()}
    bias = plugs.bias
    if bias is not None and not (bias[0] == name and bias[1] in answering):
        bias = None
    biases = streams.biases(bias, {name: query}, answering) or {}
    if context.text_bias is not None and TEXT in answering:
        place = (0, list(answering).index(TEXT))
        biases[place] = biases.get(place, 0.0) + context.text_bias
    (out,) = attention(
        [query], list(answering.values()), implementation=context.implementation, biases=biases
    )
    return checkpoint_name(rearrange(out, "b n k d -> b n (k d)"), "attention")


def _cross_attention(
    params: Params, tokens: Tokens, plugs: Plugs, context: BlockContext
) -> tuple[Tokens, dict[str, Part], Any]:
    """What cross-attention adds to every stream; keys and values of text and image."""
    cross, norm = params["cross"], params["cross_norm"]
    parts = _context_parts(cross, plugs, context)
    normed, queries = {}, {}
    for name, x in tokens.items():
        y = layer_norm(x, norm["scale"], norm["bias"], context.epsilon).astype(context.dtype)
        q = _normed(cross["q"], cross["q_norm"], y, name, context)
        normed[name], queries[name] = y, streams.query(name, _as_heads(q, context))
    score = None
    if plugs.probe is not None and VIDEO in queries:
        asked = Seen(queries={VIDEO: queries[VIDEO]}, parts={TEXT: parts[TEXT]})
        seen, score = plugs.probe(asked)
        queries, parts = {**queries, **seen.queries}, {**parts, **seen.parts}
    mixed = {}
    for name, y in normed.items():

        def base(name: str = name) -> Array:
            return _published_cross(cross["o"], name, queries[name], parts, plugs, context)

        replaced = name == VIDEO and plugs.cross is not None
        mixed[name] = plugs.cross(context.context, y, base) if replaced else base()
    return mixed, parts, score


def _published_cross(
    projection: Params,
    name: str,
    query: Query,
    parts: dict[str, Part],
    plugs: Plugs,
    context: BlockContext,
) -> Float[Array, "B N D"]:
    """Attention to text plus attention to image: two softmaxes of the same queries, summed
    before the one projection."""
    out = sum(_mix(name, query, {kind: part}, plugs, context) for kind, part in parts.items())
    return project(projection, out, context.dtype, name)


def _context_parts(params: Params, plugs: Plugs, context: BlockContext) -> dict[str, Part]:
    """Keys and values of text and image: from a cache, or projected."""
    names = {TEXT: ("k", "v", "k_norm"), IMAGE: ("image_k", "image_v", "image_k_norm")}
    parts = {}
    for name, (key, value, norm) in names.items():
        if name in plugs.parts:
            parts[name] = plugs.parts[name]
        elif name in context.context:
            x = context.context[name]
            k = _as_heads(_normed(params[key], params[norm], x, name, context), context)
            v = _value_heads(params[value], x, name, context)
            parts[name] = streams.part(name, k, v, None)
    return parts
