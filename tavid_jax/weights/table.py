"""Declarative tables between checkpoint keys and parameter paths, read in both directions.

A table lists, for every tensor of a checkpoint, where it goes and how its layout changes. Nothing
is guessed: `port_table` and `export_table` account for every key on both sides and raise one
`WeightsError` that lists all that is missing, unknown, or of another shape.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tavid_jax.weights.ops import COPY, TRANSPOSE, Op

# How many keys of each kind an error shows.
MAX_LISTED = 20


class WeightsError(ValueError):
    """A checkpoint does not match the model that its config describes."""


@dataclass(frozen=True)
class Row:
    """One parameter: `source` key, "a/b/c" path, layout change.

    If the key contains {i}, the tensors of `layers` (the values of i, in order) are stacked on a
    new leading axis of the one parameter at `path`.
    """

    source: str
    path: str
    op: Op = COPY
    layers: Sequence[int] | None = None

    def keys(self) -> list[str]:
        """All checkpoint keys that this row speaks for."""
        if self.layers is None:
            return [self.source]
        return [self.source.replace("{i}", str(i)) for i in self.layers]


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
    ignored: tuple[str, ...] = field(default=())


def linear_rows(source: str, path: str, layers: Sequence[int] | None = None) -> list[Row]:
    """Kernel and bias of a linear layer."""
    return [
        Row(f"{source}.weight", f"{path}/kernel", TRANSPOSE, layers),
        Row(f"{source}.bias", f"{path}/bias", COPY, layers),
    ]


def to_numpy(tensor: Any) -> np.ndarray:
    """float32 numpy of a numpy, JAX or PyTorch array (bfloat16 included)."""
    if hasattr(tensor, "detach"):  # a PyTorch tensor, without importing PyTorch
        tensor = tensor.detach().cpu().float().numpy()
    return np.asarray(tensor).astype(np.float32)


def walk(tree: Mapping, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(path, leaf) of nested dicts, paths written "a/b/c"."""
    for name, value in tree.items():
        path = f"{prefix}/{name}" if prefix else name
        if isinstance(value, Mapping):
            yield from walk(value, path)
        else:
            yield path, value


def port_table(
    table: Table,
    state_dict: Mapping[str, Any],
    shapes: Mapping,
    place: Callable[[str, np.ndarray], Any] | None = None,
) -> dict:
    """Parameters of the model from a checkpoint.

    Args:
      table: the checkpoint's table.
      state_dict: key -> tensor (numpy, JAX or PyTorch).
      shapes: the parameters' nested dict with anything that has `.shape` as leaves, e.g. from
        `jax.eval_shape`; the result has exactly these paths and shapes.
      place: (path, float32 numpy array) -> what to store, e.g. a sharded `device_put`; called
        parameter by parameter. Default: a JAX array on the default device.

    Raises:
      WeightsError: lists every missing and unknown key, uncovered path and wrong shape.
    """
    place = place or (lambda path, array: jnp.asarray(array))
    wanted = {path: tuple(leaf.shape) for path, leaf in walk(shapes)}
    problems = _coverage(table, state_dict, wanted)
    params: dict = {}
    for row in table.rows:
        if row.path not in wanted or any(key not in state_dict for key in row.keys()):
            continue  # reported by _coverage
        stacked, wrong = _read_row(row, state_dict, wanted[row.path])
        problems["wrong shape"] += wrong
        if not wrong:
            _set(params, row.path, place(row.path, stacked))
    problems["does not follow from this config"] = _check_derived(table, state_dict)
    _raise(problems, "cannot read this checkpoint")
    return params


