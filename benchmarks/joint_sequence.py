"""A peer for condition_cache.py: FlexTraj's condition as its definition reads, one long sequence.

Text, video and condition tokens of a CogVideoX are joined and walk together through one attention
with a mask, (text + video + condition) squared, in every evaluation. It is written with the same
layers and the same attention as the library's, so that only the arrangement differs.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from tavid_jax.models.cogvideox.block import EPSILON, HEAD_EPSILON
from tavid_jax.models.cogvideox.transformer import CogVideoX
from tavid_jax.models.layers.attention import Part, Query, attention
from tavid_jax.models.layers.linear import project
from tavid_jax.models.layers.mlp import silu, stream_mlp
from tavid_jax.models.layers.norms import layer_norm
from tavid_jax.models.layers.rotary import Rotary, halved, heads_first, rotate

# Added to the scores of keys that a query must not see.
HIDDEN = -1e9


def predict(
    model: CogVideoX,
    params: Any,
    latents: Float[Array, "B F H W C"],
    timestep: Float[Array, " B"],
    text: Float[Array, "B L E"],
    videos: Float[Array, "B M F H W C"],
) -> Float[Array, "B F H W C"]:
    """What `model.predict` gives for these condition videos, from one joint sequence."""

    def run(m: CogVideoX) -> Array:
        grid = m.config.grid(latents.shape[1:4])
        condition = m.embed_condition(videos)
        pieces = [m.embed_text(text, grid), m.embed_video(latents), condition]
        sizes = [piece.shape[1] for piece in pieces]
        time, clean = m.embed_time(timestep), m.embed_time(jnp.zeros_like(timestep))
        rotary, mask = _turns(m.rotary(grid), sizes[0]), _mask(*sizes)

        def body(x, layer):
            return _block(m, layer, x, (time, clean), sizes, rotary, mask), None

        x, _ = jax.lax.scan(body, jnp.concatenate(pieces, axis=1), m.tree["blocks"])
        return m.head(x[:, sizes[0] : sizes[0] + sizes[1]], time, grid)

    return model.apply({"params": params}, method=run)


def _turns(table: Rotary, text: int) -> Rotary:
    """Text is not turned, video and condition alike."""
    still = Rotary(jnp.ones((text, table.cos.shape[1])), jnp.zeros((text, table.sin.shape[1])))
    return Rotary(*(jnp.concatenate([s, t, t]) for s, t in zip(still, table, strict=True)))


def _mask(text: int, video: int, condition: int) -> Float[Array, "1 1 S S"]:
    """Condition tokens see themselves alone."""
    asks = jnp.arange(text + video + condition) >= text + video
    return jnp.where(asks[:, None] & ~asks, HIDDEN, 0.0)[None, None]


def _block(
    m: CogVideoX, params: Any, x: Array, times: tuple, sizes: list, rotary: Rotary, mask: Array
) -> Array:
    heads, dtype = m.config.num_heads, m.dtype
    attn = params["attn"]
    y, gate = _modulated(params["norm1"], params["mod1"], x, times, sizes)
    q, k = (_turned(attn, which, y, heads, rotary) for which in "qk")
    v = project(attn["v"], y, dtype).reshape(*y.shape[:2], heads, -1)
    (mixed,) = attention(
        [Query(q)], [Part(k, v)], implementation=m.attention, biases={(0, 0): mask}
    )
    x = x + gate * project(attn["o"], mixed.reshape(y.shape), dtype)
    y, gate = _modulated(params["norm2"], params["mod2"], x, times, sizes)
    return x + gate * stream_mlp(params["mlp"], y, dtype, "video")


def _modulated(norm: Any, mod: Any, x: Array, times: tuple, sizes: list) -> tuple[Array, Array]:
    """(normalised, scaled and shifted tokens; their gates), each third in its own way."""
    time, clean = (jnp.split(project(mod, silu(t), jnp.float32), 6, axis=-1) for t in times)
    thirds = (time[3:], time[:3], clean[:3])
    shift, scale, gate = (
        jnp.concatenate(
            [
                jnp.broadcast_to(third[i][:, None], (len(x), size, x.shape[-1]))
                for third, size in zip(thirds, sizes, strict=True)
            ],
            axis=1,
        )
        for i in range(3)
    )
    y = layer_norm(x, norm["scale"], norm["bias"], EPSILON)
    return y * (1 + scale) + shift, gate


def _turned(params: Any, which: str, x: Array, heads: int, rotary: Rotary) -> Array:
    """Queries ("q") or keys ("k"), normalised per head and turned."""
    norm = halved(params[f"{which}_norm"], 1)
    y = heads_first(project(halved(params[which], heads), x, x.dtype), heads)
    y = layer_norm(y, norm["scale"], norm["bias"], HEAD_EPSILON)
    return jnp.swapaxes(rotate(y, rotary, "half", heads_first=True), 1, 2)
