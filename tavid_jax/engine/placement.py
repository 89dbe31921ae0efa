"""Parameters onto the mesh: initialised there, read from outside, or learned by earlier stages."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

import jax
import numpy as np
from absl import logging
from jax.sharding import Mesh, NamedSharding

from tavid_jax.engine import trees
from tavid_jax.engine.method import Method, Params, Stored
from tavid_jax.parallel.memory import placed_on_host
from tavid_jax.parallel.sharding import AnyMesh, PathTable, is_in_few_bits, shardings_for


class InitError(ValueError):
    """What a stage starts from does not fit the model it trains."""


def split_trainable(method: Method, params: Params) -> tuple[Params, Params]:
    """(trainable, frozen): `trainable_paths` without `frozen_paths`, and all the rest."""
    owned, rest = trees.partition(params, method.trainable_paths)
    if not method.frozen_paths:
        return owned, rest
    fixed, trainable = trees.partition(owned, method.frozen_paths)
    return trainable, trees.merge(rest, fixed)


def result_of(method: Method, params: Params) -> Params:
    """What a trained stage hands on: everything under its `trainable_paths`, fixed tables too."""
    return trees.partition(params, method.trainable_paths)[0]


def placed(shapes: Any, mesh: AnyMesh, table: PathTable) -> Any:
    """The same tree of shapes, each with its place on the mesh by a path table."""
    return jax.tree.map(
        lambda leaf, place: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place),
        shapes,
        shardings_for(shapes, mesh, table),
    )


def abstract_params(method: Method, mesh: AnyMesh, on_host: Collection[str] = ()) -> Params:
    """Shapes, dtypes and places of all parameters of a method; nothing is allocated.

    Args:
      on_host: paths of those that wait in the host's memory, see `frozen_on_host`.
    """
    shapes = jax.eval_shape(lambda: method.init(jax.random.key(0)))
    tree = placed(shapes, mesh, method.sharding)
    if not on_host:
        return tree
    flat = trees.flatten(tree)
    return trees.unflatten(flat | {path: placed_on_host(flat[path]) for path in on_host})


def frozen_on_host(method: Method) -> frozenset[str]:
    """Paths of the frozen parameters that may wait in the host's memory (`Method.host_paths`):
    stacks of matrices. Biases and norms would only make more journeys.

    Raises ValueError where there is none: nothing would be gained.
    """
    shapes = jax.eval_shape(lambda: method.init(jax.random.key(0)))
    frozen = trees.flatten(split_trainable(method, shapes)[1])
    found = [
        path
        for path, leaf in frozen.items()
        if len(leaf.shape) > 2 and any(re.fullmatch(rule, path) for rule in method.host_paths)
    ]
    if not found:
        raise ValueError(
            f"offload.frozen: {type(method).__name__} has no frozen blocks that can wait in the "
            "host's memory; set it to False"
        )
    return frozenset(found)


def initialise(
    method: Method,
    rng: jax.Array,
    mesh: Mesh,
    earlier: Mapping[str, Params],
    *,
    frozen_only: bool = False,
    on_host: Collection[str] = (),
) -> Params:
    """All parameters of a method, placed by its path table.

    What earlier stages learned comes before what the method reads from outside, and that before
    what it initialises: nothing is initialised, or read, that another one replaces. Outside
    parameters are read one at a time, each straight into its place.

    Args:
      earlier: results of the stages to start from, by stage name, later ones overriding.
      frozen_only: leave out what is trained, because a checkpoint holds it.
      on_host: paths of what waits in the host's memory.

    Raises:
      InitError: an earlier result or an outside parameter of another shape, an outside one that
        the method does not have, or a frozen part that nobody provides.
      ValueError: a pattern of `trainable_paths` that matches nothing.
    """
    tree = abstract_params(method, mesh, on_host)
    shapes = trees.flatten(tree)
    loaded = _collect(shapes, earlier)
    outside = _outside(method, shapes)
    frozen = trees.flatten(split_trainable(method, tree)[1])
    for path in trees.flatten(trees.partition(tree, method.trainable_paths)[1]):
        if path not in loaded and path not in outside:
            raise InitError(
                f"{path} is frozen in {type(method).__name__} but none of the stages in init_from "
                f"({', '.join(earlier) or 'none'}) provides it, and no pretrained weights do; "
                "add the stage that does, or name a checkpoint that holds it"
            )
    kept = frozen if frozen_only else shapes
    flat = _initialised(method, rng, mesh, shapes, {*loaded, *outside})
    flat = {path: array for path, array in flat.items() if path in kept}
    for path, value in loaded.items():
        if path in kept:
            flat[path] = _put(value, shapes[path])
    read = {p: leaf for p, leaf in outside.items() if p in kept and p not in loaded}
    return trees.unflatten(flat | _read_all(read, shapes))


def _initialised(
    method: Method, rng: jax.Array, mesh: Mesh, shapes: Mapping[str, Any], provided: set[str]
) -> dict[str, jax.Array]:
    """What nobody provides, trained or not: a resumed run compiles what the first start did."""
    wanted = [path for path in shapes if path not in provided]
    if not wanted:
        return {}
    places = jax.tree.map(lambda leaf: leaf.sharding, {path: shapes[path] for path in wanted})
    with jax.set_mesh(mesh):
        return jax.jit(fresh(method, wanted), out_shardings=places)(rng)


def fresh(method: Method, wanted: Collection[str]) -> Callable[[jax.Array], dict[str, jax.Array]]:
    """A function of a key that makes these parameters alone, as {path: array}.

    Compiled, it holds nothing of the others.
    """

    def init(rng: jax.Array) -> dict[str, jax.Array]:
        flat = trees.flatten(method.init(rng))
        return {path: flat[path] for path in wanted}

    return init


def _outside(method: Method, shapes: Mapping[str, Any]) -> dict[str, Stored]:
    """What the method reads from outside, if it fits."""
    found = dict(method.pretrained())
    for path, leaf in found.items():
        if path not in shapes:
            raise InitError(
                f"{path} is among the pretrained weights but {type(method).__name__} has no such "
                "parameter; give it the model options of those weights"
            )
        if tuple(leaf.shape) != tuple(shapes[path].shape):
            raise InitError(
                f"{path} has shape {list(leaf.shape)} in the pretrained weights, this stage "
                f"expects {list(shapes[path].shape)}; set the model options to those of the "
                "checkpoint, or name another checkpoint"
            )
    return found


def _read_all(leaves: Mapping[str, Stored], shapes: Mapping[str, Any]) -> dict[str, jax.Array]:
    """Reads leaf by leaf, so that the host never holds two of them."""
    if not leaves:
        return {}
    started, read = time.perf_counter(), {}
    for path, leaf in leaves.items():
        # One in few bits is two arrays, values and scales.
        read[path] = jax.block_until_ready(jax.tree.map(_put, leaf.read(), shapes[path]))
    size = sum(array.nbytes for array in jax.tree.leaves(read))
    seconds = time.perf_counter() - started
    logging.info(
        "%d pretrained parameters, %.2f GB, read in %.1f s", len(read), size / 1e9, seconds
    )
    return read


def _put(array: np.ndarray, like: jax.ShapeDtypeStruct) -> jax.Array:
    """Every device gets its own piece, which alone is cast."""
    place: NamedSharding = like.sharding

    def piece(index: tuple[slice, ...]) -> np.ndarray:
        # A copy: what is read may be a view of the file.
        return np.array(array[index], dtype=like.dtype)

    return jax.make_array_from_callback(like.shape, place, piece)


def _collect(shapes: dict[str, Any], earlier: Mapping[str, Params]) -> dict[str, Any]:
    loaded: dict[str, Any] = {}
    for stage, result in earlier.items():
        taken = 0
        for path, value in trees.flatten(result).items():
            if path not in shapes:
                continue  # a stage may know more than this one needs
            if tuple(value.shape) != tuple(shapes[path].shape):
                raise InitError(
                    f"{path} from stage {stage!r} has shape {list(value.shape)}, this stage expects"
                    f" {list(shapes[path].shape)}; give both stages the same model options"
                )
            if is_in_few_bits(shapes[path]):
                raise InitError(
                    f"{path} from stage {stage!r} was trained, this stage keeps it in 8 bits: set "
                    "its frozen_dtype to '', or begin with a checkpoint"
                )
            loaded[path] = value.astype(shapes[path].dtype)
            taken += 1
        if not taken:
            raise InitError(f"stage {stage!r} in init_from provides nothing that this stage has")
        logging.info("%d parameters taken from stage %s", taken, stage)
    return loaded
