"""Does the loop wait for data? In every demo, and in feeds of full size for a simulated chip.

    python benchmarks/data_wait.py                        # all demos, 60 steps of every stage
    python benchmarks/data_wait.py --demos=tavid,whn --steps=100
    python benchmarks/data_wait.py --demos= --feeds=all   # full-size feeds alone
    python benchmarks/data_wait.py --feeds=all --chip=v6e --mfu=0.5 --workers=2

Demos train for real: their own data, batches and stages, in order, but fewer steps. A feed has the
examples of a full-size preset, read as that preset reads them; in the place of the step the program
sleeps for as long as the step's model FLOPs take on one host's chips. Both print the share of time
in which the loop stood in its wait for the next batch, steps that compile left out; feeds also how
many cores they kept busy. Run it on a quiet machine.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import logging as python_logging
import os
import tempfile
from pathlib import Path
from typing import Any

import full_size_feeds
import timing
from absl import flags
from ml_collections import ConfigDict

from tavid_jax.data.inputs import ConfiguredInputs
from tavid_jax.engine.compile_cache import enable_compile_cache
from tavid_jax.engine.stages import run_stages
from tavid_jax.engine.took import stage_speed
from tavid_jax.engine.workdir import Workdir
from tavid_jax.methods.registry import make_system
from tavid_jax.parallel.mesh import make_mesh, use_cpu_cores

DEMOS = ("trajloom", "flextraj", "tavid", "tgt", "whn", "finetune")
# Behind so many steps a stage runs evenly: threads have read ahead, the device's queue is full.
SETTLED = 20


def shortened(name: str, steps: int) -> ConfigDict:
    """The demo with fewer steps; everything else is its own."""
    config = importlib.import_module(f"configs.{name}").get_config("demo")
    for stage in config.stages.values():
        if stage.kind == "train":
            stage.update(steps=steps, snapshots=(), log_every=10, checkpoint_every=steps)
            stage.optimizer.warmup = min(stage.optimizer.warmup, steps - 1)
    return config


def measure_demo(name: str, steps: int) -> list[list[str]]:
    """A row for every train stage."""
    config, rows = shortened(name, steps), []
    with tempfile.TemporaryDirectory() as folder:
        enable_compile_cache(config.compile_cache)
        workdir = Workdir(folder, config, tuple(config.volatile))
        inputs = ConfiguredInputs(config, Path(folder))
        mesh = make_mesh(config.mesh.to_dict())
        with contextlib.closing(workdir):
            results = run_stages(config, make_system(config), inputs, workdir, mesh)
    for stage in (name for name in config.order if config.stages[name].kind == "train"):
        told = (record for record in results.curves[stage] if record["step"] > SETTLED)
        # The last record is written right behind the one before it, and knows of no step.
        curve = [record for record in told if "speed/data_wait" in record]
        speed = stage_speed(curve)
        waits = [record["speed/data_wait"] for record in curve]
        rows.append(
            [
                name,
                stage,
                str(config.stages[stage].batch_size),
                f"{1e3 * speed['speed/step_seconds']:.1f}",
                f"{1e3 * speed['speed/step_seconds_p90']:.1f}",
                f"{1e3 * speed.get('speed/tflops', 0.0):.1f}",
                f"{100 * sum(waits) / len(waits):.2f} %",
            ]
        )
    return rows


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--demos", default=",".join(DEMOS), help="of which; '' for none")
    parser.add_argument("--steps", type=int, default=60, help="of every stage")
    full_size_feeds.add_arguments(parser)
    args = parser.parse_args()
    if args.steps < 2 * SETTLED:
        parser.error(f"--steps must be {2 * SETTLED} or more: {SETTLED} are not counted")
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()  # Grain's worker processes read absl flags
    python_logging.getLogger("absl").setLevel(python_logging.WARNING)
    use_cpu_cores(0)
    print(f"{timing.environment()}; load {os.getloadavg()[0]:.1f}\n", flush=True)
    demos = [name for name in args.demos.split(",") if name]
    if demos:
        head = ["demo", "stage", "batch", "step ms", "90 % within", "GFLOP/s", "data wait"]
        print(timing.table(head, []), flush=True)
    for name in demos:
        rows: list[Any] = measure_demo(name, args.steps)
        print("\n".join(f"| {' | '.join(row)} |" for row in rows), flush=True)
    full_size_feeds.run(args)


if __name__ == "__main__":
    main()
