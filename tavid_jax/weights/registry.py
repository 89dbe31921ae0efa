"""The checkpoints that can be read and written, by name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tavid_jax.weights import trajloom
from tavid_jax.weights.files import read_state_dict
from tavid_jax.weights.table import Table, WeightsError, export_table, port_table

Place = Callable[[str, np.ndarray], Any]


@dataclass(frozen=True)
class Checkpoint:
    """What is needed to port one kind of checkpoint.

    Attributes:
      table: config -> Table.
      shapes: config -> the parameters' nested dict of shapes.
      containers: keys under which a saved file may hold the tensors, in order of preference.
    """

    table: Callable[[Any], Table]
    shapes: Callable[[Any], dict]
    containers: tuple[str, ...] = ()


CHECKPOINTS: dict[str, Checkpoint] = {
    "trajloom_vae": Checkpoint(
        trajloom.vae_table, trajloom.vae_shapes, ("vae", "model_state_dict")
    ),
    "trajloom_flow": Checkpoint(
        trajloom.flow_table,
        trajloom.flow_shapes,
        ("generator", "model", "state_dict", "model_state_dict"),
    ),
    "trajloom_visibility": Checkpoint(
        trajloom.visibility_table,
        trajloom.visibility_shapes,
        ("model", "predictor", "state_dict", "model_state_dict"),
    ),
}


def port(name: str, state_dict: Mapping[str, Any], config: Any, place: Place | None = None) -> dict:
    """Parameters (a nested dict, float32) from a checkpoint's flat dict of tensors.

    Args:
      name: a key of `CHECKPOINTS`.
      state_dict: key -> numpy, JAX or PyTorch tensor.
      config: the model's config.
      place: where each parameter goes, (path, numpy array) -> array; default: default device.

    Raises:
      WeightsError: unknown name, or a mismatch; every key that is left over, missing or of
        another shape is listed.
    """
    kind = _kind(name)
    return port_table(kind.table(config), state_dict, kind.shapes(config), place)


def export(name: str, params: Mapping, config: Any) -> dict[str, np.ndarray]:
    """The checkpoint's flat dict of float32 tensors: the exact inverse of `port`."""
    kind = _kind(name)
    return export_table(kind.table(config), params, kind.shapes(config))


def load(name: str, path: str | Path, config: Any, place: Place | None = None) -> dict:
    """`port` of a `.safetensors` or `.pt` file."""
    try:
        return port(name, read_state_dict(path, _kind(name).containers), config, place)
    except WeightsError as error:
        raise WeightsError(f"{path} as {name}: {error}") from error


def _kind(name: str) -> Checkpoint:
    if name not in CHECKPOINTS:
        raise WeightsError(f"no checkpoint kind {name!r}; known: {', '.join(CHECKPOINTS)}")
    return CHECKPOINTS[name]
