"""The CogVideoX autoencoder: what a video is cut into, and the module that owns the parameters."""

from functools import partial

from jaxtyping import Array, Float

from tavid_jax.models.cogvideox.vae import decoder, encoder
from tavid_jax.models.cogvideox.vae.config import CogVideoXVAEConfig
from tavid_jax.models.layers.autoencoder import Carry, VideoAutoencoder
from tavid_jax.models.layers.backbone import Initialisers, shapes_of

# Frames per chunk of the published model, which was trained with them.
PIXEL_CHUNK = 8
LATENT_CHUNK = 2


class CogVideoXVAE(VideoAutoencoder):
    """The CogVideoX autoencoder. See `VideoAutoencoder` for its methods.

    Chunks are part of the model: group norms take their statistics over a whole chunk, so other
    chunks give other numbers. The default, 8 pixel frames or 2 latent frames and what is left
    over in the first chunk, is how the model was trained and is run; `chunk` of at least the
    number of frames takes all in one. Within a chunk the model looks ahead.

    Encoding takes 4k + 1 frames (the first one alone in its latent frame) or 4k, and makes k + 1
    or k latent frames, for a `stride_t` of 4. Decoding takes any number of latent frames: an odd
    number n makes 4 (n - 1) + 1 frames, an even one 4 n. So the number of frames is kept only by
    8k + 1.
    """

    def initialisers(self) -> Initialisers:
        return _initialisers(self.config)

    def encode_chunk(
        self, video: Float[Array, "B T H W 3"], carry: Carry | None
    ) -> tuple[Float[Array, "B F h w M"], Carry]:
        return encoder.encode_chunk(self.tree["encoder"], video, carry, self.config, self.dtype)

    def decode_chunk(
        self, latents: Float[Array, "B F h w C"], carry: Carry | None
    ) -> tuple[Float[Array, "B T H W 3"], Carry]:
        return decoder.decode_chunk(self.tree["decoder"], latents, carry, self.config, self.dtype)

    def encode_cut(self, frames: int, chunk: int | None) -> tuple[int, int]:
        """(frames of the first chunk, of every other); None is the published 8.

        Raises:
          ValueError: frames or, if there are several, chunks that no whole number of latent
            frames stands for.
        """
        step = self.config.stride_t
        rest = frames % step
        if frames < 1 or rest > 1:
            nearest = frames - rest + (1 if 2 * rest <= step + 1 else step)
            raise ValueError(
                f"{frames} frames cannot be encoded: use {nearest}, or another multiple of {step} "
                "or one more than that"
            )
        return _cut(frames, PIXEL_CHUNK if chunk is None else chunk, step, "frames")

    def decode_cut(self, frames: int, chunk: int | None) -> tuple[int, int]:
        """(latent frames of the first chunk, of every other); None is the published 2.

        Raises:
          ValueError: no frames, or several chunks of an odd number of frames, each of which
            would be decoded as the beginning of a video.
        """
        if frames < 1:
            raise ValueError("a latent without frames cannot be decoded: give at least 1")
        return _cut(frames, LATENT_CHUNK if chunk is None else chunk, 2, "latent frames")


def param_shapes(config: CogVideoXVAEConfig) -> dict:
    """The parameters' nested dict of shapes, without allocating any."""
    return shapes_of(_initialisers(config))


def _initialisers(config: CogVideoXVAEConfig) -> Initialisers:
    return {
        "encoder": partial(encoder.init_encoder, config=config),
        "decoder": partial(decoder.init_decoder, config=config),
    }


def _cut(frames: int, chunk: int, step: int, unit: str) -> tuple[int, int]:
    """(first chunk, every other one): the first takes what is left over."""
    if chunk < 1:
        raise ValueError(f"chunks of {chunk} {unit}: use a multiple of {step}")
    others = max(frames // chunk, 1) - 1
    if others and chunk % step:
        nearest = max(1, round(chunk / step)) * step
        raise ValueError(
            f"{frames} {unit} in chunks of {chunk}: chunks behind the first one have a multiple "
            f"of {step}: use {nearest}, or {frames} for all in one chunk"
        )
    return frames - others * chunk, chunk
