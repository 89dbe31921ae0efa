"""From the clean latent that a network predicts to the velocity that samplers read.

Data prediction changes what the output means, not the network: the same state, the same sampler.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from tavid_jax.diffusion.paths import over_time

PREDICTS = ("velocity", "data")
# Below it a level counts as this one. Levels that samplers visit lie above it.
FLOOR = 1e-3


def check_predicts(predicts: str) -> None:
    """Refuses what no network here predicts.

    Raises:
      ValueError: neither "velocity" nor "data".
    """
    if predicts not in PREDICTS:
        raise ValueError(f"model.predicts {predicts!r} is none of {', '.join(PREDICTS)}")


def velocity_of_data(
    state: Float[Array, "B *x"],
    data: Float[Array, "B *x"],
    sigma: Float[Array, " B"],
    floor: float = FLOOR,
) -> Float[Array, "B *x"]:
    """v = (x - x0) / max(sigma, floor) on the straight path, float32.

    Exact above the floor: x - sigma v is x0 again. The floor only keeps sigma 0 finite, so it may
    be as small as float32 allows: a sampler multiplies v by at most sigma.

    Args:
      state: x = (1 - sigma) x0 + sigma eps.
      data: the network's x0.
      sigma: share of noise, 0 to 1.
      floor: above 0.
    """
    sigma = jnp.maximum(over_time(sigma.astype(jnp.float32), state.ndim), floor)
    return (state.astype(jnp.float32) - data.astype(jnp.float32)) / sigma


def v_of_data(
    state: Float[Array, "B *x"], data: Float[Array, "B *x"], alpha: Float[Array, " B"]
) -> Float[Array, "B *x"]:
    """v = (sqrt(a) x - x0) / sqrt(1 - a) on the variance-preserving path, float32.

    It is the v of `vprediction.velocity_target` when x0 is right, and sqrt(a) x - sqrt(1 - a) v is
    x0 again, whatever it is.

    Args:
      state: x = sqrt(a) x0 + sqrt(1 - a) eps.
      data: the network's x0.
      alpha: a, 0 to below 1; see `vprediction.alpha_at`.
    """
    alpha = over_time(alpha.astype(jnp.float32), state.ndim)
    signal = jnp.sqrt(alpha) * state.astype(jnp.float32)
    return (signal - data.astype(jnp.float32)) / jnp.sqrt(jnp.maximum(1.0 - alpha, FLOOR**2))
