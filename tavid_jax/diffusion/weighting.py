"""Factors of the squared error by the share of noise, 0 (data) to 1 (noise), float32.

What is published multiplies the mean over a batch as it is: factors are not divided by their sum.
"""

import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

# Below it a share counts as this one: the last of 1000 steps.
FLOOR = 1e-3


def low_noise(share: Float[Array, " B"], softening: float | int = 0.2) -> Float[Array, " B"]:
    """1 / (share + softening): errors of the data that a sampler will not mend count more."""
    return 1.0 / (share + softening)


def sigma_sqrt(share: Float[Array, " B"]) -> Float[Array, " B"]:
    """1 / share^2, the name is diffusers'.

    The squared error of the data times it is that of the velocity, on the straight path and, with
    share = sqrt(1 - a), on CogVideoX's: its public trainer has 1 / (1 - a).
    """
    return jnp.maximum(share, FLOOR) ** -2.0


def cosmap(share: Float[Array, " B"]) -> Float[Array, " B"]:
    """2 / (pi (1 - 2s + 2s^2)): uniform draws count as those of `levels.CosMap`."""
    return 2.0 / (math.pi * (1.0 - 2.0 * share + 2.0 * share**2))


def bell(share: Float[Array, " B"], shift: float | int = 5.0) -> Float[Array, " B"]:
    """exp(-2 (s - 1/2)^2), lowered to 0 at s = 1 and with mean 1 over 1000 shifted levels.

    The factor of the public trainers of Wan (DiffSynth's, FlexTraj's).

    Args:
      share: of noise, after the shift.
      shift: of the levels over which the mean is taken.
    """
    even = np.linspace(1.0, 0.0, 1001)[:-1]
    levels = shift * even / (1.0 + (shift - 1.0) * even)
    lowest = math.exp(-0.5)
    mean = float(np.mean(np.exp(-2.0 * (levels - 0.5) ** 2) - lowest))
    return (jnp.exp(-2.0 * (share - 0.5) ** 2) - lowest) / mean
