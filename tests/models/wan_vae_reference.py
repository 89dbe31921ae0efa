"""Tiny Wan autoencoders of both generations: ours, diffusers' with the same weights, inputs."""

import functools
from typing import Any

import jax
import numpy as np
from random_weights import randomise, state_arrays

from tavid_jax import weights
from tavid_jax.models.layers.tiling import Tiles
from tavid_jax.models.wan.vae.autoencoder import WanVAE
from tavid_jax.models.wan.vae.config import WanVAEConfig


def _statistics(channels: int) -> dict[str, Any]:
    rng = np.random.default_rng(channels)
    return {
        "latent_channels": channels,
        "latent_mean": tuple(rng.normal(size=channels).tolist()),
        "latent_std": tuple(rng.uniform(0.5, 2.0, channels).tolist()),
    }


# No two widths that could be taken for one another are equal.
CONFIGS = {
    "2.1": WanVAEConfig(encoder_dim=6, decoder_dim=6, multipliers=(1, 2, 3, 3), **_statistics(5)),
    "2.1, other widths": WanVAEConfig(
        encoder_dim=4,
        decoder_dim=10,
        multipliers=(2, 1, 3, 4),
        num_blocks=1,
        time_strided=(True, False, True),
        **_statistics(3),
    ),
    "2.2": WanVAEConfig(encoder_dim=4, decoder_dim=6, residual=True, patch=2, **_statistics(7)),
    # The encoder's shortcuts average 8, 6, 4 and 1 channels, the decoder's repeat 8, 4, 4.
    "2.2, other widths": WanVAEConfig(
        encoder_dim=6,
        decoder_dim=4,
        multipliers=(1, 2, 2, 2),
        num_blocks=1,
        time_strided=(True, True, False),
        residual=True,
        patch=2,
        **_statistics(4),
    ),
}
# The video's own layers stay small: an epsilon inside a norm's root would show.
SHRUNK = (r"conv_in\.weight", r"conv_in\.bias", r"conv2\.", r"conv_shortcut\.", r"resample\.1\.")


def torch_model(config: WanVAEConfig, seed: int = 0):
    """diffusers' model, every tensor random; for odd seeds what is added up is small."""
    from diffusers import AutoencoderKLWan

    content = weights.config_to_json(config)
    model = AutoencoderKLWan.from_config({k: v for k, v in content.items() if k[0] != "_"})
    return randomise(model, seed, SHRUNK if seed % 2 else ())


def ported(model, config: WanVAEConfig) -> dict[str, Any]:
    """Our parameters, from diffusers' state dict."""
    return weights.port("wan_vae_diffusers", state_arrays(model), config)


def video(frames: int, size_hw: tuple[int, int], batch: int = 1, seed: int = 0) -> np.ndarray:
    """Uniform in [-1, 1], channels last."""
    rng = np.random.default_rng((frames, seed))
    return rng.uniform(-1, 1, (batch, frames, *size_hw, 3)).astype(np.float32)


def latent(
    config: WanVAEConfig, frames: int, size_hw: tuple[int, int], batch: int = 1
) -> np.ndarray:
    """Normal, of `frames` latent frames for a picture of this size."""
    rng = np.random.default_rng((frames, batch))
    grid = [size // config.stride_hw for size in size_hw]
    return rng.standard_normal((batch, frames, *grid, config.latent_channels)).astype(np.float32)


@functools.partial(jax.jit, static_argnames=("model", "chunk", "tiles"))
def encode(
    model: WanVAE, params, x, chunk: int | None = None, tiles: Tiles | None = None
) -> tuple[jax.Array, jax.Array]:
    """Mean and log-variance."""
    posterior = model.apply({"params": params}, x, chunk=chunk, tiles=tiles, method=WanVAE.encode)
    return posterior.mean, posterior.logvar


@functools.partial(jax.jit, static_argnames=("model", "chunk", "tiles"))
def decode(model: WanVAE, params, z, chunk: int | None = None, tiles: Tiles | None = None):
    """Pixels."""
    return model.apply({"params": params}, z, chunk=chunk, tiles=tiles, method=WanVAE.decode)


def torch_encode(model, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """diffusers' mean and log-variance."""
    import torch

    with torch.no_grad():
        posterior = model.encode(torch.from_numpy(channels_first(x))).latent_dist
    return channels_last(posterior.mean), channels_last(posterior.logvar)


def torch_decode(model, z: np.ndarray) -> np.ndarray:
    """diffusers' pixels."""
    import torch

    with torch.no_grad():
        return channels_last(model.decode(torch.from_numpy(channels_first(z))).sample)


def channels_first(x: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(np.moveaxis(x, -1, 1))


def channels_last(x) -> np.ndarray:
    return np.moveaxis(x.detach().numpy(), 1, -1)
