"""A run is a list of stages: finished ones are skipped, each may start from earlier ones."""

from __future__ import annotations

import functools
import gc
import json
import time
from typing import Any

import jax
from absl import logging
from jax.sharding import Mesh

from tavid_jax import places
from tavid_jax.engine import telemetry, trees
from tavid_jax.engine.checkpoint import CheckpointError, load_result, save_result
from tavid_jax.engine.compute import Computation
from tavid_jax.engine.encode import Encoding, is_read
from tavid_jax.engine.goodput import Ledger
from tavid_jax.engine.inputs import Inputs, StageFolder
from tavid_jax.engine.job import PRETRAINED, pretrained_key
from tavid_jax.engine.method import Method, Params, Results, System
from tavid_jax.engine.optimizer import make_optimizer
from tavid_jax.engine.preemption import Preemption
from tavid_jax.engine.program import check_levers
from tavid_jax.engine.train import Training
from tavid_jax.engine.workdir import Workdir, raise_if_disk, write_json
from tavid_jax.parallel.processes import first_does
from tavid_jax.places import Place

KINDS = {"train": Training, "compute": Computation, "encode": Encoding}


class StageError(ValueError):
    """The list of stages does not make sense."""


def check_stages(config: Any) -> None:
    """Names, kinds, sizes and dependencies, before anything runs.

    Raises StageError naming the stage and the field.
    """
    for position, name in enumerate(config.order):
        if name not in config.stages:
            raise StageError(f"order names stage {name!r}; stages has {sorted(config.stages)}")
        stage = config.stages[name]
        if stage.kind not in KINDS:
            raise StageError(f"stages.{name}.kind {stage.kind!r} is none of {sorted(KINDS)}")
        if stage.batch_size < 1:
            raise StageError(f"stages.{name}.batch_size is {stage.batch_size}, must be at least 1")
        before = config.order[:position]
        for needed in (*stage.init_from, *stage.cached_by):
            if needed not in before:
                raise StageError(
                    f"stage {name!r} needs {needed!r}, which does not come before it in order"
                )
        if stage.kind == "train":
            _check_train(name, stage)


def _check_train(name: str, stage: Any) -> None:
    fields = ("steps", "log_every", "checkpoint_every", "micro_batches", "max_bad_steps", "keep")
    for field in fields:
        if stage[field] < 1:
            raise StageError(f"stages.{name}.{field} is {stage[field]}, must be at least 1")
    if stage.batch_size % stage.micro_batches:
        raise StageError(
            f"stages.{name}.batch_size {stage.batch_size} is not a multiple of its "
            f"micro_batches {stage.micro_batches}"
        )
    try:
        make_optimizer(stage.optimizer, stage.steps)
        check_levers(stage)
    except ValueError as error:
        raise StageError(f"stages.{name}: {error}") from error
    late = [step for step in stage.snapshots if not 0 < step <= stage.steps]
    if late:
        raise StageError(f"stages.{name}.snapshots {late} lie outside of its {stage.steps} steps")


def run_stages(
    config: Any,
    system: System,
    inputs: Inputs,
    workdir: Workdir,
    mesh: Mesh,
    ledger: Ledger | None = None,
) -> Results:
    """Run every stage of `config.order` that is not finished; return what all of them left.

    All processes of a run do so together; the first one writes what the stages leave.

    `ledger` is told where the time goes.

    Raises StageError, WorkdirError for a disk that takes no more, SystemExit after a signal, and
    what the stages raise.
    """
    check_stages(config)
    with Preemption() as preemption:
        for index, name in enumerate(config.order):
            done = functools.partial(_is_finished, config, name, system, inputs, workdir)
            if first_does(done):
                logging.info("stage %s is finished: skipped", name)
                continue
            logging.info("stage %s (%d of %d)", name, index + 1, len(config.order))
            try:
                _run_stage(
                    config, name, system, inputs, workdir, mesh, preemption, ledger or Ledger()
                )
            except OSError as error:
                raise_if_disk(error, workdir.path)
                raise
            gc.collect()  # arrays that are only held in cycles leave the devices
            preemption.settle()
            preemption.exit_if_requested(f"{name} is finished")
    return open_results(config, workdir.path, workdir.fingerprint)


