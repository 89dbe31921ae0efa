"""Normalisation over the channel axis, always in float32, epsilon inside the root."""

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


def layer_norm(
    x: Float[Array, "*S D"],
    scale: Float[Array, " D"] | None = None,
    bias: Float[Array, " D"] | None = None,
    epsilon: float = EPSILON,
) -> Float[Array, "*S D"]:
    """scale * (x - mean(x)) / sqrt(var(x) + epsilon) + bias over the last axis; float32 out.

    The variance is the biased one, taken of the centred values: exact for x far from zero,
    where mean(x^2) - mean(x)^2 cancels.
    """
    x = x.astype(jnp.float32)
    x = x - jnp.mean(x, axis=-1, keepdims=True)
    y = x * jax.lax.rsqrt(jnp.mean(jnp.square(x), axis=-1, keepdims=True) + epsilon)
    y = y if scale is None else y * scale
    return y if bias is None else y + bias


def init_norm(dim: int, bias: bool = True) -> dict[str, Array]:
    """Weights of an affine norm: scale one, and a zero bias if it has one."""
    scale = {"scale": jnp.ones((dim,), jnp.float32)}
    return {**scale, "bias": jnp.zeros((dim,), jnp.float32)} if bias else scale
