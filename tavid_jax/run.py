"""One run, from a config to its report: what the command line and the Python API share."""

from __future__ import annotations

import functools
import time
from typing import Any

import jax
from absl import logging

from tavid_jax import places
from tavid_jax.data.clip import ClipError
from tavid_jax.data.inputs import ConfiguredInputs
from tavid_jax.data.video import VideoError
from tavid_jax.engine.checkpoint import CheckpointError
from tavid_jax.engine.compile_cache import enable_compile_cache
from tavid_jax.engine.goodput import Ledger, goodput, read_starts
from tavid_jax.engine.log import only_first_speaks
from tavid_jax.engine.monitor import NonFiniteError
from tavid_jax.engine.report import Report, write_metrics
from tavid_jax.engine.stages import check_stages, open_results, run_stages
from tavid_jax.engine.telemetry import Progress
from tavid_jax.engine.took import add_took
from tavid_jax.engine.workdir import Workdir, WorkdirError, holds_run
from tavid_jax.methods.registry import make_system
from tavid_jax.parallel.mesh import make_mesh, use_cpu_cores
from tavid_jax.parallel.processes import (
    ProcessError,
    alone,
    count,
    first_does,
    is_first,
    shared_fate,
    start_processes,
)
from tavid_jax.pipelines.latent_cache import given_latents
from tavid_jax.places import Place

#: Errors whose message is meant for the user: no traceback needed
USER_ERRORS = (
    ValueError,
    OSError,
    ClipError,
    VideoError,
    CheckpointError,
    NonFiniteError,
    ProcessError,
    WorkdirError,
)


_OTHER_CLIPS = (
    "they would be shown in another order. Put back what was there (of a video that cannot be read "
    "any more the log says why), or choose another --workdir"
)


def run(config: Any, workdir: Place, mode: str, began: float | None = None) -> Place:
    """Run a config in a mode (see main.py) and return the path of what it wrote.

    All processes of a run train. What comes after it, as all of the other modes, process 0 does
    on its own devices while the others wait.

    `began`: when the program began, for the account of its time; see `Ledger`.
    """
    started = time.perf_counter()
    use_cpu_cores(config.cpu_devices)
    if start_processes(config.get("distributed")):
        only_first_speaks()
    with shared_fate():
        return _run(config, workdir, mode, began, started)


def _run(config: Any, workdir: Place, mode: str, began: float | None, started: float) -> Place:
    enable_compile_cache(config.compile_cache)
    # Everything that can be wrong with a config is looked at before any work is done.
    system = make_system(config, own=True)
    check_stages(config)
    for name in config.order:
        system.method(name)
    mesh = make_mesh(config.mesh.to_dict())
    inputs = ConfiguredInputs(config, workdir, _show_scenes, given_latents(config, workdir))
    for name, given in (("clips", config.clips), ("train", config.train_clips)):
        if given:
            inputs.open(name)
    if mode in ("evaluate", "sample") and config.order and not holds_run(workdir):
        raise WorkdirError(f"{workdir} holds no run; train one first: --mode=train")
    folder = Workdir(workdir, config, tuple(config.volatile))
    logging.info("%s:%s in %s on %s", config.system, config.preset, workdir, _devices())
    if mode == "train":
        clips = inputs.listings()
        first_does(lambda: folder.keep("clips", clips, _OTHER_CLIPS))
    kept = folder.path / "goodput"
    try:
        with Ledger(kept if mode == "train" else None, began) as ledger:
            if mode == "train":
                run_stages(config, system, inputs, folder, mesh, ledger)

            def finish() -> str:
                with alone():
                    return str(_finish(config, mode, system, inputs, folder, started, ledger))

            return places.place(first_does(finish))
    finally:
        if mode == "train" and is_first() and (took := goodput(read_starts(kept))):
            logging.info("%s", took.line())
        folder.close()


def _finish(config, mode, system, inputs, folder, started, ledger) -> Place:
    """What is done with the trained stages."""
    if mode == "preview":
        report = Report("Preview", f"{config.system}:{config.preset}, before any training")
        system.preview(inputs, report)
        return report.write(folder.path / "preview")
    results = open_results(config, folder.path, folder.fingerprint)
    if mode == "sample":
        out = folder.path / "samples"
        system.sample(results, inputs, places.copy_of(out))
        places.push(out)
        return out
    report = Report(config.title, f"{config.system}:{config.preset}")
    with ledger.measure("evaluation"):
        metrics = system.evaluate(results, inputs, report)
    ledger.finish()
    ledger.write()
    add_took(report, results.curves, goodput(read_starts(folder.path / "goodput")))
    metrics["seconds"] = {
        **metrics.get("seconds", results.seconds),
        "this_command": time.perf_counter() - started,
    }
    write_metrics(folder.path / "report" / "metrics.json", metrics)
    return report.write(folder.path / "report")


@functools.lru_cache(maxsize=4)
def _scene_progress(total: int) -> Progress:
    return Progress("scenes", total)


def _show_scenes(done: int, total: int) -> None:
    _scene_progress(total).show(done, last=done == total)


def _devices() -> str:
    devices = jax.devices()
    many = f" of {count()} processes" if count() > 1 else ""
    return f"{len(devices)} {devices[0].platform} device{'s' if len(devices) > 1 else ''}{many}"
