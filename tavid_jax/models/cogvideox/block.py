"""The CogVideoX block: one set of weights for all streams, modulation for each.

Video and text attend to everything; condition tokens attend to themselves alone, so that their
keys and values depend on nothing else and can be made once (`Ports.kv_out`, `Ports.kv_in`).
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from einops import rearrange
from jax.ad_checkpoint import checkpoint_name
from jax.typing import DTypeLike
from jaxtyping import Array, Float, PRNGKeyArray

from tavid_jax.models.cogvideox.config import CogVideoXConfig
from tavid_jax.models.layers import streams
from tavid_jax.models.layers.attention import Part, attention
from tavid_jax.models.layers.linear import Params, project, torch_linear
from tavid_jax.models.layers.mlp import init_mlp, silu, stream_mlp
from tavid_jax.models.layers.modulation import add_gated, scale_shift
from tavid_jax.models.layers.norms import init_norm, layer_norm
from tavid_jax.models.layers.probe import Seen
from tavid_jax.models.layers.rotary import Rotary, halved, heads_first, rotate
from tavid_jax.models.layers.streams import CONDITION, TEXT, VIDEO
from tavid_jax.models.layers.walk import Plugs, Tokens

# Of the norms of tokens, and of the norms of each head's queries and keys.
EPSILON, HEAD_EPSILON = 1e-5, 1e-6


class BlockContext(NamedTuple):
    """What all blocks of one walk share.

    Attributes:
      times: timestep vector (B, E) of each stream.
      rotary: table of each stream whose queries and keys are turned.
      lengths: real tokens of each stream; the rest is padding.
      heads: how many.
      dtype: of the matrix products.
      implementation: of attention.
    """

    times: Mapping[str, Array]
    rotary: Mapping[str, Rotary]
    lengths: Mapping[str, int]
    heads: int
    dtype: DTypeLike
    implementation: str


def init_block(key: PRNGKeyArray, config: CogVideoXConfig) -> Params:
    """Parameters of one block, initialised as PyTorch does."""
    d, e = config.dim, config.time_embed_dim
    *head_keys, key1, key2, key_mlp = list(jax.random.split(key, 7))
    attn = {n: torch_linear(k, d, d) for n, k in zip("qkvo", head_keys, strict=True)}
    norms = {"q_norm": init_norm(config.head_dim), "k_norm": init_norm(config.head_dim)}
    return {
        "mod1": torch_linear(key1, e, 6 * d),
        "norm1": init_norm(d),
        "attn": {**attn, **norms},
        "mod2": torch_linear(key2, e, 6 * d),
        "norm2": init_norm(d),
        "mlp": init_mlp(key_mlp, d, config.mlp_ratio * d, d, torch_linear),
    }


def block(
    params: Params, tokens: Tokens, plugs: Plugs, *, context: BlockContext
) -> tuple[Tokens, dict[str, Part], Any]:
    """One block on every stream: (tokens, this block's keys and values, the probe's score)."""
    normed, gates = _modulated(params["norm1"], params["mod1"], tokens, context)
    mixed, parts, score = _attend(params["attn"], normed, plugs, context)
    tokens = {name: add_gated(x, gates[name], mixed[name]) for name, x in tokens.items()}
    normed, gates = _modulated(params["norm2"], params["mod2"], tokens, context)
    tokens = {
        name: add_gated(
            x, gates[name], stream_mlp(params["mlp"], normed[name], context.dtype, name)
        )
        for name, x in tokens.items()
    }
    return tokens, parts, score


def _modulated(
    norm: Params, mod: Params, tokens: Tokens, context: BlockContext
) -> tuple[Tokens, dict[str, Array]]:
    """(normalised, scaled and shifted tokens; gates (B, 1, D)) of every stream."""
    normed, gates = {}, {}
    for name, x in tokens.items():
        six = project(mod, silu(context.times[name]), jnp.float32, name)[:, None]
        # Shift, scale and gate of video (and condition), then the same three of text.
        three = jnp.split(six, 6, axis=-1)[3:] if name == TEXT else jnp.split(six, 6, axis=-1)[:3]
        shift, scale, gates[name] = three
        y = layer_norm(x, norm["scale"], norm["bias"], EPSILON)
        normed[name] = scale_shift(y, scale, shift, context.dtype)
    return normed, gates


def _attend(
    params: Params, normed: Tokens, plugs: Plugs, context: BlockContext
) -> tuple[Tokens, dict[str, Part], Any]:
    """Attention of all streams, projected back to the width of the tokens."""
    queries, parts = {}, {}
    for name, x in normed.items():
        q, k, v = _heads(params, x, name, context)
        queries[name] = streams.query(name, q)
        parts[name] = streams.part(name, k, v, context.lengths[name])
    asking = [name for name in (TEXT, VIDEO) if name in queries]
    answering = {**{name: parts[name] for name in asking}, **plugs.parts}
    if CONDITION in parts and asking:
        answering[CONDITION] = streams.serving(parts[CONDITION], queries[asking[0]].q.shape[0])
    mixed, score = {}, None
    if asking:
        if plugs.probe is not None:
            seen, score = plugs.probe(Seen(queries=queries, parts=answering))
            queries, answering = seen.queries, seen.parts
        asked = {name: queries[name] for name in asking}
        outputs = attention(
            list(asked.values()),
            list(answering.values()),
            implementation=context.implementation,
            biases=streams.biases(plugs.bias, asked, answering),
        )
        mixed.update(zip(asking, outputs, strict=True))
    if CONDITION in queries:
        (mixed[CONDITION],) = attention(
            [queries[CONDITION]], [parts[CONDITION]], implementation=context.implementation
        )
    projected = {}
    for name, x in mixed.items():
        x = checkpoint_name(rearrange(x, "b n k d -> b n (k d)"), "attention")
        projected[name] = project(params["o"], x, context.dtype, name)
    return projected, parts, score


def _heads(
    params: Params, x: Float[Array, "B N D"], name: str, context: BlockContext
) -> tuple[Array, Array, Array]:
    """Queries and keys, normalised per head and turned; values. Each (B, N, K, D/K)."""
    v = rearrange(
        project(params["v"], x, context.dtype, name), "b n (k d) -> b n k d", k=context.heads
    )
    return (
        checkpoint_name(_turned(params, "q", x, name, context), "query"),
        checkpoint_name(_turned(params, "k", x, name, context), "key"),
        checkpoint_name(v, "value"),
    )


def _turned(
    params: Params, which: str, x: Float[Array, "B N D"], name: str, context: BlockContext
) -> Float[Array, "B N K d"]:
    """Queries ("q") or keys ("k"). All streams of a model with rotary positions have their heads
    in halves, also those that are not turned: they meet the others."""
    weights, norm = params[which], params[f"{which}_norm"]
    if context.rotary:
        weights, norm = halved(weights, context.heads), halved(norm, 1)
    y = heads_first(project(weights, x, context.dtype, name), context.heads)
    y = layer_norm(y, norm["scale"], norm["bias"], HEAD_EPSILON).astype(context.dtype)
    if name in context.rotary:
        y = rotate(y, context.rotary[name], "half", heads_first=True)
    return jnp.swapaxes(y, 1, 2)
