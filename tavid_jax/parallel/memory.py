"""Which memory an array waits in: the device's own, or the host's, pinned, so that the device can
fetch it by itself.

What lies on the host takes part in no computation: whoever wants to use it calls `on_device` where
it is used. Inside a scan that is one layer at a time (models/layers/depth.py); all at once it would
take the same room on the device while it is there.
"""

from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp

#: Kinds of memory, by jax's names.
HOST, DEVICE = "pinned_host", "device"


def waits_on_host(leaf: Any) -> bool:
    """Whether an array, a traced one, or its shape and place, is of the host's memory."""
    return getattr(jax.typeof(leaf), "memory_space", None) == jax.memory.Space.Host


def on_device(tree: Any) -> Any:
    """The tree with the arrays that wait on the host brought to the device; others as they are.

    Traced or not. In a traced function their bytes on the device last as long as they are used.
    """

    def bring(leaf: Any) -> Any:
        return jax.device_put(leaf, jax.memory.Space.Device) if waits_on_host(leaf) else leaf

    return jax.tree.map(bring, tree)


def fetched_behind(tree: Any, norm: jax.Array, whole_first: Any) -> Any:
    """`on_device` of traced arrays that set out when `norm` has been computed, not before.

    Compilers fetch as early as they can, to hide the journey, and look through barriers: the room
    would be taken from all that comes before. So an array comes in slices along its first axis, at
    places that depend on the norm, which a loop on the device gathers.

    Args:
      norm: any number that is never below -1.
      whole_first: for every array whether its first axis is whole on each device (`whole_first`);
        others come at once, and too early.
    """
    zero = (norm < -1.0).astype(jnp.int32)

    def fetch(leaf: Any, is_whole: bool) -> Any:
        if not waits_on_host(leaf) or not is_whole:
            return on_device(leaf)

        def one(_: None, index: jax.Array) -> tuple[None, jax.Array]:
            piece = jax.lax.dynamic_index_in_dim(leaf, index + zero, keepdims=False)
            return None, on_device(piece)

        return jax.lax.scan(one, None, jnp.arange(leaf.shape[0]))[1]

    return jax.tree.map(fetch, tree, whole_first)


def whole_first(shapes: Any) -> Any:
    """For every array whether its first axis has several entries and is split over no devices.

    Args:
      shapes: tree of `jax.ShapeDtypeStruct`s with NamedShardings.
    """

    def look(leaf: jax.ShapeDtypeStruct) -> bool:
        first = (*leaf.sharding.spec, None)[0]
        return leaf.ndim > 1 and leaf.shape[0] > 1 and first is None

    return jax.tree.map(look, shapes)


def placed_on_host(shapes: Any) -> Any:
    """The same shapes with the same sharding, of the host's memory.

    Numbers alone (counters, keys) stay on the device: they are part of every step.

    Args:
      shapes: tree of `jax.ShapeDtypeStruct`s with NamedShardings.
    """

    def move(leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
        if not leaf.ndim:
            return leaf
        place = leaf.sharding.with_memory_kind(HOST)
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place)

    return jax.tree.map(move, shapes)


def check_host_memory(devices: Iterable[Any]) -> None:
    """Raises ValueError for a device that cannot fetch from the host's memory by itself."""
    for device in devices:
        kinds = {memory.kind for memory in device.addressable_memories()}
        if HOST not in kinds:
            raise ValueError(
                f"{device} has no {HOST} memory (only {', '.join(sorted(kinds))}): switch off "
                "stages.*.offload"
            )
