"""What a backbone is asked to predict: how its training data are noised, and the target."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from tavid_jax.diffusion import vprediction
from tavid_jax.diffusion.paths import over_time, per_clip_normal


class Noised(NamedTuple):
    """A training example at a noise level.

    Attributes:
      state: the noisy latent that the backbone reads.
      target: what it should predict.
      timestep: 0 to 1000, what it is told about the level.
    """

    state: Float[Array, "B F H W C"]
    target: Float[Array, "B F H W C"]
    timestep: Float[Array, " B"]


@dataclasses.dataclass(frozen=True)
class VPrediction:
    """v-prediction over 1000 steps with zero terminal signal: CogVideoX.

    Attributes:
      snr_shift: shift of the signal-to-noise ratio; 3 for the 2B model, 1 for the others.
    """

    snr_shift: float = 1.0

    def noised(self, latents: Float[Array, "B F H W C"], keys: Key[Array, " B"]) -> Noised:
        """A step drawn uniformly, noise, and v as target."""
        step_keys, noise_keys = _two(keys)
        steps = vprediction.uniform_steps(step_keys)
        table = jnp.asarray(vprediction.zero_snr_alphas(self.snr_shift), jnp.float32)
        noise = per_clip_normal(noise_keys, latents.shape[1:])
        return Noised(
            state=vprediction.add_noise(latents, noise, table[steps]),
            target=vprediction.velocity_target(latents, noise, table[steps]),
            timestep=steps.astype(jnp.float32),
        )


@dataclasses.dataclass(frozen=True)
class FlowMatching:
    """The straight path from data (sigma 0) to noise (sigma 1), velocity noise - data: Wan.

    Attributes:
      shift: s > 1 moves uniformly drawn levels towards noise, sigma = s u / (1 + (s - 1) u).
    """

    shift: float = 5.0

    def noised(self, latents: Float[Array, "B F H W C"], keys: Key[Array, " B"]) -> Noised:
        """A level drawn uniformly and shifted, noise, and the velocity as target."""
        level_keys, noise_keys = _two(keys)
        uniform = jax.vmap(lambda key: jax.random.uniform(key, (), jnp.float32))(level_keys)
        sigma = self.shift * uniform / (1.0 + (self.shift - 1.0) * uniform)
        noise = per_clip_normal(noise_keys, latents.shape[1:])
        share = over_time(sigma, latents.ndim)
        latents = latents.astype(jnp.float32)
        return Noised(
            state=(1.0 - share) * latents + share * noise,
            target=noise - latents,
            timestep=1000.0 * sigma,
        )


Objective = VPrediction | FlowMatching


def _two(keys: Key[Array, " B"]) -> tuple[Key[Array, " B"], Key[Array, " B"]]:
    both = jax.vmap(lambda key: jax.random.split(key, 2), out_axes=1)(keys)
    return both[0], both[1]
