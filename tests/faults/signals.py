"""Signals that ask the program to stop, and it does."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from tests.faults.kills import after, new_file
from tests.faults.lab import BIT_EQUAL, Lab, fault
from tests.faults.program import CHECKOUT, Failed, Running, last_words

UNTIL_DONE = ("bash", str(CHECKOUT / "launch" / "until_done.sh"))


@fault
def sigterm(lab: Lab) -> tuple[str, str, str]:
    """SIGTERM in the middle of a stage; launch/until_done.sh starts the run again."""
    straight = lab.straight()
    program = lab.program(before=UNTIL_DONE)
    running = program.start()
    if not running.until(new_file(program.workdir, "stages/vae/checkpoints/2")):
        raise Failed(f"it ended before it saved: see {running.log}")
    os.kill(inner(running), signal.SIGTERM)
    said = running.ends(0)
    for words in ("exit code 75", "starting again"):
        if words not in said:
            raise Failed(f"it never said {words!r}: see {running.log}")
    lab.goes_on(program, straight)
    return "SIGTERM between two steps", line_with(said, "SIGTERM: "), BIT_EQUAL


@fault
def sigterm_in_start_up(lab: Lab) -> tuple[str, str, str]:
    """SIGTERM during imports, and while the report is made: started again there too."""
    straight = lab.straight()
    program = lab.program(before=UNTIL_DONE)
    running = program.start()
    running.until(after(1.0))
    os.kill(inner(running), signal.SIGTERM)
    running.until(lambda: (program.workdir / "stages/flow/done.json").exists())
    running.until(after(0.3))
    os.kill(inner(running), signal.SIGTERM)
    said = running.ends(0)
    if said.count("starting again") != 2:
        raise Failed(f"it was not started twice again: see {running.log}")
    lab.goes_on(program, straight)
    done = "SIGTERM during imports, and while the report is made"
    return done, line_with(said, "SIGTERM: "), BIT_EQUAL


@fault
def ctrl_c(lab: Lab) -> tuple[str, str, str]:
    """Ctrl-C once, which saves, and twice, which does not wait."""
    straight = lab.straight()
    program = lab.program()
    running = program.start()
    running.until(new_file(program.workdir, "stages/vae/checkpoints/2"))
    running.send(signal.SIGINT)
    said = running.ends(130)
    running = program.start()
    running.until(new_file(program.workdir, "stages/flow/metrics.jsonl*"))
    running.send(signal.SIGINT)
    running.until(after(0.02))
    running.send(signal.SIGINT)
    running.ends(130)
    lab.goes_on(program, straight)
    return "Ctrl-C, and later Ctrl-C twice", line_with(said, "interrupted: "), BIT_EQUAL


def inner(running: Running) -> int:
    """The process that a shell script has started."""
    return int(Path(f"/proc/{running.process.pid}/task/{running.process.pid}/children").read_text())


def line_with(said: str, words: str) -> str:
    """The part of a line from these words on.

    Raises Failed if they were not said.
    """
    for line in said.splitlines():
        if words in line:
            return line[line.index(words) :].strip()
    raise Failed(f"it never said {words!r}; its last words: {last_words(said)}")
