"""Examples that are not numbers: written into a run's cache between two starts."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tavid_jax.data.pipeline import global_order
from tavid_jax.data.records import RecordSource, RecordWriter
from tests.faults.lab import BIT_EQUAL, REFUSED, Lab, fault
from tests.faults.program import Failed, Program
from tests.faults.signals import line_with
from tests.faults.weights import check_clean, weights

_BATCH = 8  # of the tiny preset


@fault
def nan_batch(lab: Lab) -> tuple[str, str, str]:
    """One batch has NaN in it: its step is skipped and counted, also over a kill."""
    program = lab.stopped("stages/flow")
    spoil(program, (3,))
    copy = lab.again(program, "killed")
    said = program.finish()
    _check_skipped(program.workdir, 1)
    running = copy.start()
    running.until(lambda: (copy.workdir / "stages/flow/checkpoints/4").exists())
    running.kill()
    lab.goes_on(copy, program.workdir)
    return "one example of a cache is NaN", line_with(said, "not finite"), BIT_EQUAL


@fault
def nan_row(lab: Lab) -> tuple[str, str, str]:
    """Two batches in a row have NaN in them, more than are allowed: the run stops, naming clips."""
    settings = ("stages.flow.max_bad_steps=2",)
    program = lab.stopped("stages/flow", *settings)
    cache = program.workdir / "stages/latents/cache"
    shutil.copytree(cache, lab.place / "good")
    names = spoil(program, (4, 5))
    said = program.start().refuses("not finite for 2 steps in a row from step 4", names[0])
    shutil.rmtree(cache)
    shutil.move(lab.place / "good", cache)
    lab.goes_on(program)
    return "two examples of a cache are NaN, two steps in a row", said, REFUSED


def spoil(program: Program, steps: Sequence[int]) -> list[str]:
    """Writes NaN into the cached example that the flow's stage shows first in each of the steps.

    Returns their names.
    """
    folder = program.workdir / "stages" / "latents" / "cache"
    source = RecordSource(folder)
    order = global_order(len(source), json.loads(_config(program))["seed"])
    spoiled = [int(order[step * _BATCH]) for step in steps]
    examples = [source[i] for i in range(len(source))]
    for i in spoiled:
        examples[i] = {name: _nan(value) for name, value in examples[i].items()}
    with RecordWriter(folder, source.meta) as writer:
        for example in examples:
            writer.write(example)
    return [examples[i]["id"] for i in spoiled]


def _config(program: Program) -> str:
    return (program.workdir / "config.json").read_text()


def _nan(value):
    floats = isinstance(value, np.ndarray) and value.dtype.kind == "f"
    return np.full_like(value, np.nan) if floats else value


def _check_skipped(workdir: Path, count: int) -> None:
    """Raises Failed unless the stage that reads the cache has skipped so many steps."""
    lines = (workdir / "stages" / "flow" / "metrics.jsonl").read_text().splitlines()
    skipped = json.loads(lines[-1])["skipped"]
    if skipped != count:
        raise Failed(f"{skipped:g} steps were skipped instead of {count}")
    bad = [name for name, array in weights(workdir).items() if not np.isfinite(array).all()]
    if bad:
        raise Failed(f"{bad[0]} is not finite")
    check_clean(workdir)
