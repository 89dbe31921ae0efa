"""What a run has left: its parameters and curves, compared to the bit, and no litter."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from tavid_jax.engine import trees
from tavid_jax.engine.checkpoint import load_result
from tests.faults.program import Failed

STAGES = ("vae", "latents", "flow")
# What a record says of the training, not of the machine.
TRAINING = ("step", "loss", "grad_norm", "learning_rate", "skipped")
LITTER = ("**/*.orbax-checkpoint-tmp*", "**/*.tmp", "**/.*.part")

Weights = dict[str, np.ndarray]


def weights(workdir: Path) -> Weights:
    """The results of all stages as {"stage/path": array}."""
    results = {stage: load_result(workdir / "stages" / stage / "result") for stage in STAGES}
    return trees.flatten(results)


def curves(workdir: Path) -> dict[str, list[dict]]:
    """What every stage recorded of its training, by name."""
    found = {}
    for file in sorted(workdir.glob("stages/*/metrics.jsonl")):
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        found[file.parent.name] = [{k: line[k] for k in TRAINING if k in line} for line in lines]
    return found


def check_same(workdir: Path, straight: Path, *, recorded: bool = True) -> None:
    """That a finished run equals another one to the bit, and has left nothing half-done.

    Args:
      recorded: whether the curves must be equal too.

    Raises Failed naming what differs.
    """
    left = differing(weights(workdir), weights(straight))
    if left:
        raise Failed(f"{len(left)} final parameters differ: {', '.join(left[:3])}")
    if recorded and curves(workdir) != curves(straight):
        raise Failed(f"{workdir}/stages/*/metrics.jsonl are not those of {straight}")
    check_clean(workdir)


def check_clean(workdir: Path) -> None:
    """Raises Failed if half-written files lie about."""
    litter = [str(path.relative_to(workdir)) for glob in LITTER for path in workdir.glob(glob)]
    if litter:
        raise Failed(f"left behind: {', '.join(sorted(litter)[:3])}")


def differing(a: Weights, b: Weights) -> list[str]:
    """Names of arrays that are not the same bits of the same type and shape."""
    return [name for name in sorted(a.keys() | b.keys()) if _bits(a, name) != _bits(b, name)]


def _bits(found: Weights, name: str) -> tuple | None:
    array = found.get(name)
    return None if array is None else (array.dtype, array.shape, array.tobytes())
