"""Trees of numbers to JSON, and text to files, whole or not at all."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def write_metrics(path: str | os.PathLike, metrics: Mapping[str, Any]) -> Path:
    """Write a tree of numbers as JSON: keys sorted, NaN and infinities null, whole or not at all.

    Raises:
      TypeError: a leaf that is no number, text, None, list or array; names the place.
    """
    path = Path(path)
    text = json.dumps(plain(metrics), indent=2, sort_keys=True, allow_nan=False)
    write_text(path, text + "\n")
    return path


def plain(value: Any, place: str = "") -> Any:
    """A tree of dicts, lists, scalars and arrays (NumPy, JAX) as what JSON can hold."""
    if value is None or isinstance(value, bool | str | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(item, f"{place}/{key}") for key, item in value.items()}
    if hasattr(value, "_asdict"):
        return plain(value._asdict(), place)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        return plain(fields, place)
    if isinstance(value, list | tuple | set | frozenset):
        items = sorted(value, key=str) if isinstance(value, set | frozenset) else value
        return [plain(item, f"{place}/{i}") for i, item in enumerate(items)]
    if hasattr(value, "tolist"):
        return plain(value.tolist(), place)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError(f"{place or 'value'} is a {type(value).__name__}: not something JSON can hold")


def write_text(path: Path, text: str) -> None:
    """Write so that readers see the old file or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
