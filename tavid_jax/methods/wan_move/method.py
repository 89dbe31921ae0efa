"""Wan-Move as a method: fine-tuning of a Wan image-to-video whose image's latent is moved."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from tavid_jax.data.clip import Clip
from tavid_jax.engine.method import Arrays, Params, Spec
from tavid_jax.methods.finetune.method import Finetune
from tavid_jax.methods.wan_move.motion import Motion
from tavid_jax.pipelines.moving import check_reads_image
from tavid_jax.tracks.latent_replacement import replaced

# Of an example: which cell of the image's latent each cell shows.
SOURCES = "sources"


class WanMove(Finetune):
    """Trains the whole backbone, or its adapters; there are no parameters of motion.

    Tracks are drawn anew for every example, so it reads clips, not a cache.

    Args:
      motion: which tracks an example moves along.
      options: of `Finetune`.

    Raises:
      ValueError: a backbone that reads no image by channels.
    """

    def __init__(self, motion: Motion, **options: Any):
        super().__init__(**options)
        check_reads_image(self.backbone)
        self.motion = motion

    def raw_spec(self) -> dict[str, Spec]:
        """Frames and ids, and where the image's latent goes."""
        shape = self.backbone.spec()["condition"].shape[:-1]
        return super().raw_spec() | {SOURCES: Spec(shape, np.int32, ("time", None, None))}

    def prepare(self, clip: Clip, rng: np.random.Generator) -> dict[str, Any]:
        """Frames and ids of a clip, and where its tracks move the image's latent.

        Raises:
          ClipError: see `Finetune.prepare` and `Motion`.
        """
        example = super().prepare(clip, rng)
        _, *grid_hw = self.raw_spec()[SOURCES].shape
        return example | {SOURCES: self.motion.sources(clip, tuple(grid_hw), rng)}

    def encode(self, params: Params, batch: Arrays, rng: jax.Array) -> Arrays:
        """What the loss reads, by the frozen encoders; the image's latent is moved."""
        encoded = super().encode(params, batch, rng)
        moved = jax.vmap(replaced)(encoded["condition"], batch[SOURCES])
        return encoded | {"condition": moved}

    def moves(self) -> Mapping[str, Any]:
        """Fields of `pipelines.Move`."""
        return {"strategy": self.motion.strategy}
