"""Attention along one axis of a (time, token) field.

Heads stand next to the batch axes before any product: matrix products then run over contiguous
(sequence, head dim) blocks, which is what CPUs and matrix units want.
"""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from einops import rearrange
from jax.ad_checkpoint import checkpoint_name
from jax.typing import DTypeLike
from jaxtyping import Array, Float, PRNGKeyArray

from tavid_jax.models.layers.attention.xla import attend_heads
from tavid_jax.models.layers.linear import Params, linear
from tavid_jax.models.layers.norms import rms_norm
from tavid_jax.parallel.sharding import constrain

Axis = Literal["space", "time"]
# Names that blocks give to what the backward pass may keep or offload, see `layers.depth.Remat`.
ACTIVATIONS = ("block_input", "query", "key", "value", "attention", "mlp_hidden")

_SPLIT = {
    "space": "b t n (k d) -> b t k n d",
    "time": "b t n (k d) -> b n k t d",
}
_MERGE = {
    "space": "b t k n d -> b t n (k d)",
    "time": "b n k t d -> b t n (k d)",
}
_HEAD_AXES = {
    "space": ("batch", "time", "heads", None, None),
    "time": ("batch", "tokens", "heads", None, None),
}


def split_heads(x: Float[Array, "B T N C"], heads: int, axis: Axis) -> Float[Array, "B A K S D"]:
    """Heads to the front: "space" gives (B, T, K, N, D), "time" gives (B, N, K, T, D)."""
    return constrain(rearrange(x, _SPLIT[axis], k=heads), *_HEAD_AXES[axis])


def merge_heads(x: Float[Array, "B A K S D"], axis: Axis) -> Float[Array, "B T N C"]:
    """The inverse of `split_heads`."""
    return rearrange(x, _MERGE[axis])


def init_self_attention(key: PRNGKeyArray, dim: int, init_linear: Callable[..., Params]) -> Params:
    """Parameters {qkv, proj}; the output of qkv is laid out (3, heads, head dim)."""
    key_qkv, key_proj = jax.random.split(key)
    return {"qkv": init_linear(key_qkv, dim, 3 * dim), "proj": init_linear(key_proj, dim, dim)}


def self_attention(
    params: Params,
    x: Float[Array, "B T N C"],
    *,
    axis: Axis,
    heads: int,
    qk_norm: bool,
    dtype: DTypeLike,
) -> Float[Array, "B T N C"]:
    """Attention among the tokens of a frame (axis "space") or the frames of a token ("time").

    `qk_norm`: RMS norm of every query and key over its head dim, without weights.
    """
    qkv = linear(params["qkv"], x, dtype)
    q, k, v = (split_heads(part, heads, axis) for part in jnp.split(qkv, 3, axis=-1))
    if qk_norm:
        q, k = rms_norm(q).astype(dtype), rms_norm(k).astype(dtype)
    q, k, v = _named(q, k, v)
    out = merge_heads(attend_heads(q, k, v), axis)
    return linear(params["proj"], checkpoint_name(out, "attention"), dtype)


def _named(q: Array, k: Array, v: Array) -> tuple[Array, Array, Array]:
    return checkpoint_name(q, "query"), checkpoint_name(k, "key"), checkpoint_name(v, "value")


def init_cross_attention(key: PRNGKeyArray, dim: int, init_linear: Callable[..., Params]) -> Params:
    """Parameters {q, kv, proj}; the first half of kv's output is k."""
    key_q, key_kv, key_proj = jax.random.split(key, 3)
    return {
        "q": init_linear(key_q, dim, dim),
        "kv": init_linear(key_kv, dim, 2 * dim),
        "proj": init_linear(key_proj, dim, dim),
    }


def project_keys_values(
    params: Params, context: Float[Array, "*B S C"], *, heads: int, dtype: DTypeLike
) -> tuple[Float[Array, "*B K S D"], Float[Array, "*B K S D"]]:
    """Normalised keys and the values of a context: all that cross-attention needs of it."""
    return as_keys_values(linear(params["kv"], context, dtype), heads=heads, dtype=dtype)


def as_keys_values(
    projected: Float[Array, "*B S E"], *, heads: int, dtype: DTypeLike
) -> tuple[Float[Array, "*B K S D"], Float[Array, "*B K S D"]]:
    """Normalised keys and values from keys and values side by side (E = 2 K D)."""
    k, v = jnp.split(projected, 2, axis=-1)
    k = rearrange(k, "... s (k d) -> ... k s d", k=heads)
    v = rearrange(v, "... s (k d) -> ... k s d", k=heads)
    return rms_norm(k).astype(dtype), v


def cross_attention(
    params: Params,
    x: Float[Array, "B T N C"],
    keys_values: tuple[Array, Array],
    *,
    axis: Axis,
    heads: int,
    dtype: DTypeLike,
) -> Float[Array, "B T N C"]:
    """Attention from x to keys and values that were projected by `project_keys_values`.

    axis "time": every token has its own context, K/V (B, N, K, S, D).
    axis "space": one context for all frames, K/V (B, K, S, D); all T*N queries of a sample
    form a single sequence, so that nothing is repeated over frames.
    """
    k, v = keys_values
    q = linear(params["q"], x, dtype)
    if axis == "time":
        q = rms_norm(split_heads(q, heads, "time")).astype(dtype)
        out = merge_heads(attend_heads(*_named(q, k, v)), "time")
    else:
        frames = x.shape[1]
        q = rearrange(q, "b t n (k d) -> b k (t n) d", k=heads)
        out = attend_heads(*_named(rms_norm(q).astype(dtype), k, v))
        out = rearrange(out, "b k (t n) d -> b t n (k d)", t=frames)
    return linear(params["proj"], checkpoint_name(out, "attention"), dtype)
