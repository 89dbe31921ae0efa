"""The encoding phase: prompts and pictures become what the backbones read."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.typing import DTypeLike
from jaxtyping import Float, UInt8

from tavid_jax.models.layers.autoencoder import VideoAutoencoder
from tavid_jax.models.layers.posterior import Posterior
from tavid_jax.models.layers.tiling import Tiles
from tavid_jax.models.text.cleaning import clean
from tavid_jax.models.text.lengths import cut, zero_padded
from tavid_jax.models.text.tokenizer import Tokenizer
from tavid_jax.models.vision.images import wan_preprocess
from tavid_jax.pipelines.autoencoders import tiles_of
from tavid_jax.pipelines.backbones import MASK_CHANNELS, Backbone
from tavid_jax.pipelines.control import CONTROL, CONTROL_IMAGE
from tavid_jax.pipelines.images import to_pixels
from tavid_jax.pipelines.memory import Memory
from tavid_jax.pipelines.part import Part

Image = np.ndarray


def encode_prompts(
    part: Part,
    tokenizer: Tokenizer,
    prompts: Iterable[str],
    length: int,
    *,
    wan: bool,
    mesh: Mesh | None = None,
    dtype: DTypeLike = np.float32,
) -> dict[str, Float[np.ndarray, "L D"]]:
    """{prompt: features}, each prompt once.

    Wan cleans prompts, hides padding from the encoder and puts zeros in its place behind it;
    CogVideoX does none of this.

    Args:
      part: the text encoder.
      tokenizer: of the same checkpoint.
      prompts: repeated ones cost nothing.
      length: of the features; longer prompts are cut, with a warning.
      wan: which rule.
      mesh: see `Part.hold`.
      dtype: of the features.
    """
    how = dict(wan=wan, mesh=mesh, dtype=dtype)
    features = encode_texts(part, tokenizer, [(prompt, length) for prompt in prompts], **how)
    return {prompt: found for (prompt, _), found in features.items()}


def encode_texts(
    part: Part,
    tokenizer: Tokenizer,
    texts: Iterable[tuple[str, int]],
    *,
    wan: bool,
    mesh: Mesh | None = None,
    dtype: DTypeLike = np.float32,
) -> dict[tuple[str, int], Float[np.ndarray, "_ D"]]:
    """{(text, length): features} of texts of several lengths; otherwise as `encode_prompts`."""
    with part.hold(mesh) as params:
        return text_features(part, params, tokenizer, texts, wan=wan, dtype=dtype)


def text_features(
    part: Part,
    params: Any,
    tokenizer: Tokenizer,
    texts: Iterable[tuple[str, int]],
    *,
    wan: bool,
    dtype: DTypeLike = np.float32,
) -> dict[tuple[str, int], Float[np.ndarray, "_ D"]]:
    """The same by an encoder that is held already."""
    features: dict[tuple[str, int], np.ndarray] = {}
    for text, length in dict.fromkeys(texts):
        ids, mask = tokenizer(clean(text) if wan else text, length)
        if wan:
            ids, mask = cut(ids, mask)
            out = zero_padded(part.apply(params, ids, mask), mask, length)
        else:
            out = part.apply(params, ids)
        features[text, length] = np.asarray(out[0].astype(dtype))
    return features


def encode_clip(
    part: Part, images: Sequence[Sequence[Image]], mesh: Mesh | None = None
) -> list[Float[np.ndarray, "M D"]]:
    """Tokens of CLIP's image tower for each group of pictures, one picture after the other.

    Args:
      part: the tower.
      images: uint8 RGB pictures of any size, before they are fitted to the video's.
      mesh: see `Part.hold`.
    """
    with part.hold(mesh) as params:
        return [clip_tokens(part, params, group) for group in images]


def clip_tokens(part: Part, params: Any, images: Sequence[Image]) -> Float[np.ndarray, "M D"]:
    """Tokens of pictures, one picture after the other; see `encode_clip`."""
    size = part.config.image_size
    read = [wan_preprocess(jnp.asarray(to_pixels(image))[None], size) for image in images]
    return np.concatenate([_on_host(part.apply(params, x))[0] for x in read])


# Compiled once for each autoencoder and size, whatever pipeline asks.
@partial(jax.jit, static_argnums=(0, 1, 2))
def _encode(
    module: VideoAutoencoder, chunk: int | None, tiles: Tiles | None, params: Any, video: jax.Array
) -> Posterior:
    how = {"chunk": chunk, "tiles": tiles, "method": type(module).encode}
    return module.apply({"params": params}, video, **how)


@partial(jax.jit, static_argnums=(0, 1, 2))
def _decode(
    module: VideoAutoencoder,
    chunk: int | None,
    tiles: Tiles | None,
    params: Any,
    latents: jax.Array,
) -> jax.Array:
    how = {"chunk": chunk, "tiles": tiles, "method": type(module).decode}
    return module.apply({"params": params}, module.denormalise(latents), **how)


@dataclasses.dataclass(frozen=True)
class Autoencoding:
    """The autoencoder at work.

    Attributes:
      part: the autoencoder.
      memory: its levers.
    """

    part: Part
    memory: Memory

    @property
    def tiles(self) -> Tiles | None:
        """Of the pictures."""
        return tiles_of(self.part.config, self.memory.tiles)

    def encode(self, params: Any, video: Float[np.ndarray, "T H W 3"]) -> Any:
        """The posterior of one video (with a batch axis)."""
        how = self.part.module, self.memory.chunk, self.tiles
        return _encode(*how, params, jnp.asarray(video)[None])

    def decode(self, params: Any, latents: Float[np.ndarray, "F h w C"]) -> np.ndarray:
        """Pixels (T, H, W, 3) in [-1, 1] of a latent in the transformer's units."""
        how = self.part.module, self.memory.chunk, self.tiles
        return _on_host(_decode(*how, params, jnp.asarray(latents)[None]))[0]

    def first_frame(self, params: Any, image: Image) -> Float[np.ndarray, "1 h w C"]:
        """A picture alone as the clean first latent frame: Wan 2.2 TI2V."""
        posterior = self.encode(params, to_pixels(image)[None])
        return _on_host(self.part.module.normalise(posterior.mode()))[0]

    def beside(
        self, params: Any, image: Image, key: jax.Array | None, posterior: str
    ) -> Float[np.ndarray, "h w C"]:
        """A picture as the latent that stands beside the noisy one: CogVideoX."""
        found = self.encode(params, to_pixels(image)[None])
        latent = found.draw(key) if posterior == "sample" else found.mode()
        return _on_host(latent * self.part.config.image_scale)[0, 0]

    def given(
        self, params: Any, image: Image, last: Image | None, frames: int
    ) -> dict[str, np.ndarray]:
        """Pictures as a grey video's first and last frame, and which frames they are: Wan.

        Returns:
          "condition" (F, h, w, C), the video's latent, and "given" (F, 4), 1 where pixel frames
          are given; a latent frame stands for four of them, the first one for one.
        """
        video = np.zeros((frames, *image.shape), np.float32)
        video[0] = to_pixels(image)
        shown = np.zeros(frames, np.float32)
        shown[0] = 1.0
        if last is not None:
            video[-1], shown[-1] = to_pixels(last), 1.0
        latent = self.part.module.normalise(self.encode(params, video).mode())
        first = np.repeat(shown[:1], MASK_CHANNELS)
        mask = np.concatenate([first, shown[1:]]).reshape(-1, MASK_CHANNELS)
        return {"condition": _on_host(latent)[0], "given": mask}

    def control(
        self,
        params: Any,
        videos: Sequence[UInt8[np.ndarray, "T H W 3"]],
        backbone: Backbone,
        key: jax.Array | None = None,
    ) -> dict[str, np.ndarray]:
        """Condition videos as entries of a batch, see `control`.

        Args:
          params: of the autoencoder.
          videos: as many as the model reads.
          backbone: whose units and entries they are.
          key: latents are drawn by it; None takes the mode.
        """
        frames, latents, firsts = backbone.spec()[CONTROL].shape[1], [], []
        for number, video in enumerate(videos):
            own = None if key is None else jax.random.fold_in(key, number)
            posterior = self.encode(params, to_pixels(video))
            latent = posterior.mode() if own is None else posterior.draw(own)
            latent = _on_host(self.part.module.normalise(latent))[0]
            # Frames that fill the last patch in time are copies of the first one, and before it.
            latents.append(np.concatenate([latent[:1]] * (frames - len(latent)) + [latent]))
            if CONTROL_IMAGE in backbone.spec():
                how = (key, "mode") if own is None else (jax.random.fold_in(own, 0), "sample")
                firsts.append(self.beside(params, video[0], *how))
        found = {CONTROL: np.stack(latents)}
        return found | ({CONTROL_IMAGE: np.stack(firsts)} if firsts else {})


def _on_host(x: jax.Array) -> np.ndarray:
    return np.asarray(x.astype(jnp.float32))
