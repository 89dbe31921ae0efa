"""What is compared: stages of one run, or the checkpoint itself, in one pipeline."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from tavid_jax.data.clip import Clip
from tavid_jax.engine.method import Params
from tavid_jax.methods.finetune.method import BACKBONE, EMBEDDING
from tavid_jax.methods.finetune.samples import job_of
from tavid_jax.methods.tavid.method import Tavid
from tavid_jax.pipelines.folder import TRANSFORMER
from tavid_jax.pipelines.pipeline import Pipeline
from tavid_jax.pipelines.settings import Sampling
from tavid_jax.pipelines.video import Video

# Of the backbone's parameters, what a stage may have trained.
TRAINED = ("lora", "patch_embed", "patch_embed_extra")


class Models:
    """The models of a run, opened one after the other around the weights of its checkpoint.

    Programs are compiled once for all stages of the same parameters, and their weights alone are
    exchanged.

    Args:
      base: the pipeline of the checkpoint.
      sampling: how all of them are sampled.
    """

    def __init__(self, base: Pipeline, sampling: Sampling):
        self.base, self.sampling = base, sampling
        self._opened: dict[Any, Pipeline] = {}

    def open(self, method: Tavid | None, params: Params) -> Pipeline:
        """The pipeline of what a stage has trained; the one before of the same kind is gone.

        Args:
          method: of the stage; None is the checkpoint itself.
          params: what the stage left, in the method's tree.
        """
        if method is None:
            return self.base
        base = self.base.parts[TRANSFORMER]
        channels, rules = method.backbone.model.config.extra_channels, method.backbone.model.lora
        key = channels, rules
        if key not in self._opened:
            targets = method.reader.targets
            self._opened[key] = dataclasses.replace(
                self.base, parts=dict(self.base.parts), targets=targets
            )
        pipeline, weights = self._opened[key], params[BACKBONE]
        config = dataclasses.replace(base.module.config, extra_channels=channels)
        pipeline.parts[TRANSFORMER] = dataclasses.replace(
            base,
            module=base.module.clone(config=config, lora=rules),
            added={name: weights[name] for name in TRAINED if name in weights},
        )
        embedding = params.get(EMBEDDING)
        pipeline.embedding = None if embedding is None else np.asarray(embedding)
        return pipeline

    def sample(
        self,
        pipeline: Pipeline,
        clips: Sequence[Clip],
        targets: Sequence[int],
        *,
        seed: int,
        batch_size: int,
        modulation: float = 0.0,
    ) -> list[Video]:
        """A video for every clip from its first frame and caption.

        Clip i has the seed `seed + i`, whatever is sampled with it and whichever object is marked.

        Args:
          pipeline: from `open`.
          clips: with masks.
          targets: number of the object that each clip's mask marks; not read by models without
            mask channels unless their attention is modulated.
          seed, batch_size: see above.
          modulation: see `Job.modulation`.
        """
        jobs = [
            job_of(
                pipeline,
                clip.replace(target=target),
                modulation=modulation,
                seed=seed + i,
                name=f"{i:04d}",
                options=vars(self.sampling),
            )
            for i, (clip, target) in enumerate(zip(clips, targets, strict=True))
        ]
        return list(pipeline.run(jobs, min(batch_size, len(jobs))))


def lookalike(clip: Clip) -> int:
    """The first object of a clip that is neither its actor nor its target.

    Raises:
      ValueError: there is none.
    """
    others = [n for n in range(1, len(clip.masks) + 1) if n not in (clip.actor, clip.target)]
    if not others:
        raise ValueError(f"clip {clip.id}: has no look-alike whose mask could be given instead")
    return others[0]
