"""How the pixels of a clip become what a backbone reads: one pure function for cache and training.

CogVideoX is published with a latent drawn from the posterior, and for image-to-video a first frame
that noise is added to before it is encoded; Wan with the posterior's mode, and no noise.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, UInt8

from tavid_jax.diffusion.paths import over_time, per_clip_normal
from tavid_jax.engine.method import Arrays, Params
from tavid_jax.models.layers.autoencoder import VideoAutoencoder
from tavid_jax.models.layers.posterior import Posterior
from tavid_jax.models.layers.tiling import Tiles
from tavid_jax.pipelines.backbones import MASK_CHANNELS, Backbone, CogVideoXBackbone
from tavid_jax.pipelines.control import CONTROL, CONTROL_IMAGE

SAMPLE, MODE, MOMENTS = POSTERIORS = ("sample", "mode", "moments")
# What is drawn from a posterior, and the ending of the entry that holds its standard deviation
# beside that which holds its mean.
DRAWN, STD = ("video", "image"), "_std"
# Of the logarithm of the noise on a first frame, in pixels of [-1, 1]: mean and spread.
IMAGE_NOISE = (-3.0, 0.5)
# What a clip's key is folded with, for each use of randomness.
_VIDEO, _IMAGE, _LEVEL, _NOISE = range(4)


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Pixels to latents.

    Attributes:
      backbone: decides which latents there are.
      coder: the autoencoder.
      posterior: "sample" draws a latent, "mode" takes the mean, "moments" gives mean and standard
        deviation, so that training may draw anew every time (see `drawn`).
      image_noise: whether noise is added to the first frame that CogVideoX image-to-video is given.
      last_frame: whether Wan image-to-video is given the last frame too.
      chunk, tiles: see `VideoAutoencoder.encode`.

    Raises:
      ValueError: another posterior.
    """

    backbone: Backbone
    coder: VideoAutoencoder
    posterior: str
    image_noise: bool = False
    last_frame: bool = False
    chunk: int | None = None
    tiles: Tiles | None = None

    def __post_init__(self):
        if self.posterior not in POSTERIORS:
            raise ValueError(f"posterior {self.posterior!r} is none of {', '.join(POSTERIORS)}")

    def __call__(
        self, params: Params, video: UInt8[Array, "B T H W 3"], keys: Key[Array, " B"]
    ) -> Arrays:
        """Latents of clips, in the backbone's units.

        Args:
          params: of the autoencoder.
          video: RGB, 0..255.
          keys: one per clip, of all its randomness.

        Returns:
          "video", and for image-to-video what else `Backbone.spec` names but text and tokens.
        """
        pixels = video.astype(jnp.float32) / 127.5 - 1.0
        posterior = self._encode(params, pixels)
        latents = self._taken("video", posterior, _folded(keys, _VIDEO), self._units)
        # Frames that fill the last patch in time are copies of the first one, and stand before it.
        missing = self.backbone.spec()["video"].shape[0] - latents["video"].shape[1]
        latents = {name: _lengthened(x, missing) for name, x in latents.items()}
        if not self.backbone.has_image:
            return latents
        if isinstance(self.backbone, CogVideoXBackbone):
            return latents | self._beside(params, pixels[:, :1], keys)
        return latents | self._given(params, pixels)

    def control(
        self, params: Params, videos: UInt8[Array, "B M T H W 3"], keys: Key[Array, " B"]
    ) -> Arrays:
        """Latents of condition videos, drawn or not as those of clips, and of their first frames
        alone where the backbone reads them; see control.py.

        Args:
          params: of the autoencoder.
          videos: RGB, 0..255.
          keys: one per clip.
        """
        posterior = MODE if self.posterior == MODE else SAMPLE
        recipe = dataclasses.replace(self, posterior=posterior, image_noise=False)
        spec, named = self.backbone.spec(), {CONTROL: "video", CONTROL_IMAGE: "image"}

        def encode(number: Int[Array, ""]) -> Arrays:
            made = recipe(params, videos[:, number], _folded(keys, number))
            return {name: made[source] for name, source in named.items() if name in spec}

        # One after the other: the autoencoder's activations are the largest of a step.
        made = jax.lax.map(encode, jnp.arange(videos.shape[1]))
        return {name: jnp.moveaxis(x, 0, 1) for name, x in made.items()}

    def _beside(
        self, params: Params, image: Float[Array, "B 1 H W 3"], keys: Key[Array, " B"]
    ) -> Arrays:
        """The first frame, alone."""
        if self.image_noise:
            image = image + _pixel_noise(keys, image.shape[1:])
        scale = self.coder.config.image_scale
        posterior = self._encode(params, image)
        taken = self._taken("image", posterior, _folded(keys, _IMAGE), lambda x, of: x * scale)
        return {name: x[:, 0] for name, x in taken.items()}

    def _given(self, params: Params, pixels: Float[Array, "B T H W 3"]) -> Arrays:
        """The given frames of a video that is grey elsewhere, and which they are; the mode."""
        shown = np.zeros(pixels.shape[1], np.float32)
        shown[[0, -1] if self.last_frame else [0]] = 1.0
        grey = jnp.where(shown[:, None, None, None] > 0, pixels, 0.0)
        mask = np.concatenate([np.repeat(shown[:1], MASK_CHANNELS), shown[1:]])
        given = jnp.asarray(mask.reshape(-1, MASK_CHANNELS))
        condition = self.coder.normalise(self._encode(params, grey).mode())
        return {
            "condition": condition,
            "given": jnp.broadcast_to(given, (len(pixels), *given.shape)),
        }

    def _encode(self, params: Params, pixels: Float[Array, "B T H W 3"]) -> Posterior:
        how = {"chunk": self.chunk, "tiles": self.tiles, "method": type(self.coder).encode}
        return self.coder.apply({"params": params}, pixels, **how)

    def _units(self, latents: Float[Array, "B F h w C"], of: str) -> Float[Array, "B F h w C"]:
        """The backbone's units; a standard deviation has no mean to lose."""
        if of == STD:
            return latents / jnp.asarray(self.coder.config.latent_std, jnp.float32)
        return self.coder.normalise(latents)

    def _taken(self, name: str, posterior: Posterior, keys: Key[Array, " B"], units) -> Arrays:
        if self.posterior == MODE:
            return {name: units(posterior.mode(), name)}
        std = jnp.exp(0.5 * posterior.logvar)
        if self.posterior == MOMENTS:
            return {name: units(posterior.mean, name), name + STD: units(std, STD)}
        return {name: units(posterior.mean + std * per_clip_normal(keys, std.shape[1:]), name)}


