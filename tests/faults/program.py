"""The real program as a process: started, watched, sent signals, and what it said."""

from __future__ import annotations

import dataclasses
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
CONFIG = CHECKOUT / "tests" / "faults" / "config.py"
# Longer than any start on a busy machine; a hang must not stop the command.
PATIENCE = 900.0
_LOOK = 0.001  # seconds between two looks at what the program does


class Failed(AssertionError):
    """A fault had another outcome than it must have."""


class Refused(Exception):
    """The machine does not let a fault be done."""


@dataclasses.dataclass(frozen=True)
class Program:
    """One command, which may be started many times.

    Attributes:
      workdir: of the run.
      settings: overrides of the config, ("data.workers=1", ...).
      preset: of tests/faults/config.py.
      shared: folder of compiled programs and drawn scenes.
      logs: folder for what it says.
      before: words before the command (launch/until_done.sh).
    """

    workdir: Path
    settings: Sequence[str] = ()
    preset: str = "scenes"
    shared: Path = Path()
    logs: Path = Path()
    before: Sequence[str] = ()

    @property
    def command(self) -> list[str]:
        """The command line."""
        given = (f"data_dir={self.shared}/data", f"compile_cache={self.shared}/programs")
        return [
            *self.before,
            *(sys.executable, "-m", "tavid_jax.main"),
            f"--config={CONFIG}:{self.preset}",
            f"--workdir={self.workdir}",
            *(f"--config.{setting}" for setting in (*given, *self.settings)),
        ]

    def start(self, file_bytes: int | None = None) -> Running:
        """Starts it, in a process group of its own.

        Args:
          file_bytes: largest file that it may write, as on a full disk; None = any.
        """

        number = 1 + sum(1 for _ in self.logs.glob(f"{self.workdir.name}.*.log"))
        log = self.logs / f"{self.workdir.name}.{number}.log"
        with log.open("wb") as stream:
            process = subprocess.Popen(
                self.command,
                cwd=CHECKOUT,
                env=os.environ | ENVIRONMENT,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        if file_bytes is not None:  # long before it writes the first one
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (file_bytes, file_bytes))
        running = Running(process, log)
        _STARTED.append(running)
        return running

    def finish(self, code: int = 0) -> str:
        """Runs it to its end, which must be this exit code; what it said.

        Raises Failed.
        """
        return self.start().ends(code)


def kill_all() -> None:
    """Ends every program that was started and still runs."""
    while _STARTED:
        _STARTED.pop().kill()


_STARTED: list[Running] = []
ENVIRONMENT: Mapping[str, str] = {
    "JAX_PLATFORMS": "cpu",
    "MPLBACKEND": "Agg",
    "PYTHONPATH": str(CHECKOUT),
    "PYTHONUNBUFFERED": "1",
    # Most of the time of so small a run is compiling: optimise less.
    "XLA_FLAGS": "--xla_backend_optimization_level=0",
}


@dataclasses.dataclass
class Running:
    """A started program."""

    process: subprocess.Popen
    log: Path

    def said(self) -> str:
        """Everything that it has written so far."""
        return self.log.read_text(errors="replace")

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.process.poll() is not None

    def until(self, condition: Callable[[], object], patience: float = PATIENCE) -> bool:
        """Waits until the condition holds; False if the program ended before.

        Raises Failed, and ends the program, if neither happens.
        """
        last = time.monotonic() + patience
        while True:
            if condition():
                return True
            if self.over:
                return bool(condition())
            if time.monotonic() > last:
                self.kill()
                raise Failed(f"nothing happened for {patience:g} s: see {self.log}")
            time.sleep(_LOOK)

    def until_said(self, words: str) -> None:
        """Waits for words. Raises Failed if it ends without having said them."""
        if not self.until(lambda: words in self.said()):
            raise Failed(f"it never said {words!r}: see {self.log}")

    def send(self, number: int) -> None:
        """A signal to the program alone."""
        self.process.send_signal(number)

    def kill(self) -> None:
        """kill -9 to it and all its workers."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()

    def ends(self, code: int, patience: float = PATIENCE) -> str:
        """Waits for its end, which must be this exit code; what it said.

        Raises Failed.
        """
        try:
            found = self.process.wait(patience)
        except subprocess.TimeoutExpired:
            self.kill()
            raise Failed(f"it did not end in {patience:g} s: see {self.log}") from None
        if found != code:
            last = last_words(self.said())
            raise Failed(f"exit code {found} instead of {code}: {last} (see {self.log})")
        return self.said()

    def refuses(self, *words: str, patience: float = PATIENCE) -> str:
        """Waits for an end with code 1 and one message that holds these words; the message.

        Raises Failed.
        """
        said = self.ends(1, patience)
        message = complaint(said)
        missing = [word for word in words if word not in message]
        if missing:
            raise Failed(f"its message lacks {missing}: {message} (see {self.log})")
        if "Traceback" in said:
            raise Failed(f"it showed a traceback: see {self.log}")
        return message

    def children(self) -> Iterator[int]:
        """Process ids of its data workers."""
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                words = (folder / "cmdline").read_bytes()
            except (OSError, ValueError, IndexError):
                continue
            if parent == self.process.pid and b"spawn_main" in words:
                yield int(folder.name)


def complaint(said: str) -> str:
    """The message for the user that a program ended with, "" if there is none."""
    _, found, rest = ("\n" + said).rpartition("\ntavid_jax: ")
    return rest.partition("\n(--verbosity")[0].strip() if found else ""


def last_words(said: str) -> str:
    """The last line that says something."""
    lines = [line for line in said.splitlines() if line.strip()]
    return lines[-1].strip() if lines else "it said nothing"
