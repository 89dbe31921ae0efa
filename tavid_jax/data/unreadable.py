"""Examples that cannot be read: a run stops at the first, or shows others in their place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from absl import logging

from tavid_jax.data.clip import ClipError
from tavid_jax.data.files import some
from tavid_jax.data.records import RecordError
from tavid_jax.data.video import VideoError

ON_BAD = ("stop", "skip")
# A clip's own fault, the same at every try. What the system refuses (OSError) may pass.
UNREADABLE = (ClipError, VideoError, RecordError)


class PipelineError(RuntimeError):
    """An example, a worker process or the whole pipeline failed; the message says which."""


class ExampleError(PipelineError, ValueError):
    """A clip is at fault, not the code that reads it: it cannot become an example."""


class FeedError(PipelineError, ValueError):
    """What brings the data hangs or has died; the same command goes on from the last save."""


def check_policy(on_bad: str, max_bad: int) -> None:
    """Raises ValueError for what there is not."""
    if on_bad not in ON_BAD or max_bad < 1:
        raise ValueError(
            f"on_bad is {on_bad!r} with max_bad {max_bad}; it must be one of {', '.join(ON_BAD)}, "
            "with at least 1"
        )


def substitutes(seed: int, position: int, length: int) -> Iterator[int]:
    """Items to try in the place of one that cannot be read, without end.

    A function of the position in the run, so that hosts, workers and restarts agree.
    """
    rng = np.random.default_rng([seed, 2, position])
    while True:
        yield int(rng.integers(length))


class Tally:
    """Names what was not read, each once, and stops the run when it is too much.

    Args:
      source: what the source is called.
      limit: so many different examples may be missing.
    """

    def __init__(self, source: str, limit: int):
        self._source, self._limit = source, limit
        self._reasons: dict[str, str] = {}

    def add(self, unreadable: Sequence[tuple[str, str]]) -> None:
        """Takes (name, reason) of what a batch lacks.

        Raises ExampleError when there are more than the limit.
        """
        for name, reason in unreadable:
            if name in self._reasons:
                continue
            self._reasons[name] = reason
            logging.warning(
                "%s; another one is shown in its place (%d of at most %d so far)",
                reason,
                len(self._reasons),
                self._limit,
            )
        if len(self._reasons) > self._limit:
            raise ExampleError(
                f"{len(self._reasons)} examples of source {self._source!r} cannot be read "
                f"({some(list(self._reasons))}), more than data.max_bad={self._limit}: the last "
                f"one, {next(reversed(self._reasons.values()))}"
            )
