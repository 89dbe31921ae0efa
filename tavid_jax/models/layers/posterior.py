"""What an encoder says about a latent: a diagonal Gaussian."""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

LOGVAR_RANGE = (-30.0, 20.0)


@flax.struct.dataclass
class Posterior:
    """Mean and log-variance per latent channel.

    Attributes:
      mean, logvar: (B, F, H, W, C), float32.
    """

    # Any: as a pytree it may also hold shapes, shardings or None.
    mean: Any
    logvar: Any

    @classmethod
    def of_moments(cls, moments: Float[Array, "B F H W M"]) -> "Posterior":
        """From an encoder's output: the mean's channels, then the log-variance's (clamped)."""
        mean, logvar = jnp.split(moments.astype(jnp.float32), 2, axis=-1)
        return cls(mean, jnp.clip(logvar, *LOGVAR_RANGE))

    def mode(self) -> Float[Array, "B F H W C"]:
        """The most likely latent: the mean."""
        return self.mean

    def sample(self, noise: Float[Array, "B F H W C"]) -> Float[Array, "B F H W C"]:
        """mean + std * noise, for standard normal noise."""
        return self.mean + jnp.exp(0.5 * self.logvar) * noise

    def draw(self, key: jax.Array) -> Float[Array, "B F H W C"]:
        """A sample from a key."""
        return self.sample(jax.random.normal(key, self.mean.shape, jnp.float32))
