"""Short trainings of tiny published models by the engine, from folders that diffusers wrote."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from configs.finetune import get_config
from tavid_jax.engine.checkpoint import save_result
from tavid_jax.engine.inputs import Inputs, StageFolder
from tavid_jax.engine.job import pretrained_key
from tavid_jax.engine.method import Params, Results
from tavid_jax.engine.preemption import Preemption
from tavid_jax.engine.train import Training
from tavid_jax.methods.finetune.method import Finetune
from tavid_jax.methods.registry import make_system
from tavid_jax.models.cogvideox.config import CogVideoXConfig
from tavid_jax.parallel.mesh import make_mesh
from tavid_jax.weights import open_parameters
from tests.methods.finetune import tiny

STEPS = 3
#: scale alpha / rank = 1.5
RULE = dict(path="blocks/attn/(q|v)", rank=2, alpha=3)


class Batch(NamedTuple):
    step: int
    arrays: dict[str, np.ndarray]
    ids: list[str]


class Encoded(Inputs):
    """Random encoded examples as a function of the step."""

    def __init__(self, spec: dict[str, Any]):
        self.spec = spec

    def open(self, name: str) -> list[int]:
        return [0]

    def batches(self, source, prepare, *, batch_size, seed, start_step=0, **_) -> Iterator[Batch]:
        step = start_step
        while True:
            batch = tiny.batch_of(self.spec, batch_size, seed=step)
            yield Batch(step, {k: np.asarray(v) for k, v in batch.items()}, ["a"] * batch_size)
            step += 1


def config_of(checkpoint: Path, **model: Any) -> ConfigDict:
    """Of a training of a tiny model: all that its config.json says, in float32."""
    sizes = open_parameters(checkpoint).config
    is_wan = not isinstance(sizes, CogVideoXConfig)
    made = get_config("wan2_1_1_3b_lora" if is_wan else "cogvideox_5b_lora")
    with made.unlocked():
        made.model.changes.update(dataclasses.asdict(sizes))
    made.checkpoint = str(checkpoint)
    made.data.update(size_hw=(32, 48), frames=9)
    made.model.update(dict(lora=(RULE,), dtype="float32") | model)
    stage = made.stages.finetune
    stage.update(steps=STEPS, batch_size=2, log_every=1, checkpoint_every=2)
    stage.optimizer.update(lr=1e-1, schedule="constant", warmup=0)
    return made


def train(
    folder: Path, config: ConfigDict, earlier: dict[str, Params] | None = None, steps: int = STEPS
) -> tuple[Finetune, Params]:
    """(method, result): the stage of a run in `folder`, as the engine runs it."""
    method = make_system(config).method("finetune")
    stage = config.stages.finetune
    stage.steps = steps
    place = StageFolder(folder / "stages" / "finetune")
    place.path.mkdir(parents=True, exist_ok=True)
    training = Training(
        name="finetune",
        stage=stage,
        method=method,
        inputs=Encoded(method.encoded_spec()),
        folder=place,
        mesh=make_mesh(devices=jax.devices()[:1]),
        seed=0,
        earlier=earlier or {},
        provenance={"config": "c"}
        | {pretrained_key(what): mark for what, mark in method.sources().items()},
        config={},
        preemption=Preemption(),
    )
    result = training.run()
    save_result(place.result, result, training.provenance)
    return method, result


def results_of(result: Params, mark: str = "w") -> Results:
    """A finished run with this result of its last stage."""
    curves = {"finetune": [{"step": 1.0, "loss": 1.0}]}
    marks = {"config": "c", "weights/finetune": mark}
    return Results(lambda *names: result, curves, {"finetune": 1.0}, marks)
