"""Pixels folded into channels and back: an exact autoencoder without parameters, for small models.

Frames are grouped as the published causal autoencoders group them: the first one alone, then
`stride_t` at a time. The first one fills its group with copies of itself.
"""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array, Float

from tavid_jax.models.layers.autoencoder import Carry, VideoAutoencoder
from tavid_jax.models.layers.backbone import Initialisers
from tavid_jax.models.layers.posterior import LOGVAR_RANGE


@dataclasses.dataclass(frozen=True)
class SpaceToDepthConfig:
    """How many pixels a latent position holds.

    Attributes:
      stride_t: frames per latent frame.
      stride_hw: rows and columns per latent position.

    Raises:
      ValueError: a stride below 1.
    """

    stride_t: int = 4
    stride_hw: int = 2

    # Latents are the pixels themselves, in the transformer's units.
    latent_mean: ClassVar[float] = 0.0
    latent_std: ClassVar[float] = 1.0
    image_scale: ClassVar[float] = 1.0

    def __post_init__(self):
        for name in ("stride_t", "stride_hw"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"SpaceToDepthConfig.{name} {getattr(self, name)} must be at least 1"
                )

    @property
    def latent_channels(self) -> int:
        """C: the colours of all pixels of a position."""
        return self.stride_t * self.stride_hw**2 * 3


class SpaceToDepth(VideoAutoencoder):
    """The autoencoder; its posterior has no spread.

    Decoding takes the mean of the first frame's copies, so that a model's errors in them cancel.
    """

    def initialisers(self) -> Initialisers:
        """None: it has no parameters."""
        return {}

    def encode_chunk(
        self, video: Float[Array, "B T H W 3"], carry: Carry | None
    ) -> tuple[Float[Array, "B F h w M"], Carry]:
        """Moments of one chunk."""
        c = self.config
        if carry is None:
            copies = jnp.repeat(video[:, :1], c.stride_t - 1, axis=1)
            video = jnp.concatenate([copies, video], axis=1)
        latents = rearrange(
            video.astype(jnp.float32),
            "b (f t) (h i) (w j) c -> b f h w (t i j c)",
            t=c.stride_t,
            i=c.stride_hw,
            j=c.stride_hw,
        )
        return jnp.concatenate([latents, jnp.full_like(latents, LOGVAR_RANGE[0])], axis=-1), {}

    def decode_chunk(
        self, latents: Float[Array, "B F h w C"], carry: Carry | None
    ) -> tuple[Float[Array, "B T R S P"], Carry]:
        """Pixels of one chunk."""
        c = self.config
        video = rearrange(
            latents,
            "b f h w (t i j c) -> b (f t) (h i) (w j) c",
            t=c.stride_t,
            i=c.stride_hw,
            j=c.stride_hw,
        )
        if carry is None:
            first = video[:, : c.stride_t].mean(axis=1, keepdims=True)
            video = jnp.concatenate([first, video[:, c.stride_t :]], axis=1)
        return video, {}

    def encode_cut(self, frames: int, chunk: int | None) -> tuple[int, int]:
        """One chunk of everything, or chunks of `chunk` frames behind the first frame."""
        step = self.config.stride_t
        rest = (frames - 1) % step
        if rest or frames < 1:
            raise ValueError(
                f"{frames} frames are not 1 + a multiple of {step}: use {frames - rest}"
            )
        if chunk is None:
            return frames, step
        if chunk % step or (frames - 1) % chunk:
            raise ValueError(
                f"chunk {chunk}: give a multiple of {step} that divides {frames - 1} frames"
            )
        return 1, chunk

    def decode_cut(self, frames: int, chunk: int | None) -> tuple[int, int]:
        """One chunk of everything, or chunks of `chunk` latent frames behind the first one."""
        if chunk is None:
            return frames, 1
        if chunk < 1 or (frames - 1) % chunk:
            raise ValueError(f"chunk {chunk} does not divide {frames - 1} latent frames")
        return 1, chunk
