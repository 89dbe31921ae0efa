"""Names that stand in files: they may lead into a folder, never out of it."""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from tavid_jax.untrusted.errors import UnsafeNameError

_FORBIDDEN = re.compile(r"[^\w.\-]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_LONGEST = 255  # bytes of one part of a path on the usual file systems
_LONGEST_PATH = 2000
_STEM = 200  # bytes: room for endings


def safe_name(name: str) -> str:
    """A name that is one file's stem on any system, made of any text."""
    name = _FORBIDDEN.sub("_", name)
    name = name.encode("utf-8", "replace")[:_STEM].decode("utf-8", "ignore")
    return name.strip(".") or "_"


def inside(folder: str | os.PathLike, name: Any) -> Path:
    """The path of a file that something else names, below a folder. It need not be there.

    Raises:
      UnsafeNameError: an absolute path, a drive, "..", a backslash or a control character, a part
        that no file system takes, or a link on the way that leads out of the folder.
    """
    parts = _parts(name)
    folder = Path(folder)
    path = folder.joinpath(*parts)
    try:
        home, found = folder.resolve(), path.resolve()
    except (OSError, RuntimeError, ValueError) as error:  # links in a circle
        raise UnsafeNameError(f"the name {_short(name)} leads nowhere ({error})") from error
    if home != found and home not in found.parents:
        raise UnsafeNameError(
            f"the name {_short(name)} leads out of {folder}, by a link to {found}: copy what is "
            "linked into the folder"
        )
    return path


def check_name(name: Any) -> str:
    """The name itself, if it may be that of one file of a folder.

    Raises:
      UnsafeNameError: it has folders in it, or see `inside`.
    """
    if len(_parts(name)) != 1:
        raise UnsafeNameError(f"the name {_short(name)} must be that of one file, without folders")
    return name


def _parts(name: Any) -> tuple[str, ...]:
    if not isinstance(name, str) or not name.strip():
        raise UnsafeNameError(f"{_short(name)} is no name of a file")
    windows = PureWindowsPath(name)
    if windows.drive or windows.root or PurePosixPath(name).is_absolute():
        raise UnsafeNameError(
            f"the name {_short(name)} is an absolute path; names must be relative to the folder"
        )
    if "\\" in name or _CONTROL.search(name):
        raise UnsafeNameError(f"the name {_short(name)} has a backslash or a control character")
    if len(name) > _LONGEST_PATH:
        raise UnsafeNameError(f"the name {_short(name)} has {len(name)} characters")
    parts = PurePosixPath(name).parts
    if ".." in parts or not parts:
        raise UnsafeNameError(f"the name {_short(name)} leads out of its folder")
    for part in parts:
        try:
            fits = len(part.encode()) <= _LONGEST
        except UnicodeEncodeError:  # half a pair of UTF-16
            fits = False
        if not fits:
            raise UnsafeNameError(f"the name {_short(name)} is none that a file system takes")
    return parts


def _short(name: object) -> str:
    text = ascii(name)
    return text if len(text) <= 80 else f"{text[:77]}..."
