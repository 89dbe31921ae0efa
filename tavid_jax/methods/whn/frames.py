"""What is told of the picture: fixed features of its cells, DINOv2's, or those of a named function.

A provider reads on the host (`read`, in the workers that prepare examples) and encodes on the
device (`encode`, a frozen encoder in the step or in the stage of latents); either may be all of it.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8
from PIL import Image

from tavid_jax.engine.method import Params, Spec, Stored
from tavid_jax.methods.trajloom.cell_features import video_features
from tavid_jax.models.layers.flops import Work
from tavid_jax.models.vision import flops as vision
from tavid_jax.models.vision.config import ViTConfig
from tavid_jax.models.vision.images import dinov2_preprocess
from tavid_jax.models.vision.vit import ViT, initialisers
from tavid_jax.pipelines.picture_towers import open_dinov2

KINDS = ("cells", "dinov2", "function")
# Where the parameters of a frozen encoder stand.
ENCODER = "picture_encoder"


class FrameFeatures:
    """Features of one picture: M tokens of E numbers.

    Attributes:
      name: for people and facts.
      tokens_hw: rows and columns of the tokens, M = rows * columns.
      width: E.
    """

    name: str
    tokens_hw: tuple[int, int]
    width: int

    def read(self, picture: UInt8[np.ndarray, "H W 3"]) -> np.ndarray:
        """Host side: what an example holds of the picture."""
        raise TypeError(f"{type(self).__name__} defines no read")

    def spec(self) -> Spec:
        """Of what `read` returns."""
        return self.encoded_spec()

    def encoded_spec(self) -> Spec:
        """Of the features, without the batch axis."""
        tokens = self.tokens_hw[0] * self.tokens_hw[1]
        return Spec((tokens, self.width), np.float32, ("tokens", "embed"))

    def encode(self, params: Params, given: Array) -> Float[Array, "B M E"]:
        """Device side: features of a batch of what `read` returns."""
        del params
        return given

    def encoding_flops(self, pictures: int) -> int:
        """Of `encode`."""
        del pictures
        return 0

    def init(self, rng: jax.Array) -> Params:
        """Parameters that `encode` reads, {} for none."""
        del rng
        return {}

    def pretrained(self) -> Mapping[str, Stored]:
        """{path: parameter} of all of them."""
        return {}

    def sources(self) -> Mapping[str, str]:
        """{what: fingerprint} of where they come from."""
        return {}

    def params(self) -> Params:
        """All of them, read."""
        params: dict[str, Any] = {}
        for path, leaf in self.pretrained().items():
            *parents, name = path.split("/")
            node = params
            for parent in parents:
                node = node.setdefault(parent, {})
            node[name] = jnp.asarray(np.asarray(leaf.read(), np.float32))
        return params


class CellPictures(FrameFeatures):
    """The lowest frequencies of every cell, `channels` numbers: no encoder is needed.

    Raises:
      ValueError: cells that do not divide the picture.
    """

    def __init__(self, size_hw: tuple[int, int], patch: int, channels: int):
        if any(side % patch for side in size_hw):
            raise ValueError(f"model.frame.patch {patch} does not divide pictures of {size_hw}")
        self.name, self.patch, self.width = "cells", patch, channels
        self.tokens_hw = size_hw[0] // patch, size_hw[1] // patch

    def read(self, picture: UInt8[np.ndarray, "H W 3"]) -> Float[np.ndarray, "M E"]:
        return video_features(picture[None], self.patch, self.width)[0]


class FunctionPictures(FrameFeatures):
    """Features by a function of the user, "module:function": (H, W, 3) uint8 -> (M, E).

    Raises:
      ValueError: no such function.
    """

    def __init__(self, function: str, tokens_hw: tuple[int, int], width: int):
        self.name, self.tokens_hw, self.width = function, tuple(tokens_hw), width
        self._read = _imported(function)

    def read(self, picture: UInt8[np.ndarray, "H W 3"]) -> Float[np.ndarray, "M E"]:
        made, want = np.asarray(self._read(picture), np.float32), self.encoded_spec().shape
        if made.shape != want:
            raise ValueError(
                f"{self.name} made features of shape {made.shape}, model.frame says {want}"
            )
        return made


class DinoPictures(FrameFeatures):
    """Patch tokens of DINOv2 behind its last norm, without the class token.

    Args:
      size_hw: of the pictures that WHN was trained on; larger ones are squashed to it first.
      model: the encoder, positions as in its checkpoint.
      image_size: side of the square that it sees, 0 for pictures of `size_hw` as they are.
      checkpoint: file, folder or `hf:` name; "" is enough for shapes alone.
    """

    def __init__(
        self, size_hw: tuple[int, int], model: ViTConfig, image_size: int, checkpoint: str
    ):
        self.name, self.width, self.checkpoint = "dinov2", model.width, checkpoint
        self._size_hw, self._image_size = tuple(size_hw), image_size
        self._seen = (image_size, image_size) if image_size else self._size_hw
        patch = model.patch_size
        self.tokens_hw = self._seen[0] // patch, self._seen[1] // patch
        self.config, self._model = model, ViT(model)

    def read(self, picture: UInt8[np.ndarray, "H W 3"]) -> Float[np.ndarray, "h w 3"]:
        picture = resized(picture, self._size_hw)
        patch = self.config.patch_size
        return dinov2_preprocess(picture[None], self._image_size or None, patch)[0]

    def spec(self) -> Spec:
        patch = self.config.patch_size
        shape = (self.tokens_hw[0] * patch, self.tokens_hw[1] * patch, 3)
        return Spec(shape, np.float32, (None, None, None))

    def encode(self, params: Params, given: Array) -> Float[Array, "B M E"]:
        return self._model.apply({"params": params[ENCODER]}, given, method="patches")

    def encoding_flops(self, pictures: int) -> int:
        work, (rows, columns) = Work(), self.tokens_hw
        vision.tower(work, self.config, pictures, rows * columns)
        return work.flops

    def init(self, rng: jax.Array) -> Params:
        return {ENCODER: {name: init(rng) for name, init in initialisers(self.config).items()}}

    def pretrained(self) -> Mapping[str, Stored]:
        if not self.checkpoint:
            return {}
        leaves = open_dinov2(self.checkpoint, self.config).leaves
        return {f"{ENCODER}/{path}": leaf for path, leaf in leaves.items()}

    def sources(self) -> Mapping[str, str]:
        if not self.checkpoint:
            return {}
        return {self.name: open_dinov2(self.checkpoint, self.config).fingerprint()}


def resized(
    picture: UInt8[np.ndarray, "H W 3"], size_hw: tuple[int, int]
) -> UInt8[np.ndarray, "h w 3"]:
    """Squashed to a size whatever the aspect ratio: bicubic with anti-aliasing, 8 bits."""
    if picture.shape[:2] == tuple(size_hw):
        return picture
    image = Image.fromarray(np.ascontiguousarray(picture))
    return np.asarray(image.resize(tuple(size_hw)[::-1], Image.Resampling.BICUBIC))


def _imported(function: str) -> Callable[[np.ndarray], Any]:
    module, colon, name = function.partition(":")
    try:
        made = getattr(importlib.import_module(module), name) if colon and name else None
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"model.frame.function {function!r} cannot be imported ({error})"
        ) from error
    if not callable(made):
        raise ValueError(f"model.frame.function {function!r} is no module:function")
    return made
