"""A system small enough to train in a second, with everything that the engine has to carry.

Two layers stacked over depth, masked examples, noise per example, statistics from a compute stage
as frozen parameters, a fixed table, EMA and Adam. Also a program, so that tests can kill it:
`python -m tests.engine.toy WORKDIR [--kill=STEP] [--terminate=STEP] [--interrupt=STEP]`.
"""

import argparse
import contextlib
import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from ml_collections import ConfigDict

from tavid_jax.engine.goodput import Ledger
from tavid_jax.engine.method import ComputeMethod, Method, Spec, System
from tavid_jax.engine.stages import run_stages
from tavid_jax.engine.workdir import Workdir
from tavid_jax.parallel.mesh import make_mesh
from tavid_jax.parallel.sharding import PathTable

DIM = 8
STEPS = 4


class Batch(NamedTuple):
    step: int
    arrays: dict[str, np.ndarray]
    ids: list[str]


class Fit(Method):
    """y = head(tanh(layer(tanh(layer((x - mean) / std))))) with noise on the target."""

    trainable_paths = ("net/.*",)
    frozen_paths = ("net/table",)
    sharding = PathTable(min_size=DIM * DIM)  # so that a mesh really splits something
    noise = 0.1

    def raw_spec(self) -> dict[str, Spec]:
        return {"x": Spec((DIM,), np.float32, (None,)), "weight": Spec((), np.float32, ())}

    def prepare(self, clip: Any, rng: np.random.Generator) -> dict[str, Any]:
        return clip

    def init(self, rng: jax.Array) -> dict[str, Any]:
        first, second = jax.random.split(rng)
        return {
            "net": {
                "layers": {
                    "kernel": jax.random.normal(first, (2, DIM, DIM)) / DIM**0.5,
                    "bias": jnp.zeros((2, DIM)),
                },
                "head": {"kernel": jax.random.normal(second, (DIM, 3))},
                "table": jnp.arange(DIM, dtype=jnp.float32),
            },
            "stats": {"mean": jnp.zeros(DIM), "std": jnp.ones(DIM)},
        }

    def forward(self, params: dict[str, Any], x: jax.Array) -> jax.Array:
        net, stats = params["net"], params["stats"]
        h = (x - stats["mean"]) / stats["std"] + 0.01 * net["table"]
        for kernel, bias in zip(net["layers"]["kernel"], net["layers"]["bias"], strict=True):
            h = jnp.tanh(h @ kernel + bias)
        return h @ net["head"]["kernel"]

    def loss(self, params, batch, rng, step):
        noise = jax.vmap(lambda key: jax.random.normal(key, (3,)))(rng)
        error = self.forward(params, batch["x"]) - batch["x"][:, :3] * 2 + self.noise * noise
        weight = batch["weight"]
        squares = jnp.where(weight > 0, (error**2).sum(-1), 0.0) * weight
        logs = {"mae": ((jnp.abs(error).sum(-1) * weight).sum(), weight.sum())}
        return (squares.sum(), weight.sum()), logs


class Statistics(ComputeMethod):
    def prepare(self, clip: Any, rng: np.random.Generator) -> dict[str, Any]:
        return clip

    def init(self, rng: jax.Array) -> dict[str, Any]:
        return {}

    def examine(self, params, batch, rng):
        x = batch["x"]
        return {"x": x}, {"count": jnp.ones(x.shape[0]), "sum": x, "squares": x**2}

    def conclude(self, sums):
        mean = sums["sum"] / sums["count"]
        std = np.sqrt(sums["squares"] / sums["count"] - mean**2)
        return {"stats": {"mean": mean, "std": std}}


class ToySystem(System):
    def __init__(self, **methods: Method):
        self._methods = {"stats": Statistics(), "fit": Fit(), **methods}

    def method(self, stage: str) -> Method:
        return self._methods[stage]


class Source(list):
    name = "toy"


