"""Where the time of a run went, over all of its starts: nothing is left out, nothing twice.

Every start of a run has a file of its own in `goodput/`, replaced as a whole every few seconds by
a thread: a kill loses no more than these. At any moment exactly one category runs, so that the
categories of a start sum to its wall time; what no one has named is "start-up". Between two starts
lies "down" time. Steps that a kill has undone were "step" when they were taken and are "lost" when
a later start has begun behind them.
"""

from __future__ import annotations

import dataclasses
import json
import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from absl import logging

from tavid_jax.engine.workdir import write_json
from tavid_jax.parallel.processes import is_first
from tavid_jax.places import Place, is_remote

#: What counts: steps of train stages, and passes of compute and encode stages.
PRODUCTIVE = ("step", "pass")
#: All categories, as they are shown.
CATEGORIES = {
    "step": "training steps",
    "pass": "passes of compute and encode stages",
    "start-up": "start-up and between stages: imports, data sets, initialising, restoring",
    "compile": "tracing the step of a stage, and waiting for its compiler",
    "data": "waiting for data",
    "checkpoint": "saving",
    "validation": "validation",
    "evaluation": "judging and drawing",
    "lost": "steps that were taken again after a stop",
    "down": "between two starts",
}
# Of the newest checkpoints of a start, how many are known by their time.
_SAVES = 16


