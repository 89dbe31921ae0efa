"""Files of a run that are missing, cut off, emptied, or have a byte flipped, between two starts."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tavid_jax.data.records import RecordError, RecordSource
from tests.faults.lab import BIT_EQUAL, REFUSED, Lab, fault
from tests.faults.program import Failed
from tests.faults.signals import line_with

_LAST = "stages/flow/checkpoints/4"
_CACHE = "stages/latents/cache/examples.array_record"


@fault
def checkpoint_file_missing(lab: Lab) -> tuple[str, str, str]:
    """The largest file of the newest checkpoint is deleted."""
    return _fallen_back(lab, "its largest file deleted", lambda step: largest(step).unlink())


@fault
def checkpoint_cut_off(lab: Lab) -> tuple[str, str, str]:
    """The largest file of the newest checkpoint is cut to its half."""
    return _fallen_back(lab, "its largest file halved", lambda step: halve(largest(step)))


@fault
def checkpoint_byte_flipped(lab: Lab) -> tuple[str, str, str]:
    """One byte of an array in the newest checkpoint is another one."""
    return _fallen_back(lab, "one byte of its arrays flipped", lambda step: flip(largest(step)))


@fault
def checkpoint_emptied(lab: Lab) -> tuple[str, str, str]:
    """All that lies in the newest checkpoint is deleted."""
    return _fallen_back(lab, "emptied", empty)


@fault
def checkpoints_gone(lab: Lab) -> tuple[str, str, str]:
    """The folder of checkpoints is emptied: the stage begins again."""
    program = lab.stopped(_LAST)
    empty((program.workdir / _LAST).parent)
    lab.goes_on(program)
    return "all checkpoints of a stage deleted", "", BIT_EQUAL


@fault
def checkpoints_all_damaged(lab: Lab) -> tuple[str, str, str]:
    """No checkpoint of a stage can be used: the run stops and says which folder to delete."""
    program = lab.stopped(_LAST)
    folder = (program.workdir / _LAST).parent
    for step in folder.glob("[0-9]*"):
        flip(largest(step))
    words = (str(folder), "none of the checkpoints", "delete the folder")
    said = program.start().refuses(*words)
    shutil.rmtree(folder)
    lab.goes_on(program)
    return "a byte of every checkpoint flipped", said, REFUSED


@fault
def results_damaged(lab: Lab) -> tuple[str, str, str]:
    """Finished stages whose results are cut off, flipped or gone are finished again."""
    program = lab.stopped(_LAST)
    gone = lab.again(program, "gone")
    halve(largest(program.workdir / "stages" / "vae" / "result"))
    flip(largest(program.workdir / "stages" / "latents" / "result" / "params"))
    said = lab.goes_on(program)
    told = [line_with(said, f"stage {name} has to finish again") for name in ("vae", "latents")]
    shutil.rmtree(gone.workdir / "stages" / "vae" / "result")
    halve(gone.workdir / "stages" / "latents" / "done.json")
    lab.goes_on(gone)
    return "results halved, flipped, deleted; a done.json halved", told[0], BIT_EQUAL


@fault
def cache_gone(lab: Lab) -> tuple[str, str, str]:
    """The cache of a finished stage is cut off, and then deleted: it is made again."""
    program = lab.stopped(_LAST)
    copy = lab.again(program, "deleted")
    halve(program.workdir / _CACHE)
    said = lab.goes_on(program)
    shutil.rmtree((copy.workdir / _CACHE).parent)
    lab.goes_on(copy)
    done = "a stage's cache halved; deleted"
    return done, line_with(said, "stage latents has to finish again"), BIT_EQUAL


@fault
def record_flipped(lab: Lab) -> tuple[str, str, str]:
    """One byte of a record in a cache is flipped: the run stops and names the folder."""
    program = lab.stopped("stages/flow")
    cache = (program.workdir / _CACHE).parent
    _spoil_a_record(cache)
    said = program.start().refuses(str(cache), "cannot be read", "delete the folder")
    shutil.rmtree(cache)
    lab.goes_on(program)
    return "one byte of a record file flipped", said, REFUSED


def _spoil_a_record(cache: Path) -> None:
    """Flips a byte that nobody misses until the record is read.

    Raises Failed if there is none: bytes may change unnoticed.
    """
    place = cache / Path(_CACHE).name
    whole = place.read_bytes()
    for at in range(1000, len(whole), 1000):
        place.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        try:
            source = RecordSource(cache)
        except RecordError:
            continue
        try:
            for number in range(len(source)):
                source[number]
        except RecordError:
            return
    raise Failed(f"no byte of {place} is missed")


@fault
def metrics_cut_off(lab: Lab) -> tuple[str, str, str]:
    """The curve of a stage is cut off within a line, and ends in what is no text."""
    program = lab.stopped(_LAST)
    for name, rest in (("vae", b""), ("flow", b'\xff\x00{"a": 1}\n')):
        file = program.workdir / "stages" / name / "metrics.jsonl"
        content = file.read_bytes()
        file.write_bytes(content[: len(content) // 2] + rest)
    lab.goes_on(program, recorded=False)
    return "metrics.jsonl of two stages cut off, bytes appended", "", BIT_EQUAL


@fault
def config_cut_off(lab: Lab) -> tuple[str, str, str]:
    """The config of the run is cut to its half: it stops, and goes on when it is put back."""
    program = lab.stopped(_LAST)
    file = program.workdir / "config.json"
    whole = file.read_bytes()
    halve(file)
    said = program.start().refuses(str(file), "is damaged")
    file.write_bytes(whole)
    lab.goes_on(program)
    return "config.json halved", said, REFUSED


def _fallen_back(lab: Lab, done: str, damage) -> tuple[str, str, str]:
    """A run whose newest checkpoint is damaged goes on from the one before, and says so."""
    program = lab.stopped(_LAST)
    damage(program.workdir / _LAST)
    said = lab.goes_on(program)
    line_with(said, "falling back to the checkpoint of step 2")
    return f"the newest checkpoint {done}", line_with(said, "cannot be used; step 4"), BIT_EQUAL


def largest(folder: Path) -> Path:
    """The largest file below a folder.

    Raises Failed if there is none.
    """
    found = [path for path in folder.rglob("*") if path.is_file()]
    if not found:
        raise Failed(f"{folder} holds no file")
    return max(found, key=lambda path: path.stat().st_size)


def halve(file: Path) -> None:
    """Cuts off the second half."""
    os.truncate(file, file.stat().st_size // 2)


def flip(file: Path) -> None:
    """Changes one bit in the middle."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def empty(folder: Path) -> None:
    """Deletes all that a folder holds."""
    shutil.rmtree(folder)
    folder.mkdir()
