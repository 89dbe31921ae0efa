"""The processes of one run: they start together, agree, wait for each other, and end together.

A run of many processes is one program: all of them walk through the same stages and steps, and
arrays lie over the devices of all. What is no array goes through the small store that jax keeps at
process 0 (the coordinator): what process 0 found, who wants to stop, who has failed. Nothing here
costs anything, or waits, while there is one process; and nothing of it is known to models.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import itertools
import json
import os
import re
import signal
import socket
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any, NoReturn, TypeVar

import jax
import numpy as np
from absl import logging
from jax.sharding import NamedSharding, PartitionSpec

from tavid_jax.parallel.cluster import DETECTED, Place, find_place

T = TypeVar("T")

#: exit code of a process that another one takes down with it
FAILED_EXIT_CODE = 1
DEFAULT_TIMEOUT = 300
_FOREVER_MS = 10**9  # eleven days; who dies meanwhile is noticed by jax's heartbeats
_GRACE = 30  # seconds that jax may wait longer than we do, whose message is the better one
_LAST_WORDS = 10.0  # seconds that a failed process has to say why
# Seconds that the coordinator goes on after a failure: jax makes the others crash when it is gone.
_COURTESY = 2.0
_PIECE_BYTES = 2**30  # of an array, gathered at once
# What collective operations say, on CPUs, GPUs and TPUs, when another side is gone.
_LOST = re.compile(r"Gloo|NCCL|Connection (closed|reset)|coordination service|DATA_LOSS", re.I)
_ROOT = "tavid"
_FAILURE = f"{_ROOT}/failure"


class ProcessError(RuntimeError):
    """The processes of a run cannot work together."""


class _Here:
    """What this process remembers.

    Attributes:
      alone: whether it works for itself at the moment.
      exit_code: with which it leaves without waiting for anybody, once it has failed.
      turns: how often something was agreed upon, by kind: names of the store's entries.
    """

    def __init__(self) -> None:
        self.alone = False
        self.exit_code: int | None = None
        self.turns: dict[str, Iterator[int]] = defaultdict(itertools.count)


_here = _Here()


def count() -> int:
    """How many processes work together; 1 inside of `alone()`."""
    return 1 if _here.alone or not _joined() else jax.process_count()


def index() -> int:
    """Which of them this is; 0 inside of `alone()`."""
    return 0 if _here.alone or not _joined() else jax.process_index()


def _joined() -> bool:
    """Whether there may be others; asked before jax, which would start its devices to answer."""
    return jax.distributed.is_initialized()


def is_first() -> bool:
    """Whether this is the process that writes files and speaks."""
    return index() == 0


def devices() -> list[Any]:
    """The devices of all processes; inside of `alone()` those of this one."""
    return jax.local_devices() if _here.alone else jax.devices()


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """What one process does for itself, on its own devices, as if there were no others."""
    before, _here.alone = _here.alone, True
    try:
        yield
    finally:
        _here.alone = before


# ---- start ---------------------------------------------------------------------------------------


def start_processes(config: Any = None) -> bool:
    """Joins the other processes of the run, if there are any; otherwise does nothing.

    Must run before anything asks jax for a device.

    Args:
      config: None or `config.distributed` (see configs/common.py): a mapping, also a ConfigDict.

    Returns:
      Whether processes were joined.

    Raises:
      ValueError: see `cluster.find_place`.
      ProcessError: process 0 cannot listen at its address, or processes that think differently of
        how many they are. A process that waits in vain for others ends with a message.
    """
    fields = dict(config or {})
    place = find_place(fields, os.environ)
    if place is None:
        return False
    timeout = int(fields.get("timeout") or DEFAULT_TIMEOUT)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    # It would swallow SIGTERM: engine.preemption hears it, and nobody outside of a run's stages.
    jax.config.update("jax_enable_preemption_service", False)
    with _patience(timeout, place):
        _join(place, timeout + _GRACE)
    _watch_for_failures()
    with shared_fate():
        _check_count(place)
    logging.info(
        "process %d of %d, %d local devices of %d",
        jax.process_index(),
        jax.process_count(),
        jax.local_device_count(),
        jax.device_count(),
    )
    return True


def _join(place: Place, timeout: int) -> None:
    if place == DETECTED:
        jax.distributed.initialize(initialization_timeout=timeout)
        return
    try:
        jax.distributed.initialize(
            place.coordinator,
            num_processes=place.count,
            process_id=place.index,
            local_device_ids=place.devices,
            cluster_detection_method="deactivate",
            initialization_timeout=timeout,
        )
    except jax.errors.JaxRuntimeError as error:
        reason = str(error).strip().splitlines()[0]
        raise ProcessError(
            f"process {place.index} of {place.count} cannot join the others at "
            f"{place.coordinator} ({reason}); is the port free, and the address process 0's?"
        ) from error


@contextlib.contextmanager
def _patience(seconds: int, place: Place) -> Iterator[None]:
    """Ends the process with a message when it has waited so long for the others.

    jax would end it, too, by a crash.
    """

    def give_up() -> None:
        _end(f"{_who(place)} waited {seconds} s in vain: {_missing(place)}", FAILED_EXIT_CODE)

    timer = threading.Timer(seconds, give_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _who(place: Place) -> str:
    return "a process" if place == DETECTED else f"process {place.index} of {place.count}"


def _missing(place: Place) -> str:
    mend = "start all of them, each with another process_id; their own logs say what keeps them"
    if place == DETECTED:
        return f"not all processes of the cluster have come; {mend}"
    host, _, port = place.coordinator.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=2).close()
    except OSError as error:
        return (
            f"the coordinator {place.coordinator} cannot be reached ({error}); process 0 has to "
            "run there, and its port to be open"
        )
    return f"not all {place.count} processes have come to {place.coordinator}; {mend}"


def _check_count(place: Place) -> None:
    if place == DETECTED:
        return
    key = f"{_ROOT}/count"
    if place.index == 0:
        _store().key_value_set(key, str(place.count))
    first = int(_store().blocking_key_value_get(key, _FOREVER_MS))
    if first != place.count:
        raise ProcessError(
            f"process {place.index} was told of {place.count} processes, process 0 of {first}: "
            "give all of them the same distributed.num_processes (or hosts)"
        )


# ---- one fate ------------------------------------------------------------------------------------


@contextlib.contextmanager
def shared_fate() -> Iterator[None]:
    """Around the work of a run: an error of this process ends all others, too, with its message.

    Otherwise they would wait for it in their next collective operation.
    """
    try:
        yield
    except SystemExit:  # they have agreed upon it
        raise
    except BaseException as error:
        if _joined() and isinstance(error, Exception) and _LOST.search(str(error)):
            lost = ProcessError(
                "another process has died, or the network between them: its own log says more "
                f"({str(error).strip().splitlines()[0][:200]})"
            )
            _fail(lost)
            raise lost from error
        _fail(error)
        raise


def _fail(error: BaseException) -> None:
    """Tells the others; from now on this process leaves without waiting for them."""
    if not _joined():
        return
    interrupted = isinstance(error, KeyboardInterrupt)
    _here.exit_code = 128 + signal.SIGINT if interrupted else FAILED_EXIT_CODE
    words = str(error).strip() or type(error).__name__
    for other in range(jax.process_count()):
        _set_once(f"{_FAILURE}/{other}", [jax.process_index(), words])
    timer = threading.Timer(_LAST_WORDS, os._exit, (_here.exit_code,))
    timer.daemon = True
    timer.start()


def _watch_for_failures() -> None:
    store, mine = _store(), f"{_FAILURE}/{jax.process_index()}"

    def watch() -> None:
        try:
            told = json.loads(store.blocking_key_value_get(mine, _FOREVER_MS))
        except jax.errors.JaxRuntimeError:  # the coordinator is gone: jax ends the process
            return
        if told is not None and _here.exit_code is None:
            who, words = told
            _take_leave(
                f"process {who} has failed, so this one ends, too: {words}", FAILED_EXIT_CODE
            )

    watching = threading.Thread(target=watch, name="failures", daemon=True)
    watching.start()

    def leave() -> None:
        if _here.exit_code is not None:
            _take_leave("", _here.exit_code)
        _set_once(mine, None)
        watching.join(timeout=_LAST_WORDS)

    atexit.register(leave)  # which comes before jax's own, that waits for the others


def _take_leave(message: str, code: int) -> NoReturn:
    """Ends a process that has joined, the coordinator after the others."""
    if message:
        print(f"tavid_jax: {message}", file=sys.stderr, flush=True)
    if jax.process_index() == 0:
        time.sleep(_COURTESY)
    _end("", code)


def _end(message: str, code: int) -> NoReturn:
    """From any thread, whatever the others are waiting for."""
    if message:
        print(f"tavid_jax: {message}", file=sys.stderr)
    sys.stderr.flush()
    sys.stdout.flush()
    os._exit(code)


# ---- agreement -----------------------------------------------------------------------------------


def barrier(name: str) -> None:
    """Waits for all processes, however long they take; those that die end this one, too."""
    if count() > 1:
        _store().wait_at_barrier(f"{_turn('barrier')}/{name}", _FOREVER_MS)


def exchange(value: Any) -> list[Any]:
    """What all processes give, in their order; JSON-able. All have to call it."""
    if count() == 1:
        return [value]
    number = next(_here.turns["exchange"])
    folder, store = f"{_ROOT}/exchange/{number}", _store()
    store.key_value_set(f"{folder}/{index()}", json.dumps(value))
    store.wait_at_barrier(folder, _FOREVER_MS)
    if is_first() and number:  # which all have read by now
        store.key_value_delete(f"{_ROOT}/exchange/{number - 1}")
    given = dict(store.key_value_dir_get(f"{folder}/"))
    return [json.loads(given[f"{folder}/{i}"]) for i in range(count())]


def any_process(flag: bool) -> bool:
    """Whether it is so in any process. All have to call it."""
    return any(exchange(bool(flag)))


def first_does(action: Callable[[], T]) -> T:
    """Process 0 does it while the others wait; all get what it returned, which is JSON-able.

    What it raises ends them all, see `shared_fate`.
    """
    if count() == 1:
        return action()
    key = _turn("first")
    if is_first():
        value = action()
        _store().key_value_set(key, json.dumps(value))
        return value
    return json.loads(_store().blocking_key_value_get(key, _FOREVER_MS))


def announce(what: str, value: Any) -> None:
    """Tells the others, who need not wait for it: see `announced`. The first to do so counts."""
    _set_once(f"{_ROOT}/announced/{what}/0", value)


def announced(what: str) -> Any:
    """What some process has announced by now, or None; less than a millisecond."""
    found = _store().key_value_dir_get(f"{_ROOT}/announced/{what}/")
    return json.loads(found[0][1]) if found else None


def _set_once(key: str, value: Any) -> None:
    """Unless it is there already, or there is no coordinator any more."""
    with contextlib.suppress(jax.errors.JaxRuntimeError):
        _store().key_value_set(key, json.dumps(value))


def _turn(kind: str) -> str:
    return f"{_ROOT}/{kind}/{next(_here.turns[kind])}"


def _store() -> Any:
    """The key-value store of jax's coordinator, which has no public name."""
    from jax._src import distributed

    return distributed.global_state.client


