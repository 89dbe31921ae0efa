"""TrajLoom's demo trained by two processes against one, on the same two cores: steps per second.

One process holds two CPU devices, or two processes hold one each and reduce gradients over
localhost; both have the same global batch, data and step, through the engine's own loop. They take
turns in one run, so that a busy machine hits them alike.

    python benchmarks/processes.py
    python benchmarks/processes.py --stages vae --rounds 5
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

CORES = 2


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stages", nargs="+", default=["vae", "flow"], choices=["vae", "flow"])
    parser.add_argument("--rounds", type=int, default=9, help="turns of each")
    parser.add_argument("--steps", type=int, default=30, help="of a turn")
    parser.add_argument("--scenes", type=int, default=256, help="synthetic clips to train on")
    parser.add_argument("--worker", default="", help=argparse.SUPPRESS)
    return parser.parse_args()


# ---- a process that trains -----------------------------------------------------------------------


def demo(scenes: int, folder: Path) -> Any:
    """The demo's config, whose first stages are cut short: they only make what later ones read."""
    from configs.trajloom import get_config

    config = get_config("demo")
    config.data_dir, config.compile_cache = str(folder / "data"), str(folder / "programs")
    config.data.scenes.train = scenes
    config.stages.latents.min_examples = 0
    config.stages.vae.steps, config.stages.vae.optimizer.warmup = 8, 0
    config.order = ("vae", "latents")
    return config


def prepare(scenes: int, folder: Path) -> None:
    """What the flow's stage reads, made by one process."""
    from tavid_jax.data.inputs import ConfiguredInputs
    from tavid_jax.engine.stages import run_stages
    from tavid_jax.engine.workdir import Workdir
    from tavid_jax.methods.registry import make_system
    from tavid_jax.parallel.mesh import make_mesh

    config = demo(scenes, folder)
    run = folder / "run"
    workdir = Workdir(run, config, tuple(config.volatile))
    run_stages(config, make_system(config), ConfiguredInputs(config, run), workdir, make_mesh())
    workdir.close()


def train(scenes: int, folder: Path, stage: str, steps: int, place: str) -> None:
    """Trains a stage, `steps` of it whenever a line comes on standard input."""
    from tavid_jax.data.inputs import ConfiguredInputs
    from tavid_jax.engine.checkpoint import load_result
    from tavid_jax.engine.inputs import StageFolder
    from tavid_jax.engine.preemption import Preemption
    from tavid_jax.engine.train import Training
    from tavid_jax.methods.registry import make_system
    from tavid_jax.parallel.mesh import make_mesh
    from tavid_jax.parallel.processes import start_processes

    if place:
        address, index = place.split(",")
        start_processes(dict(coordinator=address, num_processes=CORES, process_id=int(index)))
    config, run = demo(scenes, folder), folder / "run"
    node = config.stages[stage]
    node.steps, node.checkpoint_every, node.validate.every = 10**6, 10**6, 0

    class InTurns(Training):
        def _milestones(self, done: int, *rest: Any) -> None:
            super()._milestones(done, *rest)
            if done % steps == 0:
                rest[2].flush()  # the monitor: all steps are done
                try:
                    print("done", flush=True)
                except BrokenPipeError:  # the comparison is over
                    os._exit(0)
                if not sys.stdin.readline():
                    os._exit(0)

    InTurns(
        name=stage,
        stage=node,
        method=make_system(config).method(stage),
        inputs=ConfiguredInputs(config, run),
        folder=StageFolder(Path(tempfile.mkdtemp(dir=folder))),
        mesh=make_mesh(),
        seed=0,
        earlier={name: load_result(run / "stages" / name / "result") for name in node.init_from},
        provenance={},
        config={},
        preemption=Preemption(),
    ).run()


def worker(job: dict[str, Any]) -> None:
    os.sched_setaffinity(0, job["cores"])
    from tavid_jax.parallel.mesh import use_cpu_cores

    use_cpu_cores(len(job["cores"]))
    folder = Path(job["folder"])
    if job["stage"]:
        train(job["scenes"], folder, job["stage"], job["steps"], job["place"])
    else:
        prepare(job["scenes"], folder)


# ---- the comparison ------------------------------------------------------------------------------


class Group:
    """Processes that train together."""

    def __init__(self, jobs: list[dict[str, Any]]):
        self._processes = [
            subprocess.Popen(
                [sys.executable, __file__, "--worker", json.dumps(job)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for job in jobs
        ]
        self._hear()

    def _hear(self) -> None:
        for process in self._processes:
            while (line := process.stdout.readline()) != "done\n":  # gloo speaks there, too
                if not line:
                    sys.exit("a process of the benchmark has failed; its message stands above")

    def turn(self) -> float:
        """Seconds of a turn."""
        started = time.perf_counter()
        for process in self._processes:
            process.stdin.write("on\n")
            process.stdin.flush()
        self._hear()
        return time.perf_counter() - started

    def close(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()


def compare(args: argparse.Namespace, folder: Path, stage: str, cores: list[int]) -> list[str]:
    """A row of the table."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        address = f"localhost:{probe.getsockname()[1]}"
    job = dict(folder=str(folder), stage=stage, scenes=args.scenes, steps=args.steps)
    groups = {}
    try:
        groups["one"] = Group([job | dict(cores=cores, place="")])
        groups["two"] = Group(
            [job | dict(cores=[core], place=f"{address},{i}") for i, core in enumerate(cores)]
        )
        for group in groups.values():
            group.turn()
        turns = [{name: group.turn() for name, group in groups.items()} for _ in range(args.rounds)]
    finally:
        for group in groups.values():
            group.close()
    ratios = [turn["one"] / turn["two"] for turn in turns]
    rates = {n: args.steps / statistics.median(turn[n] for turn in turns) for n in groups}
    spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
    rate = [f"{rates[name]:.2f}" for name in ("one", "two")]
    return [stage, *rate, f"{statistics.median(ratios):.2f}", spread]


def main() -> None:
    args = parse()
    if args.worker:
        worker(json.loads(args.worker))
        return
    root = Path(__file__).resolve().parents[1]  # configs lie there
    os.environ.update(JAX_PLATFORMS="cpu", PYTHONPATH=str(root))
    from timing import environment, table

    cores = sorted(os.sched_getaffinity(0))[:CORES]
    if len(cores) < CORES:
        sys.exit(f"this compares on {CORES} cores, but there is {len(cores)}")
    with tempfile.TemporaryDirectory() as name:
        job = dict(folder=name, stage="", scenes=args.scenes, cores=cores)
        subprocess.run([sys.executable, __file__, "--worker", json.dumps(job)], check=True)
        rows = [compare(args, Path(name), stage, cores) for stage in args.stages]
    print(f"{environment()}; turns of {args.steps} steps, {args.rounds} each, medians\n")
    head = ["stage", "one process, steps/s", "two processes, steps/s", "two / one", "of the turns"]
    print(table(head, rows))


if __name__ == "__main__":
    main()
