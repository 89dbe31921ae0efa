"""Checkpoints: asynchronous, complete (state, data position, timers, config), strictly checked.

Two kinds of files live in a stage's folder: `checkpoints/` holds what is needed to go on training,
`result/` the final parameters that later stages read. Both are written by Orbax, which renames a
finished folder into place: a half-written one is never taken for whole.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from absl import logging

from tavid_jax.engine import trees


class CheckpointError(RuntimeError):
    """No usable checkpoint where one was needed, or one that does not fit the model."""


class Checkpoints:
    """The training checkpoints of one stage."""

    def __init__(self, folder: Path, *, keep: int, keep_every: int | None = None):
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep, keep_period=keep_every, enable_async_checkpointing=True
        )
        self.folder = Path(folder)
        self._manager = ocp.CheckpointManager(self.folder.absolute(), options=options)

    def save(self, step: int, state: Any, meta: dict[str, Any], *, wait: bool = False) -> None:
        """Start writing `state` (a pytree of arrays) and `meta` (JSON) under `step`."""
        if step in self._manager.all_steps():
            return
        self._manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(state), meta=ocp.args.JsonSave(meta)
            ),
        )
        if wait:
            self.wait()

    def wait(self) -> None:
        """Block until everything started is on disk; raises what the writer raised."""
        self._manager.wait_until_finished()

    def steps(self) -> list[int]:
        return sorted(self._manager.all_steps())

    def restore_latest(self, like: Any) -> tuple[Any, dict[str, Any]] | None:
        """The newest complete checkpoint as (state placed like `like`, meta), or None.

        A damaged or ill-fitting one is named in the log and the one before it is taken.
        Raises CheckpointError when checkpoints exist but none can be used.
        """
        reasons = []
        for step in reversed(self.steps()):
            try:
                restored = self.restore(step, like)
            except Exception as error:  # noqa: BLE001 - whatever a damaged file makes Orbax raise
                reason = f"step {step}: {_first_line(error)}"
                reasons.append(reason)
                logging.warning("checkpoint in %s cannot be used; %s", self.folder, reason)
                continue
            if reasons:
                logging.warning("falling back to the checkpoint of step %d", step)
                self._forget_after(step)
            return restored
        if reasons:
            raise CheckpointError(
                f"none of the checkpoints in {self.folder} can be used ({'; '.join(reasons)}); "
                "delete the folder to train this stage again, or choose another --workdir"
            )
        return None

    def restore(self, step: int, like: Any) -> tuple[Any, dict[str, Any]]:
        """The checkpoint of `step`; raises if it is damaged or differs from `like` in structure."""
        saved = self._manager.item_metadata(step).state
        problems = _structure_mismatch(like, getattr(saved, "tree", saved))
        if problems:
            raise CheckpointError("does not fit this model: " + "; ".join(problems[:5]))
        abstract = jax.tree.map(_abstract, like)
        restored = self._manager.restore(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardRestore(abstract), meta=ocp.args.JsonRestore()
            ),
        )
        for leaf in jax.tree.leaves(restored.state):
            if isinstance(leaf, jax.ShapeDtypeStruct):
                raise CheckpointError("holds a placeholder where an array was expected")
        return restored.state, restored.meta

    def _forget_after(self, step: int) -> None:
        for later in [s for s in self.steps() if s > step]:
            self._manager.delete(later)

    def close(self) -> None:
        self._manager.close()


def save_result(folder: Path, params: dict[str, Any]) -> None:
    """Write a stage's final parameters; complete or not there at all."""
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(Path(folder).absolute(), trees.to_host(params), force=True)


def load_result(folder: Path) -> dict[str, Any]:
    """Read what `save_result` wrote, as numpy arrays."""
    folder = Path(folder)
    if not folder.exists():
        raise CheckpointError(f"{folder} is not there: the stage that writes it has not finished")
    with ocp.StandardCheckpointer() as checkpointer:
        saved = checkpointer.metadata(folder.absolute()).item_metadata
        tree = getattr(saved, "tree", saved)
        cpu = jax.sharding.SingleDeviceSharding(jax.local_devices(backend="cpu")[0])
        abstract = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=cpu), tree
        )
        try:
            return trees.to_host(checkpointer.restore(folder.absolute(), abstract))
        except Exception as error:
            raise CheckpointError(
                f"{folder} is damaged ({_first_line(error)}); delete it to make the stage run again"
            ) from error


def _abstract(leaf: Any) -> Any:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)


def _structure_mismatch(like: Any, saved: Any) -> list[str]:
    """Compare paths and shapes; `saved` is Orbax metadata with containers turned to dicts."""
    want = {_path(path): tuple(leaf.shape) for path, leaf in jax.tree.leaves_with_path(like)}
    have = {
        _path(path): tuple(leaf.shape)
        for path, leaf in jax.tree.leaves_with_path(saved, is_leaf=lambda x: hasattr(x, "shape"))
        if getattr(leaf, "shape", None) is not None
    }
    lines = [f"{path} is missing" for path in want if path not in have]
    lines += [f"{path} is unexpected" for path in have if path not in want]
    lines += [
        f"{path} has shape {list(have[path])}, expected {list(want[path])}"
        for path in want
        # Typed random keys are stored as their raw words: one axis more.
        if path in have and have[path] != want[path] and have[path][:-1] != want[path]
    ]
    return lines


def _path(path: Any) -> str:
    names = (getattr(p, "name", getattr(p, "key", getattr(p, "idx", p))) for p in path)
    return "/".join(str(name) for name in names)


def _first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:300]
