"""What a running stage says: JSON lines, TensorBoard when installed, and one progress line."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import sys
import time
from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

import numpy as np
from absl import logging

from tavid_jax import places
from tavid_jax.engine.goodput import Ledger
from tavid_jax.parallel.processes import is_first
from tavid_jax.places import Place


@runtime_checkable
class Writer(Protocol):
    """Where scalars go."""

    def scalars(self, step: int, values: dict[str, float]) -> None: ...

    def flush(self) -> None:
        """Called before every save: all so far is where it belongs, or on its way there."""
        ...

    def close(self) -> None: ...


class JsonLines:
    """One JSON object per logged step. Reopened at a step, it forgets what came after it.

    Numbers that are not finite are written as null: JSON has no NaN. Objects in a bucket cannot be
    appended to: there the file is that of the last `flush`.
    """

    def __init__(self, path: Place, start_step: int = 0):
        self._path = path
        kept = [record for record in read_json_lines(path) if record["step"] <= start_step]
        # Replaced in one go: a crash here must not cost the curves.
        local = places.copy_of(path)
        places.write_text(local, "".join(_json_line(record) for record in kept))
        self._file = local.open("a")

    def _write(self, record: dict[str, Any]) -> None:
        self._file.write(_json_line(record))
        self._file.flush()

    def scalars(self, step: int, values: dict[str, float]) -> None:
        self._write({"step": step, **values})

    def flush(self) -> None:
        places.push(self._path, strict=False)

    def close(self) -> None:
        self._file.close()
        self.flush()


def _json_line(record: dict[str, Any]) -> str:
    finite = {
        k: None if isinstance(v, float) and not np.isfinite(v) else v for k, v in record.items()
    }
    return json.dumps(finite) + "\n"


def read_json_lines(path: Place) -> list[dict[str, Any]]:
    """The records of a JSON-lines file, null as NaN; what a crash cut off is dropped."""
    if not path.exists():
        return []
    records = []
    for line in path.read_bytes().split(b"\n"):
        try:
            record = json.loads(line)
        except ValueError:
            break
        if not isinstance(record, dict) or "step" not in record:
            break
        records.append({k: float("nan") if v is None else v for k, v in record.items()})
    return records


class TensorBoard:
    """Scalars through tensorboardX, which needs no TensorFlow.

    Opened by the first of them: tensorboardX imports PyTorch where that is installed, more than a
    second for which the first step would wait.
    """

    def __init__(self, folder: Place, start_step: int = 0):
        self._folder, self._start = folder, start_step
        self._writer: Any = None

    def scalars(self, step: int, values: dict[str, float]) -> None:
        if self._writer is None:
            from tensorboardX import SummaryWriter

            local = str(places.copy_of(self._folder))
            self._writer = SummaryWriter(local, purge_step=self._start or None)
        for name, value in values.items():
            if np.isfinite(value):
                self._writer.add_scalar(name, value, step)

    def flush(self) -> None:
        if self._writer is not None:
            self._writer.flush()
            places.push(self._folder, strict=False)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            places.push(self._folder, strict=False)


def open_writers(folder: Place, start_step: int) -> list[Writer]:
    """JSON lines always, TensorBoard if it is there; nothing but on the first process."""
    if not is_first():
        return []
    writers: list[Writer] = [JsonLines(folder / "metrics.jsonl", start_step)]
    if importlib.util.find_spec("tensorboardX"):
        writers.append(TensorBoard(folder / "tensorboard", start_step))
    else:
        logging.log_first_n(logging.INFO, "tensorboardX is not installed: JSON lines only", 1)
    return writers


class Clock:
    """Seconds of a stage by category ("step", "data", "checkpoint", ...), carried over restarts.

    `ledger` keeps those of the whole run, and is told of every one of them.
    """

    def __init__(self, ledger: Ledger | None = None):
        self.seconds: dict[str, float] = {}
        self._ledger = ledger or Ledger()

    @contextlib.contextmanager
    def measure(self, category: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            with self._ledger.measure(category):
                yield
        finally:
            elapsed = time.perf_counter() - started
            self.seconds[category] = self.seconds.get(category, 0.0) + elapsed

    def resume(self, seconds: dict[str, float]) -> None:
        """What earlier starts took comes on top."""
        for category, earlier in seconds.items():
            self.seconds[category] = self.seconds.get(category, 0.0) + earlier

    def total(self) -> float:
        return sum(self.seconds.values(), 0.0)


class Progress:
    """One line about a running stage: redrawn on a terminal, logged now and then elsewhere."""

    def __init__(self, name: str, total: int, every_seconds: float = 10.0):
        self._name, self._total = name, total
        self._terminal = sys.stderr.isatty() and is_first()
        self._every = 0.5 if self._terminal else every_seconds
        self._created = time.perf_counter()
        self._begun: float | None = None
        self._shown = self._created

    def show(self, step: int, text: str = "", *, last: bool = False) -> None:
        """`step` steps are done in all; `text` is appended to rate and remaining time.

        The rate counts from the first call: what compiled before it is not in the ETA.
        """
        now = time.perf_counter()
        if self._begun is None:
            self._begun, self._first = now, step
        if not last and now - self._shown < self._every:
            return
        self._shown = now
        rate = (step - self._first) / max(now - self._begun, 1e-9)
        left = (self._total - step) / rate if rate > 0 else float("inf")
        when = f"done in {duration(now - self._created)}" if last else f"ETA {duration(left)}"
        line = f"{self._name} {step}/{self._total} | {rate:.2f}/s | {when} {text}"
        if self._terminal:
            sys.stderr.write(f"\r\x1b[2K{line}" + ("\n" if last else ""))
            sys.stderr.flush()
        else:
            logging.info("%s", line)


def is_told(number: int, total: int) -> bool:
    """Whether number 1 .. total of some things is worth a line: all of few, of many each tenth."""
    return number * 10 // total > (number - 1) * 10 // total


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
