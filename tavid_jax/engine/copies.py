"""The state as it is now, kept while the loop goes on: what a checkpoint is written from."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np

_PINNED = "pinned_host"
_ALIGNED = 64  # bytes: where XLA takes an array of the CPU's memory as it lies
_PAGE = 4096


class Copies:
    """Copies trees of one structure again and again, each into the room of the one before.

    The room matters on a CPU: memory that the system hands out anew is several times as slow to
    fill, and while a copy is made the loop has to wait.
    """

    def __init__(self):
        self._rooms: dict[tuple[int, int], np.ndarray] = {}

    def make_room(self, tree: Any) -> Callable[[], None]:
        """What takes the memory that a copy of this tree will need, ahead of the first one: a
        function for another thread, which does not hold the tree."""
        sizes = {
            (i, j): shard.data.nbytes
            for i, leaf in enumerate(jax.tree.leaves(tree))
            if _lies_here(leaf)
            for j, shard in enumerate(leaf.addressable_shards)
        }

        def take() -> None:
            for (i, j), size in sizes.items():
                self._room(i, j, size)[::_PAGE] = 0

        return take

    def of(self, tree: Any, kind: str | None = None) -> Any:
        """The same arrays in other memory. The last copy must not be in use any more.

        On an accelerator this does not wait for them; on a CPU they are there when it returns.

        Args:
          kind: of memory; None is the host's own for what lies on an accelerator, which has none
            to spare, and the same as before on a CPU.
        """
        leaves, structure = jax.tree.flatten(tree)

        def copy(i: int) -> jax.Array:
            here = kind is None and _lies_here(leaves[i])
            return self._filled(i, leaves[i]) if here else _put(leaves[i], kind)

        with ThreadPoolExecutor(min(8, os.cpu_count() or 1), thread_name_prefix="copy") as pool:
            return structure.unflatten(pool.map(copy, range(len(leaves))))

    def _filled(self, i: int, leaf: jax.Array) -> jax.Array:
        parts = []
        for j, shard in enumerate(leaf.addressable_shards):
            source = np.asarray(shard.data)
            target = self._room(i, j, source.nbytes).view(source.dtype).reshape(source.shape)
            np.copyto(target, source)
            parts.append(jax.device_put(target, shard.data.sharding, may_alias=True))
        return jax.make_array_from_single_device_arrays(leaf.shape, leaf.sharding, parts)

    def _room(self, leaf: int, shard: int, size: int) -> np.ndarray:
        """Bytes of a shard of a leaf; numpy asks for large pages, which are filled faster."""
        room = self._rooms.get((leaf, shard))
        if room is None or room.nbytes != size:
            room = np.empty(size + _ALIGNED, np.uint8)
            start = -room.ctypes.data % _ALIGNED
            room = self._rooms[leaf, shard] = room[start : start + size]
        return room


def _device(leaf: jax.Array) -> jax.Device:
    """One of those of this process that it lies on; all are of one kind."""
    return next(iter(leaf.sharding.addressable_devices))


def _lies_here(leaf: jax.Array) -> bool:
    """Whether it is in a CPU's own memory, of a type that numpy knows (not that of random keys)."""
    device = _device(leaf)
    usual = leaf.sharding.memory_kind in (None, device.default_memory().kind)
    return device.platform == "cpu" and usual and isinstance(leaf.dtype, np.dtype)


def _put(leaf: jax.Array, kind: str | None) -> jax.Array:
    place, device = leaf.sharding, _device(leaf)
    there = kind or ("" if device.platform == "cpu" else _PINNED)
    if there and any(memory.kind == there for memory in device.addressable_memories()):
        place = place.with_memory_kind(there)
    return jax.device_put(leaf, place, may_alias=False)
