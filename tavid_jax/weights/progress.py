"""Progress of long transfers on stderr: a live bar in a terminal, a line now and then in a log."""

import sys
import time
from types import TracebackType
from typing import Any

import rich.console
import rich.progress

SECONDS_BETWEEN_LINES = 10.0


class ProgressBar:
    """A context; call it with (bytes done, bytes in all).

    Args:
      what: is being done, one word.
      stream: a text file; default: stderr.
    """

    def __init__(self, what: str, stream: Any = None):
        self._what, self._stream = what, stream or sys.stderr
        self._started = self._last = time.monotonic()
        self._bar: rich.progress.Progress | None = None

    def __enter__(self) -> "ProgressBar":
        if self._stream.isatty():
            self._bar = rich.progress.Progress(
                rich.progress.TextColumn("{task.description}"),
                rich.progress.BarColumn(),
                rich.progress.DownloadColumn(),
                rich.progress.TransferSpeedColumn(),
                rich.progress.TimeRemainingColumn(),
                console=rich.console.Console(file=self._stream),
            )
            self._bar.start()
            self._task = self._bar.add_task(self._what, total=None)
        return self

    def __call__(self, done: int, total: int) -> None:
        """Report."""
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=total)
            return
        now = time.monotonic()
        if now - self._last >= SECONDS_BETWEEN_LINES or done == total:
            self._last = now
            self._stream.write(line(self._what, done, total, now - self._started) + "\n")
            self._stream.flush()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()


def line(what: str, done: int, total: int, seconds: float) -> str:
    """ "import: 3.10 of 28.60 GB (11 %), 0.41 GB/s, 62 s left"."""
    rate = done / max(seconds, 1e-9)
    left = f"{(total - done) / rate:.0f} s left" if rate else "waiting"
    percent = 100 * done / max(total, 1)
    return (
        f"{what}: {done / 1e9:.2f} of {total / 1e9:.2f} GB ({percent:.0f} %), "
        f"{rate / 1e9:.2f} GB/s, {left}"
    )
