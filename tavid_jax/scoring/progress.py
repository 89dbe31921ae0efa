"""How far the scoring is: a live line in a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

from tavid_jax.scoring.providers import Progress, no_progress

SECONDS_BETWEEN_LINES = 10.0
# (video, videos, what begins) -> what is called with (done, in all)
Stage = Callable[[int, int, str], Progress]


def silent(number: int, count: int, what: str) -> Progress:
    """A `Stage` that says nothing."""
    return no_progress


class ProgressLine:
    """Called with (video, videos, what is done); gives what is called with (done, in all)."""

    def __init__(self, stream: Any = None):
        self._stream = stream or sys.stderr
        self._live = self._stream.isatty()
        self._last = time.monotonic()
        self._width = 0

    def __call__(self, number: int, count: int, what: str) -> Progress:
        """Says what begins now."""
        self._say(f"video {number + 1} of {count}: {what}", force=self._live)

        def progress(done: int, total: int) -> None:
            self._say(f"video {number + 1} of {count}: {what}, {done} of {total}")

        return progress

    def close(self) -> None:
        """Clears the live line."""
        if self._live and self._width:
            self._stream.write("\r" + " " * self._width + "\r")
            self._stream.flush()

    def _say(self, line: str, force: bool = False) -> None:
        now = time.monotonic()
        if not force and now - self._last < (0.1 if self._live else SECONDS_BETWEEN_LINES):
            return
        self._last = now
        if self._live:
            self._stream.write("\r" + line.ljust(self._width))
            self._width = max(self._width, len(line))
        else:
            self._stream.write(line + "\n")
        self._stream.flush()
