"""One process of several that train the toy system together, on batches of the real pipeline.

`python -m tests.multi.engine.toy_process ADDRESS COUNT INDEX WORKDIR [--signal=NAME:PROCESS:STEP]`
"""

import argparse
import json
import os
import signal
from pathlib import Path
from typing import Any

import jax
import numpy as np

from tavid_jax.data.pipeline import batches
from tavid_jax.data.records import RecordWriter
from tavid_jax.engine.log import only_first_speaks, set_up_logging
from tavid_jax.engine.workdir import Workdir, WorkdirError
from tavid_jax.parallel import processes
from tests.engine import toy

SIZE = 20  # examples: an epoch is 2.5 batches


class Examples:
    """As many as there are, by number."""

    name = "toy"

    def __len__(self) -> int:
        return SIZE

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"id": f"e{index}", **toy.example(index)}


class Fit(toy.Fit):
    def prepare(self, clip: Any, rng: np.random.Generator) -> dict[str, Any]:
        return clip | {"x": clip["x"] + rng.normal(size=toy.DIM).astype(np.float32) / 100}


class PipelineInputs(toy.ToyInputs):
    """This process's rows of every batch; remembers whose they were."""

    def __init__(self, taken=None):
        super().__init__(taken=taken)
        self.seen: list[list[str]] = []

    def open(self, name: str) -> Examples:
        return Examples()

    def cache(self, folder: Path, meta: dict[str, Any]) -> RecordWriter:
        return RecordWriter(folder, meta)

    def batches(self, source: Any, prepare: Any, **options: Any):
        share = dict(process_index=processes.index(), process_count=processes.count())
        for batch in batches(source, prepare, threads=0, **share, **options):
            if options.get("num_epochs") is None:  # training
                self.seen.append(batch.ids)
                batch = toy.Told(batch, self.taken)
            yield batch


def system() -> toy.ToySystem:
    return toy.ToySystem(fit=Fit())


def config(**changes: Any) -> Any:
    """Five steps are two epochs. Everything that writes or looks now and then is in it."""
    validate = dict(every=2, data="held_out", batches=9)
    fit = dict(steps=5, checkpoint_every=2, snapshots=(2,), validate=validate, micro_batches=1)
    return toy.toy_config(stats=dict(cache=True), **fit | changes)


def train(folder: Path, mesh: Any = None, taken: Any = None) -> PipelineInputs:
    inputs = PipelineInputs(taken)
    toy.run(folder, config(), inputs, system(), mesh)
    return inputs


def _is_refused(folder: Path) -> bool:
    """Whether another run on the same folder is."""

    def again() -> bool:
        try:
            with processes.alone():
                Workdir(folder, config(), ())
        except WorkdirError as error:
            return "in use" in str(error)
        return False

    return processes.first_does(again)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("address")
    parser.add_argument("count", type=int)
    parser.add_argument("index", type=int)
    parser.add_argument("workdir", type=Path)
    parser.add_argument("--signal", default="KILL:-1:0")
    args = parser.parse_args()
    name, victim, when = args.signal.split(":")
    refused = []

    def taken(step: int) -> None:
        if not refused:
            refused.append(_is_refused(args.workdir))
        if args.index == int(victim) and step == int(when):
            os.kill(os.getpid(), getattr(signal, f"SIG{name}"))

    set_up_logging()
    fields = dict(coordinator=args.address, num_processes=args.count, process_id=args.index)
    assert processes.start_processes(fields | dict(timeout=60))
    only_first_speaks()
    with processes.shared_fate():
        inputs = train(args.workdir, taken=taken)
    print(json.dumps(dict(seen=inputs.seen, refused=refused, devices=jax.device_count())))


if __name__ == "__main__":
    main()
