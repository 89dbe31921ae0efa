"""Ctrl-C in the middle of a compiled program, which Python's own handler waits for to end."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from typing import NoReturn

from tavid_jax.engine.preemption import INTERRUPT_EXIT_CODE

# Seconds that Python has to stop in its own way, which removes temporary files.
GRACE = 2.0


@contextlib.contextmanager
def heard_at_once(message: str, grace: float = GRACE) -> Iterator[None]:
    """Around a whole program: Ctrl-C ends the process with code 130 within `grace` seconds.

    KeyboardInterrupt is raised as ever. But while the main thread is inside of a compiled program,
    which may be an hour, Python cannot raise it; then a thread beside it ends the process.

    Args:
      message: printed to stderr when that thread does so.
      grace: seconds that it leaves to KeyboardInterrupt and what handles it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    told, tells = socket.socketpair()
    tells.setblocking(False)
    left = threading.Event()

    def listen() -> None:
        while number := told.recv(1):
            if number[0] == signal.SIGINT and not left.wait(grace):
                print(message, file=sys.stderr, flush=True)
                os._exit(INTERRUPT_EXIT_CODE)

    threading.Thread(target=listen, name="interrupt", daemon=True).start()
    former = signal.set_wakeup_fd(tells.fileno(), warn_on_full_buffer=False)
    try:
        yield
    finally:
        left.set()
        signal.set_wakeup_fd(former)
        tells.close()  # ends the thread


def run_to_exit(main: Callable[[], int], message: str) -> NoReturn:
    """Runs a whole program and ends the process with its exit code; `message` as above."""
    with heard_at_once(message):
        code = main()
    if code == INTERRUPT_EXIT_CODE:
        # A compiled program may still be running, under which the interpreter's end would crash.
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
