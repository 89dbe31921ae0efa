"""Frames as the image tower's tokens, for backbones whose cross-attention reads an image."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
from jaxtyping import Array, Float, UInt8

from tavid_jax.engine.method import Params
from tavid_jax.models.vision.clip import CLIPVision
from tavid_jax.models.vision.images import wan_preprocess


@dataclasses.dataclass(frozen=True)
class Tower:
    """CLIP's image tower and what it is shown.

    Attributes:
      module: the tower.
      last_frame: whether it is shown the last frame behind the first.
    """

    module: CLIPVision
    last_frame: bool = False

    def tokens(self, params: Params, video: UInt8[Array, "B T H W 3"]) -> Float[Array, "B M D"]:
        """Of the given frames, one frame after the other."""
        size = self.module.config.image_size
        shown = [video[:, 0]] + ([video[:, -1]] if self.last_frame else [])
        pictures = [wan_preprocess(x.astype(jnp.float32) / 127.5 - 1.0, size) for x in shown]
        read = [self.module.apply({"params": params}, x) for x in pictures]
        return jnp.concatenate(read, axis=1)
