"""The straight path from source to data (rectified flow)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key


def over_time(t: Float[Array, " B"], rank: int) -> Float[Array, "B *ones"]:
    """One time per clip, shaped to broadcast against an array of `rank` dimensions."""
    return t.reshape(t.shape + (1,) * (rank - 1))


def per_clip_normal(keys: Key[Array, " B"], shape: tuple[int, ...]) -> Float[Array, "B ..."]:
    """Standard normal float32 numbers of shape (B, *shape), each clip from its own key."""
    return jax.vmap(lambda key: jax.random.normal(key, shape, jnp.float32))(keys)


def interpolate(
    z0: Float[Array, "B *z"],
    z1: Float[Array, "B *z"],
    t: Float[Array, " B"],
    keys: Key[Array, " B"] | None = None,
    sigma: float = 0.0,
) -> Float[Array, "B *z"]:
    """z_t = (1 - t) z0 + t z1 + sigma * eps, in float32.

    Args:
      z0: source states.
      z1: data.
      t: in [0, 1].
      keys: one per clip, for the tube noise; needed when sigma > 0.
      sigma: width of the tube around the straight line. TrajLoom trains with 0.05 (`fm_sigma`
        of its released config, the sigma of torchcfm's ConditionalFlowMatcher).

    Raises:
      ValueError: sigma > 0 without keys, or sigma < 0.
    """
    if sigma < 0 or (sigma > 0 and keys is None):
        raise ValueError(f"tube noise of width {sigma} needs sigma >= 0 and one key per clip")
    z0, z1 = z0.astype(jnp.float32), z1.astype(jnp.float32)
    share = over_time(t.astype(jnp.float32), z0.ndim)
    z_t = (1 - share) * z0 + share * z1
    if sigma > 0:
        z_t = z_t + sigma * per_clip_normal(keys, z0.shape[1:])
    return z_t


def target_velocity(z0: Float[Array, "*z"], z1: Float[Array, "*z"]) -> Float[Array, "*z"]:
    """u = z1 - z0 in float32: the slope of the straight path, which tube noise does not change."""
    return z1.astype(jnp.float32) - z0.astype(jnp.float32)
