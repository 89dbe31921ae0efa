"""Batches from any source, in an order that hosts, workers, threads and restarts cannot change.

Example g of a run (g = step * batch_size + row) is item `order[g]` of the source, prepared with a
generator seeded by (seed, g); `order` shuffles every epoch by (seed, epoch). A host computes rows
[p * b, (p + 1) * b) of each global batch. All of it is a function of g: workers and threads only
decide who computes it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import queue
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import grain
import numpy as np
from absl import flags

from tavid_jax.data.unreadable import (
    UNREADABLE,
    ExampleError,
    FeedError,
    PipelineError,
    Tally,
    check_policy,
    substitutes,
)

# (item, rng), and the step where it is scheduled
Prepare = Callable[..., dict[str, Any]]


@runtime_checkable
class Source(Protocol):
    """Random access: `len(source)` items `source[i]`."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Any: ...


class Batch(NamedTuple):
    """One host's rows of a global batch.

    Attributes:
      step: position in the run, counted from 0.
      arrays: (b, ...) each, b = batch_size / process_count.
      ids: one name per real example. Fewer than b only in the last batch of a finite run, whose
        missing rows (always the last ones) repeat a real example to keep the shapes.
      unreadable: (name, reason) of every example that another one takes the place of.
    """

    step: int
    arrays: dict[str, np.ndarray]
    ids: list[str]
    unreadable: Sequence[tuple[str, str]] = ()


def batches(
    source: Source,
    prepare: Prepare,
    *,
    batch_size: int,
    seed: int,
    start_step: int = 0,
    shuffle: bool = True,
    process_index: int = 0,
    process_count: int = 1,
    threads: int = 2,
    workers: int = 0,
    num_epochs: int | None = None,
    scheduled: bool = False,
    timeout_s: float | int = 600.0,
    on_bad: str = "stop",
    max_bad: int = 100,
) -> Iterator[Batch]:
    """Iterates over this host's part of the global batches, from `start_step` on.

    For evaluation use shuffle=False, num_epochs=1: every item once, in order; see `Batch.ids`.

    Args:
      source: random access; picklable if workers > 0.
      prepare: (item, rng) -> dict of arrays of one shape for all items; "id" names the example
        (default: the item's own id). Picklable if workers > 0. See `scheduled`.
      batch_size: of the global batch.
      seed: decides order and every example's generator.
      start_step: resumes a run exactly where it would have been.
      shuffle: whether each epoch is shuffled.
      process_index: of this host.
      process_count: number of hosts; divides batch_size.
      threads: batches prepared at once in each process; 0 = in the caller's thread (if no workers).
      workers: processes that prepare batches; 0 = none.
      num_epochs: passes over the source; None = without end.
      scheduled: whether examples change over the run: `prepare` is then called with (item, rng,
        step), where step is that of the batch, `start_step` and more.
      timeout_s: longest wait for one batch before a thread or worker counts as hung.
      on_bad: what to do at an example that cannot be read (a broken video or record): "stop", or
        "skip": name it in the log and show another one in its place, chosen by (seed, g).
      max_bad: so many different examples this process may skip before it stops.

    Raises:
      ValueError: nothing in the source, or numbers that do not fit together.
      PipelineError: (while iterating) naming the example, the worker or the step.
    """
    check_policy(on_bad, max_bad)
    if timeout_s <= 0:
        raise ValueError(f"data.timeout_s is {timeout_s:g}, must be more than 0 seconds")
    if len(source) == 0:
        raise ValueError(f"source {_name(source)!r} is empty: there is nothing to batch")
    if batch_size < 1 or process_count < 1 or batch_size % process_count:
        raise ValueError(
            f"batch_size {batch_size} must be a positive multiple of process_count {process_count}"
        )
    if not 0 <= process_index < process_count:
        raise ValueError(f"process_index {process_index} is outside {process_count} processes")
    if min(start_step, threads, workers, seed) < 0 or (num_epochs is not None and num_epochs < 1):
        raise ValueError("start_step, threads, workers, seed must be >= 0 and num_epochs >= 1")
    if workers and not flags.FLAGS.is_parsed():
        raise ValueError(
            "Grain's worker processes read absl flags: start the program by absl.app.run, call "
            "absl.flags.FLAGS.mark_as_parsed(), or use workers=0"
        )
    order = global_order(len(source), seed, shuffle=shuffle, num_epochs=num_epochs)
    total = None if num_epochs is None else len(order)
    make = _MakeBatch(
        source,
        prepare,
        order,
        total,
        batch_size,
        seed,
        process_index,
        batch_size // process_count,
        scheduled,
        max_bad if on_bad == "skip" else 0,
    )
    steps = sys.maxsize // batch_size if total is None else -(-total // batch_size)
    steps = range(start_step, max(start_step, steps))
    return _counted(_iterate(make, steps, threads, workers, timeout_s), _name(source), max_bad)