class Ledger:
    """Tells the time of one start apart. Use as a context around the start.

    Args:
      folder: the run's `goodput/`; None keeps nothing. A run that was finished once is over: its
        later starts are not kept.
      began: when the start began, in seconds since 1970; None is now.
      every: seconds between two writes; None is 2, and 10 into a bucket.
    """

    def __init__(
        self,
        folder: Place | None = None,
        began: float | None = None,
        every: float | int | None = None,
    ):
        former = read_starts(folder) if folder is not None else []
        if any(start["finished"] for start in former):
            folder = None
        elif folder is not None and not is_first():
            folder = None
        now = time.time()
        # A process may begin several runs: only its first one began with it.
        began = max(now if began is None else min(began, now), *[s["ended"] for s in former], 0.0)
        self._number = len(former)
        self._path = None if folder is None else folder / f"{self._number:04d}.json"
        slow = self._path is not None and is_remote(self._path)
        self._began, self._every = began, every or (10.0 if slow else 2.0)
        self._category, self._since = "start-up", time.perf_counter()
        self._seconds = {"start-up": max(0.0, now - began)}
        self._stages: dict[str, dict[str, Any]] = {}
        self._stage: dict[str, Any] | None = None
        self._finished = False
        self._lock, self._writing = threading.Lock(), threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Ledger:
        if self._path is not None:
            self.write()
            self._thread = threading.Thread(target=self._beat, name="goodput", daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        self.write()

    @contextmanager
    def measure(self, category: str) -> Iterator[None]:
        """Time within it belongs to a category; within another one it interrupts that."""
        former = self._switch(category)
        try:
            yield
        finally:
            self._switch(former)

    def begin_stage(self, name: str, kind: str, step: int = 0) -> None:
        """A stage goes on from `step`: what an earlier start did of it behind that is lost.

        An "encode" stage keeps what is finished and loses nothing.
        """
        with self._lock:
            self._account()
            self._stage = dict(kind=kind, begun=step, step=step, productive=0.0, saves=[])
            self._stages[name] = self._stage

    def reached(self, step: int, *, saved: bool = False) -> None:
        """So many steps of the stage are done; `saved`: a checkpoint of them is being written."""
        with self._lock:
            self._account()
            if self._stage is not None:
                self._stage["step"] = step
                if saved:
                    saves = [*self._stage["saves"], [step, self._stage["productive"]]]
                    self._stage["saves"] = saves[-_SAVES:]

    def finish(self) -> None:
        """The run is over."""
        self._finished = True

    def record(self) -> dict[str, Any]:
        """This start until now, as it is kept."""
        with self._lock:
            self._account()
            return {
                "began": self._began,
                "ended": self._began + sum(self._seconds.values()),
                "seconds": dict(self._seconds),
                "stages": {name: dict(stage) for name, stage in self._stages.items()},
                "finished": self._finished,
            }

    def write(self) -> None:
        """Keep this start as it is now. A disk that does not take it is none of our business:
        what matters more is saved elsewhere, and complains."""
        if self._path is None:
            return
        with self._writing:
            try:
                write_json(self._path, self.record())
            except OSError as error:
                logging.log_first_n(logging.WARNING, "%s is not kept: %s", 1, self._path, error)

    def _beat(self) -> None:
        while not self._stop.wait(self._every):
            self.write()

    def _switch(self, category: str) -> str:
        with self._lock:
            self._account()
            former, self._category = self._category, category
            return former

    def _account(self) -> None:
        now = time.perf_counter()
        elapsed, self._since = now - self._since, now
        self._seconds[self._category] = self._seconds.get(self._category, 0.0) + elapsed
        if self._stage is not None and self._category in PRODUCTIVE:
            self._stage["productive"] += elapsed


def process_began() -> float:
    """When this process began, in seconds since 1970; now, where the system does not tell."""
    try:
        # Ticks since the machine began; the name before them may hold blanks.
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        ticks = int(fields[19]) / os.sysconf("SC_CLK_TCK")
        return time.time() - (time.clock_gettime(time.CLOCK_BOOTTIME) - ticks)
    except (OSError, AttributeError, ValueError, IndexError):
        return time.time()


@dataclasses.dataclass(frozen=True)
class Goodput:
    """A run's time.

    Attributes:
      starts: how often it was started.
      seconds: by category, see `CATEGORIES`; they sum to the wall time.
    """

    starts: int
    seconds: Mapping[str, float]

    @property
    def wall(self) -> float:
        """From the first start to the end of the last one."""
        return sum(self.seconds.values())

    @property
    def share(self) -> float:
        """Goodput: the productive part of the wall time."""
        return sum(self.seconds.get(name, 0.0) for name in PRODUCTIVE) / max(self.wall, 1e-9)

    def rows(self) -> list[tuple[str, float, float]]:
        """(what, seconds, share of the wall time) of all categories that took any time."""
        known = {name: self.seconds.get(name, 0.0) for name in CATEGORIES} | dict(self.seconds)
        return [(CATEGORIES.get(n, n), s, s / max(self.wall, 1e-9)) for n, s in known.items() if s]

    def line(self) -> str:
        """In one line."""
        parts = ", ".join(
            f"{name} {100 * s / max(self.wall, 1e-9):.0f} %"
            for name, s in sorted(self.seconds.items(), key=lambda item: -item[1])
            if s >= 0.005 * self.wall
        )
        of = f"{self.wall:.0f} s in {self.starts} {'start' if self.starts == 1 else 'starts'}"
        return f"goodput {100 * self.share:.1f} % of {of}: {parts}"


def read_starts(folder: Place) -> list[dict[str, Any]]:
    """All starts that are kept, in order; a file that is damaged is passed over."""
    starts = []
    for path in sorted(folder.glob("*.json")) if folder.exists() else ():
        try:
            starts.append(json.loads(path.read_text()))
        except ValueError:
            logging.warning("%s is damaged: that start is not counted", path)
    return starts


def goodput(starts: list[dict[str, Any]]) -> Goodput | None:
    """What the starts of a run come to, in order; None without any."""
    if not starts:
        return None
    total: dict[str, float] = {}
    for number, start in enumerate(starts):
        for name, seconds in start["seconds"].items():
            total[name] = total.get(name, 0.0) + seconds
        for name, stage in start["stages"].items():
            lost = _lost(
                stage, [s["stages"][name] for s in starts[number + 1 :] if name in s["stages"]]
            )
            own = "step" if stage["kind"] == "train" else "pass"
            total[own] = total.get(own, 0.0) - lost
            total["lost"] = total.get("lost", 0.0) + lost
        if number:
            gap = max(0.0, start["began"] - starts[number - 1]["ended"])
            total["down"] = total.get("down", 0.0) + gap
    return Goodput(len(starts), total)


def _lost(stage: Mapping[str, Any], later: list[Mapping[str, Any]]) -> float:
    """Seconds of a stage's productive time that later starts have gone through again."""
    if not later or stage["kind"] == "encode":
        return 0.0
    if stage["kind"] != "train":  # begins anew
        return stage["productive"]
    back = min(one["begun"] for one in later)
    if back >= stage["step"]:
        # What ran on behind the last step that was told, too: a step or two.
        return max([0.0, *(stage["productive"] - s for step, s in stage["saves"] if step == back)])
    if back <= stage["begun"]:
        return stage["productive"]
    for step, seconds in stage["saves"]:
        if step == back:
            return stage["productive"] - seconds
    done = (back - stage["begun"]) / (stage["step"] - stage["begun"])
    return stage["productive"] * (1.0 - done)
