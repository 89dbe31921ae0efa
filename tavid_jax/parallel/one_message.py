"""Sums over the devices of several processes, brought together in one message.

Processes on CPUs reduce array by array, and each array is a round trip: the gradients of a small
model of a hundred arrays wait longer for the network than for the arithmetic. Here they travel as
one vector. Accelerators do so by themselves.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AbstractMesh, Mesh, PartitionSpec

from tavid_jax.parallel import processes
from tavid_jax.parallel.mesh import BATCH_AXES

#: (what all devices have whole, arrays whose first axis is the batch's) -> sums over the batch
Sums = Callable[[Any, Any], Any]


def is_worth_it(mesh: Mesh | AbstractMesh, params: Any) -> bool:
    """Whether several processes compute on CPUs, and every device holds all parameters whole.

    `params` are arrays, or shapes with their places.
    """
    if (
        processes.count() == 1
        or isinstance(mesh, AbstractMesh)
        or mesh.devices.flat[0].platform != "cpu"
    ):
        return False
    if math.prod(mesh.shape[axis] for axis in BATCH_AXES) != mesh.size:
        return False
    return all(leaf.sharding.is_fully_replicated for leaf in jax.tree.leaves(params))


def in_one_message(sums: Sums, mesh: Mesh) -> Sums:
    """The same function: every device sums over its own part of the batch, and one reduction
    over (replica, fsdp) sums over the devices, in float32."""

    def own(whole: Any, part: Any) -> Any:
        leaves, tree = jax.tree.flatten(sums(whole, part))
        vector = jnp.concatenate([leaf.reshape(-1).astype(jnp.float32) for leaf in leaves])
        vector = jax.lax.psum(vector, BATCH_AXES)
        ends = np.cumsum([leaf.size for leaf in leaves])[:-1]
        pieces = zip(jnp.split(vector, ends), leaves, strict=True)
        return tree.unflatten([x.reshape(leaf.shape).astype(leaf.dtype) for x, leaf in pieces])

    places = (PartitionSpec(), PartitionSpec(BATCH_AXES))
    # Unchecked: derivatives inside are the device's own, which the check would sum one by one.
    return jax.shard_map(
        own, mesh=mesh, in_specs=places, out_specs=PartitionSpec(), check_vma=False
    )
