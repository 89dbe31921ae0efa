"""One model of a pipeline, whose weights are in memory only while it is at work."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jax.typing import DTypeLike

from tavid_jax.parallel.sharding import PathTable
from tavid_jax.weights.lazy import LazyArray
from tavid_jax.weights.opened import Opened, open_parameters
from tavid_jax.weights.problems import WeightsError
from tavid_jax.weights.quantised import is_large_kernel, quantise_leaf
from tavid_jax.weights.table import nest, walk

Params = dict[str, Any]


@functools.partial(jax.jit, static_argnums=(0,))
def _apply(module: Any, params: Params, *inputs: Any) -> jax.Array:
    return module.apply({"params": params}, *inputs)


@dataclasses.dataclass
class Part:
    """A model and where its weights lie.

    Attributes:
      name: of the part, see `folder.PARTS`.
      opened: its checkpoint; nothing of it is in memory.
      module: what runs it.
      dtype: its weights are cast to.
      sharding: where they go on a mesh.
      keep: see `Memory.keep`.
      int8: whether large matrices are kept in 8 bits.
      on_cpu: whether it lives on the host's CPU.
      added: parameters besides the checkpoint's (low-rank adapters), or in their place (a patch
        projection); where there are two experts, {expert: parameters}. Lazy ones are read with
        the checkpoint's, in the same type.
      marks: {what was added: its fingerprint}.
    """

    name: str
    opened: Opened
    module: Any
    dtype: DTypeLike
    sharding: PathTable = PathTable()
    keep: str = "none"
    int8: bool = False
    on_cpu: bool = False
    added: Params = dataclasses.field(default_factory=dict)
    marks: dict[str, str] = dataclasses.field(default_factory=dict)
    # Subtree -> weights, or for the host (weights, shardings).
    _kept: dict[str, Any] = dataclasses.field(default_factory=dict, init=False, repr=False)

    @property
    def config(self) -> Any:
        """The architecture, with the channels that were added to it."""
        return self.module.config

    def apply(self, params: Params, *inputs: Any) -> jax.Array:
        """The module's output; compiled once for each shape of inputs, whatever pipeline asks."""
        return _apply(self.module, params, *inputs)

    def device(self) -> Any:
        """A context in which new arrays and programs are where this part lives."""
        if not self.on_cpu:
            return contextlib.nullcontext()
        return jax.default_device(jax.local_devices(backend="cpu")[0])

    @contextlib.contextmanager
    def hold(self, mesh: Mesh | None = None, only: str = "") -> Iterator[Params]:
        """The weights, for as long as the context lasts.

        Their memory is free again when the caller's name for them is gone too: let the context be
        the last thing that a function does.

        Args:
          mesh: to lay them out on.
          only: the subtree of this name alone, such as one of two experts.
        """
        with self.device():
            params = self._load(None if self.on_cpu else mesh, only)
            try:
                yield params
            finally:
                self._release(params, only)
                del params

    def _load(self, mesh: Mesh | None, only: str) -> Params:
        started = time.perf_counter()
        if only in self._kept:
            kept = self._kept[only]
            return kept if self.keep == "device" else jax.tree.map(jax.device_put, *kept)
        if self.keep == "device":
            self._kept.clear()  # of two experts, one fits
        place = self._place(mesh)
        prefix = f"{only}/" if only else ""
        leaves = {
            path.removeprefix(prefix): leaf
            for path, leaf in self.opened.leaves.items()
            if path.startswith(prefix)
        }
        if only and not leaves:
            raise WeightsError(f"{self.opened.origin} holds no {only}")
        params = nest({path: self._read(path, leaf, place) for path, leaf in leaves.items()})
        added = self.added.get(only, {}) if only else self.added
        params |= nest({path: self._add(path, leaf, place) for path, leaf in walk(added)})
        size = sum(leaf.nbytes for leaf in jax.tree.leaves(params))
        seconds = time.perf_counter() - started
        what = f"{self.name} {only}".strip()
        logging.info("%s: %.2f GB in memory, read in %.1f s", what, size / 1e9, seconds)
        return params

    def _read(self, path: str, leaf: LazyArray, place: Callable[[str, Any], Any]) -> Any:
        array = leaf.read()
        if self.int8 and is_large_kernel(path, array.shape):
            return jax.tree.map(lambda part: place(path, part), quantise_leaf(array))
        return place(path, array.astype(self.dtype))

    def _add(self, path: str, leaf: Any, place: Callable[[str, Any], Any]) -> Any:
        # What is still on disk is as large as a model: it is read now, and cast as one.
        lazy = isinstance(leaf, LazyArray)
        return place(path, leaf.read().astype(self.dtype) if lazy else leaf)

    def _place(self, mesh: Mesh | None) -> Callable[[str, Any], Any]:
        if mesh is None:
            return lambda path, array: jnp.asarray(array)

        def place(path: str, array: Any) -> jax.Array:
            shape = np.shape(array)
            spec = self.sharding.spec(path, shape, mesh) if shape else PartitionSpec()
            return jax.device_put(array, NamedSharding(mesh, spec))

        return place

    def _release(self, params: Params, only: str) -> None:
        if self.keep == "device":
            self._kept[only] = params
        elif self.keep == "host" and only not in self._kept:
            shardings = jax.tree.map(lambda leaf: leaf.sharding, params)
            self._kept[only] = jax.tree.map(np.asarray, params), shardings


def open_part(
    name: str,
    source: str | Path,
    expected: Any,
    make: Callable[[Any], Any],
    *,
    strict: bool,
    unread: Sequence[str] = (),
    **options: Any,
) -> Part:
    """Opens a part's checkpoint and says what is wrong with it; reads no weights.

    Args:
      name: of the part.
      source: see `weights.open_parameters`.
      expected: config of the published model.
      make: config -> module.
      strict: whether another config than `expected` is an error.
      unread: fields of the config that may differ.
      options: of `Part`.

    Raises:
      WeightsError: nothing usable there, a model of another kind, or of other sizes.
    """
    opened = open_parameters(source)
    if not isinstance(opened.config, type(expected)):
        raise WeightsError(
            f"{name}: {source} holds a {type(opened.config).__name__[: -len('Config')]}, "
            f"not a {type(expected).__name__[: -len('Config')]}"
        )
    read = [field.name for field in dataclasses.fields(expected) if field.name not in unread]
    lines = [
        f"{field}: {getattr(opened.config, field)!r} in the checkpoint, "
        f"{getattr(expected, field)!r} as published"
        for field in read
        if getattr(opened.config, field) != getattr(expected, field)
    ]
    if strict and lines:
        raise WeightsError(
            f"{name}: {source} is not the published model:\n  "
            + "\n  ".join(lines)
            + "\nGive the model's own name, or strict=False (--any-size) to use it as it is"
        )
    return Part(name, opened, make(opened.config), **options)
