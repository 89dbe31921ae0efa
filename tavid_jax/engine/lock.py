"""One run per workdir: a lock of the file system, or in a bucket an object that is kept fresh."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import signal
import socket
import threading
import time
from pathlib import Path
from typing import Any

from absl import logging

from tavid_jax import places
from tavid_jax.places import Place

NAME = ".lock"
#: seconds between two signs of life in a bucket, and after how many without one the run is dead
BEAT, DEAD = 10.0, 30.0
# A sign that is older than this is dead whatever clocks say: nobody is waited for.
_LONG_DEAD = 900.0


class InUse(RuntimeError):
    """Another process holds the lock; the message says which one."""


def take(folder: Place) -> FileLock | Lease:
    """The lock of a folder that exists, held until released or until the process ends.

    Raises InUse when another live process holds it.
    """
    return Lease(folder) if places.is_remote(folder) else FileLock(folder)


class FileLock:
    """`flock` on a file of the folder: gone with the process, however it ends."""

    def __init__(self, folder: Place):
        self._file = (folder / NAME).open("w")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise InUse("by another process") from None
        except OSError as error:  # some network file systems know no locks
            logging.warning("workdir %s cannot be locked (%s)", folder, error.strerror)

    def release(self) -> None:
        self._file.close()


class Lease:
    """An object that says who holds the folder, written again every few seconds by a thread.

    One that stays as it is for `DEAD` seconds, or whose process was of this machine and has ended,
    belongs to nobody and is taken over with a warning. Clocks of machines may differ by minutes.
    Two that take over a dead lease in the same instant may both go on until the next sign of life;
    then the one that was overwritten stops as if it had been told to (SIGTERM). A process that
    hangs for longer than `DEAD` loses its lease in the same way.
    """

    def __init__(self, folder: Place):
        self._path = folder / NAME
        self._me = {
            "host": socket.gethostname(),
            "machine": _machine(),
            "pid": os.getpid(),
            "id": secrets.token_hex(8),
        }
        self._left = threading.Event()
        if not places.create(self._path, self._sign()):
            self._take_over()
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)
        self._thread.start()

    def _sign(self) -> bytes:
        return json.dumps(self._me | {"time": time.time()}).encode()

    def _read(self) -> dict[str, Any]:
        """Who holds the lease; {} for nobody or an object that is broken."""
        try:
            there = json.loads(self._path.read_bytes())
        except (FileNotFoundError, ValueError):
            return {}
        return there if isinstance(there, dict) else {}

    def _take_over(self) -> None:
        there = self._read()
        who = f"by process {there.get('pid')} of {there.get('host')}"
        if not self._is_dead(there):
            logging.info("%s is held %s: waiting to see whether it is alive", self._path, who)
            end = time.monotonic() + DEAD
            while time.monotonic() < end:
                time.sleep(min(BEAT / 5, DEAD / 10))
                now = self._read()
                if now and now != there:
                    raise InUse(f"{who}, which is alive")
                if not now:
                    break
        if there:
            logging.warning("%s was held %s, which has ended: taken over", self._path, who)
        places.write_bytes(self._path, self._sign())

    def _is_dead(self, there: dict[str, Any]) -> bool:
        if not there or time.time() - there.get("time", 0) > _LONG_DEAD:
            return True
        if not self._me["machine"] or there.get("machine") != self._me["machine"]:
            return False
        try:
            os.kill(int(there.get("pid", 0)), 0)
        except (ProcessLookupError, ValueError):
            return True
        except PermissionError:  # it is alive, and somebody else's
            pass
        return False

    def _keep(self) -> None:
        while not self._left.wait(BEAT):
            try:
                there = self._read()
                if there and there["id"] != self._me["id"]:
                    logging.error(
                        "%s was taken over by process %s of %s: this run stops",
                        self._path,
                        there["pid"],
                        there["host"],
                    )
                    os.kill(os.getpid(), signal.SIGTERM)
                    return
                places.write_bytes(self._path, self._sign())
            except Exception as error:  # a network that hiccups; the next beat tries again
                logging.warning("%s cannot be kept fresh: %s", self._path, error)

    def release(self) -> None:
        self._left.set()
        self._thread.join()
        if self._read().get("id") == self._me["id"]:
            self._path.unlink(missing_ok=True)


def _machine() -> str:
    """What only processes that see each other's numbers have in common; "" where nobody knows."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""
