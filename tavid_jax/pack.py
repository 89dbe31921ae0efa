"""A finished run becomes a model that comes with the package.

    python -m tavid_jax.pack runs/finetune_tiny_wan tavid_jax/bases/tiny_wan

The weights are those that the run was judged with, as they are stored in <run>/model. The card
gets the measured numbers of <run>/report/metrics.json (--judge measures them again), the command
that trained the model, and the losses of the first hundredth of its training, by which
tests/pipelines/test_bases.py recognises it.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging
from ml_collections import ConfigDict

from tavid_jax import run as runs
from tavid_jax.engine.log import set_up_logging
from tavid_jax.engine.stages import open_results
from tavid_jax.engine.workdir import config_hash, to_plain
from tavid_jax.methods.finetune.saving import FOLDER
from tavid_jax.methods.registry import make_system
from tavid_jax.pipelines.card import Card, has_card, read_card, told_steps
from tavid_jax.pipelines.saving import copy_pipeline
from tavid_jax.reproduce import Curve, command_of, first_losses

# Of mean losses that are trained again, relative.
TOLERANCE = 0.02


def pack(workdir: Path, folder: Path, judge: bool = False) -> Card:
    """Writes a finished run as the folder of a packaged model; returns its card.

    Args:
      workdir: of the run; all of its stages are finished.
      folder: to be written, in place of an older one; its name is the model's.
      judge: whether the run is judged again.

    Raises:
      ValueError: no such run, one that is no single training, numbers that are missing or of other
        weights, or a folder of something else.
    """
    config = _config(workdir)
    system = make_system(config)
    if judge:
        runs.run(config, workdir, "evaluate")
    if not hasattr(system, "export"):
        raise ValueError(f"{workdir} is a run of {config.system}, which makes no pipelines")
    source = workdir / FOLDER
    if not has_card(source):  # what was judged stays as it is
        results = open_results(config, workdir, config_hash(to_plain(config), config.volatile))
        system.export(results, source)
    card = read_card(source)
    card = dataclasses.replace(
        card,
        name=folder.name.replace("_", "-"),
        trained={**card.trained, "command": command_of(config)},
        quality=_quality(workdir, card),
        loss_curve=_losses(config, card),
    )
    return copy_pipeline(source, folder, card)


def _config(workdir: Path) -> ConfigDict:
    known = workdir / "config.json"
    if not known.is_file():
        raise ValueError(f"{workdir} holds no run (no config.json)")
    return ConfigDict(json.loads(known.read_text()))


def _quality(workdir: Path, card: Card) -> dict[str, Any]:
    """The numbers of the model's own samples, as the run's report has them."""
    path = workdir / "report" / "metrics.json"
    again = "measure them: --judge"
    if not path.is_file():
        raise ValueError(f"{path} is missing; {again}")
    metrics = json.loads(path.read_text())
    marks = {key: mark for key, mark in card.trained.items() if key.startswith("weights/")}
    judged = {key: metrics.get("provenance", {}).get(key) for key in marks}
    if judged != marks:
        raise ValueError(f"{path} is of other weights ({judged}, not {marks}); {again}")
    kept = ("title", "scenes", "sample")
    found = {
        name: {key: part[key] for key in kept if key in part}
        for name, part in metrics.items()
        if isinstance(part, Mapping) and "sample" in part
    }
    if not found:
        raise ValueError(f"{path} holds no numbers of samples; {again}")
    return found | ({"goals": metrics["goals"]} if "goals" in metrics else {})


def _losses(config: Any, card: Card) -> Curve:
    """Those that the run has logged step by step, otherwise those of its first steps again."""
    steps = told_steps(card.trained["steps"])
    if [step for step, _ in card.loss_curve] == list(range(1, steps + 1)):
        return card.loss_curve
    logging.info("the first %d steps are trained again, for their losses", steps)
    with tempfile.TemporaryDirectory() as folder:
        losses = first_losses(config, steps, Path(folder))
    _check_same(card.loss_curve, losses)
    return losses


def _check_same(logged: Curve, again: Curve) -> None:
    """A run's records are means over the steps since the record before."""
    before = 0
    for step, mean in logged:
        now = float(np.mean([loss for at, loss in again if before < at <= step]))
        if not np.isclose(now, mean, rtol=TOLERANCE):
            raise ValueError(
                f"up to step {step} the run's loss is {mean:.4g}, trained again it is {now:.4g}: "
                "the code or the data have changed since; train the run anew"
            )
        before = step


def main(argv: Sequence[str] | None = None) -> int:
    """Packs a run; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tavid_jax.pack",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", type=Path, help="folder of the finished run")
    parser.add_argument("folder", type=Path, help="to be written")
    parser.add_argument("--judge", action="store_true", help="judge the run again first")
    args = parser.parse_args(argv)
    set_up_logging()
    try:
        card = pack(args.run, args.folder, args.judge)
    except runs.USER_ERRORS as error:
        logging.debug("where it happened", exc_info=True)
        print(f"error: {error}", file=sys.stderr)
        return 1
    size = sum(file.stat().st_size for file in args.folder.rglob("*") if file.is_file())
    print(f"{args.folder}: {card.name}, {size / 1e6:.2f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
