"""Trees of numbers to JSON."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Mapping
from typing import Any

from tavid_jax import places
from tavid_jax.places import Place


def write_metrics(path: str | os.PathLike, metrics: Mapping[str, Any]) -> Place:
    """Write a tree of numbers as JSON: keys sorted, NaN and infinities null, whole or not at all.

    Raises:
      TypeError: a leaf that is no number, text, None, list or array; names the place.
    """
    path = places.place(path)
    text = json.dumps(plain(metrics), indent=2, sort_keys=True, allow_nan=False)
    places.write_text(path, text + "\n")
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
