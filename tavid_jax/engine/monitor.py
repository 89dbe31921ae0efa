"""Watches a training loop without making it wait: metrics, the guard, the progress line."""

from __future__ import annotations

from collections import deque
from typing import Any

import jax
import numpy as np

from tavid_jax.engine import telemetry
from tavid_jax.engine.inputs import StageFolder
from tavid_jax.engine.preemption import LAG
from tavid_jax.engine.speed import Speed, Work, in_words

#: metrics that count or state something: an interval has their last value, not their mean
LAST_VALUE = ("skipped", "streak", "streak_start", "learning_rate")


class NonFiniteError(RuntimeError):
    """Too many steps in a row had a loss or gradient that is not finite."""


class MetricBuffer:
    """Keeps device metrics unread until the steps that made them are long done.

    Reading a step's metrics right after dispatching it would make the host wait for the device;
    here they are fetched, many at once, when `lag` further steps have been dispatched. Holding
    the host back to `lag` steps ahead is also what keeps the queue of the device short.
    """

    def __init__(self, lag: int = LAG):
        self._lag = lag
        self._entries: deque[tuple[int, dict[str, jax.Array]]] = deque()

    def push(self, step: int, metrics: dict[str, jax.Array]) -> None:
        self._entries.append((step, metrics))
        if len(self._entries) > self._lag:
            jax.block_until_ready(self._entries[-1 - self._lag][1])

    def pop(self, *, everything: bool = False) -> list[tuple[int, dict[str, float]]]:
        """All entries older than `lag` steps (or simply all), as Python floats."""
        count = len(self._entries) if everything else max(len(self._entries) - self._lag, 0)
        taken = [self._entries.popleft() for _ in range(count)]
        values = jax.device_get([metrics for _, metrics in taken])
        return [
            (step, {name: float(value) for name, value in metrics.items()})
            for (step, _), metrics in zip(taken, values, strict=True)
        ]


class Monitor:
    """Everything about a running train stage that a person or the guard wants to know.

    Metrics are fetched every few steps, at latest when `max_bad_steps` more have been dispatched,
    so that the guard stops a hopeless run soon; records are written for every `log_every` steps.
    """

    def __init__(
        self,
        name: str,
        stage: Any,
        folder: StageFolder,
        start: int,
        clock: Any,
        work: Work | None = None,
    ):
        self._name, self._stage, self._clock = name, stage, clock
        self._speed = Speed(work or Work(), clock.seconds)
        self._writers = telemetry.open_writers(folder.path, start)
        self._progress = telemetry.Progress(name, stage.steps)
        self._buffer = MetricBuffer()
        self._look_every = max(1, min(stage.log_every, stage.max_bad_steps))
        self._interval: list[tuple[int, dict[str, float]]] = []
        self._clips: deque[tuple[int, list[str]]] = deque(maxlen=256)
        self._text = ""

    def __enter__(self) -> Monitor:
        return self

    def __exit__(self, *_: object) -> None:
        for writer in self._writers:
            writer.close()

    def push(self, done: int, metrics: dict[str, jax.Array], clips: list[str]) -> None:
        """Take the unread metrics of step number `done` (counted from 1) and its clips.

        Raises NonFiniteError when the guard has seen enough.
        """
        self._speed.tick()
        self._clips.append((done - 1, clips))
        self._buffer.push(done, metrics)
        if done % self._look_every == 0:
            self._fetch()
        self._progress.show(done, self._text)

    def flush(self, *, last: bool = False, **extra: float) -> None:
        """Wait for all steps so far and record them: before a save, after a validation, at the end.

        Raises NonFiniteError when the guard has seen enough.
        """
        self._fetch(everything=True, **extra)
        for writer in self._writers:
            writer.flush()
        if last:
            self._progress.show(self._stage.steps, self._text, last=True)

    def _fetch(self, *, everything: bool = False, **extra: float) -> None:
        entries = self._buffer.pop(everything=everything)
        newest = entries[-1][0] if everything and entries else None
        for step, metrics in entries:
            self._interval.append((step, metrics))
            if step == newest:
                self._record(**extra)
            elif step % self._stage.log_every == 0:
                self._record()
        for _, metrics in entries:
            self._guard(metrics)

    def _record(self, **extra: float) -> None:
        step = self._interval[-1][0]
        values = mean_of([metrics for _, metrics in self._interval])
        self._interval = []
        share = self._clock.seconds.get("data", 0.0) / max(self._clock.total(), 1e-9)
        speed = self._speed.record()
        told = [f"loss {values['loss']:.4g}", in_words(speed)]
        told += [f"data {speed.get('speed/data_wait', share):.0%}"]
        told += [f"{int(values['skipped'])} steps skipped" if values["skipped"] else ""]
        self._text = "".join(f"| {part} " for part in told if part).rstrip()
        times = {"data_share": share, "seconds": self._clock.total(), **speed}
        for writer in self._writers:
            writer.scalars(step, {**values, **extra, **times})

    def _guard(self, metrics: dict[str, float]) -> None:
        if metrics["streak"] < self._stage.max_bad_steps:
            return
        first, count = int(metrics["streak_start"]), int(metrics["streak"])
        known = [(step, names) for step, names in self._clips if step >= first][:3]
        clips = "; ".join(f"step {step}: {', '.join(names)}" for step, names in known)
        raise NonFiniteError(
            f"{self._name}: loss or gradient not finite for {count} steps in a row from step "
            f"{first} (clips of {clips}). Nothing of them went into the weights. Look at these "
            "clips and run the same command again, or begin another --workdir with a lower "
            f"--config.stages.{self._name}.optimizer.lr"
        )


def mean_of(entries: list[dict[str, float]]) -> dict[str, float]:
    """The mean of every metric over the finite steps of an interval (`LAST_VALUE`: the last)."""
    result = {}
    for name, last in entries[-1].items():
        values = np.array([entry[name] for entry in entries])
        finite = values[np.isfinite(values)]
        mean = float(finite.mean()) if finite.size else float("nan")
        result[name] = last if name in LAST_VALUE else mean
    return result
