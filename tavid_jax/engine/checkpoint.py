"""Checkpoints: asynchronous, complete (state, data position, timers, config), strictly checked.

Two kinds of files live in a stage's folder: `checkpoints/` holds what is needed to go on training,
`result/` the final parameters that later stages read. Both are written by Orbax, which renames a
finished folder into place (in a bucket: marks it as whole): a half-written one is never taken for
whole. Arrays go straight into a bucket, from every process its own part.
"""

from __future__ import annotations

import contextlib
import logging as std_logging
import re
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from etils import epath

from tavid_jax import places
from tavid_jax.engine import trees
from tavid_jax.engine.copies import Copies
from tavid_jax.engine.seal import check_seal, sealing
from tavid_jax.parallel.processes import count, exchange, first_does, is_first
from tavid_jax.parallel.sharding import paths
from tavid_jax.places import Place

# Orbax numbers what it saves: one counter for all threads of a process, which has to stand alike in
# all processes. Of two threads that begin at once, one waits for a folder that the other makes.
_NUMBERS = threading.Lock()


class CheckpointError(RuntimeError):
    """No usable checkpoint where one was needed, or one that cannot be written."""


class Checkpoints:
    """The training checkpoints of one stage; a context that leaves nothing half-done behind.

    Args:
      folder: where the steps lie, one sub-folder each.
      keep: how many of the newest are kept.
    """

    def __init__(self, folder: Place, *, keep: int):
        self.folder = places.place(folder)
        self._quiet = contextlib.ExitStack()
        self._started: int | None = None
        self._writing: Future | None = None
        self._copies = Copies()
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        with _quiet_orbax():
            self._manager = ocp.CheckpointManager(
                places.absolute(self.folder),
                options=ocp.CheckpointManagerOptions(
                    preservation_policy=ocp.checkpoint_managers.LatestN(keep),
                    cleanup_tmp_directories=True,
                    enable_async_checkpointing=True,
                ),
                item_handlers={
                    "state": sealing(ocp.StandardCheckpointHandler()),
                    "meta": sealing(ocp.JsonCheckpointHandler()),
                },
            )

    def __enter__(self) -> Checkpoints:
        self._quiet.enter_context(_quiet_orbax())  # its threads speak at any time
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        """Wait for what is being written; its failure must not hide an earlier error.

        Of several processes one that has failed does not wait for the others, who are not there.
        """
        with self._quiet:
            if kind is not None and kind is not SystemExit and count() > 1:
                return
            try:
                self.wait()
            except CheckpointError as failed:
                if kind is None:
                    raise
                logging.error("%s", failed)
            finally:
                self._writer.shutdown()
                self._manager.close()

    def make_room(self, state: Any) -> None:
        """Get ready to save such a state, behind what the caller does next."""
        if count() == 1:
            self._writing = self._writer.submit(self._copies.make_room(state))

    def save(self, step: int, state: Any, meta: dict[str, Any], *, wait: bool = False) -> None:
        """Start writing `state` (a pytree of arrays) and `meta` (JSON) under `step`.

        The arrays are copied first (see `Copies`), so that the state may be donated right after.
        One process brings them to its memory and to the disk behind the loop; of several ones,
        which talk by their devices about it, each first waits for its own part to be in its memory.
        Never more than one checkpoint is being written: the one before is waited for.

        Raises CheckpointError when this or the checkpoint before it cannot be written.
        """
        with self._reported():
            self._finish()
            if step not in self._manager.all_steps():
                self._started = step
                if count() == 1:
                    state = self._copies.of(state)
                    self._writing = self._writer.submit(self._write, step, state, meta)
                else:
                    self._write(step, state, meta)
        if wait:
            self.wait()

    def _write(self, step: int, state: Any, meta: dict[str, Any]) -> None:
        with _NUMBERS, _quiet_orbax():
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(state), meta=ocp.args.JsonSave(meta)
                ),
            )

    def _finish(self) -> None:
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()
        self._manager.wait_until_finished()

    def wait(self) -> None:
        """Block until everything started is on disk; raises CheckpointError if it cannot be."""
        with self._reported():
            self._finish()
        self._started = None

    def check(self) -> None:
        """Raise CheckpointError if the background writer has failed; never blocks."""
        if self._started is not None and not self.writing():
            self.wait()

    def writing(self) -> bool:
        """Whether a checkpoint is on its way to the disk."""
        behind = self._writing is not None and not self._writing.done()
        return behind or self._manager.is_saving_in_progress()

    @contextlib.contextmanager
    def _reported(self) -> Iterator[None]:
        try:
            with _quiet_orbax():
                yield
        except Exception as error:  # Orbax passes on whatever its storage layer raised
            step, self._started = self._started, None
            intact = self.steps()
            left = f"the one of step {intact[-1]} is intact" if intact else "there is none before"
            raise CheckpointError(
                f"the checkpoint of step {step} cannot be written to {self.folder} "
                f"({_reason(error)}); {left}. Free space or make the folder writable, "
                "then run the same command again"
            ) from error

    def steps(self) -> list[int]:
        """The steps of all complete checkpoints, oldest first."""
        return sorted(self._manager.all_steps())

    def restore_latest(self, like: Any) -> tuple[Any, dict[str, Any]] | None:
        """The newest usable checkpoint as (state placed like `like`, meta), or None.

        A damaged or ill-fitting one is named in the log, moved into `unusable/` beside the others,
        and the one before it is taken.

        Args:
          like: arrays or `jax.ShapeDtypeStruct`s with shardings.

        Raises CheckpointError when checkpoints exist but none can be used.
        """
        reasons: list[str] = []
        unusable: list[int] = []
        for step in reversed(self.steps()):
            problem = None
            try:
                with _quiet_orbax():
                    restored = self.restore(step, like)
            except Exception as error:  # whatever a damaged file makes Orbax raise
                problem = _reason(error)
            # One for which some process lacks its part is unusable for all.
            problem = next((p for p in exchange(problem) if p), None)
            if problem:
                reasons.append(f"step {step}: {problem}")
                unusable.append(step)
                logging.warning("checkpoint in %s cannot be used; %s", self.folder, reasons[-1])
                continue
            if unusable:
                logging.warning("falling back to the checkpoint of step %d", step)
                self._put_aside(unusable)
            return restored
        if reasons:
            raise CheckpointError(
                f"none of the checkpoints in {self.folder} can be used ({'; '.join(reasons)}); "
                "delete the folder to train this stage again, or choose another --workdir"
            )
        return None

    def restore(self, step: int, like: Any) -> tuple[Any, dict[str, Any]]:
        """The checkpoint of `step`, every array with the path, shape, dtype and place of `like`.

        Raises whatever a damaged file leads to; CheckpointError if it holds another structure.
        """
        for part in ("state", "meta"):
            check_seal(self.folder / str(step) / part)
        saved = self._manager.item_metadata(step).state
        if saved is None:
            raise CheckpointError("its description is missing")
        _check_fits(like, getattr(saved, "tree", saved), words=True)
        abstract = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), like
        )
        # Not by the manager, in which other processes would wait for one that cannot read its part.
        folder = epath.Path(places.absolute(self.folder)) / str(step)
        handler = ocp.StandardCheckpointHandler()
        state = handler.restore(folder / "state", args=ocp.args.StandardRestore(abstract))
        meta = ocp.JsonCheckpointHandler().restore(folder / "meta", args=ocp.args.JsonRestore())
        if not all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(state)):
            raise CheckpointError("holds a placeholder where an array was expected")
        _check_fits(like, state, words=False)
        return state, meta

    def _put_aside(self, steps: list[int]) -> None:
        """Out of the way of new checkpoints, but not deleted: a network disk may just hiccup."""

        def move() -> None:
            for step in steps:
                places.move(self.folder / str(step), self.folder / "unusable" / str(step))

        first_does(move)
        self._manager.reload()