def global_order(
    length: int, seed: int, *, shuffle: bool = True, num_epochs: int | None = None
) -> grain.MapDataset:
    """Random access from the position g in a run to the item shown there."""
    order = grain.MapDataset.range(length)
    if shuffle:
        # Grain adds the epoch to the seed: hashing first keeps runs of seeds 0, 1, ... apart.
        order = order.shuffle(seed=int(np.random.SeedSequence([seed, 0]).generate_state(1)[0]))
    return order.repeat(num_epochs)


def example_rng(seed: int, position: int) -> np.random.Generator:
    """The generator of the example at one position of a run."""
    return np.random.default_rng([seed, 1, position])


@dataclasses.dataclass(frozen=True)
class _MakeBatch:
    """Step -> this host's batch; all that a worker process needs."""

    source: Source
    prepare: Prepare
    order: grain.MapDataset
    total: int | None
    batch_size: int
    seed: int
    process_index: int
    rows: int
    scheduled: bool
    skips: int

    def positions(self, step: int) -> range:
        """Places in the run of this host's rows."""
        start = step * self.batch_size + self.process_index * self.rows
        return range(start, start + self.rows)

    def __call__(self, step: int) -> dict[str, Any]:
        positions, unreadable = self.positions(step), []
        if self.total is not None:
            # A host whose rows are all padding still needs one example for their shapes.
            last = self.total - 1
            real = range(positions.start, min(positions.stop, self.total))
            positions = real or range(last, last + 1)
            examples = [self._example(g, step, unreadable) for g in positions]
            ids = [name for name, _ in examples[: len(real)]]
            examples += [examples[-1]] * (self.rows - len(examples))
        else:
            examples = [self._example(g, step, unreadable) for g in positions]
            ids = [name for name, _ in examples]
        return {"step": step, "ids": ids, "arrays": _stack(examples), "unreadable": unreadable}

    def _example(
        self, position: int, step: int, unreadable: list[tuple[str, str]]
    ) -> tuple[str, dict[str, np.ndarray]]:
        """The example of a position, or of another item if that cannot be read; see `skips`."""
        index = int(self.order[position])
        others = substitutes(self.seed, position, len(self.source))
        for _ in range(self.skips):
            try:
                return self._made(index, position, step)
            except ExampleError as error:
                if not isinstance(error.__cause__, UNREADABLE):
                    raise
                unreadable.append((f"{_name(self.source)}[{index}]", str(error)))
                index = next(others)
        return self._made(index, position, step)

    def _made(self, index: int, position: int, step: int) -> tuple[str, dict[str, np.ndarray]]:
        name = f"{_name(self.source)}[{index}]"
        try:
            item = self.source[index]
            name = _id(item, name)
            now = (step,) if self.scheduled else ()
            example = dict(self.prepare(item, example_rng(self.seed, position), *now))
        except Exception as error:
            kind = ExampleError if isinstance(error, (*UNREADABLE, OSError)) else PipelineError
            raise kind(
                f"example {name!r} (item {index} of source {_name(self.source)!r}, step {step}) "
                f"failed: {type(error).__name__}: {error}"
            ) from error
        name = str(example.pop("id", name))
        return name, {key: _array(name, key, value) for key, value in example.items()}


def _counted(made: Iterator[Batch], source: str, limit: int) -> Iterator[Batch]:
    """The batches, while not too many examples have been skipped."""
    tally = Tally(source, limit)
    with contextlib.closing(made):
        for batch in made:
            tally.add(batch.unreadable)
            yield batch


