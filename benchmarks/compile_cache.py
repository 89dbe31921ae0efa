"""How long a start takes to reach its first training step: cold, and with the compile cache.

Every start is a process of its own, and its time is all of it: Python, imports, reading the config
and the data, compiling, until the first step is handed to the devices. What a first run leaves
behind is there in both: synthetic scenes are drawn, and stages before the first that trains are
finished. A cold start has an empty cache folder; the warm start behind it has what that one left.
They take turns, so that a busy machine hits both alike.

    python benchmarks/compile_cache.py [--rounds=3] [--only=trajloom] [--clock=cpu] [--data=FOLDER]

Of each start, the median over the rounds: seconds of the wall clock, and of the process's own (all
cores together, whatever else the machine does). Of the wall clock: `import` until the command line
is read; `trace` Python's work to make programs of functions; `wait` for the step's compiler, or for
what was compiled to be loaded, with nothing else to do; `rest`: weights, data, small programs. Exit
code 1 if a warm start takes more than a third of the cold one, by --clock.

The demos are the hard case: their programs compile in seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from timing import CLOCKS, environment

ROOT = Path(__file__).resolve().parents[1]
DEMOS = ("trajloom", "tavid", "tgt", "flextraj")
PARTS = ("import", "trace", "wait", "rest")
LIMIT = 1 / 3

# Runs main, and ends when the first training step is under way.
_CHILD = """
import gc
gc.disable()
import collections, json, os, sys, time
begun = float(sys.argv.pop(1))
spent = collections.Counter()
from tavid_jax import main, run
gc.freeze(); gc.set_threshold(100_000); gc.enable()  # as main does when it is the program
import jax
from tavid_jax.engine import train

def told(event, seconds, **_):
    if "trace_duration" in event or "mlir_module" in event:
        spent["trace"] += seconds

class Timed:
    def __init__(self, compiled):
        self.compiled = compiled

    def result(self):
        asked = time.time()
        program = self.compiled.result()
        spent["wait"] += time.time() - asked
        return program

def first(self, done, state, *rest):
    clocks = {"wall": time.time() - begun, "cpu": time.process_time()}
    print(json.dumps({**clocks, **spent}), flush=True)
    os._exit(0)

real, compile_behind = run.run, train.compile_behind

def start(*arguments):
    spent["import"] = time.time() - begun
    return real(*arguments)

run.run = start
train.compile_behind = lambda lowered: Timed(compile_behind(lowered))
jax.monitoring.register_event_duration_secs_listener(told)
train.Training._milestones = first
main.cli()
"""


def start(demo: str, folder: Path, data: str, cache: Path | str) -> dict[str, float]:
    """Seconds of one start, in a copy of the workdir that was prepared."""
    workdir = folder / "workdir"
    if (folder / "prepared").exists():
        shutil.rmtree(workdir, ignore_errors=True)
        shutil.copytree(folder / "prepared", workdir)
    options = [
        f"--config={ROOT / 'configs' / demo}.py",
        f"--workdir={workdir}",
        f"--config.data_dir={data or folder / 'data'}",
        f"--config.compile_cache={cache}",
    ]
    variables = os.environ | {"PYTHONPATH": str(ROOT)}
    child = subprocess.run(
        [sys.executable, "-c", _CHILD, str(time.time()), *options],
        capture_output=True,
        text=True,
        env=variables,
    )
    if child.returncode:
        raise RuntimeError(f"{demo} has failed:\n{child.stderr[-3000:]}")
    seconds = json.loads(child.stdout.splitlines()[-1])
    known = sum(seconds.get(part, 0.0) for part in PARTS)
    return seconds | {"rest": seconds["wall"] - known}


def prepare(demo: str, folder: Path, data: str) -> None:
    """Draws the scenes and finishes what comes before the first stage that trains."""
    start(demo, folder, data, "")
    (folder / "workdir").rename(folder / "prepared")


def measure(demo: str, rounds: int, data: str) -> dict[str, dict[str, float]]:
    """{"cold": ..., "warm": ...} -> {part of a start: median seconds}."""
    taken: dict[str, list[dict[str, float]]] = {"cold": [], "warm": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(demo, folder, data)
        for number in range(rounds):
            cache = folder / f"cache{number}"
            for kind in taken:
                taken[kind].append(start(demo, folder, data, cache))
                print(f"{demo} {kind} {taken[kind][-1]['wall']:.1f} s", file=sys.stderr)
    return {
        kind: {
            part: statistics.median(one.get(part, 0.0) for one in starts)
            for part in (*CLOCKS, *PARTS)
        }
        for kind, starts in taken.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--data", default="", help="folder of scenes that were drawn before")
    parser.add_argument("--only", choices=DEMOS, help="one demo instead of all")
    args = parser.parse_args()
    print(environment())
    print("| demo | start | wall s | CPU s | import | trace | wait | rest | wall | CPU |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    over = []
    for demo in [args.only] if args.only else DEMOS:
        found = measure(demo, args.rounds, args.data)
        ratios = {clock: found["warm"][clock] / found["cold"][clock] for clock in CLOCKS}
        for kind, seconds in found.items():
            cells = [f"{seconds[part]:.1f}" for part in ("wall", "cpu", *PARTS)]
            last = [f"{ratios[clock]:.2f}" if kind == "warm" else "" for clock in ("wall", "cpu")]
            print(f"| {demo} | {kind} | {' | '.join(cells + last)} |", flush=True)
        over += [demo] if ratios[args.clock] > LIMIT else []
    if over:
        sys.exit(f"more than a third of the cold start: {', '.join(over)}")


if __name__ == "__main__":
    main()
