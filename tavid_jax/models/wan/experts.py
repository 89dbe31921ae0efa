"""Wan 2.2 A14B: two transformers of one size, one for high noise and one for low noise."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from tavid_jax.models.layers.linear import Params
from tavid_jax.models.layers.ports import Prediction
from tavid_jax.models.wan.transformer import Timesteps, Wan

HIGH_NOISE, LOW_NOISE = "high_noise", "low_noise"
# The share of the schedule from which the high-noise expert serves.
BOUNDARIES = {"wan2.2-t2v-a14b": 0.875, "wan2.2-i2v-a14b": 0.9}
MAX_TIMESTEP = 1000.0


def expert_at(timestep: float | int, boundary: float | int) -> str:
    """Name of the expert that serves a timestep in [0, 1000]."""
    return HIGH_NOISE if timestep >= boundary * MAX_TIMESTEP else LOW_NOISE


def high_noise_steps(timesteps: Sequence[float | int] | np.ndarray, boundary: float | int) -> int:
    """How many of the (descending) sampling timesteps belong to the high-noise expert.

    Sampling runs them first, with one expert's weights, and the others with the other's: the two
    never have to be in memory together.
    """
    return sum(expert_at(float(t), boundary) == HIGH_NOISE for t in timesteps)


def predict(
    model: Wan,
    experts: Mapping[str, Params],
    latents: Float[Array, "B F H W C"],
    timestep: Timesteps,
    text: Float[Array, "B L E"] | None,
    *,
    boundary: float | int,
    **options: Any,
) -> Prediction:
    """One evaluation by the expert in charge of the timestep, chosen on the device.

    Args:
      model: the architecture of both experts.
      experts: {"high_noise": parameters, "low_noise": parameters}.
      timestep: all examples on the same side of the boundary; the first one decides. With a
        timestep per token, the largest of the first example does.
      boundary: see `BOUNDARIES`.
      latents, text, options: as for `Wan.predict`.
    """

    def serve(name: str) -> Any:
        return lambda: model.apply(
            {"params": experts[name]}, latents, timestep, text, method=Wan.predict, **options
        )

    high = jnp.max(timestep[0]) >= boundary * MAX_TIMESTEP
    return jax.lax.cond(high, serve(HIGH_NOISE), serve(LOW_NOISE))
