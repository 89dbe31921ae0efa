"""Where faults are done: the list of them, the runs that nothing disturbs, and what is found."""

from __future__ import annotations

import dataclasses
import random
import shutil
import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.faults.program import Failed, Program, Refused, kill_all
from tests.faults.videos import make_videos
from tests.faults.weights import check_same

BIT_EQUAL, REFUSED, NOT_DONE, FAILED = "bit-equal", "refused", "not done", "FAILED"


@dataclasses.dataclass(frozen=True)
class Found:
    """One line of the table.

    Attributes:
      fault: its name.
      done: what was done to the program.
      said: what the program said of it, "" = nothing was to be said.
      outcome: "bit-equal": the run ended, maybe after more starts, with the bits of the
        undisturbed one. "refused": it stopped with the named cause, and when that was mended the
        same command went on to those bits. "not done": the machine does not let us. "FAILED":
        none of these.
      seconds: that it took.
    """

    fault: str
    done: str
    said: str
    outcome: str
    seconds: float


@dataclasses.dataclass(frozen=True)
class Fault:
    """What can be done to a run: `do(lab)` gives (what was done, what was said, outcome)."""

    name: str
    do: Callable[[Lab], tuple[str, str, str]]

    @property
    def about(self) -> str:
        """One sentence."""
        return (self.do.__doc__ or "").strip().splitlines()[0]


#: all of them, in the order in which they are done
FAULTS: list[Fault] = []


def fault(do: Callable[[Lab], tuple[str, str, str]]) -> Callable[[Lab], tuple[str, str, str]]:
    """Enters a function into the list; its name and first line are those of the fault."""
    FAULTS.append(Fault(do.__name__.replace("_", "-"), do))
    return do


class Lab:
    """A folder for all runs of one command, with compiled programs that they share.

    Args:
      folder: kept afterwards.
      seed: of the random moments.
    """

    def __init__(self, folder: Path, seed: int = 0):
        self.folder, self.seed = Path(folder).absolute(), seed
        self._straight: dict[str, Program] = {}
        self._stopped: dict[str, Program] = {}
        self._current = ""

    def run(self, fault: Fault) -> Found:
        """Does one fault."""
        self._current, began = fault.name, time.monotonic()
        shutil.rmtree(self.folder / fault.name, ignore_errors=True)
        try:
            if self.place.exists():
                raise Failed(f"{self.place} cannot be emptied: is a disk still mounted there?")
            self.place.mkdir(parents=True)
            done, said, outcome = fault.do(self)
        except Refused as error:
            done, said, outcome = fault.about, str(error), NOT_DONE
        except Failed as error:
            done, said, outcome = fault.about, str(error), FAILED
        finally:
            kill_all()
        return Found(fault.name, done, said, outcome, time.monotonic() - began)

    @property
    def rng(self) -> random.Random:
        """Of the present fault; the same for the same seed, whatever else is done."""
        return random.Random(zlib.crc32(f"{self.seed} {self._current}".encode()))

    @property
    def place(self) -> Path:
        """An own folder of the present fault."""
        return self.folder / self._current

    def program(self, name: str = "run", *settings: str, **options: Any) -> Program:
        """The program on a fresh workdir of the present fault."""
        options = {"shared": self.folder / "shared", "logs": self.place} | options
        return Program(self.place / name, settings, **options)

    def straight(self, preset: str = "scenes", *settings: str, **options: Any) -> Path:
        """The workdir of a run that nothing disturbs; each is done once."""
        name = "-".join([preset, *settings]).replace("/", "_")
        if name not in self._straight:
            options = {"preset": preset} | options
            program = self._fresh(self.folder / "straight" / name, settings, options)
            program.finish()
            self._straight[name] = program
        return self._straight[name].workdir

    def videos(self) -> Path:
        """A folder of small good videos."""
        folder = self.folder / "videos"
        if not folder.exists():
            make_videos(folder)
        return folder

    def straight_clips(self) -> Path:
        """The same as `straight`, trained on these videos."""
        return self.straight("clips", f"train_clips={self.videos()}")

    def stopped(self, after: str, *settings: str, **options: Any) -> Program:
        """A program on a workdir of a run that was killed as soon as a file of it was there.

        Args:
          after: the file, a glob below the workdir ("stages/flow/checkpoints/4").
        """
        name = "-".join([after, *settings]).replace("/", "_")
        if name not in self._stopped:
            first = self._fresh(self.folder / "stopped" / name, settings, options)
            running = first.start()
            if not running.until(lambda: any(first.workdir.glob(after))):
                raise Failed(f"{after} never came: see {running.log}")
            running.kill()
            self._stopped[name] = first
        return self.again(self._stopped[name], "stopped")

    def _fresh(self, folder: Path, settings: Sequence[str], options: dict[str, Any]) -> Program:
        """A program that several faults share, on a new folder."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        options = {"shared": self.folder / "shared", "logs": folder.parent} | options
        return Program(folder, settings, **options)

    def again(self, program: Program, name: str) -> Program:
        """The same program on a copy of its workdir."""
        copy = dataclasses.replace(program, workdir=self.place / name, logs=self.place)
        shutil.copytree(program.workdir, copy.workdir, symlinks=True)
        return copy

    def goes_on(self, program: Program, straight: Path | None = None, **options: Any) -> str:
        """The same command again: it must end well, with the bits of the undisturbed run.

        Returns what it said. Raises Failed.
        """
        said = program.finish()
        check_same(program.workdir, straight or self.straight(), **options)
        return said
