"""One input to one reader: what may come of it, and what is a fault."""

from __future__ import annotations

import contextlib
import signal
import time
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.fuzz.readers import Reader

ACCEPTED, REFUSED = "accepted", "refused"


class Hang(BaseException):
    """An input takes too long; no reader catches this."""


class Outcome(NamedTuple):
    """What became of an input.

    Attributes:
      kind: "accepted", "refused", or what is wrong.
      place: where a fault comes from: equal faults have equal places.
      words: of the error.
    """

    kind: str
    place: str = ""
    words: str = ""

    @property
    def is_fault(self) -> bool:
        """Whether a reader has to be mended."""
        return self.kind not in (ACCEPTED, REFUSED)


def outcome(reader: Reader, path: Path, data: bytes) -> Outcome:
    """Writes the bytes to the reader's file and reads them.

    A reader returns, or raises an error of a class of this package that names the file; it takes
    neither long nor much memory (see `limited`), and warns of nothing.
    """
    path.write_bytes(data)
    start = time.process_time()
    try:
        with warnings.catch_warnings(), _alarm(reader.seconds):
            warnings.simplefilter("error")
            reader.read(path)
        kind = Outcome(ACCEPTED)
    except Hang as error:
        return Outcome("hang", _place(error), f"more than {reader.seconds:g} s")
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # also what extensions in Rust raise
        kind = _judged(reader, path, error)
    if time.process_time() - start > reader.seconds:
        return Outcome("hang", reader.name, "a library took too long")
    return kind


def _judged(reader: Reader, path: Path, error: BaseException) -> Outcome:
    words, place = f"{type(error).__name__}: {error}", _place(error)
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, MemoryError):
            return Outcome("memory", _place(cause), words)
        cause = cause.__cause__
    if not type(error).__module__.startswith("tavid_jax."):
        return Outcome("foreign error", place, words)
    if reader.named and path.name not in str(error) and str(path.parent) not in str(error):
        return Outcome("names no file", place, words)
    try:
        words.encode()
    except UnicodeEncodeError:
        return Outcome("cannot be printed", place, ascii(words))
    return Outcome(REFUSED)


def _place(error: BaseException) -> str:
    """Kind of the error, and the last line of our own that it came through."""
    ours = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if "/tavid_jax/" in frame.filename
    ]
    if not ours:
        return type(error).__name__
    last = ours[-1]
    file = last.filename.rpartition("/tavid_jax/")[2]
    return f"{type(error).__name__} at {file}:{last.lineno}"


@contextlib.contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    def ring(number: int, frame: object) -> None:
        raise Hang

    before = signal.signal(signal.SIGPROF, ring)
    signal.setitimer(signal.ITIMER_PROF, seconds)  # of this process: others do not count
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
