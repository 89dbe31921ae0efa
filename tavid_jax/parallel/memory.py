"""Which memory an array waits in: the device's own, or the host's, pinned, so that the device can
fetch it by itself.

What lies on the host takes part in no computation: whoever wants to use it calls `on_device` where
it is used. Inside a scan that is one layer at a time (models/layers/depth.py); all at once it would
take the same room on the device while it is there.
"""

from collections.abc import Iterable
from typing import Any

import jax

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
