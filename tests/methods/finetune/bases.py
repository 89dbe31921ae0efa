"""Runs of the tiny presets that finished without learning anything."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from configs.finetune import get_config
from tavid_jax.data.inputs import ConfiguredInputs
from tavid_jax.engine.checkpoint import save_result
from tavid_jax.engine.inputs import StageFolder
from tavid_jax.engine.method import Results
from tavid_jax.engine.stages import open_results
from tavid_jax.engine.workdir import Workdir, config_hash, to_plain, write_json
from tavid_jax.methods.finetune.system import FinetuneSystem
from tavid_jax.methods.registry import make_system
from tests.methods.finetune import tiny

STAGE = "finetune"


def config(preset: str = "tiny_wan", **sampling: Any) -> ConfigDict:
    """A preset, smaller still; `sampling` changes fields of config.sampling."""
    made = get_config(preset)
    made.model.changes.update(num_heads=2, head_dim=16, num_layers=1, text_dim=16)
    made.text.changes.update(dim=16, num_heads=2, head_dim=8, ffn_dim=16)
    made.data.scenes.update(train=4, test=3)
    made.stages.finetune.steps = 300
    made.sampling.options.steps = 2
    made.sampling.stored = "float32"
    made.sampling.update(sampling)
    return made


def write_run(folder: Path, config: ConfigDict, seed: int = 0) -> None:
    """What the engine leaves behind: a random result, and the records of three steps."""
    method = make_system(config).method(STAGE)
    params = tiny.random_params(method, seed)
    config.data_dir = str(folder / "data")
    place = Workdir(folder, config, tuple(config.volatile))
    stage = StageFolder(place.stage(STAGE))
    stage.path.mkdir(parents=True, exist_ok=True)
    names = ("backbone", "text_encoder") if config.text.train else ("backbone",)
    result = {name: jax.tree.map(np.asarray, params[name]) for name in names}
    if config.model.lora:
        result["backbone"] = {"lora": result["backbone"]["lora"]}
    save_result(stage.result, result, {"stage": STAGE})
    records = [{"step": step, "loss": 1.0 / step} for step in range(1, 4)]
    stage.metrics.write_text("".join(json.dumps(record) + "\n" for record in records))
    write_json(stage.done, {"weights": f"mark{seed}", "seconds": 12.5})
    place.close()


def opened(folder: Path, config: ConfigDict) -> tuple[FinetuneSystem, Results, ConfiguredInputs]:
    """The system of a run, its results, and its inputs."""
    fingerprint = config_hash(to_plain(config), config.volatile)
    results = open_results(config, folder, fingerprint)
    return make_system(config), results, ConfiguredInputs(config, folder)
