"""Where arrays lie on the mesh: parameters by their path, activations by the names of their axes.

Models ask through the functions of this module; nothing in a model holds a mesh.
"""

import contextlib
import dataclasses
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

# Of devices that are there, or of none: places of arrays are known either way.
AnyMesh = Mesh | AbstractMesh
# One dimension's place: no mesh axis, one, or several.
Place = None | str | tuple[str, ...]

# Logical axis of an activation -> mesh axes.
RULES: dict[str, tuple[str, ...]] = {
    "batch": ("replica", "fsdp"),
    "tokens": ("context",),
    "heads": ("tensor",),
    "embed": (),
    "time": (),
    "rows": ("context",),
}


def _fit(size: int, axes: tuple[str, ...], mesh_shape: Mapping[str, int]) -> Place:
    """The mesh axes of `axes` that divide a dimension, in order; an axis that does not is dropped.

    Axes of size 1 are dropped too, so that equal layouts have equal specs.
    """
    kept, ways = [], 1
    for axis in axes:
        count = mesh_shape.get(axis, 1)
        if count > 1 and size % (ways * count) == 0:
            kept.append(axis)
            ways *= count
    if not kept:
        return None
    return kept[0] if len(kept) == 1 else tuple(kept)


def auto_axes() -> dict[str, int]:
    """Sizes of the active mesh's axes that the compiler divides by itself; {} without a mesh.

    Inside `jax.shard_map` some axes are Manual: arrays are local along those, so they are left out.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return {}
    return {
        name: mesh.shape[name]
        for name, kind in zip(mesh.axis_names, mesh.axis_types, strict=True)
        if kind == AxisType.Auto
    }


def partition(shape: tuple[int, ...], *logical_axes: str | None) -> PartitionSpec:
    """Where the active mesh puts an activation: one mesh place per dimension.

    A mesh axis that does not divide its dimension leaves that dimension whole.

    Args:
      shape: of the activation.
      *logical_axes: one name of `RULES` (or None, whole) per dimension.
    """
    axes = auto_axes()
    return PartitionSpec(
        *(
            _fit(size, () if name is None else RULES[name], axes)
            for size, name in zip(shape, logical_axes, strict=True)
        )
    )


def context_ways() -> int:
    """Over how many devices the active mesh splits a sequence of tokens; 1 without a mesh."""
    return auto_axes().get("context", 1)


def padded_tokens(tokens: int) -> int:
    """`tokens` rounded up to what the active mesh can split evenly over `context`."""
    ways = context_ways()
    return -(-tokens // ways) * ways


# Part of jit's cache key: a function traced for one platform is traced again for another.
_TARGET = jax.make_user_context(default_value=None)


def target_platform() -> str:
    """The platform that programs traced now are meant for: "cpu", "gpu" or "tpu".

    What `compiling_for` says, otherwise that of the active mesh, otherwise the default backend.
    """
    if _TARGET.value:
        return _TARGET.value
    device = jax.sharding.get_abstract_mesh().abstract_device
    return device.platform if device is not None else jax.default_backend()


def target_chip() -> str:
    """The kind of device that programs traced now are meant for, e.g. "TPU v5 lite"."""
    device = jax.sharding.get_abstract_mesh().abstract_device
    return device.device_kind if device is not None else jax.local_devices()[0].device_kind


@contextlib.contextmanager
def compiling_for(platform: str) -> Iterator[None]:
    """Within it programs are traced for chips of `platform`, which need not be there."""
    with _TARGET(platform):
        yield


def constrain(x: jax.Array, *logical_axes: str | None) -> jax.Array:
    """Asks the compiler to lay an activation out by the names of its axes.

    Without an active mesh (`jax.set_mesh`), or on a mesh of one device, it is the identity. A
    mesh axis that does not divide its dimension leaves that dimension whole.

    Args:
      x: activation of any rank.
      *logical_axes: one name of `RULES` (or None, whole) per dimension of x.

    Raises:
      ValueError: an unknown name, or not one name per dimension.
    """
    unknown = [name for name in logical_axes if name is not None and name not in RULES]
    if unknown:
        raise ValueError(
            f"constrain: no logical axis {unknown[0]!r}; the axes are {', '.join(RULES)}"
        )
    if len(logical_axes) != x.ndim:
        raise ValueError(
            f"constrain: {len(logical_axes)} axis names {logical_axes} for shape {x.shape}: "
            "give one name or None per dimension"
        )
    if math.prod(auto_axes().values()) == 1:
        return x
    return jax.lax.with_sharding_constraint(x, partition(x.shape, *logical_axes))


@dataclasses.dataclass(frozen=True)
class PathTable:
    """Ordered rules from a parameter's path to its place on the mesh.

    Attributes:
      rules: pairs (regular expression, place per dimension); the first that `re.search` finds in
        the path "a/b/c" wins. Optimizer moments, whose paths end like their parameter's, follow
        it. A place is None, a mesh axis, or a tuple of mesh axes.
      min_size: without a rule, arrays of at least so many elements are split over `axis` along
        their largest dimension that it divides (the last of equals); smaller ones are copied,
        because gathering them costs more than storing them.
      axis: the mesh axis of this fallback.
    """

    rules: tuple[tuple[str, tuple[Place, ...]], ...] = ()
    min_size: int = 2**20
    axis: str = "fsdp"

    def spec(self, path: str, shape: tuple[int, ...], mesh: AnyMesh) -> PartitionSpec:
        """The partition of one array.

        Raises:
          ValueError: the rule found names a mesh axis that does not exist, or has another number
            of dimensions than the array.
        """
        for pattern, places in self.rules:
            if re.search(pattern, path):
                return self._from_rule(pattern, places, path, shape, mesh)
        ways = mesh.shape[self.axis]
        divisible = [d for d, size in enumerate(shape) if size % ways == 0 and size >= ways]
        if ways == 1 or math.prod(shape) < self.min_size or not divisible:
            return PartitionSpec()
        largest = max(divisible, key=lambda d: (shape[d], d))
        return PartitionSpec(*(self.axis if d == largest else None for d in range(len(shape))))

    def _from_rule(self, pattern, places, path, shape, mesh) -> PartitionSpec:
        if len(places) != len(shape):
            raise ValueError(
                f"sharding rule {pattern!r} has {len(places)} dimensions but {path} has shape "
                f"{shape}: give one place per dimension or narrow the pattern"
            )
        fitted = []
        for size, place in zip(shape, places, strict=True):
            axes = () if place is None else (place,) if isinstance(place, str) else place
            missing = [axis for axis in axes if axis not in mesh.shape]
            if missing:
                raise ValueError(
                    f"sharding rule {pattern!r} names the mesh axis {missing[0]!r}: "
                    f"the mesh has {', '.join(mesh.shape)}"
                )
            fitted.append(_fit(size, axes, mesh.shape))
        return PartitionSpec(*fitted) if any(fitted) else PartitionSpec()

    def unused(self, tree: Any) -> list[str]:
        """Patterns that decide for no leaf of the tree (a typing error, or hidden by another)."""
        patterns = [pattern for pattern, _ in self.rules]
        winners = set()
        for path, _ in paths(tree):
            winners.add(next((p for p in patterns if re.search(p, path)), None))
        return [pattern for pattern in patterns if pattern not in winners]


def paths(tree: Any) -> list[tuple[str, Any]]:
    """All leaves of a tree with their paths written "a/b/c"."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return [(jax.tree_util.keystr(path, simple=True, separator="/"), leaf) for path, leaf in leaves]


