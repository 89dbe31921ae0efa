"""What the engine needs of the data side: sources by name, batches, and a place for caches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from tavid_jax.places import Place


@runtime_checkable
class Batch(Protocol):
    """One host's slice of a global batch."""

    step: int
    arrays: dict[str, np.ndarray]
    ids: list[str]


@runtime_checkable
class RecordSink(Protocol):
    """Takes examples one by one; the file appears when the context closes without an error."""

    def write(self, example: dict[str, Any]) -> None: ...


@runtime_checkable
class Inputs(Protocol):
    """Sources by name. A name is a data set of the config, or a finished compute stage's cache."""

    def open(self, name: str) -> Any:
        """A random-access source: `len`, `[i]`, `.name`."""
        ...

    def batches(
        self,
        source: Any,
        prepare: Callable[..., dict[str, Any]],
        *,
        batch_size: int,
        seed: int,
        start_step: int = 0,
        shuffle: bool = True,
        num_epochs: int | None = None,
        scheduled: bool = False,
    ) -> Iterator[Batch]:
        """Batches of examples; `scheduled`: `prepare` is told the step of its batch, too."""
        ...

    def cache(self, folder: Place, meta: dict[str, Any]) -> AbstractContextManager[RecordSink]: ...


@runtime_checkable
class EncodingInputs(Inputs, Protocol):
    """Inputs of a run that has encode stages."""

    def encode(
        self, name: str, folder: Place, method: Any, progress: Callable[[int, int], None]
    ) -> None:
        """This process's share of what an encode stage has to make, into `folder`.

        Args:
          name: of the stage; `open(name)` gives the finished examples, with `.shared`.
          folder: of the stage's examples.
          method: an `EncodeMethod`.
          progress: called with (examples made, examples to make); may raise.
        """
        ...


class StageFolder(NamedTuple):
    """The places of one stage inside the workdir."""

    path: Place

    @property
    def checkpoints(self) -> Place:
        return self.path / "checkpoints"

    @property
    def result(self) -> Place:
        return self.path / "result"

    @property
    def cache(self) -> Place:
        return self.path / "cache"

    @property
    def metrics(self) -> Place:
        return self.path / "metrics.jsonl"

    @property
    def done(self) -> Place:
        return self.path / "done.json"

    def snapshot(self, step: int) -> Place:
        return self.path / "snapshots" / str(step)
