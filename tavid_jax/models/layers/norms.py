"""Root-mean-square normalisation, always in float32."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

EPSILON = 1e-6


def rms_norm(
    x: Float[Array, "*S D"], scale: Float[Array, " D"] | None = None, epsilon: float = EPSILON
) -> Float[Array, "*S D"]:
    """scale * x / sqrt(mean(x^2) + epsilon) over the last axis; float32 out, whatever comes in."""
    x = x.astype(jnp.float32)
    y = x * jax.lax.rsqrt(jnp.mean(jnp.square(x), axis=-1, keepdims=True) + epsilon)
    return y if scale is None else y * scale
