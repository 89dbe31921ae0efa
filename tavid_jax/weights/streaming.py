"""Reading tables forwards and backwards, one parameter in memory at a time.

All names and shapes are compared before the first value is read: a checkpoint that does not fit
costs nothing and says everything that is wrong.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from tavid_jax.weights.lazy import LazyArray, Spec, as_lazy, common_dtype, to_dtype
from tavid_jax.weights.problems import fold, raise_all, with_nearest
from tavid_jax.weights.table import Row, Table, nest, walk

Place = Callable[[str, np.ndarray], Any]
Shapes = Mapping[str, Any]


def plan(
    table: Table, tensors: Mapping[str, Any], shapes: Shapes, dtype: Any = "keep"
) -> dict[str, LazyArray]:
    """The model's parameters, path -> array that is read and stacked when asked for.

    Args:
      table: the checkpoint's table.
      tensors: key -> lazy, numpy, JAX or PyTorch array.
      shapes: the parameters' nested dict with anything that has `.shape` as leaves.
      dtype: of the parameters; "keep" is the checkpoint's (float32 for a stack of several).

    Raises:
      WeightsError: lists every missing and unknown key, uncovered path and wrong shape.
    """
    lazy = {key: as_lazy(tensor) for key, tensor in tensors.items()}
    wanted = {path: tuple(leaf.shape) for path, leaf in walk(shapes)}
    rows = [row for row in table.rows if row.path in wanted]
    problems = _coverage(table, lazy, wanted)
    problems["wrong shape"] = [line for row in rows for line in _misshapen(row, lazy, wanted)]
    problems["does not follow from this config"] = _check_derived(table, lazy)
    raise_all(problems, "cannot read this checkpoint")
    chosen = to_dtype(dtype)
    return {row.path: _stacked(row, lazy, wanted[row.path], chosen) for row in rows}


def port_table(
    table: Table,
    tensors: Mapping[str, Any],
    shapes: Shapes,
    place: Place | None = None,
    dtype: Any = "float32",
) -> dict:
    """`plan`, carried out: nested parameters.

    Args:
      place: (path, numpy array of `dtype`) -> what to store, e.g. a sharded `device_put`; called
        parameter by parameter. Default: a JAX array on the default device.
    """
    place = place or (lambda path, array: jnp.asarray(array))
    planned = plan(table, tensors, shapes, dtype)
    return nest({path: place(path, leaf.read()) for path, leaf in planned.items()})


def plan_export(
    table: Table, params: Mapping[str, Any], shapes: Shapes, dtype: Any = "keep"
) -> tuple[dict[str, Spec], Iterator[tuple[str, np.ndarray]]]:
    """The checkpoint of a model's parameters: the exact inverse of `plan`.

    Args:
      params: nested dict of lazy, numpy or JAX arrays.
      dtype: of the tensors; "keep" is the parameters'.

    Returns:
      key -> shape and dtype of every tensor, and an iterator over (key, array) in the same order
      that reads each parameter once.

    Raises:
      WeightsError: lists every missing and unknown path and wrong shape of `params`.
    """
    wanted = {path: tuple(leaf.shape) for path, leaf in walk(shapes)}
    have = {path: as_lazy(leaf) for path, leaf in walk(params)}
    missing = [path for path in wanted if path not in have]
    unknown = [path for path in have if path not in wanted]
    problems = {
        "missing parameters": with_nearest(missing, unknown),
        "unknown parameters": with_nearest(unknown, missing),
        "wrong shape": [
            f"{path}: {leaf.shape}, expected {wanted[path]}"
            for path, leaf in have.items()
            if path in wanted and leaf.shape != wanted[path]
        ],
        "parameters without a row in the table": _uncovered(table, wanted),
    }
    raise_all(problems, "cannot write this checkpoint")
    chosen = to_dtype(dtype)
    specs = {}
    for row in table.rows:
        leaf = have[row.path]
        spec = Spec(row.source_shape(leaf.shape), chosen or leaf.dtype)
        specs.update(dict.fromkeys(row.keys(), spec))
    buffers = {derived.source: derived.value() for derived in table.derived}
    specs |= {key: Spec(value.shape, value.dtype) for key, value in buffers.items()}
    return specs, _export(table, have, chosen, buffers)


def export_table(
    table: Table, params: Mapping[str, Any], shapes: Shapes, dtype: Any = "float32"
) -> dict[str, np.ndarray]:
    """`plan_export`, carried out: key -> array."""
    return dict(plan_export(table, params, shapes, dtype)[1])


def _export(
    table: Table,
    params: Mapping[str, LazyArray],
    dtype: np.dtype | None,
    buffers: Mapping[str, np.ndarray],
) -> Iterator[tuple[str, np.ndarray]]:
    for rows in _pieces(table):
        arrays = [params[row.path].read() for row in rows]
        for place, key in enumerate(rows[0].keys()):
            layer = ... if rows[0].layers is None else place
            pieces = [row.op.backward(a[layer]) for row, a in zip(rows, arrays, strict=True)]
            whole = pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
            yield key, np.array(whole, dtype=dtype or whole.dtype, order="C")
    yield from buffers.items()


def _pieces(table: Table) -> list[list[Row]]:
    """The rows, those that share a tensor together and in the order of their pieces."""
    shared: dict[str, list[Row]] = {}
    for row in table.rows:
        shared.setdefault(row.keys()[0], []).append(row)
    return [sorted(rows, key=lambda row: row.part) for rows in shared.values()]


def _stacked(
    row: Row, tensors: Mapping[str, LazyArray], shape: tuple[int, ...], dtype: np.dtype | None
) -> LazyArray:
    sources = [tensors[key] for key in row.keys()]
    dtype = dtype or common_dtype([source.dtype for source in sources])

    def read() -> np.ndarray:
        out = np.empty(shape, dtype)
        for index, source in enumerate(sources):
            slot = out if row.layers is None else out[index, ...]
            slot[...] = row.forward(source.read())
        return out

    return LazyArray(shape, dtype, read)


def _coverage(
    table: Table, tensors: Mapping[str, LazyArray], wanted: Mapping[str, tuple]
) -> dict[str, list[str]]:
    known = table.keys()
    accounted = {*known, *(derived.source for derived in table.derived)}
    missing = [key for key in known if key not in tensors]
    unknown = [
        key
        for key in tensors
        if key not in accounted and not any(re.fullmatch(p, key) for p in table.ignored)
    ]
    return {
        "missing keys": with_nearest(missing, unknown),
        "unknown keys": with_nearest(unknown, missing),
        "parameters without a row in the table": _uncovered(table, wanted),
        "rows without a parameter": [r.path for r in table.rows if r.path not in wanted],
    }


def _uncovered(table: Table, wanted: Mapping[str, tuple]) -> list[str]:
    covered = {row.path for row in table.rows}
    return [path for path in wanted if path not in covered]


def _misshapen(
    row: Row, tensors: Mapping[str, LazyArray], wanted: Mapping[str, tuple]
) -> list[str]:
    shape = wanted[row.path]
    if row.layers is not None and shape[:1] != (len(row.layers),):
        return [f"{row.path}: depth {shape[:1]}, the table has {len(row.layers)} layers"]
    expected = row.source_shape(shape)
    wrong: dict[tuple, list[str]] = {}
    for key in row.keys():
        if key in tensors and tensors[key].shape != expected:
            wrong.setdefault(tensors[key].shape, []).append(key)
    return [
        f"{name}: {found}, expected {expected} for {row.path}"
        for found, keys in wrong.items()
        for name in fold(keys)
    ]


def _check_derived(table: Table, tensors: Mapping[str, LazyArray]) -> list[str]:
    problems = []
    for derived in table.derived:
        if derived.source not in tensors:
            continue
        want, stored = derived.value(), tensors[derived.source]
        if stored.shape != want.shape:
            problems.append(f"{derived.source}: shape {stored.shape}, expected {want.shape}")
            continue
        got = stored.read().astype(np.float32)
        if not np.allclose(got, want, rtol=0.0, atol=derived.tolerance):
            problems.append(f"{derived.source}: differs by up to {np.abs(got - want).max():.3g}")
    return problems