def _iterate(
    make: _MakeBatch, steps: range, threads: int, workers: int, timeout_s: float | int
) -> Iterator[Batch]:
    if threads == 0 and workers == 0:
        for step in steps:
            yield Batch(**make(step))
        return
    dataset = grain.MapDataset.range(steps.start, steps.stop).map(make)
    dataset = dataset.to_iter_dataset(grain.ReadOptions(threads, 2 * threads))
    if workers:
        options = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=2)
        dataset = dataset.mp_prefetch(options, worker_init_fn=_init_worker)
    feed = _Feed(dataset)
    try:
        for step in steps:
            try:
                batch = feed.get(timeout_s)
            except queue.Empty:
                items = [int(make.order[g]) for g in make.positions(step) if _within(g, make)]
                raise FeedError(
                    f"no batch for {timeout_s:g} s at step {step}: a thread or worker hangs, or "
                    f"these items of source {_name(make.source)!r} take longer: {items}. Look at "
                    "their files and the disk they lie on, or set data.timeout_s higher, then run "
                    "the same command again"
                ) from None
            except PipelineError:
                raise
            except Exception as error:
                raise FeedError(
                    f"the data pipeline failed at step {step}: {type(error).__name__}: {error} "
                    "Run the same command again to go on from the last save"
                ) from error
            yield Batch(**batch)
    finally:
        feed.close()


class _Feed:
    """Asks a Grain iterator from a thread of its own, so that the caller can stop waiting.

    One batch is asked for ahead: a caller that comes for it later than it was made takes it
    without waking another thread, which on a busy CPU costs as much as a small step.
    """

    def __init__(self, dataset: grain.IterDataset):
        self._asked: queue.SimpleQueue = queue.SimpleQueue()
        self._answers: queue.SimpleQueue = queue.SimpleQueue()
        # A daemon: a hung worker must not keep the program from ending.
        self._thread = threading.Thread(
            target=self._serve, args=(dataset,), name="data-feed", daemon=True
        )
        self._stopped = False
        self._thread.start()
        self._asked.put(True)

    def get(self, timeout_s: float | int) -> dict[str, Any]:
        """The next batch. Raises queue.Empty after the timeout, else what the iterator raised."""
        batch, error = self._answers.get(timeout=timeout_s)
        if error is not None:
            raise error
        self._asked.put(True)
        return batch

    def close(self) -> None:
        """Ends threads and worker processes; does not wait for hung ones."""
        self._stopped = True
        self._asked.put(False)
        self._thread.join(timeout=5.0)

    def _serve(self, dataset: grain.IterDataset) -> None:
        iterator = None
        try:
            while self._asked.get() and not self._stopped:
                iterator = iterator or iter(dataset)
                batch = next(iterator)
                # Arrays of a worker lie in shared memory: copied out, it is given back at once.
                arrays = {key: np.array(array) for key, array in batch["arrays"].items()}
                self._answers.put(({**batch, "arrays": arrays}, None))
        except BaseException as error:  # handed to the caller
            self._answers.put((None, error))
        finally:
            if hasattr(iterator, "close"):
                iterator.close()


def _init_worker(index: int, count: int) -> None:
    """Keeps a worker process off the accelerator and on one core."""
    del index, count
    import cv2

    cv2.setNumThreads(1)
    if "jax" in sys.modules:
        sys.modules["jax"].config.update("jax_platforms", "cpu")


def _within(position: int, make: _MakeBatch) -> bool:
    return make.total is None or position < make.total


def _name(source: Source) -> str:
    return str(getattr(source, "name", type(source).__name__))


def _id(item: Any, default: str) -> str:
    name = item.get("id") if isinstance(item, dict) else getattr(item, "id", None)
    return name if isinstance(name, str) else default


def _array(name: str, key: str, value: Any) -> np.ndarray:
    array = np.asarray(value)
    if array.dtype.kind in "OUS" or array.dtype.kind == "V" and array.dtype.names:
        raise PipelineError(
            f"example {name!r}: key {key!r} is {type(value).__name__}, batches hold numbers; only "
            f"'id' may be words"
        )
    return array


def _stack(examples: list[tuple[str, dict[str, np.ndarray]]]) -> dict[str, np.ndarray]:
    first_name, first = examples[0]
    for name, example in examples:
        if example.keys() != first.keys():
            raise PipelineError(
                f"example {name!r} has keys {sorted(example)}, example {first_name!r} has "
                f"{sorted(first)}"
            )
        for key, array in example.items():
            if (array.shape, array.dtype) != (first[key].shape, first[key].dtype):
                raise PipelineError(
                    f"key {key!r} is {array.dtype} {array.shape} in example {name!r} and "
                    f"{first[key].dtype} {first[key].shape} in example {first_name!r}"
                )
    return {key: np.stack([example[key] for _, example in examples]) for key in first}
