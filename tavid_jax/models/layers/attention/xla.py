"""The reference: the whole score tensor, softmax in float32.

Heads stand next to the batch before any product, so that matrix products run over contiguous
(sequence, head dim) blocks, and the weights are normalised after the second product, where there
is less to divide.
"""

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
    """softmax(scale q k^T + bias) v; products in the inputs' dtype, sums in float32."""
    q, k, v = (jnp.swapaxes(x, 1, 2) for x in (q, k, v))
    return jnp.swapaxes(attend_heads(q, k, v, bias, scale=scale), 1, 2)


def attend_heads(
    q: Float[Array, "*B Q D"],
    k: Float[Array, "*B S D"],
    v: Float[Array, "*B S D"],
    bias: Float[Array, "..."] | None = None,
    *,
    scale: float | None = None,
) -> Float[Array, "*B Q D"]:
    """The same for heads that stand beside the batch; scale None is D^-0.5."""
    scores = scores_of(q, k, bias, q.shape[-1] ** -0.5 if scale is None else scale)
    # The maximum only guards against overflow: the result does not depend on it.
    top = jax.lax.stop_gradient(jnp.max(scores, axis=-1, keepdims=True))
    weights = jnp.exp(scores - top)
    total = jnp.sum(weights, axis=-1, keepdims=True)
    mixed = jnp.einsum(
        "...qs,...sd->...qd", weights.astype(v.dtype), v, preferred_element_type=scores.dtype
    )
    return (mixed / total).astype(v.dtype)


def scores_of(
    q: Float[Array, "*B Q D"],
    k: Float[Array, "*B S D"],
    bias: Float[Array, "..."] | None,
    scale: float,
) -> Float[Array, "*B Q S"]:
    """scale q k^T + bias (broadcastable to it) in float32.

    The scale goes to q, which is smaller, where that costs no precision.
    """
    wide = jnp.promote_types(q.dtype, jnp.float32)
    exact = q.dtype == wide
    scores = jnp.einsum(
        "...qd,...sd->...qs", q * scale if exact else q, k, preferred_element_type=wide
    )
    scores = scores if exact else scores * scale
    return scores if bias is None else scores + bias.astype(wide)
