"""A run is a list of stages: finished ones are skipped, each may start from earlier ones."""

from __future__ import annotations

import json
import time
from typing import Any

import jax
from absl import logging
from jax.sharding import Mesh

from tavid_jax.engine import telemetry, trees
from tavid_jax.engine.checkpoint import load_result, save_result
from tavid_jax.engine.compute import Computation
from tavid_jax.engine.inputs import Inputs, StageFolder
from tavid_jax.engine.method import Params, Results, System
from tavid_jax.engine.preemption import Preemption
from tavid_jax.engine.train import Training
from tavid_jax.engine.workdir import Workdir, write_json

KINDS = {"train": Training, "compute": Computation}


class StageError(ValueError):
    """The list of stages does not make sense."""


def check_stages(config: Any) -> None:
    """Names, kinds and dependencies, before anything runs.

    Raises StageError naming the stage and the field.
    """
    for position, name in enumerate(config.order):
        if name not in config.stages:
            raise StageError(f"order names stage {name!r}; stages has {sorted(config.stages)}")
        stage = config.stages[name]
        if stage.kind not in KINDS:
            raise StageError(f"stages.{name}.kind {stage.kind!r} is none of {sorted(KINDS)}")
        before = config.order[:position]
        for needed in (*stage.init_from, *stage.cached_by):
            if needed not in before:
                raise StageError(
                    f"stage {name!r} needs {needed!r}, which does not come before it in order"
                )


def run_stages(
    config: Any, system: System, inputs: Inputs, workdir: Workdir, mesh: Mesh
) -> Results:
    """Run every stage of `config.order` that is not finished; return what all of them left."""
    check_stages(config)
    for index, name in enumerate(config.order):
        folder = StageFolder(workdir.stage(name))
        if folder.done.exists():
            logging.info("stage %s is finished: skipped", name)
            continue
        _run_stage(config, name, index, system, inputs, workdir, mesh)
    return open_results(config, workdir)


def _run_stage(
    config: Any, name: str, index: int, system: System, inputs: Inputs, workdir: Workdir, mesh: Mesh
) -> None:
    stage = config.stages[name]
    folder = StageFolder(workdir.stage(name))
    folder.path.mkdir(parents=True, exist_ok=True)
    logging.info("stage %s (%s, %d of %d)", name, stage.kind, index + 1, len(config.order))
    provenance = {"config": workdir.fingerprint, "seed": config.seed, "stage": name}
    started = time.perf_counter()
    with Preemption() as preemption:
        runner = KINDS[stage.kind](
            name=name,
            stage=stage,
            method=system.method(name),
            inputs=inputs,
            folder=folder,
            mesh=mesh,
            seed=config.seed + stage.seed,
            earlier={n: load_result(StageFolder(workdir.stage(n)).result) for n in stage.init_from},
            provenance=provenance,
            preemption=preemption,
        )
        result = runner.run()
    save_result(folder.result, result)
    write_json(
        folder.done,
        {
            **provenance,
            "weights": trees.fingerprint(result),
            "seconds": runner.seconds,
            "wall_seconds_of_last_start": time.perf_counter() - started,
        },
    )


def open_results(config: Any, workdir: Workdir) -> Results:
    """The results of a run whose stages have all finished.

    Raises StageError naming the first stage that has not.
    """
    folders = {name: StageFolder(workdir.stage(name)) for name in config.order}
    records = {}
    for name, folder in folders.items():
        if not folder.done.exists():
            raise StageError(
                f"stage {name!r} in {workdir.path} has not finished; run --mode=train first"
            )
        records[name] = json.loads(folder.done.read_text())

    def params(stage: str, at: int | None = None) -> Params:
        folder = folders[stage]
        return load_result(folder.result if at is None else folder.snapshot(at))

    return Results(
        params=params,
        curves={name: telemetry.read_json_lines(f.metrics) for name, f in folders.items()},
        seconds={name: record["seconds"] for name, record in records.items()},
        provenance={
            "config": workdir.fingerprint,
            "seed": str(config.seed),
            **{f"weights/{name}": record["weights"] for name, record in records.items()},
            "jax": jax.__version__,
        },
    )