def save_result(folder: Place, params: dict[str, Any], provenance: dict[str, Any]) -> str:
    """Write a stage's parameters (numpy) and where they come from; complete or not at all.

    Every process calls it, the first one writes.

    Returns the fingerprint of the parameters. Raises CheckpointError when the disk does not take
    them.
    """

    def write() -> str:
        mark = trees.fingerprint(params)
        items: dict[str, Any] = {"meta": ocp.args.JsonSave({**provenance, "weights": mark})}
        if trees.flatten(params):
            items["params"] = ocp.args.PyTreeSave(params)
        target = places.absolute(folder)
        try:
            checkpointer.save(target, args=ocp.args.Composite(**items), force=True)
        except Exception as error:
            raise CheckpointError(
                f"{folder} cannot be written ({_reason(error)}); free space or make the folder "
                "writable, then run the same command again"
            ) from error
        return mark

    with _NUMBERS, _quiet_orbax(), _alone(ocp.CompositeCheckpointHandler) as checkpointer:
        mark = first_does(write)
        if not is_first():
            checkpointer.synchronize_next_awaitable_signal_operation_id()
    return mark


def load_result(folder: Place) -> dict[str, Any]:
    """Read what `save_result` wrote, as numpy arrays of the dtypes that were saved.

    Raises CheckpointError when it is missing, damaged, or not what its own record says.
    """
    folder = places.place(folder)
    if not folder.exists():
        raise CheckpointError(f"{folder} is not there: the stage that writes it has not finished")
    try:
        with _quiet_orbax():
            params, meta = _read_result(folder)
    except Exception as error:
        raise CheckpointError(
            f"{folder} is damaged ({_reason(error)}); run --mode=train again to rebuild it"
        ) from error
    if trees.fingerprint(params) != meta["weights"]:
        raise CheckpointError(
            f"{folder} is damaged (its values are not those that were saved); "
            "run --mode=train again to rebuild it"
        )
    return params


