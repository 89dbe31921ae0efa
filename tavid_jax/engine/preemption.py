"""SIGTERM and Ctrl-C: save, then leave with a code that says whether to start again."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

from absl import logging

#: EX_TEMPFAIL: launchers restart the same command on this code
RESTART_EXIT_CODE = 75
#: what shells expect of a program that was interrupted by its user
INTERRUPT_EXIT_CODE = 130


def restarted_when_terminated() -> None:
    """From now on SIGTERM ends this program with the code on which launchers start it again.

    For where nothing is to be saved: stages have a `Preemption`, which saves before.
    """

    def leave(number: int, frame: FrameType | None) -> None:
        del number, frame
        logging.warning("SIGTERM: run the same command to go on (exit code %d)", RESTART_EXIT_CODE)
        raise SystemExit(RESTART_EXIT_CODE)

    signal.signal(signal.SIGTERM, leave)


class Preemption:
    """Notes a SIGTERM or a first Ctrl-C; the loop saves after its current step and leaves.

    A second Ctrl-C leaves at once. Use as a context manager around a run: the former handlers come
    back at the end. Outside of the main thread signals cannot be caught, and are left alone.
    """

    def __init__(self) -> None:
        self._received: int | None = None
        self._former: dict[int, Any] = {}

    @property
    def requested(self) -> bool:
        """Whether to save and leave."""
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

    def exit_if_requested(self, what: str) -> None:
        """Raise SystemExit if a signal has come: code 75 after SIGTERM, 130 after Ctrl-C."""
        if self._received is None:
            return
        stopped = self._received == signal.SIGTERM
        code = RESTART_EXIT_CODE if stopped else INTERRUPT_EXIT_CODE
        logging.warning(
            "%s: %s; run the same command to go on (exit code %d)",
            "SIGTERM" if stopped else "interrupted",
            what,
            code,
        )
        raise SystemExit(code)
