"""What a running stage says: JSON lines, TensorBoard when installed, and one progress line."""

from __future__ import annotations

import json
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any, Protocol

import jax
import numpy as np
from absl import logging


class Writer(Protocol):
    """Where scalars go."""

    def scalars(self, step: int, values: dict[str, float]) -> None: ...

    def close(self) -> None: ...


class JsonLines:
    """One JSON object per logged step. Reopened at a step, it forgets what came after it."""

    def __init__(self, path: Path, start_step: int = 0):
        self.path = Path(path)
        kept = [r for r in read_json_lines(self.path) if r["step"] <= start_step]
        self._file = self.path.open("w")
        for record in kept:
            self._write(record)

    def _write(self, record: dict[str, Any]) -> None:
        self._file.write(json.dumps(record) + "\n")
        self._file.flush()

    def scalars(self, step: int, values: dict[str, float]) -> None:
        self._write({"step": step, **values})

    def close(self) -> None:
        self._file.close()


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """The records of a JSON-lines file; a last line cut off by a crash is dropped."""
    if not Path(path).exists():
        return []
    records = []
    for line in Path(path).read_text().splitlines():
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return records


class TensorBoard:
    """Scalars through tensorboardX, which needs no TensorFlow."""

    def __init__(self, folder: Path, start_step: int = 0):
        from tensorboardX import SummaryWriter

        self._writer = SummaryWriter(str(folder), purge_step=start_step or None)

    def scalars(self, step: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


def open_writers(folder: Path, start_step: int) -> list[Writer]:
    """JSON lines always, TensorBoard if it is there; nothing but on the first process."""
    if jax.process_index() != 0:
        return []
    writers: list[Writer] = [JsonLines(folder / "metrics.jsonl", start_step)]
    try:
        writers.append(TensorBoard(folder / "tensorboard", start_step))
    except ImportError:
        logging.log_first_n(logging.INFO, "tensorboardX is not installed: JSON lines only", 1)
    return writers


class Clock:
    """Seconds by category ("step", "data", "checkpoint", ...), carried over restarts."""

    def __init__(self, seconds: dict[str, float] | None = None):
        self.seconds: dict[str, float] = dict(seconds or {})

    def measure(self, category: str) -> _Span:
        return _Span(self.seconds, category)

    def total(self) -> float:
        return sum(self.seconds.values())


class _Span:
    def __init__(self, seconds: dict[str, float], category: str):
        self._seconds, self._category = seconds, category

    def __enter__(self) -> None:
        self._start = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        elapsed = time.perf_counter() - self._start
        self._seconds[self._category] = self._seconds.get(self._category, 0.0) + elapsed


class MetricBuffer:
    """Keeps device metrics unread until the steps that made them are long done.

    Reading a step's metrics right after dispatching it would make the host wait for the device;
    here they are fetched, many at once, when `lag` further steps have been dispatched. Holding
    the host back to `lag` steps ahead is also what keeps the queue of the device short.
    """

    def __init__(self, lag: int = 2):
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
        return [
            (step, {name: float(value) for name, value in jax.device_get(metrics).items()})
            for step, metrics in taken
        ]


def mean_of(entries: list[dict[str, float]]) -> dict[str, float]:
    """The mean of every metric over the finite steps of an interval (counters: the last value)."""
    last = entries[-1]
    result = {}
    for name in last:
        values = np.array([entry[name] for entry in entries])
        if name in ("skipped", "streak", "streak_start", "learning_rate"):
            result[name] = float(values[-1])
        else:
            finite = values[np.isfinite(values)]
            result[name] = float(finite.mean()) if finite.size else float("nan")
    return result


class Progress:
    """One line about a running stage: redrawn on a terminal, logged now and then elsewhere."""

    def __init__(self, name: str, total: int, start: int = 0, every_seconds: float = 10.0):
        self._name, self._total, self._first = name, total, start
        self._terminal = sys.stderr.isatty()
        self._every = 0.5 if self._terminal else every_seconds
        self._begun = self._shown = time.perf_counter()

    def show(self, step: int, text: str = "", *, last: bool = False) -> None:
        """`step` steps are done in all; `text` is appended to rate and remaining time."""
        now = time.perf_counter()
        if not last and now - self._shown < self._every:
            return
        self._shown = now
        rate = (step - self._first) / max(now - self._begun, 1e-9)
        left = (self._total - step) / rate if rate > 0 else float("inf")
        when = f"done in {duration(now - self._begun)}" if last else f"ETA {duration(left)}"
        line = f"{self._name} {step}/{self._total} | {rate:.2f}/s | {when} {text}"
        if self._terminal:
            sys.stderr.write(f"\r\x1b[2K{line}" + ("\n" if last else ""))
            sys.stderr.flush()
        else:
            logging.info("%s", line)


def duration(seconds: float) -> str:
    """Seconds for a reader: 42s, 3m05s, 2h04m."""
    if not np.isfinite(seconds):
        return "?"
    whole = int(round(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
