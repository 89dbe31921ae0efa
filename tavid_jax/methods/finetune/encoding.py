"""Encoding as a method: the frozen encoders of a checkpoint on the clips of a run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tavid_jax.data.clip import Clip
from tavid_jax.engine.method import EncodeMethod
from tavid_jax.methods.finetune.method import Finetune
from tavid_jax.methods.finetune.settings import published_of
from tavid_jax.pipelines.encoders import Encoders, requirements
from tavid_jax.pipelines.folder import IMAGE, TEXT, TOKENIZER, VAE
from tavid_jax.pipelines.memory import Memory
from tavid_jax.pipelines.opening import open_encoders
from tavid_jax.pipelines.pretrained import is_here


class Encode(EncodeMethod):
    """Makes the examples of a backbone, or judges those that were made before the run.

    Args:
      method: what will be trained on them.
      encoders: what makes them; None can only judge.
    """

    def __init__(self, method: Finetune, encoders: Encoders | None):
        self.method, self.encoders = method, encoders

    def facts(self) -> dict[str, Any]:
        """See `Encoders.facts`."""
        return self._working().facts()

    def requirements(self) -> dict[str, Any]:
        """See `Encoders.requirements`; without encoders, what the method reads."""
        if self.encoders is not None:
            return self.encoders.requirements()
        method = self.method
        return requirements(method.recipe, method.cached_spec(), method.reader, method.keep)

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


def encode_method(config: Any, stage: Any, method: Finetune) -> Encode:
    """The method of an encode stage.

    Args:
      config: of the run.
      stage: of the stage.
      method: what will be trained on its examples.

    Raises:
      ValueError: nothing to encode, or nothing to encode it with; see `open_encoders`.
      WeightsError: see there.
    """
    _check_named(config)
    # Who has the examples may do without the encoders.
    if config.cache and not _has_encoders(config):
        return Encode(method, None)
    # Other sizes than the published ones were asked for by name.
    changed = (config.model, config.text, config.autoencoder, config.get("image", {}))
    encoders = open_encoders(
        config.model.backbone,
        config.checkpoint,
        method.backbone.geometry,
        backbone=method.backbone,
        posterior=method.recipe.posterior,
        image_noise=method.recipe.image_noise,
        stored=stage.stored,
        seed=config.seed + stage.seed,
        memory=Memory(stage.keep, stage.encoders_on, config.autoencoder.tiles),
        per_device=stage.batch_size,
        targets=None if method.reader is None else method.reader.targets,
        keep=method.keep,
        strict=not any(node.get("changes") for node in changed),
    )
    return Encode(method, encoders)


def _has_encoders(config: Any) -> bool:
    """Whether they lie on this machine."""
    tower = published_of(config.model).image_encoder
    parts = [VAE, TEXT, TOKENIZER, *([IMAGE] if tower else [])]
    return bool(config.checkpoint) and is_here(config.checkpoint, parts)


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
