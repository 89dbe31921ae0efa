"""A real training step on this machine's GPU, and what it took: one line of JSON.

python -m tests.aot.measured_step CONFIG_FILE:PRESET [--frames=17] [--size=256x256]
"""

import argparse
import importlib
import json
import sys

import jax
import jax.numpy as jnp

from tavid_jax.engine.estimate import estimate
from tavid_jax.engine.program import Program
from tavid_jax.methods.registry import make_system
from tavid_jax.parallel.gpus import GPUS
from tavid_jax.parallel.mesh import make_mesh


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("preset")
    parser.add_argument("--frames", type=int, default=17)
    parser.add_argument("--size", default="256x256")
    args = parser.parse_args()
    try:
        (device,) = jax.devices("gpu")[:1]
    except RuntimeError:
        print(json.dumps({"skip": "there is no GPU"}))
        return
    name = next((n for n, gpu in GPUS.items() if gpu.kind in device.device_kind), None)
    if name is None:
        print(json.dumps({"skip": f"{device.device_kind} is not in parallel/gpus.py"}))
        return
    system, _, preset = args.preset.partition(":")
    config = importlib.import_module(f"configs.{system}").get_config(preset)
    config.data.update(frames=args.frames, size_hw=tuple(map(int, args.size.split("x"))))
    stage = next(s for s in config.order if config.stages[s].kind == "train")
    config.stages[stage].batch_size = 1
    mesh = make_mesh({}, [device])
    program = Program(make_system(config).method(stage), config.stages[stage], mesh)
    trainable, frozen = program.abstract_params()
    shapes = program.abstract_state(trainable), frozen, program.abstract_batch()
    guess = estimate(program, f"{name}:1")
    with jax.set_mesh(mesh):
        state, frozen, batch = jax.tree.map(_zeros, shapes)
        step = program.jitted_step(shapes[0])
        for _ in range(2):
            state, metrics = step(state, frozen, batch)
        jax.block_until_ready(state)
    found = {
        "device": device.device_kind,
        "held_bytes": guess.arguments_bytes,
        "estimate_bytes": guess.peak_bytes,
        "measured_bytes": device.memory_stats()["peak_bytes_in_use"],
    }
    print(json.dumps(found))


def _zeros(leaf: jax.ShapeDtypeStruct) -> jax.Array:
    """One array at a time, and nothing besides."""
    if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jax.device_put(jax.random.key(0), leaf.sharding)
    return jax.jit(lambda: jnp.zeros(leaf.shape, leaf.dtype), out_shardings=leaf.sharding)()


if __name__ == "__main__":
    sys.exit(main())