def drawn(batch: Arrays, keys: Key[Array, " B"], copies: int = 0) -> Arrays:
    """Latents drawn from the moments of a batch; one without moments is returned as it is.

    Args:
      batch: with "video" and "video_std", say.
      keys: one per example.
      copies: frames before the first one that are copies of it.
    """
    out = {name: x for name, x in batch.items() if not name.endswith(STD)}
    for use, name in zip((_VIDEO, _IMAGE), DRAWN, strict=True):
        if name + STD not in batch:
            continue
        noise = per_clip_normal(_folded(keys, use), out[name].shape[1:])
        if name == "video" and copies:
            noise = _lengthened(noise[:, copies:], copies)
        out[name] = out[name] + batch[name + STD] * noise
    return out


def _pixel_noise(keys: Key[Array, " B"], shape: tuple[int, ...]) -> Float[Array, "B 1 H W 3"]:
    mean, spread = IMAGE_NOISE
    level = jnp.exp(mean + spread * per_clip_normal(_folded(keys, _LEVEL), ()))
    return over_time(level, 5) * per_clip_normal(_folded(keys, _NOISE), shape)


def _lengthened(x: Float[Array, "B F *x"], copies: int) -> Float[Array, "B G *x"]:
    return jnp.concatenate([x[:, :1]] * copies + [x], axis=1)


def _folded(keys: Key[Array, " B"], use: int | Int[Array, ""]) -> Key[Array, " B"]:
    return jax.vmap(lambda key: jax.random.fold_in(key, use))(keys)
