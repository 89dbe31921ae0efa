"""What the published video autoencoders have in common: chunks in time, tiles in space."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from tavid_jax.models.layers.backbone import Initialisers
from tavid_jax.models.layers.chunks import in_chunks
from tavid_jax.models.layers.linear import init_parameters
from tavid_jax.models.layers.posterior import Posterior
from tavid_jax.models.layers.tiling import Cut, Tiles, tiled

# The past of every causal layer, by the layer's path.
Carry = Mapping[str, Any]


class VideoAutoencoder(nn.Module):
    """A published causal video autoencoder. Pixels in [-1, 1], channels last.

    Subclasses give `initialisers`, one chunk of each direction, and how a video is cut.

    Attributes:
      config: the architecture; it knows `latent_channels`, `stride_t`, `stride_hw` and the
        latents' statistics, see `normalise`.
      dtype: of the convolutions and activations; statistics of norms are float32.
      param_dtype: of the parameters when they are initialised.
    """

    config: Any
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32

    def initialisers(self) -> Initialisers:
        """How each top-level parameter starts."""
        raise TypeError(f"{type(self).__name__} defines no initialisers")

    def encode_chunk(
        self, video: Float[Array, "B T H W 3"], carry: Carry | None
    ) -> tuple[Float[Array, "B F h w M"], Carry]:
        """Moments of one chunk; `carry` is None for the first."""
        raise TypeError(f"{type(self).__name__} defines no encode_chunk")

    def decode_chunk(
        self, latents: Float[Array, "B F h w C"], carry: Carry | None
    ) -> tuple[Float[Array, "B T R S P"], Carry]:
        """One chunk of what `pixels` takes; `carry` is None for the first."""
        raise TypeError(f"{type(self).__name__} defines no decode_chunk")

    def pixels(self, decoded: Float[Array, "B T R S P"]) -> Float[Array, "B T H W 3"]:
        """The video, float32, of what the decoder has made; its chunks and tiles are joined."""
        return decoded.astype(jnp.float32)

    def decoded_tiles(self, tiles: Tiles) -> Cut:
        """How latents are cut, and how what `decode_chunk` makes of them is blended."""
        return tiles.up(self.config.stride_hw)

    def encode_cut(self, frames: int, chunk: int | None) -> tuple[int, int]:
        """(frames of the first chunk, of every other); None is what the published model does.

        Raises ValueError for a number of frames that cannot be encoded, naming the nearest.
        """
        raise TypeError(f"{type(self).__name__} defines no encode_cut")

    def decode_cut(self, frames: int, chunk: int | None) -> tuple[int, int]:
        """(latent frames of the first chunk, of every other); None as in `encode_cut`."""
        raise TypeError(f"{type(self).__name__} defines no decode_cut")

    def setup(self):
        self.tree = init_parameters(self, self.initialisers(), self.param_dtype)

    def encode(
        self,
        video: Float[Array, "B T H W C"],
        *,
        chunk: int | None = None,
        tiles: Tiles | None = None,
    ) -> Posterior:
        """The posterior of a video's latent.

        Args:
          video: pixels in [-1, 1].
          chunk: frames per chunk, see `encode_cut`; None is what the published model does.
          tiles: of pixels, encoded one after the other and blended; None for the whole picture.

        Raises:
          ValueError: another number of channels than 3; a number of frames, a size of the picture
            or of tiles that the model cannot take: names the nearest.
        """
        check_channels("video", video, 3)
        self.check_size(video.shape[2:4])
        first, size = self.encode_cut(video.shape[1], chunk)

        def whole(part: Array) -> Array:
            return in_chunks(self.encode_chunk, part, first, size)

        stride = self.config.stride_hw
        moments = whole(video) if tiles is None else tiled(whole, video, tiles.down(stride))
        return Posterior.of_moments(moments)

    def decode(
        self,
        latents: Float[Array, "B F h w C"],
        *,
        chunk: int | None = None,
        tiles: Tiles | None = None,
    ) -> Float[Array, "B T H W 3"]:
        """Pixels of a latent in the autoencoder's own units (see `denormalise`), float32.

        Args:
          latents: a sample or the mode of a posterior.
          chunk: latent frames per chunk, see `decode_cut`; None as above.
          tiles: of pixels, decoded one after the other and blended; None for the whole picture.

        Raises:
          ValueError: another number of channels than the latent has; a chunk or sizes of tiles
            that the model cannot take.
        """
        check_channels("latent", latents, self.config.latent_channels)
        first, size = self.decode_cut(latents.shape[1], chunk)

        def whole(part: Array) -> Array:
            return in_chunks(self.decode_chunk, part, first, size)

        if tiles is None:
            return self.pixels(whole(latents))
        return self.pixels(tiled(whole, latents, self.decoded_tiles(tiles)))

    def check_size(self, size_hw: tuple[int, int]) -> None:
        """ValueError unless the strides divide the picture's height and width."""
        step = self.config.stride_hw
        for name, size in zip(("height", "width"), size_hw, strict=True):
            if size % step or not size:
                nearest = max(1, round(size / step)) * step
                raise ValueError(f"{name} {size} is not a multiple of {step}: use {nearest}")

    def normalise(self, latents: Float[Array, "*B C"]) -> Float[Array, "*B C"]:
        """The autoencoder's latents in the transformer's units: (z - mean) / std, float32."""
        mean, std = self._statistics()
        return (latents.astype(jnp.float32) - mean) / std

    def denormalise(self, latents: Float[Array, "*B C"]) -> Float[Array, "*B C"]:
        """The inverse of `normalise`."""
        mean, std = self._statistics()
        return latents.astype(jnp.float32) * std + mean

    def _statistics(self) -> tuple[Array, Array]:
        c = self.config
        return jnp.asarray(c.latent_mean, jnp.float32), jnp.asarray(c.latent_std, jnp.float32)


def check_channels(what: str, x: Float[Array, "B T H W C"], channels: int) -> None:
    """ValueError unless x has so many channels."""
    if x.shape[-1] != channels:
        raise ValueError(
            f"the {what} has shape {x.shape}, so {x.shape[-1]} channels: the autoencoder takes "
            f"(batch, frames, rows, columns, {channels})"
        )
