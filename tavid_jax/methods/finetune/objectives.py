"""What a backbone is asked to predict: how its training data are noised, and the target."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from tavid_jax.diffusion import vprediction, weighting
from tavid_jax.diffusion.levels import Density, Uniform, check_range, draw, make_density
from tavid_jax.diffusion.paths import over_time, per_clip_normal
from tavid_jax.diffusion.prediction import check_predicts
from tavid_jax.pipelines.backbones import Backbone, CogVideoXBackbone

#: Factors of the squared error: see `diffusion.weighting`; "none" is 1.
WEIGHTINGS = ("none", "low_noise", "sigma_sqrt", "cosmap", "bell")


class Noised(NamedTuple):
    """A training example at a noise level.

    Attributes:
      state: the noisy latent that the backbone reads.
      target: what its output should be: the velocity, or for data prediction the clean latent.
      timestep: 0 to 1000, what it is told about the level.
      weight: factor of its squared error.
    """

    state: Float[Array, "B F H W C"]
    target: Float[Array, "B F H W C"]
    timestep: Float[Array, " B"]
    weight: Float[Array, " B"]


@dataclasses.dataclass(frozen=True)
class VPrediction:
    """CogVideoX: the variance-preserving path of 1000 steps that ends in pure noise.

    Attributes:
      snr_shift: shift of the signal-to-noise ratio; 3 for the 2B model, 1 for the others.
      predicts: "velocity", v as published, or "data", the clean latent.
      weighting: "none", which for v is what is published; the data's error may have "low_noise" or
        "sigma_sqrt", and with that it is v's error.
      density: of the steps; uniform as published.
      stratified: see `levels.draw`.

    Raises:
      ValueError: a prediction that there is not, or a weighting that does not suit it.
    """

    snr_shift: float | int = 1.0
    predicts: str = "velocity"
    weighting: str = "none"
    density: Density = Uniform()
    stratified: bool = False

    def __post_init__(self):
        _check(self.predicts, self.weighting)
        if self.weighting in ("cosmap", "bell"):
            raise ValueError(f"model.weighting {self.weighting!r} is Wan's: set it to 'none'")
        if self.weighting == "sigma_sqrt" and self.predicts == "velocity":
            raise ValueError(
                "model.weighting 'sigma_sqrt': the error of v is that of the data over sigma^2 "
                "already; use 'none', or model.predicts='data'"
            )

    def noised(self, latents: Float[Array, "B F H W C"], keys: Key[Array, " B"]) -> Noised:
        """A step, noise, and v or the data as target; all float32."""
        step_keys, noise_keys = _two(keys)
        share = draw(step_keys, self.density, stratified=self.stratified)
        last = vprediction.NUM_STEPS - 1
        timestep = jnp.minimum(jnp.floor(vprediction.NUM_STEPS * share), last)
        alpha = vprediction.alpha_at(timestep, self.snr_shift)
        noise = per_clip_normal(noise_keys, latents.shape[1:])
        target = vprediction.velocity_target(latents, noise, alpha)
        return Noised(
            state=vprediction.add_noise(latents, noise, alpha),
            target=latents.astype(jnp.float32) if self.predicts == "data" else target,
            timestep=timestep,
            weight=_weight(self.weighting, jnp.sqrt(1.0 - alpha)),
        )


@dataclasses.dataclass(frozen=True)
class FlowMatching:
    """Wan: the straight path from data (sigma 0) to noise (sigma 1), velocity noise - data.

    Attributes:
      shift: s > 1 moves drawn levels towards noise, sigma = s t / (1 + (s - 1) t).
      levels: (lowest, highest) sigma, after the shift; within them levels keep their shares. The
        experts of Wan 2.2 A14B learn one side of their boundary each.
      predicts: "velocity", as published, or "data", the clean latent.
      weighting: one of `WEIGHTINGS`, "low_noise" for data only.
      density: of the levels t before the shift.
      stratified: see `levels.draw`.

    Raises:
      ValueError: a shift that is not positive, levels that are no part of [0, 1] or of which the
        density has next to nothing, a prediction or a weighting that there is not.
    """

    shift: float | int = 5.0
    levels: tuple[float | int, float | int] = (0.0, 1.0)
    predicts: str = "velocity"
    weighting: str = "none"
    density: Density = Uniform()
    stratified: bool = False

    def __post_init__(self):
        _check(self.predicts, self.weighting)
        if not self.shift > 0:
            raise ValueError(f"model.shift {self.shift} must be above 0; 1 shifts nothing")
        if len(self.levels) != 2 or not 0 <= self.levels[0] < self.levels[1] <= 1:
            raise ValueError(
                f"model.levels {self.levels}: give the lowest and the highest sigma, from 0 to 1"
            )
        check_range(self.density, *self._before_shift())

    def noised(self, latents: Float[Array, "B F H W C"], keys: Key[Array, " B"]) -> Noised:
        """A level, noise, and velocity or data as target; all float32."""
        level_keys, noise_keys = _two(keys)
        sigma = self._sigma(level_keys)
        noise = per_clip_normal(noise_keys, latents.shape[1:])
        share = over_time(sigma, latents.ndim)
        latents = latents.astype(jnp.float32)
        return Noised(
            state=(1.0 - share) * latents + share * noise,
            target=latents if self.predicts == "data" else noise - latents,
            timestep=1000.0 * sigma,
            weight=_weight(self.weighting, sigma, self.shift),
        )

    def _sigma(self, keys: Key[Array, " B"]) -> Float[Array, " B"]:
        # The shift is monotonic: no draw is thrown away.
        t = draw(keys, self.density, *self._before_shift(), self.stratified)
        return jnp.clip(self.shift * t / (1.0 + (self.shift - 1.0) * t), *self.levels)

    def _before_shift(self) -> tuple[float, float]:
        low, high = (sigma / (self.shift - (self.shift - 1.0) * sigma) for sigma in self.levels)
        return low, high


Objective = VPrediction | FlowMatching


def read_flow(model: Any) -> FlowMatching:
    """The objective that `config.model` describes, for Wan.

    Raises:
      ValueError: a value that there is not, see `FlowMatching` and `levels.make_density`.
    """
    return FlowMatching(
        model.shift,
        tuple(model.levels),
        model.predicts,
        model.weighting,
        make_density(model.timesteps, model.logit_mean, model.logit_std, model.mode_scale),
        model.stratified,
    )


def objective_of(backbone: Backbone, flow: FlowMatching) -> Objective:
    """What a published backbone is trained by.

    Args:
      backbone: CogVideoX has its own noise schedule, Wan takes `flow`.
      flow: its shift and range of levels are Wan's, all else is of both.

    Raises:
      ValueError: levels for a backbone that draws steps; see `VPrediction`.
    """
    if not isinstance(backbone, CogVideoXBackbone):
        return flow
    if flow.levels != (0, 1):
        raise ValueError("model.levels are Wan's: CogVideoX draws one of its 1000 steps")
    return VPrediction(
        backbone.snr_shift, flow.predicts, flow.weighting, flow.density, flow.stratified
    )


def _check(predicts: str, name: str) -> None:
    check_predicts(predicts)
    if name not in WEIGHTINGS:
        raise ValueError(f"model.weighting {name!r} is none of {', '.join(WEIGHTINGS)}")
    if name == "low_noise" and predicts != "data":
        raise ValueError("model.weighting 'low_noise' is that of model.predicts='data'")


def _weight(name: str, share: Float[Array, " B"], shift: float | int = 1.0) -> Float[Array, " B"]:
    if name == "none":
        return jnp.ones_like(share)
    if name == "bell":
        return weighting.bell(share, shift)
    plain = {
        "low_noise": weighting.low_noise,
        "sigma_sqrt": weighting.sigma_sqrt,
        "cosmap": weighting.cosmap,
    }
    return plain[name](share)


def _two(keys: Key[Array, " B"]) -> tuple[Key[Array, " B"], Key[Array, " B"]]:
    first, second = jnp.moveaxis(jax.vmap(jax.random.split)(keys), 1, 0)
    return first, second
