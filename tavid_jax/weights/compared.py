"""How two checkpoints differ, parameter by parameter."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tavid_jax.weights.lazy import LazyArray
from tavid_jax.weights.opened import open_parameters
from tavid_jax.weights.problems import WeightsError
from tavid_jax.weights.source import open_source


@dataclass(frozen=True)
class Difference:
    """One parameter that two checkpoints do not share.

    Attributes:
      path: our path, or the key where the kind of checkpoint is not known.
      what: "only in the first", "only in the second", "shape" or "values".
      detail: the two shapes, for "shape".
      largest: largest absolute difference, for "values" (nan where one has a nan).
      relative: that over the root mean square of the first's values.
    """

    path: str
    what: str
    detail: str = ""
    largest: float = 0.0
    relative: float = 0.0


def compare(
    first: str | Path, second: str | Path, tolerance: float = 0.0
) -> Iterator[Difference | str]:
    """Yields each difference, and the path of each parameter that is equal.

    Two checkpoints of known models are compared in our layout, so that original and diffusers
    naming, or a published and an imported one, can be compared; others key by key. Dtypes may
    differ; one pair of parameters is in memory at a time.

    Args:
      first, second: anything that `open_parameters` or `open_source` opens.
      tolerance: largest relative difference that counts as equal.

    Raises:
      WeightsError: one of them is unusable.
    """
    yield from compare_leaves(*_leaves(first, second), tolerance)


def compare_leaves(
    a: Mapping[str, LazyArray], b: Mapping[str, LazyArray], tolerance: float = 0.0
) -> Iterator[Difference | str]:
    """`compare` of opened checkpoints."""
    for path in [*a, *(path for path in b if path not in a)]:
        if path not in b:
            yield Difference(path, "only in the first")
        elif path not in a:
            yield Difference(path, "only in the second")
        elif a[path].shape != b[path].shape:
            yield Difference(path, "shape", f"{a[path].shape} and {b[path].shape}")
        else:
            largest, relative = _distance(a[path].read(), b[path].read())
            same = largest == 0.0 or relative <= tolerance
            yield path if same else Difference(path, "values", "", largest, relative)


def _leaves(first: Any, second: Any) -> tuple[Mapping[str, LazyArray], Mapping[str, LazyArray]]:
    try:
        return open_parameters(first).leaves, open_parameters(second).leaves
    except WeightsError:
        # Not of a known model, or of one in part: say what can be said about the keys.
        return open_source(first).tensors, open_source(second).tensors


def _distance(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """Largest absolute difference, and that over the rms of `a`; slice by slice in float32."""
    largest, squares = 0.0, 0.0
    for x, y in zip(a, b, strict=True) if a.ndim > 1 else [(a, b)]:
        x, y = x.astype(np.float32), y.astype(np.float32)
        distance = np.abs(x - y)
        distance[(x == y) | (np.isnan(x) & np.isnan(y))] = 0.0  # inf - inf
        largest = np.fmax(largest, distance.max(initial=0.0)) if largest == largest else largest
        largest = float("nan") if np.isnan(distance).any() else float(largest)
        squares += float(np.square(x, dtype=np.float64).sum())
    rms = (squares / max(a.size, 1)) ** 0.5
    return largest, largest / rms if rms else float("inf" if largest else 0.0)