# ---- arrays --------------------------------------------------------------------------------------


def gather_to_host(tree: Any) -> Any:
    """Device arrays -> numpy, leaf by leaf, on every process, also what lies over several of them.

    Then all have to call it. Large arrays come piece by piece: a device needs room for 1 GiB.
    """
    return jax.tree.map(_gather, tree)


def _gather(leaf: Any) -> np.ndarray:
    here = not isinstance(leaf, jax.Array) or leaf.is_fully_addressable
    if here or leaf.is_fully_replicated:
        return np.asarray(leaf)
    everywhere = NamedSharding(leaf.sharding.mesh, PartitionSpec())
    if leaf.nbytes <= _PIECE_BYTES:
        return np.asarray(_copies(everywhere)(leaf))
    whole = np.empty(leaf.shape, leaf.dtype)
    rows = max(1, len(leaf) * _PIECE_BYTES // leaf.nbytes)
    for start in range(0, len(leaf), rows):
        start = min(start, len(leaf) - rows)  # the last piece overlaps the one before
        whole[start : start + rows] = _copies(everywhere, rows)(leaf, start)
    return whole


@functools.lru_cache(maxsize=64)
def _copies(place: NamedSharding, rows: int = 0) -> Callable[..., jax.Array]:
    """A function that puts an array, or so many of its rows, wherever `place` says."""
    if not rows:
        return jax.jit(lambda array: array, out_shardings=place)
    return jax.jit(
        lambda array, start: jax.lax.dynamic_slice_in_dim(array, start, rows), out_shardings=place
    )
