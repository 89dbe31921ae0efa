"""SIGTERM and Ctrl-C: save, then leave with a code that says whether to start again."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

from absl import logging

from tavid_jax.parallel import processes

#: EX_TEMPFAIL: launchers restart the same command on this code
RESTART_EXIT_CODE = 75
#: what shells expect of a program that was interrupted by its user
INTERRUPT_EXIT_CODE = 130

#: steps that a process may be ahead of its devices: see `monitor.MetricBuffer`
LAG = 2
# Points (steps) between a signal and the stop of many processes. A process is at most LAG steps
# ahead of its own devices, and these of no other process's: when one is at point n, no other one
# has passed n + LAG, so that all will have heard of a stop at n + LAG + 1.
_AHEAD = LAG + 1
_STOP = "stop"


class Preemption:
    """Notes a SIGTERM or a first Ctrl-C; the loop saves after its current step and leaves.

    Of many processes it is enough that one is told so: all of them stop after the same step. They
    need not wait for each other to agree: the one that was told says in time where all will stop,
    and the others look into the coordinator's store after every step.

    A second Ctrl-C leaves at once. Use as a context manager around a run: the former handlers come
    back at the end. Outside of the main thread signals cannot be caught, and are left alone.
    """

    def __init__(self) -> None:
        self._received: int | None = None
        self._agreed: int | None = None  # the signal after which all processes leave
        self._former: dict[int, Any] = {}
        self._points = 0
        self._told = False

    @property
    def requested(self) -> bool:
        """Whether this process was told to save and leave."""
        return self._received is not None

    def __enter__(self) -> Preemption:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._former[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._former.items():
            # None: the handler was installed by something else than Python.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._former = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        if number == signal.SIGINT and self._received == signal.SIGINT:
            raise KeyboardInterrupt
        self._received = number

    def due(self) -> bool:
        """Whether to save and leave now: after every step (or batch) the same in all processes."""
        if processes.count() == 1:
            return self.requested
        self._points += 1
        heard = self._tell_and_hear()
        if heard is None or self._points < heard["point"]:
            return False
        self._agreed = heard["signal"]
        return True

    def heard(self) -> bool:
        """Whether any process was told to leave, at this moment; others may learn of it later."""
        return self.requested if processes.count() == 1 else self._tell_and_hear() is not None

    def settle(self) -> None:
        """Between stages, where all processes wait for each other: what one was told, all know."""
        self._agreed = next((n for n in processes.exchange(self._received) if n), None)

    def _tell_and_hear(self) -> dict[str, int] | None:
        if self.requested and not self._told:
            point = self._points + _AHEAD
            processes.announce(_STOP, {"point": point, "signal": self._received})
            self._told = True
        return processes.announced(_STOP)

    def exit_if_requested(self, what: str) -> None:
        """Raise SystemExit if a signal has come: code 75 after SIGTERM, 130 after Ctrl-C."""
        received = self._agreed or self._received
        if received is None:
            return
        stopped = received == signal.SIGTERM
        code = RESTART_EXIT_CODE if stopped else INTERRUPT_EXIT_CODE
        logging.warning(
            "%s: %s; run the same command to go on (exit code %d)",
            "SIGTERM" if stopped else "interrupted",
            what,
            code,
        )
        raise SystemExit(code)
