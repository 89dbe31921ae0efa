"""Several processes of one program on this machine, until all of them have ended."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

CHECKOUT = Path(__file__).resolve().parents[2]
SETTINGS = {"JAX_PLATFORMS": "cpu", "JAX_DEFAULT_MATMUL_PRECISION": "highest"}


class Ended(NamedTuple):
    code: int
    out: str
    err: str


def free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return f"localhost:{probe.getsockname()[1]}"


def run_together(
    *commands: list[str], devices: int = 1, variables: dict[str, str] | None = None, timeout=600.0
) -> list[Ended]:
    """One process for each list of arguments of python, all at once; in their order.

    Fails when one of them runs for longer than `timeout` seconds.
    """
    environment = os.environ | SETTINGS | (variables or {})
    environment["JAX_NUM_CPU_DEVICES"] = str(devices)
    started = [
        subprocess.Popen(
            [sys.executable, *command],
            cwd=CHECKOUT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for command in commands
    ]
    end = time.monotonic() + timeout
    try:
        said = [one.communicate(timeout=max(1.0, end - time.monotonic())) for one in started]
    finally:
        for one in started:
            one.kill()
    return [Ended(one.returncode, *words) for one, words in zip(started, said, strict=True)]
