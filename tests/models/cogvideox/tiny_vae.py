"""Tiny CogVideoX autoencoders, here and in diffusers, on equal weights."""

from typing import Any

import jax
import numpy as np
import torch
from diffusers import AutoencoderKLCogVideoX

from tavid_jax.models.cogvideox.vae.autoencoder import CogVideoXVAE, param_shapes
from tavid_jax.models.cogvideox.vae.config import CogVideoXVAEConfig
from tavid_jax.weights.cogvideox_vae import cogvideox_vae_table
from tavid_jax.weights.streaming import export_table, port_table
from tests.models.random_weights import randomise, state_arrays

# No two widths are equal, so that nothing fits by accident and every level has a shortcut.
CONFIGS = {
    "one block": CogVideoXVAEConfig((8, 12, 16, 24), 1, 3, groups=4, sample_hw=(96, 80)),
    "two blocks": CogVideoXVAEConfig((6, 4, 8), 2, 5, groups=2, sample_hw=(48, 40)),
    "time by two": CogVideoXVAEConfig((4, 6, 10), 1, 4, groups=2, stride_t=2, sample_hw=(48, 40)),
    "two levels": CogVideoXVAEConfig((4, 6), 1, 3, groups=2, stride_t=2, sample_hw=(24, 20)),
}
# Shrunk until the epsilon of the norm behind it shows: of norm2 in both halves, of norm_out.
SHRUNK = (
    r"mid_block\.resnets\.1\.conv1\.",
    r"encoder\.down_blocks\.0\.resnets\.0\.conv1\.",
    r"decoder\.up_blocks\.0\.resnets\.0\.conv1\.",
)


def torch_arguments(config: CogVideoXVAEConfig) -> dict[str, Any]:
    """Arguments of diffusers' class for one of our configs."""
    depth = len(config.widths)
    return dict(
        block_out_channels=config.widths,
        down_block_types=depth * ("CogVideoXDownBlock3D",),
        up_block_types=depth * ("CogVideoXUpBlock3D",),
        layers_per_block=config.resnets,
        latent_channels=config.latent_channels,
        norm_num_groups=config.groups,
        temporal_compression_ratio=config.stride_t,
        sample_height=config.sample_hw[0],
        sample_width=config.sample_hw[1],
        scaling_factor=config.scaling_factor,
        invert_scale_latents=config.invert_scale_latents,
    )


class Pair:
    """Ours and theirs with the same random weights."""

    def __init__(self, name: str, seed: int = 0):
        self.config = CONFIGS[name]
        self.theirs = randomise(
            AutoencoderKLCogVideoX(**torch_arguments(self.config)), seed, SHRUNK
        )
        self.table, self.shapes = cogvideox_vae_table(self.config), param_shapes(self.config)
        self.params = port_table(self.table, state_arrays(self.theirs), self.shapes)
        self.ours = CogVideoXVAE(self.config)

    def run(self, method: str, x: np.ndarray, **options: Any) -> Any:
        """Our method, compiled."""
        apply = jax.jit(lambda p, x: self.ours.apply({"params": p}, x, method=method, **options))
        return apply(self.params, x)

    def exported(self, params: Any) -> dict[str, np.ndarray]:
        """Parameters, or their gradients, in the names and layouts of diffusers."""
        return export_table(self.table, params, self.shapes)

    def their_moments(self, video: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and log-variance of diffusers."""
        with torch.no_grad():
            posterior = self.theirs.encode(first_channels(video)).latent_dist
        return last_channels(posterior.mean), last_channels(posterior.logvar)

    def their_pixels(self, latents: np.ndarray) -> np.ndarray:
        """Pixels of diffusers."""
        with torch.no_grad():
            return last_channels(self.theirs.decode(first_channels(latents)).sample)


def video(frames: int, size_hw: tuple[int, int], seed: int = 0) -> np.ndarray:
    """Two random videos; an offset, so that a mean that is not subtracted shows."""
    rng = np.random.default_rng(seed)
    return (0.3 + 0.5 * rng.standard_normal((2, frames, *size_hw, 3))).astype(np.float32)


def latents(config: CogVideoXVAEConfig, frames: int, size_hw: tuple[int, int]) -> np.ndarray:
    """Two random latents."""
    rng = np.random.default_rng(frames)
    shape = (2, frames, *size_hw, config.latent_channels)
    return rng.standard_normal(shape).astype(np.float32)


def first_channels(x: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(x, -1, 1)))


def last_channels(x: torch.Tensor) -> np.ndarray:
    return np.moveaxis(x.numpy(), 1, -1)
