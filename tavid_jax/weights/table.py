"""Declarative tables between checkpoint keys and parameter paths, read in both directions.

A table lists, for every tensor of a checkpoint, where it goes and how its layout changes. Nothing
is guessed; `streaming` reads the table forwards and backwards and accounts for every key.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tavid_jax.weights.ops import COPY, TRANSPOSE, Op


@dataclass(frozen=True)
class Row:
    """One parameter: `source` key, "a/b/c" path, layout change.

    If the key contains {i}, the tensors of `layers` (the values of i, in order) are stacked on a
    new leading axis of the one parameter at `path`.

    `part` = (index, count) says that the parameter is one of `count` equal pieces of the tensor,
    along the tensor's first axis; the other pieces are rows of their own.
    """

    source: str
    path: str
    op: Op = COPY
    layers: Sequence[int] | None = None
    part: tuple[int, int] = (0, 1)

    def keys(self) -> list[str]:
        """All checkpoint keys that this row speaks for."""
        if self.layers is None:
            return [self.source]
        return [self.source.replace("{i}", str(i)) for i in self.layers]

    def source_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The checkpoint's shape of one tensor of a parameter of this shape (stack included)."""
        one = tuple(shape if self.layers is None else shape[1:])
        piece = self.op.backward(np.broadcast_to(np.False_, one)).shape
        count = self.part[1]
        return piece if count == 1 else (count * piece[0], *piece[1:])

    def forward(self, tensor: np.ndarray) -> np.ndarray:
        """The parameter, or one layer of it, from a tensor of the checkpoint."""
        index, count = self.part
        return self.op.forward(tensor if count == 1 else np.split(tensor, count)[index])


@dataclass(frozen=True)
class Derived:
    """A buffer that follows from the config: checked if the checkpoint has it, made on export."""

    source: str
    value: Callable[[], np.ndarray]
    tolerance: float = 1e-5


@dataclass(frozen=True)
class Table:
    """Rows, buffers that follow from the config, and patterns of keys that may be ignored.

    Ignored keys (full regular-expression match) are dropped on reading and not written.
    """

    rows: tuple[Row, ...]
    derived: tuple[Derived, ...] = ()
    ignored: tuple[str, ...] = ()

    def keys(self) -> list[str]:
        """All keys that a checkpoint must have, each once."""
        return list(dict.fromkeys(key for row in self.rows for key in row.keys()))


def linear_rows(source: str, path: str, layers: Sequence[int] | None = None) -> list[Row]:
    """Kernel and bias of a linear layer."""
    return [
        Row(f"{source}.weight", f"{path}/kernel", TRANSPOSE, layers),
        Row(f"{source}.bias", f"{path}/bias", COPY, layers),
    ]


def norm_rows(source: str, path: str, layers: Sequence[int] | None = None) -> list[Row]:
    """Scale and bias of a layer norm."""
    return [
        Row(f"{source}.weight", f"{path}/scale", COPY, layers),
        Row(f"{source}.bias", f"{path}/bias", COPY, layers),
    ]


def side_by_side(tables: Mapping[str, Table]) -> Table:
    """Several models as one: keys and paths of each get its name and "/" in front."""
    rows, derived, ignored = [], [], []
    for name, table in tables.items():
        at = f"{name}/"
        rows += [replace(r, source=at + r.source, path=at + r.path) for r in table.rows]
        derived += [replace(d, source=at + d.source) for d in table.derived]
        ignored += [re.escape(at) + pattern for pattern in table.ignored]
    return Table(tuple(rows), tuple(derived), tuple(ignored))


def walk(tree: Mapping, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(path, leaf) of nested dicts, paths written "a/b/c"."""
    for name, value in tree.items():
        path = f"{prefix}/{name}" if prefix else name
        if isinstance(value, Mapping):
            yield from walk(value, path)
        else:
            yield path, value


def nest(flat: Mapping[str, Any]) -> dict:
    """{"a/b/c": leaf} as nested dicts: the inverse of `walk`."""
    tree: dict = {}
    for path, leaf in flat.items():
        *parents, name = path.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[name] = leaf
    return tree
