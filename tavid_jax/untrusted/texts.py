"""Text and JSON of bounded size and depth, without halves of characters."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tavid_jax.untrusted import limits
from tavid_jax.untrusted.errors import UntrustedError, told

# An escaped half of a UTF-16 pair: most often one of a whole pair, seldom alone.
_HALF = re.compile(r"\\u[dD][89abAB]|\\u[dD][cdefCDEF]|[\ud800-\udfff]")


def read_text(path: str | os.PathLike, limit: str = "text_bytes") -> str:
    """The text of a UTF-8 file, without a byte-order mark.

    Raises:
      UntrustedError: larger than a limit, no UTF-8, or a NUL in it.
      OSError: it cannot be read.
    """
    path = path if hasattr(path, "read_bytes") else Path(path)  # it may lie in a bucket
    about = path.stat()
    size = about.st_size if hasattr(about, "st_size") else about.length
    limits.check(limit, size, "its size")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UntrustedError(f"is no text in UTF-8 ({error})") from error
    if "\0" in text:
        raise UntrustedError("is no text: it has a zero byte in it")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_table(path: str | os.PathLike) -> tuple[list[str], list[dict[str, str | None]]]:
    """(names of the columns, rows by them) of a CSV file; a cell that is missing is None.

    Raises:
      UntrustedError: see `read_text`, a cell that is too long, or no CSV.
      OSError: it cannot be read.
    """
    reader = csv.DictReader(io.StringIO(read_text(path), newline=""), restkey="")
    try:
        columns, rows = list(reader.fieldnames or ()), list(reader)
    except csv.Error as error:
        raise UntrustedError(f"is no table that can be read ({error})") from error
    for row in rows:
        row.pop("", None)  # cells behind the last column
        for cell in row.values():
            limits.check("caption_chars", len(cell or ""), "a cell of the table")
    return columns, rows


def read_json(path: str | os.PathLike, **options: Any) -> Any:
    """What a JSON file holds, see `parse_json`; OSError if it cannot be read."""
    return parse_json(read_text(path, "json_bytes"), **options)


def parse_json(text: str | bytes, *, parse_constant: Callable[[str], Any] | None = None) -> Any:
    """What JSON stands for.

    Args:
      text: of it, or UTF-8 bytes.
      parse_constant: what becomes of NaN and Infinity, which JSON does not have; None takes them.

    Raises:
      UntrustedError: no JSON, nested too deep, a number of too many digits, or half a character.
    """
    try:
        if isinstance(text, bytes | bytearray | memoryview):
            text = bytes(text).decode("utf-8-sig")
        value = json.loads(text, parse_constant=parse_constant, parse_int=_integer)
        if _HALF.search(text):
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError as error:
        raise UntrustedError("is no JSON that can be read (nested too deep)") from error
    except UnicodeEncodeError as error:
        raise UntrustedError("is no JSON that can be read (half a character in a text)") from error
    except ValueError as error:
        raise UntrustedError(f"is no JSON that can be read ({told(error)})") from error
    check_depth(value)
    return value


def _integer(text: str) -> int:
    """Those of more digits than 128 bits have no meaning anywhere, and are no float."""
    if len(text) > 40:
        raise ValueError(f"an integer of {len(text)} digits")
    return int(text)


def check_depth(value: Any) -> None:
    """Refuses lists and dicts in one another beyond the limit `json_depth`.

    Raises:
      LimitError: see `limits.check`.
    """
    level, depth = [value], 0
    allowed = limits.most("json_depth")
    while level := [one for one in level if isinstance(one, dict | list)]:
        depth += 1
        if depth > allowed:
            limits.check("json_depth", depth, "its nesting")
        level = [
            item
            for one in level
            for item in (one.values() if isinstance(one, dict) else one)
            if isinstance(item, dict | list)
        ]


def check_caption(text: str) -> str:
    """The text itself, if it may be a caption.

    Raises:
      LimitError: it is too long.
    """
    limits.check("caption_chars", len(text), "a caption")
    return text
