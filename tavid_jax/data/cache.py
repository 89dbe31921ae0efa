"""A folder of derived arrays, each under a hash of all that it was made from."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from absl import logging

from tavid_jax.data.video import file_hash, image_files
from tavid_jax.untrusted.errors import DAMAGED
from tavid_jax.untrusted.npy import load_npz

Arrays = dict[str, np.ndarray]


def cached(
    folder: str | os.PathLike | None, key: Mapping[str, object], build: Callable[[], Arrays]
) -> Arrays:
    """Reads the arrays kept under `key`, or builds and keeps them.

    Files appear whole or not at all (written beside their place, then renamed), so concurrent
    processes and kills do no harm. A file that cannot be read, or whose stored key differs, is
    rebuilt; a folder that cannot be written costs a warning, not the run.

    Args:
      folder: where the npz files lie; None = keep nothing.
      key: JSON-able facts that decide the content (file hash, settings, version).
      build: makes the arrays.
    """
    if folder is None:
        return build()
    text = json.dumps(key, sort_keys=True)
    path = Path(folder) / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.npz"
    if path.exists():
        try:
            return _read(path, text)
        except DAMAGED as error:
            logging.warning("Cache file %s is unusable (%s): building it again.", path, error)
    arrays = build()
    try:
        save_npz(path, **arrays, cache_key=np.array(text))
    except OSError as error:
        logging.warning("Cannot keep %s (%s): it will be built again next time.", path, error)
    return arrays


def save_npz(path: str | os.PathLike, **arrays: np.ndarray) -> None:
    """Writes an npz file atomically: beside its place, then renamed."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as stream:
            np.savez(stream, **arrays)
        os.chmod(partial, 0o644)
        os.replace(partial, path)
    except BaseException:
        os.unlink(partial)
        raise


def write_whole(path: str | os.PathLike, content: bytes) -> None:
    """Writes a file atomically, with the folders above it: beside its place, then renamed."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        partial.write_bytes(content)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


_HASHES: dict[tuple, str] = {}


def content_hash(path: str | os.PathLike) -> str:
    """SHA-256 of the bytes of a file, or of a folder's images; remembered while they look alike.

    "Alike" is same names, sizes and times of change.
    """
    path = Path(path)
    parts = [path] if path.is_file() else image_files(path)
    stats = [(part.name, part.stat().st_size, part.stat().st_mtime_ns) for part in parts]
    key = (str(path.absolute()), *stats)
    if key not in _HASHES:
        _HASHES[key] = file_hash(path)
    return _HASHES[key]


def _read(path: Path, key: str) -> Arrays:
    arrays = load_npz(path)
    if str(arrays.pop("cache_key")) != key:
        raise ValueError("it was made from other settings")
    return arrays
