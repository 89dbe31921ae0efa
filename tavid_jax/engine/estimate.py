"""What a training step needs, without a compiler: exact for what is held, a model for the rest.

Held bytes (weights, optimizer state, batch) follow from shapes and places. What the step needs
besides is the liveness model of `parallel.liveness`, on one data way's share of the batch:
gradients and other arrays of a parameter's shape count as the parameter lies, activations as split
over `context`, and a loop over blocks gathers the weights of one of them. How near that comes is
told, program by program, beside the TPU compiler's numbers in launch/README.md.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import numpy as np

from tavid_jax.engine.program import Program
from tavid_jax.parallel.ahead import Report, held_bytes, limit_of
from tavid_jax.parallel.gpus import gpus_of, is_gpu
from tavid_jax.parallel.liveness import SizeOf, peak_bytes
from tavid_jax.parallel.mesh import BATCH_AXES
from tavid_jax.parallel.sharding import compiling_for

# A platform without kernels of its own: attention is the chunked one, which keeps no scores.
NO_CHIP = "none"


def estimate(program: Program, topology: str, batch: int = 0) -> Report:
    """The report on a train stage's step that a compiler would give, about.

    Args:
      program: on a mesh of this topology; that of GPUs is `gpus.gpu_mesh`.
      topology: "h100:8", or one of a TPU to compare with its compiler.
      batch: examples; 0 is the stage's batch_size.

    Raises ValueError for a batch that does not split over the mesh.
    """
    trainable, frozen = program.abstract_params()
    state = program.abstract_state(trainable)
    whole = program.abstract_batch(batch)
    held, waiting = held_bytes((state, frozen, whole))
    ways = math.prod(program.mesh.shape[axis] for axis in BATCH_AXES)
    size = next(iter(whole.values())).shape[0]
    if (size // ways) % program.stage.micro_batches:
        raise ValueError(
            f"{size // ways} examples on a data way do not split into "
            f"{program.stage.micro_batches} micro_batches"
        )
    one = {
        name: jax.ShapeDtypeStruct((x.shape[0] // ways, *x.shape[1:]), x.dtype)
        for name, x in whole.items()
    }
    bare = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), (state, frozen))
    with compiling_for(NO_CHIP):
        needed = peak_bytes(
            program.step(),
            *bare,
            one,
            size_of=_size_of(trainable, frozen, program.mesh.shape["context"]),
            replaced=bare[0],
        )
    limit = gpus_of(topology)[0].limit_bytes if is_gpu(topology) else limit_of(topology)
    peak = held + int(needed)
    return Report(
        chips=program.mesh.size,
        arguments_bytes=held,
        host_bytes=waiting,
        temporaries_bytes=int(needed),
        peak_bytes=peak,
        limit_bytes=limit,
        fits=limit is None or peak <= limit,
        collectives={},
        compile_seconds=0.0,
        estimated=True,
    )


def _size_of(trainable: Any, frozen: Any, context: int) -> SizeOf:
    """Bytes on one chip of arrays in a step that was traced for one data way."""
    shares = {}
    for leaf in jax.tree.leaves((trainable, frozen)):
        if len(leaf.shape) > 1:
            mine = math.prod(leaf.sharding.shard_shape(leaf.shape))
            shares[tuple(leaf.shape)] = mine / math.prod(leaf.shape)

    def size_of(shape: tuple[int, ...], dtype: Any) -> float:
        if jax.dtypes.issubdtype(dtype, jax.dtypes.extended):  # keys
            return 8.0 * math.prod(shape)
        return math.prod(shape) * np.dtype(dtype).itemsize * shares.get(shape, 1 / context)

    return size_of


def seconds_at_least(flops: int, topology: str) -> float:
    """Of a step whose GPUs did nothing but products, at their peak; real steps take about twice as
    long, or longer."""
    gpu, count = gpus_of(topology)
    return flops / (count * gpu.peak_flops)