def _read_result(folder: Place) -> tuple[dict[str, Any], dict[str, Any]]:
    folder = places.absolute(folder)
    with _alone(ocp.JsonCheckpointHandler) as checkpointer:
        meta = checkpointer.restore(folder / "meta")
    if not (folder / "params").exists():
        return {}, meta
    with _alone(ocp.PyTreeCheckpointHandler) as checkpointer:
        tree = checkpointer.metadata(folder / "params").item_metadata.tree
        as_numpy = jax.tree.map(
            lambda leaf: ocp.RestoreArgs(restore_type=np.ndarray),
            tree,
            is_leaf=lambda node: hasattr(node, "shape"),
        )
        args = ocp.args.PyTreeRestore(restore_args=as_numpy)
        return checkpointer.restore(folder / "params", args=args), meta


def _alone(kind: type) -> ocp.Checkpointer:
    """Reads and writes without a word to other processes; `kind` of handler."""
    me = jax.process_index()
    options = ocp.options.MultiprocessingOptions(primary_host=me, active_processes={me})
    if kind is ocp.CompositeCheckpointHandler:
        handler = kind(composite_options=ocp.CompositeOptions(multiprocessing_options=options))
    else:
        handler = kind(multiprocessing_options=options)
    return ocp.Checkpointer(handler, multiprocessing_options=options)


def _check_fits(like: Any, found: Any, *, words: bool) -> None:
    """Compare paths, shapes and dtypes.

    Args:
      found: arrays, or Orbax's description of them.
      words: typed random keys are described by their raw words (one more axis, uint32).

    Raises CheckpointError naming the first differences.
    """
    want, have = ({path: _signature(leaf, words) for path, leaf in paths(t)} for t in (like, found))
    problems = [f"{path} is missing" for path in want if path not in have]
    problems += [f"{path} is unexpected" for path in have if path not in want]
    problems += [
        f"{path} is {have[path]}, expected {want[path]}"
        for path in want
        if path in have and have[path] != want[path]
    ]
    if problems:
        more = f" and {len(problems) - 4} more" if len(problems) > 4 else ""
        raise CheckpointError("does not fit this model: " + "; ".join(problems[:4]) + more)


def _signature(leaf: Any, words: bool) -> str:
    if words and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        raw = jax.eval_shape(jax.random.key_data, jax.ShapeDtypeStruct(leaf.shape, leaf.dtype))
        return trees.signature(raw)
    return trees.signature(leaf)


def _reason(error: Exception) -> str:
    """What happened, in one line: the storage layer wraps it in a page of its own settings."""
    text = str(error).strip() or type(error).__name__
    system = re.search(r"([^:\[\]]+) \[os_error_code", text)
    return system.group(1).strip() if system else text.splitlines()[0][:300]


def _drop_orbax(record: std_logging.LogRecord) -> bool:
    return "orbax" not in record.pathname


_quiet, _quiet_lock = [0], threading.Lock()


@contextlib.contextmanager
def _quiet_orbax() -> Iterator[None]:
    """Orbax logs each failure several times with its traceback; we report it once."""
    logger = logging.get_absl_logger()
    with _quiet_lock:  # the loop and the writer may both be within
        if not _quiet[0]:
            logger.addFilter(_drop_orbax)
            if not _former_hook:  # for good: late answers come when this is over, too
                _former_hook.append(sys.unraisablehook)
                sys.unraisablehook = _drop_late_answers
        _quiet[0] += 1
    try:
        yield
    finally:
        with _quiet_lock:
            _quiet[0] -= 1
            if not _quiet[0]:
                logger.removeFilter(_drop_orbax)


_former_hook: list[Any] = []


def _drop_late_answers(unraisable: Any) -> None:
    """The storage library tells its own threads of every write behind one that has failed."""
    if "Event loop is closed" not in str(unraisable.exc_value):
        _former_hook[0](unraisable)