def shardings_for(tree: Any, mesh: AnyMesh, table: PathTable | None = None) -> Any:
    """The same tree with a NamedSharding in place of each leaf.

    Args:
      tree: arrays or `jax.ShapeDtypeStruct`s (from `jax.eval_shape`).
      mesh: from `make_mesh`.
      table: None is the fallback alone.
    """
    table = PathTable() if table is None else table

    def place(path: Any, leaf: Any) -> Any:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        # An array in few bits lies, values and scales, where its own path says.
        return jax.tree.map(
            lambda part: NamedSharding(mesh, table.spec(name, tuple(np.shape(part)), mesh)), leaf
        )

    return jax.tree_util.tree_map_with_path(place, tree, is_leaf=is_in_few_bits)


def is_in_few_bits(leaf: Any) -> bool:
    """Whether an array is kept as values of few bits and their scales: a `qwix.QArray`."""
    return hasattr(leaf, "qvalue")


def batch_sharding(mesh: AnyMesh) -> NamedSharding:
    """First dimension over replica x fsdp, the rest whole."""
    return NamedSharding(mesh, PartitionSpec(RULES["batch"]))


def replicated(mesh: AnyMesh) -> NamedSharding:
    """A copy on every device."""
    return NamedSharding(mesh, PartitionSpec())


def describe(shardings: Any, tree: Any = None) -> str:
    """One line per array, "path  shape  places", in the order of the tree.

    Args:
      shardings: tree of NamedSharding.
      tree: the arrays themselves (or their shapes); None leaves the shapes out.
    """
    rows = []
    shapes = [None] * len(paths(shardings))
    if tree is not None:
        shapes = [tuple(np.shape(leaf)) for leaf in jax.tree.leaves(tree)]
    for (path, sharding), shape in zip(paths(shardings), shapes, strict=True):
        places = ["+".join(p) if isinstance(p, tuple) else p or "-" for p in sharding.spec]
        where = ", ".join(places) if any(p != "-" for p in places) else "everywhere"
        shape_text = "" if shape is None else "x".join(map(str, shape)) or "scalar"
        rows.append((path, shape_text, where))
    widths = [max((len(row[i]) for row in rows), default=0) for i in range(2)]
    lines = [
        "  ".join(part for part in (path.ljust(widths[0]), shape.ljust(widths[1]), where) if part)
        for path, shape, where in rows
    ]
    return "\n".join(lines)
