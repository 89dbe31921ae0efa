"""What a command over many clips says while it works."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

_EVERY = 5.0  # seconds between lines where nobody watches


class Progress:
    """Clips done, the rate and the time that is left; a line that is written over if watched."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, watched: bool | None = None):
        self._clock, self._began = clock, clock()
        self._watched = sys.stderr.isatty() if watched is None else watched
        self._next = self._began + (0 if self._watched else _EVERY)

    def __call__(self, done: int, total: int) -> None:
        """Says it, if it is time."""
        now = self._clock()
        if now < self._next and done < total:
            return
        self._next = now + (0.5 if self._watched else _EVERY)
        rate = done / max(now - self._began, 1e-6)
        left = (total - done) / rate
        line = f"{done} of {total} clips, {rate:.2f} a second, {_duration(left)} left"
        end = "\n" if done == total or not self._watched else ""
        print(f"\r{line:70}" if self._watched else line, end=end, file=sys.stderr, flush=True)


def _duration(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    minutes, seconds = divmod(rest, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
