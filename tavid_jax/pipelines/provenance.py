"""What made a video: all that it depends on, as it stands in its file."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import Any

from tavid_jax import __version__
from tavid_jax.pipelines.autoencoders import tiles_of
from tavid_jax.pipelines.folder import TRANSFORMER, VAE


def provenance(pipeline: Any, task: Any) -> dict[str, Any]:
    """Model, weights, prompt, seed and options, JSON-able.

    Args:
      pipeline: a `Pipeline`.
      task: what it was given: the job, the sampling that was settled, images and masks.
    """
    published, sampling = pipeline.published, dataclasses.asdict(task.sampling)
    shift = published.shift_for(task.sampling) if published.family == "wan" else None
    made_with = {
        "model": published.backbone,
        "sampling": sampling | {"shift": shift},
        "int8": list(pipeline.memory.int8),
        "tiles": str(tiles_of(pipeline.parts[VAE].config, pipeline.memory.tiles)),
        "weights": {name: part.opened.fingerprint() for name, part in pipeline.parts.items()},
    }
    made_with["weights"] |= pipeline.parts[TRANSFORMER].marks
    if pipeline.targets is not None:
        made_with["targets"] = dataclasses.asdict(pipeline.targets)
    text = json.dumps(made_with, sort_keys=True, default=str)
    return {
        "tavid_jax": __version__,
        "config": hashlib.sha256(text.encode()).hexdigest()[:12],
        "seed": int(task.job.seed),
        "prompt": task.job.prompt,
        "negative_prompt": pipeline.negative(task),
        "images": [hashlib.sha256(x.tobytes()).hexdigest()[:12] for x in task.images],
        "masks": [hashlib.sha256(x.tobytes()).hexdigest()[:12] for x in task.masks],
        "modulation": float(task.job.modulation),
        "control": None if task.guide is None else dict(task.guide.facts),
        **made_with,
    }