def example(index: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng((7, index))
    # Every third example is masked out, so that micro-batches differ in weight.
    weight = np.float32(index % 3 > 0)
    return {"x": 1 + 2 * rng.normal(size=DIM).astype(np.float32), "weight": weight}


class Told:
    """A batch that tells when the loop takes it: that looks at its step."""

    def __init__(self, batch: Batch, taken: Callable[[int], None]):
        self._batch, self._taken = batch, taken
        self.arrays, self.ids = batch.arrays, batch.ids

    @property
    def step(self) -> int:
        self._taken(self._batch.step)
        return self._batch.step


class ToyInputs:
    """Batches as a function of the step alone. `at(step, arrays)` may break them while they are
    made, `taken(step)` us when the loop takes them."""

    def __init__(
        self,
        at: Callable[[int, dict[str, np.ndarray]], None] | None = None,
        taken: Callable[[int], None] | None = None,
        size=20,
    ):
        self.at = at or (lambda step, arrays: None)
        self.taken = taken or (lambda step: None)
        self.size = size
        self.opened: list[str] = []

    def open(self, name: str) -> Source:
        self.opened.append(name)
        return Source(range(self.size))

    def batches(
        self,
        source: Source,
        prepare: Callable[..., dict[str, Any]],
        *,
        batch_size: int,
        seed: int,
        start_step: int = 0,
        shuffle: bool = True,
        num_epochs: int | None = None,
        scheduled: bool = False,
    ) -> Iterator[Batch]:
        if num_epochs is not None:
            yield from self._passes(source, batch_size, num_epochs)
            return
        step = start_step
        while True:
            indices = [1000 * seed + step * batch_size + i for i in range(batch_size)]
            batch = self._batch(step, indices, batch_size)
            self.at(step, batch.arrays)
            yield Told(batch, self.taken)
            step += 1

    def _passes(self, source: Source, batch_size: int, num_epochs: int) -> Iterator[Batch]:
        indices = list(source) * num_epochs
        for step in range(-(-len(indices) // batch_size)):
            part = indices[step * batch_size : (step + 1) * batch_size]
            yield self._batch(step, part, batch_size)

    def _batch(self, step: int, indices: list[int], batch_size: int) -> Batch:
        padded = indices + [indices[0]] * (batch_size - len(indices))
        examples = [example(i) for i in padded]
        arrays = {k: np.stack([e[k] for e in examples]) for k in examples[0]}
        return Batch(step, arrays, [f"clip{i}" for i in indices])

    @contextlib.contextmanager
    def cache(self, folder: Path, meta: dict[str, Any]):
        sink = Sink()
        yield sink
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "ids.json").write_text(json.dumps([r["id"] for r in sink.records]))


class Sink:
    def __init__(self):
        self.records: list[dict[str, Any]] = []

    def write(self, record: dict[str, Any]) -> None:
        self.records.append(record)


def optimizer(**changes: Any) -> dict[str, Any]:
    return (
        dict(
            name="adam",
            lr=1e-2,
            schedule="cosine",
            warmup=2,
            final=0.1,
            b1=0.9,
            b2=0.99,
            eps=1e-8,
            weight_decay=0.0,
            clip=1.0,
            decay=0.25,
            beta=0.95,
            muon_steps=5,
            consistent_rms=0.0,
            muon_also=(),
            muon_not=(),
        )
        | changes
    )


def fit_stage(**changes: Any) -> dict[str, Any]:
    return (
        dict(
            kind="train",
            data="train",
            cached_by=(),
            init_from=("stats",),
            seed=0,
            steps=STEPS,
            batch_size=8,
            micro_batches=2,
            optimizer=optimizer(),
            ema=0.9,
            ema_window=0.0,
            log_every=1,
            checkpoint_every=2,
            keep=2,
            snapshots=(),
            max_bad_steps=3,
        )
        | changes
    )


def stats_stage(**changes: Any) -> dict[str, Any]:
    return (
        dict(
            kind="compute",
            data="train",
            cached_by=(),
            init_from=(),
            seed=0,
            batch_size=8,
            epochs=1,
            cache=False,
        )
        | changes
    )


def toy_config(stats: dict[str, Any] | None = None, **fit: Any) -> ConfigDict:
    """The config of a toy run: `fit` changes fields of the train stage."""
    stages = dict(stats=stats_stage(**(stats or {})), fit=fit_stage(**fit))
    return ConfigDict(dict(seed=3, order=("stats", "fit"), stages=stages))


def run(folder: Path, config: ConfigDict | None = None, inputs=None, system=None, mesh=None):
    """One start of the run in `folder`, all objects new."""
    config = toy_config() if config is None else config
    workdir = Workdir(folder, config, ())
    system, inputs, mesh = system or ToySystem(), inputs or ToyInputs(), mesh or make_mesh()
    try:
        with Ledger(workdir.path / "goodput", every=0.05) as ledger:
            return run_stages(config, system, inputs, workdir, mesh, ledger)
    finally:
        workdir.close()


def saved_steps(folder: Path, stage: str = "fit") -> list[int]:
    """Steps of the complete checkpoints on disk."""
    found = (folder / "stages" / stage / "checkpoints").iterdir()
    return sorted(int(path.name) for path in found if path.name.isdigit())


def saved_state(folder: Path, step: int | None = None, stage: str = "fit") -> dict[str, Any]:
    """Everything in a checkpoint (default: the newest) as {path: numpy}, read past the engine."""
    step = saved_steps(folder, stage)[-1] if step is None else step
    place = folder.absolute() / "stages" / stage / "checkpoints" / str(step) / "state"
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
        tree = checkpointer.metadata(place).item_metadata.tree
        args = jax.tree.map(
            lambda leaf: ocp.RestoreArgs(restore_type=np.ndarray),
            tree,
            is_leaf=lambda node: hasattr(node, "shape"),
        )
        state = checkpointer.restore(place, args=ocp.args.PyTreeRestore(restore_args=args))
    leaves = jax.tree_util.tree_leaves_with_path(state)
    return {jax.tree_util.keystr(path): leaf for path, leaf in leaves}


def assert_same_bits(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> None:
    assert a.keys() == b.keys()
    for path in a:
        np.testing.assert_array_equal(a[path], b[path], err_msg=path, strict=True)


def records(folder: Path, stage: str = "fit") -> list[dict[str, float]]:
    """The JSON lines of a stage without the times."""
    lines = (folder / "stages" / stage / "metrics.jsonl").read_text().splitlines()
    times = ("seconds", "data_share", "speed/", "memory/")
    records = map(json.loads, lines)
    return [{k: v for k, v in one.items() if not k.startswith(times)} for one in records]


def damage(path: Path, how: str) -> None:
    """Truncate all files below `path`, or delete the largest or flip a bit of it, or empty the
    whole folder.

    All, because Orbax leaves files behind that nothing reads any more.
    """
    if how == "folder":
        shutil.rmtree(path)
        path.mkdir()
        return
    files = sorted((p for p in path.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    if how == "delete":
        files[-1].unlink()
        return
    if how == "flip":
        content = bytearray(files[-1].read_bytes())
        content[len(content) // 2] ^= 1
        files[-1].write_bytes(content)
        return
    for file in files:
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("workdir", type=Path)
    for fault in ("kill", "terminate", "interrupt"):
        parser.add_argument(f"--{fault}", type=int, default=-1)
    args = parser.parse_args()
    signals = {
        args.kill: signal.SIGKILL,
        args.terminate: signal.SIGTERM,
        args.interrupt: signal.SIGINT,
    }

    def taken(step: int) -> None:
        if step in signals:
            time.sleep(0.2)  # the account of its time is a few beats old at the most
            os.kill(os.getpid(), signals[step])

    run(args.workdir, inputs=ToyInputs(taken=taken))


if __name__ == "__main__":
    main()
