"""How long a checkpoint of a 14B model's adapters holds up the training loop.

    python benchmarks/checkpoint_blocking.py [--blocks 40] [--saves 3] [--workdir FOLDER]

The state of `configs/finetune.py:wan2_1_14b_lora`, as it is trained (weights of rank 128 and their
Adam moments, fp32), lies on the CPU devices of this machine. A loop of steps, each of which changes
all of it in place, is saved to disk now and then. Printed: how long `Checkpoints.save` kept the
loop, beside how long Orbax's own asynchronous save of the same state does, the steps while a
checkpoint is written beside those between, and what the file system took a second. Needs about
three times the state in memory, and as much disk.
"""

from __future__ import annotations

import argparse
import functools
import math
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from absl import logging
from timing import environment, table

from configs import finetune
from tavid_jax.engine.checkpoint import Checkpoints
from tavid_jax.engine.program import Program
from tavid_jax.methods.registry import make_system
from tavid_jax.parallel.mesh import make_mesh, use_cpu_cores

PRESET = "wan2_1_14b_lora"
STEPS_BETWEEN = 6


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--blocks", type=int, default=40, help="of the model's 40, for less memory")
    parser.add_argument("--saves", type=int, default=3)
    parser.add_argument("--workdir", type=Path, help="where checkpoints go; default: a temporary")
    return parser.parse_args()


def make_state(blocks: int) -> Any:
    """The state of the preset's training stage, with numbers in it."""
    config = finetune.get_config(PRESET)
    config.model.changes.num_layers = blocks
    program = Program(make_system(config).method("finetune"), config.stages.finetune, make_mesh())
    like = program.abstract_state(program.abstract_params()[0])

    def make(leaf: jax.ShapeDtypeStruct) -> jax.Array:
        return jax.jit(functools.partial(_numbers, leaf), out_shardings=leaf.sharding)()

    return jax.tree.map(make, like)


def _numbers(leaf: jax.ShapeDtypeStruct) -> jax.Array:
    """Bits of any kind: what compresses well would be written sooner."""
    if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jax.random.key(0)
    place = jnp.arange(math.prod(leaf.shape), dtype=jnp.uint32) * jnp.uint32(2654435761)
    mixed = (place ^ (place >> 15)) * jnp.uint32(2246822519)
    return (mixed.astype(jnp.float32) / 2.0**32).astype(leaf.dtype).reshape(leaf.shape)


def make_step(state: Any) -> Any:
    """A step that changes every number of the state in its place."""
    places = jax.tree.map(lambda leaf: leaf.sharding, state)

    def change(leaf: jax.Array) -> jax.Array:
        return leaf * 0.999 if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf

    def step(state: Any) -> Any:
        return jax.tree.map(change, state)

    return jax.jit(step, donate_argnums=0, out_shardings=places)


class Loop:
    """Steps of known length, one after the other."""

    def __init__(self, state: Any):
        self.state, self._step, self.seconds = state, make_step(state), []

    def run(self) -> float:
        """One step; its seconds."""
        began = time.perf_counter()
        self.state = jax.block_until_ready(self._step(self.state))
        return time.perf_counter() - began


def ours(loop: Loop, folder: Path, saves: int) -> tuple[list[float], list[float], list[float]]:
    """Seconds in `save` and the step behind it, of the steps while it writes, and until it is on
    disk."""
    blocked, beside, written = [], [], []
    with Checkpoints(folder, keep=1) as checkpoints:
        checkpoints.make_room(loop.state)  # as a run does while its program is compiled
        checkpoints.wait()
        for number in range(1, saves + 1):
            began = time.perf_counter()
            checkpoints.save(number, loop.state, {"data_step": number})
            loop.run()  # may have to wait for copies
            blocked.append(time.perf_counter() - began)
            while checkpoints.writing():
                beside.append(loop.run())
            checkpoints.wait()
            written.append(time.perf_counter() - began)
    return blocked, beside, written


def plain(loop: Loop, folder: Path, saves: int) -> list[float]:
    """Seconds in Orbax's own asynchronous save and the step behind it."""
    blocked = []
    options = ocp.CheckpointManagerOptions(max_to_keep=1)
    handlers = ocp.StandardCheckpointHandler()
    with ocp.CheckpointManager(folder, options=options, item_handlers=handlers) as manager:
        for number in range(1, saves + 1):
            began = time.perf_counter()
            manager.save(number, args=ocp.args.StandardSave(loop.state))
            loop.run()
            blocked.append(time.perf_counter() - began)
            manager.wait_until_finished()
    return blocked


def main() -> None:
    args = parse()
    logging.set_verbosity(logging.ERROR)
    use_cpu_cores(0)
    folder = Path(tempfile.mkdtemp(prefix="checkpoint_blocking_", dir=args.workdir))
    try:
        loop = Loop(make_state(args.blocks))
        size = sum(leaf.nbytes for leaf in jax.tree.leaves(loop.state) if leaf.dtype != "key<fry>")
        count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(loop.state.trainable))
        between = [loop.run() for _ in range(STEPS_BETWEEN)][1:]
        blocked, beside, written = ours(loop, folder / "ours", args.saves)
        shutil.rmtree(folder / "ours")
        orbax = plain(loop, folder / "plain", args.saves)
    finally:
        shutil.rmtree(folder)
    step = statistics.median(between)
    print(f"{environment()}; {PRESET}, {args.blocks} blocks")
    print(f"{count / 1e6:.0f} M weights, {size / 1e9:.2f} GB of state; {args.saves} saves\n")
    rows = [
        ["`Checkpoints.save` keeps the loop, longest", f"{max(blocked) - step:.3f}"],
        ["Orbax's asynchronous save keeps it, longest", f"{max(orbax) - step:.3f}"],
        ["a step between saves, median", f"{step:.3f}"],
        ["a step while a checkpoint is written, median", f"{statistics.median(beside):.3f}"],
        ["the longest of these", f"{max(beside):.3f}"],
        ["until a checkpoint is whole, median", f"{statistics.median(written):.1f}"],
        ["GB written a second", f"{size / 1e9 / statistics.median(written):.2f}"],
    ]
    print(table(["what", "seconds"], rows))


if __name__ == "__main__":
    main()
