"""What is compared: stages of one run, or the checkpoint itself, with masks of their targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tavid_jax.data.clip import Clip
from tavid_jax.engine.method import Params
from tavid_jax.methods.finetune import variants
from tavid_jax.methods.finetune.method import EMBEDDING
from tavid_jax.methods.finetune.samples import job_of
from tavid_jax.methods.tavid.method import Tavid
from tavid_jax.pipelines.pipeline import Pipeline
from tavid_jax.pipelines.video import Video

# Of the backbone's parameters, what a stage may have trained.
TRAINED = ("lora", "patch_embed", "patch_embed_extra")


class Models(variants.Models):
    """See `finetune.variants.Models`; stages may have trained the patch projection, too."""

    def open(self, method: Tavid | None, params: Params) -> Pipeline:
        """See `finetune.variants.Models.open`."""
        pipeline, embedding = super().open(method, params), params.get(EMBEDDING)
        if method is not None:
            pipeline.embedding = None if embedding is None else np.asarray(embedding)
        return pipeline

    def fields(self, method: Tavid) -> dict[str, Any]:
        """What the model knows of targets."""
        return {"targets": method.reader.targets}

    def added(self, weights: Mapping[str, Any]) -> dict[str, Any]:
        """What a stage may have trained."""
        return {name: weights[name] for name in TRAINED if name in weights}

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