def _is_finished(config: Any, name: str, system: System, inputs: Inputs, workdir: Workdir) -> bool:
    """Whether the stage need not run; one that has left something damaged has to finish again."""
    folder = StageFolder(workdir.stage(name))
    if not folder.done.exists():
        return False
    try:
        json.loads(folder.done.read_text())
        load_result(folder.result)
        if _leaves_examples(config, name, system):
            inputs.open(name)
    except (CheckpointError, ValueError) as error:
        logging.warning("stage %s has to finish again: %s", name, error)
        folder.done.unlink()
        return False
    return True


def _leaves_examples(config: Any, name: str, system: System) -> bool:
    stage = config.stages[name]
    if stage.kind == "compute":
        return bool(stage.cache) and not system.method(name).given
    return stage.kind == "encode" and is_read(config, name)


def _run_stage(
    config: Any,
    name: str,
    system: System,
    inputs: Inputs,
    workdir: Workdir,
    mesh: Mesh,
    preemption: Preemption,
    ledger: Ledger,
) -> None:
    stage = config.stages[name]
    folder = StageFolder(workdir.stage(name))
    places.make_folder(folder.path)
    method = system.method(name)
    provenance = {"config": workdir.fingerprint, "seed": config.seed, "stage": name}
    provenance |= {pretrained_key(what): mark for what, mark in method.sources().items()}
    started = time.perf_counter()
    runner = KINDS[stage.kind](
        name=name,
        stage=stage,
        method=method,
        inputs=inputs,
        folder=folder,
        mesh=mesh,
        seed=config.seed + stage.seed,
        earlier=_earlier(config, stage, method, workdir),
        provenance=provenance,
        config=workdir.config,
        preemption=preemption,
        ledger=ledger,
    )
    result = runner.run()

    def finish() -> None:
        write_json(
            folder.done,
            {
                **provenance,
                "weights": mark,
                "seconds": runner.seconds,
                "wall_seconds_of_last_start": time.perf_counter() - started,
            },
        )

    with ledger.measure("checkpoint"):
        mark = save_result(folder.result, result, provenance)
        first_does(finish)


def _earlier(config: Any, stage: Any, method: Method, workdir: Workdir) -> dict[str, Params]:
    """What the stage starts from: `init_from`, and what the examples that it reads share."""

    def result(name: str) -> Params:
        return load_result(StageFolder(workdir.stage(name)).result)

    earlier = {name: result(name) for name in stage.init_from}
    for name in stage.cached_by:
        if config.stages[name].kind == "encode" and name not in earlier:
            known = jax.eval_shape(lambda: method.init(jax.random.key(0)))
            shared = {key: value for key, value in result(name).items() if key in known}
            earlier |= {name: shared} if shared else {}
    return earlier


def open_results(config: Any, workdir: Place, fingerprint: str) -> Results:
    """The results of a run whose stages have all finished.

    Raises StageError naming the first stage that has not.
    """
    folders = {name: StageFolder(workdir / "stages" / name) for name in config.order}
    records = {}
    for name, folder in folders.items():
        if not folder.done.exists():
            raise StageError(
                f"stage {name!r} in {workdir} has not finished; run --mode=train first"
            )
        records[name] = json.loads(folder.done.read_text())

    def params(*names: str) -> Params:
        merged: Params = {}
        for name in names:
            stage, _, step = name.partition("@")
            folder = folders[stage]
            part = load_result(folder.snapshot(int(step)) if step else folder.result)
            merged = trees.merge(merged, part)
        return merged

    return Results(
        params=params,
        curves={name: telemetry.read_json_lines(f.metrics) for name, f in folders.items()},
        seconds={name: record["seconds"] for name, record in records.items()},
        provenance={
            "config": fingerprint,
            "seed": str(config.seed),
            **{k: v for r in records.values() for k, v in r.items() if k.startswith(PRETRAINED)},
            **{f"weights/{name}": record["weights"] for name, record in records.items()},
            "jax": jax.__version__,
        },
    )
