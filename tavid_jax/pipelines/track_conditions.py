"""What a forecast of tracks is told besides them: latents of the video, features of the caption.

Both by the encoders of a Wan 2.1 checkpoint, as TrajLoom was trained: the autoencoder on frames of
a quarter of their size, so that its latents stand on the grid of tracks, and umT5 averaged over the
words of a caption.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float, UInt8

from tavid_jax.models.layers.autoencoder import VideoAutoencoder
from tavid_jax.models.text.cleaning import clean
from tavid_jax.models.text.lengths import cut
from tavid_jax.models.text.tokenizer import Tokenizer
from tavid_jax.pipelines.encoders import tokenizer_mark
from tavid_jax.pipelines.folder import TEXT, TOKENIZER, VAE
from tavid_jax.pipelines.memory import Memory
from tavid_jax.pipelines.opening import default_dtype, open_model_part
from tavid_jax.pipelines.part import Part
from tavid_jax.pipelines.pretrained import locate
from tavid_jax.pipelines.settings import PUBLISHED

# Any Wan 2.1 has these encoders.
MODEL = "wan2.1-t2v-1.3b"
# Words of a caption that are read; Wan itself reads 512.
TEXT_LENGTH = 128


@dataclasses.dataclass(eq=False)
class TrackConditions:
    """The encoders at work. See `open_conditions`.

    Attributes:
      vae, words: autoencoder and text encoder.
      tokenizer: of the text encoder.
      tokenizer_mark: its fingerprint.
      grid_hw: rows and columns of tracks: of the latents of a video, too.
    """

    vae: Part
    words: Part
    tokenizer: Tokenizer
    tokenizer_mark: str
    grid_hw: tuple[int, int]

    @property
    def channels(self) -> int:
        """Of a video's latents."""
        return self.vae.config.latent_channels

    @property
    def width(self) -> int:
        """Of a caption's features."""
        return self.words.config.dim

    def facts(self) -> dict[str, Any]:
        """All that features depend on besides the clips."""
        return {
            "encoders": {
                VAE: self.vae.opened.fingerprint(),
                TEXT: self.words.opened.fingerprint(),
                TOKENIZER: self.tokenizer_mark,
            },
            "text_length": TEXT_LENGTH,
            "dtype": jnp.dtype(self.words.dtype).name,
        }

    def video(self, frames: UInt8[np.ndarray, "T H W 3"]) -> Float[np.ndarray, "L N C"]:
        """Latents (the posterior's mean, in Wan's units) on the grid of tracks.

        Args:
          frames: RGB, T = 4 (L - 1) + 1, of any size of the grid's shape; at 480x832 with cells of
            32 px they are read at 120x208.

        Raises:
          ValueError: another number of frames.
        """
        with contextlib.ExitStack() as held:
            return self.video_by(held.enter_context(self.vae.hold()), frames)

    def text(self, captions: Sequence[str]) -> Float[np.ndarray, "B E"]:
        """The mean of umT5's features over a caption's words, at most `TEXT_LENGTH`.

        An empty caption is one end-of-text token.
        """
        with contextlib.ExitStack() as held:
            return self.text_by(held.enter_context(self.words.hold()), captions)

    def video_by(
        self, params: Any, frames: UInt8[np.ndarray, "T H W 3"]
    ) -> Float[np.ndarray, "L N C"]:
        """The same by an autoencoder that is held already."""
        if len(frames) % 4 != 1:
            raise ValueError(f"{len(frames)} frames of history: Wan's autoencoder reads 4k + 1")
        latents = _latents(self.vae.module, self.grid_hw, params, jnp.asarray(frames))
        return np.asarray(latents)

    def text_by(self, params: Any, captions: Sequence[str]) -> Float[np.ndarray, "B E"]:
        """The same by a text encoder that is held already; each caption is read once."""
        features: dict[str, np.ndarray] = {}
        with self.words.device():
            for caption in dict.fromkeys(captions):
                ids, mask = cut(*self.tokenizer(clean(caption), TEXT_LENGTH))
                out = self.words.apply(params, ids, mask)[0].astype(jnp.float32)
                seen = jnp.asarray(mask[0], jnp.float32)
                features[caption] = np.asarray(seen @ out / seen.sum())
        empty = np.zeros((0, self.width), np.float32)
        return np.stack([features[caption] for caption in captions]) if captions else empty


def open_conditions(
    checkpoint: str | Path,
    grid_hw: tuple[int, int],
    *,
    keep: str = "none",
    encoders_on: str = "device",
    dtype: DTypeLike | None = None,
    strict: bool = True,
) -> TrackConditions:
    """The encoders of a Wan 2.1 checkpoint; no weights are read.

    Args:
      checkpoint: folder of a whole model in the original or diffusers' layout, or `hf:owner/name`.
        Its transformer is not needed.
      grid_hw: rows and columns of tracks.
      keep: where weights stay between two calls, see `Memory`.
      encoders_on: "device", or "cpu" for the text encoder.
      dtype: of the text encoder; None is bfloat16 where there is an accelerator.
      strict: whether encoders of other sizes than the published ones are refused.

    Raises:
      WeightsError: parts that are missing, or are not those of Wan 2.1.
    """
    published, memory = PUBLISHED[MODEL], Memory(keep, encoders_on)
    where = locate(checkpoint, (VAE, TEXT, TOKENIZER))
    dtype = default_dtype() if dtype is None else dtype
    how = (published, dtype, memory, "auto", strict)
    return TrackConditions(
        vae=open_model_part(VAE, where[VAE], *how),
        words=open_model_part(TEXT, where[TEXT], *how),
        tokenizer=Tokenizer.open(where[TOKENIZER]),
        tokenizer_mark=tokenizer_mark(where[TOKENIZER]),
        grid_hw=tuple(grid_hw),
    )


@partial(jax.jit, static_argnums=(0, 1))
def _latents(
    coder: VideoAutoencoder, grid_hw: tuple[int, int], params: Any, frames: UInt8[Array, "T H W 3"]
) -> Float[Array, "L N C"]:
    """Resized without antialiasing, as published: at a quarter, the mean of a 4x4's inner 2x2."""
    side = coder.config.stride_hw
    size = (len(frames), side * grid_hw[0], side * grid_hw[1], 3)
    pixels = frames.astype(jnp.float32) / 127.5 - 1.0
    pixels = jax.image.resize(pixels, size, "linear", antialias=False)
    posterior = coder.apply({"params": params}, pixels[None], method=type(coder).encode)
    latents = coder.normalise(posterior.mode()).astype(jnp.float32)[0]
    return latents.reshape(latents.shape[0], -1, latents.shape[-1])
