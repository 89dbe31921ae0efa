"""A training's frozen kernels in 8 bits: rounded as they are read, or as they are made."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np

from tavid_jax.weights.quantised import is_large_kernel, quantise_array, quantise_leaf
from tavid_jax.weights.table import nest, walk

# A path -> whether the parameter is to be rounded, if it is a large kernel.
Chosen = Callable[[str], bool]


@runtime_checkable
class Stored(Protocol):
    """A parameter that is read when it is asked for."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the values."""

    def read(self) -> np.ndarray:
        """The values."""


@dataclasses.dataclass(frozen=True)
class _Rounded:
    """A kernel whose values are read in 8 bits."""

    wide: Stored

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.wide.shape)

    def read(self) -> Any:
        return quantise_leaf(self.wide.read())


def stored(leaves: Mapping[str, Stored], chosen: Chosen) -> dict[str, Any]:
    """{path: parameter}, of which the chosen large kernels are read as `qwix.QArray`s."""
    return {
        path: _Rounded(leaf) if chosen(path) and is_large_kernel(path, leaf.shape) else leaf
        for path, leaf in leaves.items()
    }


def rounded(params: Mapping[str, Any], chosen: Chosen) -> dict[str, Any]:
    """The same parameters with the chosen large kernels as `qwix.QArray`s.

    May be traced: shapes alone will do.

    Raises:
      WeightsError: the library qwix is not installed.
    """
    return nest(
        {
            path: quantise_array(leaf)
            if chosen(path) and is_large_kernel(path, leaf.shape)
            else leaf
            for path, leaf in walk(params)
        }
    )
