"""Batches that lie on the devices before the loop comes for them."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

AHEAD = 2
_PATIENCE = 5.0  # seconds that a thread which hangs gets at the end


class Feed:
    """A thread takes batches and brings them to the devices while the loop is in a step.

    The loop says when (`ask`), best right after it has handed a step to the devices. To wake the
    thread where the loop takes a batch would cost it its turn on the processor: milliseconds, if
    that is busy with the step before. Two batches are under way, since on a CPU a step may be over
    when it has been handed over.

    Args:
      batches: what is taken from, in order, by the thread alone; closed at the end if it can be.
      place: brings a batch's `arrays` to the devices.
      count: how many batches the loop will take; no more are made.
    """

    def __init__(
        self,
        batches: Iterator[Any],
        place: Callable[[Mapping[str, Any]], dict[str, Any]],
        count: int,
    ):
        self._batches, self._place, self._left = batches, place, count
        self._asked: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._made: queue.SimpleQueue[tuple[Any, Any, BaseException | None]] = queue.SimpleQueue()
        # A daemon: a hung disk must not keep the program from ending.
        self._thread = threading.Thread(target=self._serve, name="feed", daemon=True)

    def __enter__(self) -> Feed:
        self._thread.start()
        for _ in range(AHEAD):
            self.ask()
        return self

    def __exit__(self, *_: Any) -> None:
        self._asked.put(False)
        self._thread.join(_PATIENCE)

    def ask(self) -> None:
        """One more batch, please, if the loop will take one; does not wait."""
        if self._left:
            self._left -= 1
            self._asked.put(True)

    def take(self) -> tuple[Any, dict[str, Any]]:
        """The next batch that was asked for, and its arrays on the devices; waits for them.

        Returns (None, {}) behind the last one. Raises what taking or placing it raised.
        """
        batch, arrays, error = self._made.get()
        if error is not None:
            raise error
        return batch, arrays

    def _serve(self) -> None:
        try:
            while self._asked.get():
                try:
                    batch = next(self._batches, None)
                    arrays = {} if batch is None else self._place(batch.arrays)
                    self._made.put((batch, arrays, None))
                except BaseException as error:  # for the loop
                    self._made.put((None, {}, error))
        finally:
            if hasattr(self._batches, "close"):
                self._batches.close()
