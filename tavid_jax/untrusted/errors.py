"""What is wrong with a file from elsewhere, and the room's own error made of it."""

from __future__ import annotations

import contextlib
import csv
import os
import pickle
import struct
import zipfile
import zlib
from collections.abc import Iterator


class UntrustedError(ValueError):
    """A file is not what it should be; the message says why, not which file."""


class LimitError(UntrustedError):
    """A file asks for more than a limit allows; see `limits`."""


class UnsafeNameError(UntrustedError):
    """A name in a file leads out of the folder that it belongs to; see `names`."""


# What libraries raise for bytes that are damaged, or made to damage.
DAMAGED = (
    ArithmeticError, AttributeError, BufferError, EOFError, LookupError, MemoryError,
    NotImplementedError, OSError, RecursionError, SyntaxError, TypeError, ValueError, csv.Error,
    pickle.UnpicklingError, struct.error, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
_MOST = 300  # characters of a library's own words


@contextlib.contextmanager
def reading(path: str | os.PathLike, error: type[Exception], what: str) -> Iterator[None]:
    """What goes wrong inside the `with` block becomes the error of the room that reads.

    Put it around calls of libraries and of this package's `untrusted`, not around whole readers:
    bugs of our own are not the file's fault.

    Args:
      path: of the file; the message begins with it.
      error: class of the room's errors; its own pass through as they are.
      what: the file should be, such as "JSON of edits".
    """
    try:
        yield
    except error:
        raise
    except (LimitError, UnsafeNameError) as reason:
        raise error(f"{path}: {reason}") from reason
    except DAMAGED as reason:
        raise error(f"{path}: cannot be read as {what} ({told(reason)})") from reason


def told(reason: BaseException) -> str:
    """The words of an error on one line, short; its kind where it has none."""
    words = getattr(reason, "strerror", None) or str(reason)
    line = " ".join(str(words).split()) or type(reason).__name__
    return line if len(line) <= _MOST else f"{line[:_MOST]}..."
