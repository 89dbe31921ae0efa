"""Normalisation over channels, always in float32, epsilon inside the root."""

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


def group_norm(
    x: Float[Array, "B *S C"],
    groups: int,
    scale: Float[Array, " C"] | None = None,
    bias: Float[Array, " C"] | None = None,
    epsilon: float = EPSILON,
) -> Float[Array, "B *S C"]:
    """scale * (x - mean) / sqrt(var + epsilon) + bias; float32 out, whatever comes in.

    Mean and biased variance are those of a sample's group of C / groups neighbouring channels,
    over all its other axes. `groups` divides C.
    """
    x = x.astype(jnp.float32)
    positions = tuple(range(1, x.ndim - 1))

    def group_mean(values: Array) -> Array:
        # First per channel, then per group: the channels stay the fastest axis.
        channels = jnp.mean(values, axis=positions)
        means = jnp.mean(channels.reshape(channels.shape[0], groups, -1), axis=-1)
        means = jnp.repeat(means, values.shape[-1] // groups, axis=-1)
        return jnp.expand_dims(means, positions)

    x = x - group_mean(x)
    y = x * jax.lax.rsqrt(group_mean(jnp.square(x)) + epsilon)
    y = y if scale is None else y * scale
    return y if bias is None else y + bias


def init_norm(dim: int, bias: bool = True) -> dict[str, Array]:
    """Weights of an affine norm: scale one, and a zero bias if it has one."""
    scale = {"scale": jnp.ones((dim,), jnp.float32)}
    return {**scale, "bias": jnp.zeros((dim,), jnp.float32)} if bias else scale
