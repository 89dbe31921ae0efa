"""Writing and reading an ordinary Orbax checkpoint one parameter at a time.

Orbax takes a tree of arrays that all exist. Its registry of leaf types lets a leaf be read only
when its turn to be written has come; what lies on disk afterwards are plain numpy leaves.
"""

import contextlib
import logging as std_logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging

from tavid_jax.weights.lazy import LazyArray
from tavid_jax.weights.table import nest, walk

# Chunks of this size are encoded and written one after the other; a whole-array chunk would
# double what a parameter takes in memory.
CHUNK_BYTES = 64 << 20
Stored = Callable[[str, np.ndarray], None]


class _LazyHandler(ocp.type_handlers.NumpyHandler):
    """Reads, writes and forgets one leaf after the other."""

    def __init__(self, stored: Stored):
        super().__init__(deepcopy_host_arrays=False)
        self._stored = stored

    async def serialize(
        self,
        values: Sequence[LazyArray],
        infos: Sequence[ocp.type_handlers.ParamInfo],
        args: Sequence[ocp.SaveArgs] | None = None,
    ) -> list:
        """See the base class; everything is written when this returns."""
        args = args or [ocp.SaveArgs()] * len(values)
        for value, info, arg in zip(values, infos, args, strict=True):
            array = value.read()
            for future in await super().serialize([array], [info], [arg]):
                try:
                    future.result()
                except KeyboardInterrupt:
                    # Its thread would write on into a folder that is being removed.
                    future.result()
                    raise
            self._stored("/".join(str(key.key) for key in info.keypath), array)
            del array
        return []


def save_leaves(folder: Path, leaves: Mapping[str, LazyArray], stored: Stored) -> None:
    """Writes path -> array as the Orbax checkpoint `folder`, which must not exist.

    Args:
      stored: called with path and array of each leaf when it is on disk.
    """
    registry = ocp.type_handlers.create_type_handler_registry((LazyArray, _LazyHandler(stored)))
    tree = nest(leaves)
    save_args = jax.tree.map(lambda leaf: ocp.SaveArgs(chunk_byte_size=CHUNK_BYTES), tree)
    with _quiet_orbax():
        # Without OCDBT each chunk is a file: nothing is collected in memory until a file is full.
        handler = ocp.PyTreeCheckpointHandler(type_handler_registry=registry, use_ocdbt=False)
        with ocp.Checkpointer(handler) as checkpointer:
            args = ocp.args.PyTreeSave(tree, save_args=save_args)
            checkpointer.save(folder.absolute(), args=args)


def stored_leaves(folder: Path) -> dict[str, jax.ShapeDtypeStruct]:
    """Path -> shape and dtype of an Orbax checkpoint's arrays."""
    with _quiet_orbax(), ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
        tree = checkpointer.metadata(folder.absolute()).item_metadata.tree
    return {
        path: jax.ShapeDtypeStruct(tuple(leaf.shape), np.dtype(leaf.dtype))
        for path, leaf in walk(tree)
    }


def restore_leaves(
    folder: Path, wanted: Mapping[str, jax.ShapeDtypeStruct]
) -> Iterator[tuple[str, Any]]:
    """Yields path and array of an Orbax checkpoint's leaves, one after the other.

    Args:
      wanted: which leaves, their shapes, dtypes and shardings (None: numpy).
    """
    with _quiet_orbax(), ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
        for path, leaf in wanted.items():
            args = ocp.args.PyTreeRestore(
                item=nest({path: leaf}),
                restore_args=nest({path: _restore_args(leaf)}),
                partial_restore=True,
            )
            yield path, dict(walk(checkpointer.restore(folder.absolute(), args=args)))[path]


def _restore_args(leaf: jax.ShapeDtypeStruct) -> ocp.RestoreArgs:
    if leaf.sharding is None:
        return ocp.RestoreArgs(restore_type=np.ndarray, dtype=leaf.dtype)
    return ocp.ArrayRestoreArgs(
        sharding=leaf.sharding, dtype=leaf.dtype, global_shape=leaf.shape, strict=True
    )


def _drop_orbax(record: std_logging.LogRecord) -> bool:
    return "orbax" not in record.pathname


@contextlib.contextmanager
def _quiet_orbax() -> Iterator[None]:
    """Orbax logs every step and each failure with its traceback; we report it once."""
    logger = logging.get_absl_logger()
    logger.addFilter(_drop_orbax)
    try:
        yield
    finally:
        logger.removeFilter(_drop_orbax)
