"""What a backbone is asked to predict: how its training data are noised, and the target."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from tavid_jax.diffusion import prediction, vprediction
from tavid_jax.diffusion.paths import over_time, per_clip_normal
from tavid_jax.pipelines.backbones import Backbone, CogVideoXBackbone


#: Factors of the squared error: "none" is 1, "low_noise" for data prediction 1 / (s + 0.2), s the
#: share of noise.
WEIGHTINGS = ("none", "low_noise")


class Noised(NamedTuple):
    """A training example at a noise level.

    Attributes:
      state: the noisy latent that the backbone reads.
      target: what it should predict, float32: the velocity, or for data prediction the clean
        latent.
      timestep: 0 to 1000, what it is told about the level.
      weight: of its squared error, as a factor; weights are not divided by their sum.
    """

    state: Float[Array, "B F H W C"]
    target: Float[Array, "B F H W C"]
    timestep: Float[Array, " B"]
    weight: Float[Array, " B"]


@dataclasses.dataclass(frozen=True)
class VPrediction:
    """v-prediction over 1000 steps with zero terminal signal: CogVideoX.

    Attributes:
      snr_shift: shift of the signal-to-noise ratio; 3 for the 2B model, 1 for the others.
      predicts: "velocity", v as published, or "data", the clean latent.
      weighting: see `WEIGHTINGS`.

    Raises:
      ValueError: a prediction or a weighting that there is not.
    """

    snr_shift: float | int = 1.0
    predicts: str = "velocity"
    weighting: str = "none"

    def __post_init__(self):
        prediction.check_predicts(self.predicts)
        check_weighting(self.weighting, self.predicts)

    def noised(self, latents: Float[Array, "B F H W C"], keys: Key[Array, " B"]) -> Noised:
        """A step drawn uniformly, noise, and v or the data as target."""
        step_keys, noise_keys = _two(keys)
        steps = vprediction.uniform_steps(step_keys)
        timestep = steps.astype(jnp.float32)
        alpha = vprediction.alpha_at(timestep, self.snr_shift)
        noise = per_clip_normal(noise_keys, latents.shape[1:])
        if self.predicts == "data":
            target = latents.astype(jnp.float32)
        else:
            target = vprediction.velocity_target(latents, noise, alpha)
        return Noised(
            state=vprediction.add_noise(latents, noise, alpha),
            target=target,
            timestep=timestep,
            weight=weight_at(jnp.sqrt(1.0 - alpha), self.weighting),
        )


@dataclasses.dataclass(frozen=True)
class FlowMatching:
    """The straight path from data (sigma 0) to noise (sigma 1), velocity noise - data: Wan.

    Attributes:
      shift: s > 1 moves uniformly drawn levels towards noise, sigma = s u / (1 + (s - 1) u).
      levels: (lowest, highest) sigma, after the shift; within them levels keep their shares. The
        experts of Wan 2.2 A14B learn one side of their boundary each.
      predicts: "velocity", as published, or "data", the clean latent.
      weighting: see `WEIGHTINGS`.

    Raises:
      ValueError: a shift that is not positive, levels that are no part of [0, 1], a prediction or a
        weighting that there is not.
    """

    shift: float | int = 5.0
    levels: tuple[float | int, float | int] = (0.0, 1.0)
    predicts: str = "velocity"
    weighting: str = "none"

    def __post_init__(self):
        prediction.check_predicts(self.predicts)
        check_weighting(self.weighting, self.predicts)
        if not self.shift > 0:
            raise ValueError(f"model.shift {self.shift} must be above 0; 1 shifts nothing")
        if len(self.levels) != 2 or not 0 <= self.levels[0] < self.levels[1] <= 1:
            raise ValueError(
                f"model.levels {self.levels}: give the lowest and the highest sigma, from 0 to 1"
            )

    def noised(self, latents: Float[Array, "B F H W C"], keys: Key[Array, " B"]) -> Noised:
        """A level drawn uniformly and shifted, noise, and velocity or data as target."""
        level_keys, noise_keys = _two(keys)
        sigma = jax.vmap(self._level)(level_keys)
        noise = per_clip_normal(noise_keys, latents.shape[1:])
        share = over_time(sigma, latents.ndim)
        latents = latents.astype(jnp.float32)
        return Noised(
            state=(1.0 - share) * latents + share * noise,
            target=latents if self.predicts == "data" else noise - latents,
            timestep=1000.0 * sigma,
            weight=weight_at(sigma, self.weighting),
        )

    def _level(self, key: Key[Array, ""]) -> Float[Array, ""]:
        s, (low, high) = self.shift, self.levels
        # The levels' places before the shift, which is monotonic: no draw is thrown away.
        start, stop = (sigma / (s - (s - 1.0) * sigma) for sigma in (low, high))
        uniform = jax.random.uniform(key, (), jnp.float32, start, stop)
        return jnp.clip(s * uniform / (1.0 + (s - 1.0) * uniform), low, high)


Objective = VPrediction | FlowMatching


def objective_of(backbone: Backbone, flow: FlowMatching) -> Objective:
    """What a published backbone is trained by.

    Args:
      backbone: CogVideoX has its own noise schedule, Wan takes `flow`.
      flow: noise levels of Wan; prediction and weighting of both.

    Raises:
      ValueError: levels for a backbone that draws steps.
    """
    if not isinstance(backbone, CogVideoXBackbone):
        return flow
    if flow.levels != (0, 1):
        raise ValueError("model.levels are Wan's: CogVideoX draws one of its 1000 steps")
    return VPrediction(backbone.snr_shift, flow.predicts, flow.weighting)


def check_weighting(weighting: str, predicts: str) -> None:
    """Refuses a weighting that does not suit what is predicted."""
    if weighting not in WEIGHTINGS:
        raise ValueError(f"model.weighting {weighting!r} is none of {', '.join(WEIGHTINGS)}")
    if weighting == "low_noise" and predicts != "data":
        raise ValueError("model.weighting 'low_noise' is that of model.predicts 'data'")


def weight_at(share: Float[Array, " B"], weighting: str) -> Float[Array, " B"]:
    """Factor of the squared error at a share of noise."""
    return 1.0 / (share + 0.2) if weighting == "low_noise" else jnp.ones_like(share)


def _two(keys: Key[Array, " B"]) -> tuple[Key[Array, " B"], Key[Array, " B"]]:
    first, second = jnp.moveaxis(jax.vmap(jax.random.split)(keys), 1, 0)
    return first, second
