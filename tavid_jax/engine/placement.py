"""Parameters onto the mesh: initialised there, then overlaid with what earlier stages learned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
from absl import logging
from jax.sharding import Mesh

from tavid_jax.engine import trees
from tavid_jax.engine.method import Method, Params
from tavid_jax.parallel.sharding import PathTable, shardings_for


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


def placed(shapes: Any, mesh: Mesh, table: PathTable) -> Any:
    """The same tree of shapes, each with its place on the mesh by a path table."""
    return jax.tree.map(
        lambda leaf, place: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place),
        shapes,
        shardings_for(shapes, mesh, table),
    )


def abstract_params(method: Method, mesh: Mesh) -> Params:
    """Shapes, dtypes and places of all parameters of a method; nothing is allocated."""
    shapes = jax.eval_shape(lambda: method.init(jax.random.key(0)))
    return placed(shapes, mesh, method.sharding)


def initialise(method: Method, rng: jax.Array, mesh: Mesh, earlier: Mapping[str, Params]) -> Params:
    """All parameters of a method, placed by its path table.

    Args:
      earlier: results of the stages to start from, by stage name, later ones overriding.

    Raises:
      InitError: an earlier result of another shape, or a frozen part that no stage provides.
      ValueError: a pattern of `trainable_paths` that matches nothing.
    """
    shapes = abstract_params(method, mesh)
    shardings = jax.tree.map(lambda leaf: leaf.sharding, shapes)
    loaded = _collect(trees.flatten(shapes), earlier)
    for path in trees.flatten(trees.partition(shapes, method.trainable_paths)[1]):
        if path not in loaded:
            raise InitError(
                f"{path} is frozen in {type(method).__name__} but none of the stages in init_from "
                f"({', '.join(earlier) or 'none'}) provides it; add the stage that does"
            )
    with jax.set_mesh(mesh):
        params = jax.jit(method.init, out_shardings=shardings)(rng)
    flat, places = trees.flatten(params), trees.flatten(shardings)
    for path, value in loaded.items():
        flat[path] = jax.device_put(value, places[path])
    return trees.unflatten(flat)


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
            loaded[path] = value.astype(shapes[path].dtype)
            taken += 1
        if not taken:
            raise InitError(f"stage {stage!r} in init_from provides nothing that this stage has")
        logging.info("%d parameters taken from stage %s", taken, stage)
    return loaded
