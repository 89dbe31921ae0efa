"""Encoding as a method: the frozen encoders of a checkpoint on the clips of a run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from tavid_jax.data.clip import Clip
from tavid_jax.engine.method import EncodeMethod
from tavid_jax.methods.finetune.method import Conditioning
from tavid_jax.pipelines.backbones import Backbone
from tavid_jax.pipelines.encoders import FORMAT, Encoders
from tavid_jax.pipelines.memory import Memory
from tavid_jax.pipelines.opening import open_encoders


class Encode(EncodeMethod):
    """Makes the examples of a backbone, or judges those that were made before the run.

    Args:
      backbone: what will be trained on them.
      encoders: what makes them; None can only judge.
    """

    def __init__(self, backbone: Backbone, encoders: Encoders | None):
        self.backbone, self.encoders = backbone, encoders

    def facts(self) -> dict[str, Any]:
        """See `Encoders.facts`."""
        return self._working().facts()

    def requirements(self) -> dict[str, Any]:
        """See `Encoders.requirements`; without encoders, what the backbone reads."""
        if self.encoders is not None:
            return self.encoders.requirements()
        geometry = self.backbone.geometry
        return {
            "format": FORMAT,
            "size_hw": list(geometry.size_hw),
            "frames": geometry.frames,
            "arrays": {
                name: {"shape": list(one.shape), "dtype": jnp.dtype(one.dtype).name}
                for name, one in self.backbone.spec().items()
            },
        }

    def examples(self, captions: Sequence[str], clips: Iterator[Clip]) -> Iterator[dict[str, Any]]:
        """See `Encoders.examples`."""
        return self._working().examples(captions, clips)

    def shared(self) -> dict[str, np.ndarray]:
        """See `Encoders.shared`."""
        return self._working().shared()

    def _working(self) -> Encoders:
        if self.encoders is None:
            raise ValueError("these clips were encoded before the run: there are no encoders")
        return self.encoders


def encode_method(config: Any, stage: Any, backbone: Backbone, how: Conditioning) -> Encode:
    """The method of an encode stage.

    Args:
      config: of the run.
      stage: of the stage.
      backbone: what will be trained.
      how: posterior and image noise.

    Raises:
      ValueError: nothing to encode, or nothing to encode it with; see `open_encoders`.
      WeightsError: see there.
    """
    _check_named(config)
    if not config.checkpoint:
        return Encode(backbone, None)
    # Other sizes than the published ones were asked for by name.
    published = not (config.text.changes or config.autoencoder.changes or config.model.changes)
    encoders = open_encoders(
        config.model.backbone,
        config.checkpoint,
        backbone.geometry,
        backbone=backbone,
        posterior=how.posterior,
        image_noise=how.image_noise,
        stored=stage.stored,
        seed=config.seed + stage.seed,
        memory=Memory(stage.keep, stage.encoders_on, config.autoencoder.tiles),
        per_device=stage.batch_size,
        strict=published,
    )
    return Encode(backbone, encoders)


def _check_named(config: Any) -> None:
    if config.cache:
        return
    if not (config.train_clips or config.data.scenes.train):
        raise ValueError(
            "there are no clips to train on: give videos by --config.train_clips=FOLDER, with "
            "--config.data.clips.captions=CSV, or encoded ones by --config.cache=FOLDER"
        )
    if not config.checkpoint:
        raise ValueError(
            "clips are encoded by a published model's encoders: give its folder by "
            "--config.checkpoint=FOLDER, or encoded clips by --config.cache=FOLDER"
        )
