"""Attention whose queries and keys are normed before the heads are split."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from einops import rearrange
from jax.typing import DTypeLike
from jaxtyping import Array, Float, PRNGKeyArray

from tavid_jax.models.latte.attention import Axis, merge_heads, split_heads
from tavid_jax.models.layers.attention.xla import attend_heads
from tavid_jax.models.layers.linear import Params, linear
from tavid_jax.models.layers.norms import init_norm, rms_norm

# Of the norms of queries and keys; the other norms have the usual one.
QK_EPSILON = 1e-5

KeysValues = tuple[Float[Array, "B K S d"], Float[Array, "B K S d"]]


def init_attention(key: PRNGKeyArray, dim: int, init_linear: Callable[..., Params]) -> Params:
    """Parameters {q, kv, proj, q_norm, k_norm}; the first half of kv's output is k."""
    key_q, key_kv, key_proj = jax.random.split(key, 3)
    return {
        "q": init_linear(key_q, dim, dim),
        "kv": init_linear(key_kv, dim, 2 * dim),
        "proj": init_linear(key_proj, dim, dim),
        "q_norm": init_norm(dim, bias=False),
        "k_norm": init_norm(dim, bias=False),
    }


def self_attention(
    params: Params, x: Float[Array, "B T N D"], *, axis: Axis, heads: int, dtype: DTypeLike
) -> Float[Array, "B T N D"]:
    """Among the tokens of a frame (axis "space") or the frames of a token ("time")."""
    q, (k, v) = _queries(params, x, dtype), _keys_values(params, x, dtype)
    q, k, v = (split_heads(part, heads, axis) for part in (q, k, v))
    return linear(params["proj"], merge_heads(attend_heads(q, k, v), axis), dtype)


def project_context(
    params: Params, context: Float[Array, "B S D"], *, heads: int, dtype: DTypeLike
) -> KeysValues:
    """Keys and values of a context: all that cross-attention needs of it."""
    k, v = _keys_values(params, context, dtype)
    return tuple(rearrange(part, "b s (k d) -> b k s d", k=heads) for part in (k, v))


def cross_attention(
    params: Params, x: Float[Array, "B T N D"], keys_values: KeysValues, *, heads: int,
    dtype: DTypeLike,
) -> Float[Array, "B T N D"]:  # fmt: skip
    """From every token of every frame to one context of the clip, nothing of which is repeated."""
    k, v = keys_values
    q = rearrange(_queries(params, x, dtype), "b t n (k d) -> b k (t n) d", k=heads)
    out = rearrange(attend_heads(q, k, v), "b k (t n) d -> b t n (k d)", t=x.shape[1])
    return linear(params["proj"], out, dtype)


def _queries(params: Params, x: Array, dtype: DTypeLike) -> Array:
    q = linear(params["q"], x, dtype)
    return rms_norm(q, params["q_norm"]["scale"], QK_EPSILON).astype(dtype)


def _keys_values(params: Params, x: Array, dtype: DTypeLike) -> tuple[Array, Array]:
    k, v = jnp.split(linear(params["kv"], x, dtype), 2, axis=-1)
    return rms_norm(k, params["k_norm"]["scale"], QK_EPSILON).astype(dtype), v
