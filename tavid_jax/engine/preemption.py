"""SIGTERM: save, then leave with a code that a launcher takes as "start me again"."""

from __future__ import annotations

import signal
from types import FrameType

from absl import logging

#: EX_TEMPFAIL: launchers restart the same command on this code
RESTART_EXIT_CODE = 75


class Preemption:
    """Notes a SIGTERM; the loop saves after its current step and leaves.

    Use as a context manager around a run: the former handler comes back at the end.
    """

    def __init__(self) -> None:
        self.requested = False
        self._former = None

    def __enter__(self) -> Preemption:
        self._former = signal.signal(signal.SIGTERM, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGTERM, self._former)

    def _note(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self.requested = True

    def exit_if_requested(self, what: str) -> None:
        """Raise SystemExit(RESTART_EXIT_CODE) if a SIGTERM has come."""
        if self.requested:
            logging.warning("SIGTERM: %s; exiting with code %d", what, RESTART_EXIT_CODE)
            raise SystemExit(RESTART_EXIT_CODE)
