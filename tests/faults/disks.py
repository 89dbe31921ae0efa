"""Disks that take no more."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.faults.kills import new_file
from tests.faults.lab import BIT_EQUAL, REFUSED, Lab, fault
from tests.faults.program import Failed, Refused

# Enough for all that the run leaves, several times.
_SIZE_MB = 64


@fault
def disk_full(lab: Lab) -> tuple[str, str, str]:
    """The disk is full while checkpoints are saved, while a cache is made, and at the report."""
    straight, said = lab.straight(), []
    with small_disk(lab.place / "disk") as disk:
        program = lab.program("disk/run")
        moments = ("stages/vae/checkpoints/2", "stages/latents", "stages/flow/done.json")
        # Whichever comes first: a checkpoint, a curve, a cache, a result or a picture.
        for glob in moments:
            running = program.start()
            if not running.until(new_file(program.workdir, glob)):
                raise Failed(f"{glob} did not appear: see {running.log}")
            disk.fill()
            said.append(running.refuses("No space left on device"))
            disk.free()
        lab.goes_on(program, straight)
    return f"{disk.kind} full at {len(moments)} moments", said[0], REFUSED


@fault
def disk_full_at_the_start(lab: Lab) -> tuple[str, str, str]:
    """No byte is left for the config of the run."""
    straight = lab.straight()
    with small_disk(lab.place / "disk") as disk:
        program = lab.program("disk/run")
        program.workdir.mkdir()
        disk.fill()
        said = program.start().refuses("cannot be written", "No space left", "--workdir")
        disk.free()
        lab.goes_on(program, straight)
    return f"{disk.kind} full before the start", said, REFUSED


@fault
def file_too_large(lab: Lab) -> tuple[str, str, str]:
    """No file may grow beyond 20 kB (a quota): the first checkpoint cannot be saved."""
    straight, program = lab.straight(), lab.program("run", "compile_cache=")
    said = program.start(file_bytes=20_000).refuses("cannot be written", "File too large")
    program = lab.program()
    lab.goes_on(program, straight)
    return "files limited to 20 kB", said, REFUSED


@fault
def compile_cache(lab: Lab) -> tuple[str, str, str]:
    """Compiled programs on disk are cut off, then their disk is full."""
    straight = lab.straight()
    with small_disk(lab.place / "disk", size_mb=4) as disk:
        shared = lab.place / "disk"
        (shared / "data").symlink_to(lab.folder / "shared" / "data")
        cut = lab.place / "cut"
        shutil.copytree(lab.folder / "shared", cut, symlinks=True)
        for file in (cut / "programs").iterdir():
            os.truncate(file, file.stat().st_size // 2)
        lab.goes_on(lab.program("cut-off", shared=cut), straight)
        disk.fill()
        lab.goes_on(lab.program("full", shared=shared), straight)
    return "all entries halved; then no space for new ones", "", BIT_EQUAL


class Disk:
    """A small file system that can be filled to the last byte."""

    def __init__(self, folder: Path, kind: str):
        self.kind, self._ballast = kind, folder / "ballast"

    def fill(self) -> None:
        """Leaves no byte."""
        size = 1 << 20
        with self._ballast.open("ab", buffering=0) as stream:
            while size:
                try:
                    while stream.write(bytes(size)) == size:
                        pass
                except OSError:
                    pass
                size //= 2

    def free(self) -> None:
        """Gives everything back."""
        self._ballast.unlink()


@contextlib.contextmanager
def small_disk(folder: Path, size_mb: int = _SIZE_MB) -> Iterator[Disk]:
    """A file system of its own at `folder`, in memory; needs the right to mount.

    Raises Refused without that right.
    """
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size_mb}m", "tmpfs", str(folder)]
    made = subprocess.run(mount, capture_output=True, text=True)
    if made.returncode:
        raise Refused(f"no small disk can be mounted, run as root: {made.stderr.strip()}")
    try:
        yield Disk(folder, f"a tmpfs of {size_mb} MB")
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False)
