"""Digests of files: what has changed since they were written is noticed before it is used.

The storage library misses files and ends that are gone, but takes any byte for a weight.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tavid_jax import places
from tavid_jax.parallel.processes import count, index
from tavid_jax.places import Place

NAME = "sha256.json"
_AT_ONCE = 4


class SealError(ValueError):
    """A file is not as it was written; the message names it."""


def sealing(handler: Any) -> Any:
    """A checkpoint handler that seals its folder before the checkpoint counts as whole.

    In the background, as all that makes it whole.
    """
    finalize = handler.finalize

    def finalize_and_seal(folder: Place) -> None:
        finalize(folder)
        seal(folder)

    handler.finalize = finalize_and_seal
    return handler


def seal(folder: Place) -> None:
    """Writes the digests of all files below a folder into it. A bucket checks its objects itself.

    Raises OSError when the disk does not take it.
    """
    if places.is_remote(folder):
        return
    folder = Path(folder)
    names = sorted(name for name in places.sizes(folder) if name != NAME)
    digests = dict(zip(names, _digests(folder, names), strict=True))
    places.write_text(folder / NAME, json.dumps(digests, indent=1) + "\n")


def check_seal(folder: Place) -> None:
    """Compares the files with their digests; of several processes each one its share.

    A folder without digests passes: it is older than they are, or in a bucket.

    Raises SealError naming the first file that is missing or has changed.
    """
    if places.is_remote(folder) or not (Path(folder) / NAME).exists():
        return
    folder = Path(folder)
    try:
        sealed = json.loads((folder / NAME).read_bytes())
        names = sorted(sealed)[index() :: count()]
    except (ValueError, TypeError) as error:
        raise SealError(f"{folder.name}/{NAME} is damaged ({error})") from error
    for name in names:
        if not (folder / name).is_file():
            raise SealError(f"{folder.name}/{name} is missing")
    for name, digest in zip(names, _digests(folder, names), strict=True):
        if digest != sealed[name]:
            raise SealError(f"{folder.name}/{name} has changed since it was written")


def _digests(folder: Path, names: Iterable[str]) -> list[str]:
    def digest(name: str) -> str:
        with (folder / name).open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()

    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="seal") as pool:
        return list(pool.map(digest, names))