def export_table(table: Table, params: Mapping, shapes: Mapping) -> dict[str, np.ndarray]:
    """The checkpoint of a model's parameters: the exact inverse of `port_table`; float32.

    Raises:
      WeightsError: lists every missing and unknown path and wrong shape of `params`.
    """
    wanted = {path: tuple(leaf.shape) for path, leaf in walk(shapes)}
    have = dict(walk(params))
    _raise(
        {
            "missing parameters": [path for path in wanted if path not in have],
            "unknown parameters": [path for path in have if path not in wanted],
            "wrong shape": [
                f"{path}: {tuple(leaf.shape)}, expected {wanted[path]}"
                for path, leaf in have.items()
                if path in wanted and tuple(leaf.shape) != wanted[path]
            ],
            "parameters without a row in the table": _uncovered(table, wanted),
        },
        "cannot write this checkpoint",
    )
    out = {}
    for row in table.rows:
        array = to_numpy(jax.device_get(have[row.path]))
        parts = [array] if row.layers is None else array
        for key, part in zip(row.keys(), parts, strict=True):
            out[key] = np.array(row.op.backward(part), order="C")
    for derived in table.derived:
        out[derived.source] = derived.value()
    return out


def _coverage(
    table: Table, state_dict: Mapping[str, Any], wanted: Mapping[str, tuple]
) -> dict[str, list[str]]:
    known = [key for row in table.rows for key in row.keys()]
    optional = {derived.source for derived in table.derived}
    accounted = set(known) | optional
    unknown = [
        key
        for key in state_dict
        if key not in accounted and not any(re.fullmatch(p, key) for p in table.ignored)
    ]
    return {
        "missing keys": [key for key in known if key not in state_dict],
        "unknown keys": unknown,
        "parameters without a row in the table": _uncovered(table, wanted),
        "rows without a parameter": [r.path for r in table.rows if r.path not in wanted],
        "wrong shape": [],
    }


def _uncovered(table: Table, wanted: Mapping[str, tuple]) -> list[str]:
    covered = {row.path for row in table.rows}
    return [path for path in wanted if path not in covered]


def _read_row(
    row: Row, state_dict: Mapping[str, Any], shape: tuple[int, ...]
) -> tuple[np.ndarray, list[str]]:
    """The parameter of a row, filled tensor by tensor, and complaints about shapes."""
    out = np.empty(shape, np.float32)
    part_shape = shape if row.layers is None else shape[1:]
    if row.layers is not None and shape[:1] != (len(row.layers),):
        return out, [f"{row.path}: depth {shape[:1]}, the table has {len(row.layers)} layers"]
    expected = row.op.backward(np.empty(part_shape, np.bool_)).shape
    wrong = []
    for index, key in enumerate(row.keys()):
        tensor = to_numpy(state_dict[key])
        if tensor.shape != expected:
            wrong.append(f"{key}: {tensor.shape}, expected {expected} for {row.path} {part_shape}")
        elif row.layers is None:
            out[...] = row.op.forward(tensor)
        else:
            out[index] = row.op.forward(tensor)
    return out, wrong


def _check_derived(table: Table, state_dict: Mapping[str, Any]) -> list[str]:
    problems = []
    for derived in table.derived:
        if derived.source not in state_dict:
            continue
        got, want = to_numpy(state_dict[derived.source]), derived.value()
        if got.shape != want.shape:
            problems.append(f"{derived.source}: shape {got.shape}, expected {want.shape}")
        elif not np.allclose(got, want, rtol=0.0, atol=derived.tolerance):
            problems.append(f"{derived.source}: differs by up to {np.abs(got - want).max():.3g}")
    return problems


def _set(tree: dict, path: str, value: Any) -> None:
    *parents, name = path.split("/")
    for parent in parents:
        tree = tree.setdefault(parent, {})
    tree[name] = value


def _raise(problems: Mapping[str, list[str]], what: str) -> None:
    """One error for all problems, if there is any."""
    lines = []
    for kind, items in problems.items():
        if items:
            shown = items[:MAX_LISTED]
            more = [f"... and {len(items) - len(shown)} more"] if len(items) > len(shown) else []
            lines += [f"{kind} ({len(items)}):", *(f"  {line}" for line in shown + more)]
    if lines:
        hint = "check that the config (sizes, depth, options) is the checkpoint's"
        raise WeightsError("\n".join([f"{what}; {hint}", *lines]))
