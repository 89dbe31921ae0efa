"""cuDNN's fused attention on NVIDIA GPUs."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def attend(
    q: Float[Array, "B Q K D"],
    k: Float[Array, "B S K D"],
    v: Float[Array, "B S K D"],
    bias: Float[Array, "#B #K #Q #S"] | None = None,
    *,
    scale: float,
) -> Float[Array, "B Q K D"]:
    """softmax(scale q k^T + bias) v, in bfloat16 or float16.

    With a bias cuDNN differentiates only even sequences: an odd one gets a token of padding.
    """
    queries, keys = q.shape[1], k.shape[1]
    lengths = {}
    if bias is not None:
        bias = jnp.broadcast_to(bias, (*bias.shape[:2], queries, keys)).astype(q.dtype)
        odd = (queries % 2, keys % 2)
        q, (k, v) = _append(q, odd[0]), (_append(x, odd[1]) for x in (k, v))
        bias = jnp.pad(bias, ((0, 0), (0, 0), (0, odd[0]), (0, odd[1])))
        if any(odd):
            lengths = {
                "query_seq_lengths": jnp.full(q.shape[0], queries, jnp.int32),
                "key_value_seq_lengths": jnp.full(q.shape[0], keys, jnp.int32),
            }
    out = jax.nn.dot_product_attention(
        q, k, v, bias, scale=scale, implementation="cudnn", **lengths
    )
    return out[:, :queries]


def _append(x: Array, tokens: int) -> Array:
    return jnp.pad(x, ((0, 0), (0, tokens), (0, 0), (0, 0)))
