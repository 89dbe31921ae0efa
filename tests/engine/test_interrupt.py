"""Ctrl-C is heard inside of programs that Python cannot interrupt, and elsewhere as ever."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from tavid_jax.engine.interrupt import heard_at_once

# One call that lets other threads run and would take an hour.
DEAF = """
import hashlib, os, signal, threading
from tavid_jax.engine.interrupt import heard_at_once

with heard_at_once("stopped", grace=0.1):
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
    hashlib.pbkdf2_hmac("sha256", b"a", b"b", 2**31 - 1)
"""


def test_a_deaf_program_ends():
    done = subprocess.run([sys.executable, "-c", DEAF], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (130, "stopped\n")


def test_python_is_interrupted_as_ever(capsys):
    with pytest.raises(KeyboardInterrupt), heard_at_once("stopped"):
        os.kill(os.getpid(), signal.SIGINT)
        threading.Event().wait(10)
    assert signal.set_wakeup_fd(-1) == -1
    assert not capsys.readouterr().err


def test_other_threads_change_nothing():
    def work() -> None:
        with heard_at_once("stopped"):
            seen.append(1)

    seen: list[int] = []
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [1]
