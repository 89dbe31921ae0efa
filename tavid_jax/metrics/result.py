"""Plain records of results, so that a number never travels without what it depends on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from tavid_jax import __version__

Number = np.ndarray | np.generic | float | int


def ratio(total: Number, weight: Number) -> np.ndarray:
    """total / weight in float64; NaN (without a warning) where the weight is 0."""
    total, weight = np.asarray(total, np.float64), np.asarray(weight, np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(weight > 0, total / weight, np.nan)


def check_shapes(expected: tuple[int, ...], **arrays: np.ndarray | None) -> None:
    """Raises ValueError naming the first array (None is skipped) that is not of this shape.

    numpy would broadcast, and a metric of broadcast arrays is a wrong number, not an error.
    """
    for name, array in arrays.items():
        if array is not None and array.shape != expected:
            raise ValueError(f"{name} has shape {array.shape}, expected {expected}")


def masked_mean(
    values: Float[np.ndarray, "..."], mask: Bool[np.ndarray, "..."], axis: int | tuple[int, ...]
) -> np.ndarray:
    """Mean of `values` where `mask` (same shape) holds, in float64; NaN where nothing is selected.

    What lies outside of the mask has no influence, NaN and infinity included.
    """
    check_shapes(values.shape, mask=mask)
    total = np.where(mask, values, 0).sum(axis=axis, dtype=np.float64)
    return ratio(total, mask.sum(axis=axis))


def finite_mean(values: Float[np.ndarray, "*D"]) -> float:
    """Mean over the finite values; NaN when there is none."""
    finite = values[np.isfinite(values)]
    return float(finite.mean(dtype=np.float64)) if finite.size else math.nan


def record(values: Mapping[str, Any], *, n: int | np.integer, **settings: Any) -> dict[str, Any]:
    """One result as plain Python: values, the count behind them, the settings they depend on.

    Args:
      values: name -> number (arrays become nested lists).
      n: how many items (clips, windows, samples) the values summarise.
      **settings: everything that changes the values: clip length, masking, grid, eps, ...

    Returns:
      {**values, "n": n, "settings": {..., "version": ...}}
    """
    return {
        **plain(values),
        "n": int(n),
        "settings": plain({**settings, "version": __version__}),
    }


def plain(value: Any) -> Any:
    """numpy values, tuples and mappings as Python numbers, lists and dicts; NaN stays NaN."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    return value


def for_json(value: Any) -> Any:
    """Like `plain`, with NaN and infinities as None: JSON has no word for them."""
    value = plain(value)
    if isinstance(value, dict):
        return {key: for_json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [for_json(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
