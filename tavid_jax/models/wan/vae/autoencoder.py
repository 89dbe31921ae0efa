"""Wan's video autoencoders (arXiv:2503.20314), as published."""

import dataclasses
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from tavid_jax.models.layers.autoencoder import Carry, VideoAutoencoder
from tavid_jax.models.layers.backbone import Initialisers, shapes_of
from tavid_jax.models.layers.linear import linear, torch_linear
from tavid_jax.models.layers.tiling import Cut, Tiles
from tavid_jax.models.wan.vae.config import WanVAEConfig
from tavid_jax.models.wan.vae.decoder import decoder, init_decoder
from tavid_jax.models.wan.vae.encoder import encoder, init_encoder
from tavid_jax.models.wan.vae.resample import from_patches, to_patches


def initialisers(config: WanVAEConfig) -> dict[str, Any]:
    """{top-level parameter: function of a key}."""
    c = config
    return {
        "encoder": lambda key: init_encoder(key, c),
        "quant_conv": lambda key: torch_linear(key, 2 * c.latent_channels, 2 * c.latent_channels),
        "post_quant_conv": lambda key: torch_linear(key, c.latent_channels, c.latent_channels),
        "decoder": lambda key: init_decoder(key, c),
    }


def param_shapes(config: WanVAEConfig) -> dict[str, Any]:
    """The parameters' nested dict of shapes, without allocating any."""
    return shapes_of(initialisers(config))


class WanVAE(VideoAutoencoder):
    """1 + 4k frames of pixels to 1 + k frames of a latent, and back.

    The first latent frame is the first frame alone, each later one stands for `config.stride_t`
    frames. All is causal in time, so that a video can be encoded and decoded in chunks, which
    changes nothing but memory: what the layers have to know of the frames before is handed on.
    The attributes are those of every `VideoAutoencoder`.
    """

    config: WanVAEConfig

    def initialisers(self) -> Initialisers:
        return initialisers(self.config)

    def encode_chunk(
        self, video: Float[Array, "B T H W 3"], carry: Carry | None
    ) -> tuple[Float[Array, "B F h w M"], Carry]:
        """Moments of one chunk of 4k frames, or 1 + 4k without a carry."""
        patches = to_patches(video, self.config.patch)
        tree = self.tree["encoder"]
        moments, carry = encoder(tree, patches, carry, self.config, self.dtype)
        return linear(self.tree["quant_conv"], moments, self.dtype), carry

    def decode_chunk(
        self, latents: Float[Array, "B F h w C"], carry: Carry | None
    ) -> tuple[Float[Array, "B T H W P"], Carry]:
        """Patches of pixels of one chunk of any length, see `pixels`."""
        mixed = linear(self.tree["post_quant_conv"], latents, self.dtype)
        return decoder(self.tree["decoder"], mixed, carry, self.config, self.dtype)

    def decoded_tiles(self, tiles: Tiles) -> Cut:
        """Neighbours are blended before patches become pixels: all of a patch have one weight."""
        cut, patch = tiles.up(self.config.stride_hw), self.config.patch
        kept, blend = (tuple(n // patch for n in pair) for pair in (cut.kept_hw, cut.blend_hw))
        return dataclasses.replace(cut, kept_hw=kept, blend_hw=blend)

    def pixels(self, decoded: Float[Array, "B T H W P"]) -> Float[Array, "B T R S 3"]:
        """Patches put where they belong, values clamped to [-1, 1]."""
        video = from_patches(decoded, self.config.patch).astype(jnp.float32)
        return jnp.clip(video, -1.0, 1.0)

    def encode_cut(self, frames: int, chunk: int | None) -> tuple[int, int]:
        """Chunks of `chunk` frames behind a first that has 1 and what is left over.

        By default a chunk is `stride_t` frames, as published; `frames` or more is all at once.

        Raises:
          ValueError: a number of frames that is not 1 + 4k, or chunks that are not 4k and do not
            hold the whole video.
        """
        step = self.config.stride_t
        if frames % step != 1 % step:
            nearest = 1 + step * max(0, -(-(2 * (frames - 1) - step) // (2 * step)))
            raise ValueError(f"{frames} frames are not 1 + a multiple of {step}: use {nearest}")
        if chunk is not None and chunk < frames and (chunk < 1 or chunk % step):
            nearest = max(1, round(chunk / step)) * step
            raise ValueError(
                f"chunks of {chunk} frames: use a multiple of {step}, such as {nearest}, or at "
                f"least all {frames}"
            )
        return _cut(frames, step if chunk is None else chunk)

    def decode_cut(self, frames: int, chunk: int | None) -> tuple[int, int]:
        """Chunks of `chunk` latent frames behind a first that has 1 and what is left over.

        By default a chunk is one latent frame, as published; `frames` or more is all at once.
        """
        if chunk is not None and chunk < 1:
            raise ValueError(f"chunks of {chunk} latent frames: use at least 1")
        return _cut(frames, 1 if chunk is None else chunk)


def _cut(frames: int, chunk: int) -> tuple[int, int]:
    """(1 + what chunks of this length leave over, their length)."""
    return (frames, chunk) if chunk >= frames else (1 + (frames - 1) % chunk, chunk)
