"""Clean latents with a share of noise, as a backbone was trained to see them."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from tavid_jax.diffusion import vprediction
from tavid_jax.diffusion.paths import over_time
from tavid_jax.pipelines.backbones import Backbone, CogVideoXBackbone


def noised(
    backbone: Backbone,
    video: Float[Array, "B F h w C"],
    noise: Float[Array, "B F h w C"],
    share: Float[Array, ""],
) -> tuple[Float[Array, "B F h w C"], Float[Array, " B"]]:
    """(the noisy latent, the timestep that the backbone is told).

    Args:
      backbone: on whose path; frames that it is given stay clean.
      video: clean latents.
      noise: of N(0, 1).
      share: of noise, in [0, 1]; on variance-preserving schedules the step of the same
        signal-to-noise ratio stands for it.
    """
    count = len(video)
    if isinstance(backbone, CogVideoXBackbone):
        alphas = jnp.asarray(vprediction.zero_snr_alphas(backbone.snr_shift), jnp.float32)
        wanted = jnp.square(1.0 - share) / (jnp.square(1.0 - share) + jnp.square(share))
        step = jnp.full((count,), jnp.argmin(jnp.abs(alphas - wanted)))
        return vprediction.add_noise(video, noise, alphas[step]), step.astype(jnp.float32)
    state = (1.0 - share) * video + share * noise
    given = backbone.given_frames
    return state.at[:, :given].set(video[:, :given]), jnp.full((count,), 1000.0 * share)


def clean_of(
    backbone: Backbone,
    state: Float[Array, "B F h w C"],
    prediction: Float[Array, "B F h w C"],
    timesteps: Float[Array, " B"],
) -> Float[Array, "B F h w C"]:
    """The clean latent that a prediction (`Backbone.predict`) at a noisy one implies."""
    if isinstance(backbone, CogVideoXBackbone):
        alpha = over_time(vprediction.alpha_at(timesteps, backbone.snr_shift), state.ndim)
        return jnp.sqrt(alpha) * state - jnp.sqrt(1.0 - alpha) * prediction
    return state - over_time(timesteps / 1000.0, state.ndim) * prediction
