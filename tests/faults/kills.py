"""kill -9 at twenty moments of one run, each time started again."""

from __future__ import annotations

import collections
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from tests.faults.lab import BIT_EQUAL, Lab, fault
from tests.faults.program import Failed, Program, Running
from tests.faults.weights import check_same

_SAVING = "stages/*/checkpoints/*.orbax-checkpoint-tmp*"
_SAVED = "stages/*/checkpoints/[0-9]"
_RESULT = "stages/*/result.orbax-checkpoint-tmp*"
# In the order in which a run comes by: what happens, and the files that tell it, or so many seconds
# from the start at most.
MOMENTS = (
    ("start-up", 2.5),
    ("the config being written", ".lock"),
    ("a stage beginning", "stages/*"),
    ("a save", _SAVING),
    ("start-up", 2.5),
    ("a save", _SAVING),
    ("a save just done", _SAVED),
    ("metrics being written", "stages/*/metrics.jsonl*"),
    ("any time", 12.0),
    ("the save of a result", _RESULT),
    ("a result without its done.json", "stages/*/result"),
    ("the change to another stage", "stages/*/done.json"),
    ("a cache being written", "stages/*/.cache.*.part"),
    ("the save of a result", _RESULT),
    ("the change to another stage", "stages/*/done.json"),
    ("any time", 12.0),
    ("a save", _SAVING),
    ("metrics being written", "stages/*/metrics.jsonl*"),
    ("a save", _SAVING),
    ("the report being made", "stages/flow/done.json"),
)
_TRIES = 3


@fault
def kills(lab: Lab) -> tuple[str, str, str]:
    """kill -9 at 20 moments: start-up, saves, stage changes, files half-written, any time."""
    straight = lab.straight()
    done = kill_at(lab, lab.program(), straight, MOMENTS)
    counts = collections.Counter(done)
    told = ", ".join(f"{count} x {what}" for what, count in counts.items())
    return f"kill -9 {len(done)} times: {told}", "", BIT_EQUAL


def kill_at(
    lab: Lab, program: Program, straight: Path, moments: tuple[tuple[str, str | float], ...]
) -> list[str]:
    """Kills the program at each of the moments, and runs it to its end; what was hit.

    Raises Failed if a moment does not come, or the parameters are other ones.
    """
    rng, hit = lab.rng, []
    for what, sign in moments:
        for _ in range(_TRIES):
            running = program.start()
            if isinstance(sign, str):
                came, wait = new_file(program.workdir, sign), rng.uniform(0.0, 0.03)
            else:
                came, wait = after(rng.uniform(0.1, sign)), 0.0
            if running.until(came):
                time.sleep(wait)
                if not running.over:
                    running.kill()
                    hit.append(what)
                    break
            _ended(program, running, straight)
        else:
            raise Failed(f"{what} never came in {_TRIES} runs")
    lab.goes_on(program, straight)
    return hit


def _ended(program: Program, running: Running, straight: Path) -> None:
    """The run was over before the moment came: judged, and begun anew."""
    running.ends(0)
    check_same(program.workdir, straight)
    shutil.rmtree(program.workdir)


def after(seconds: float) -> Callable[[], bool]:
    """A condition that holds in so many seconds."""
    due = time.monotonic() + seconds
    return lambda: time.monotonic() > due


def new_file(workdir: Path, glob: str) -> Callable[[], bool]:
    """A condition: a file that the glob matches appears, or one that was there changes its size."""

    def look() -> set[tuple[str, int]]:
        found = set()
        for path in workdir.glob(glob):
            try:
                found.add((str(path), 0 if path.is_dir() else path.stat().st_size))
            except OSError:
                continue  # it is gone already
        return found

    seen = look()

    def condition() -> bool:
        # What was left by the run before may vanish first and then appear anew.
        nonlocal seen
        before, seen = seen, look()
        return bool(seen - before)

    return condition
