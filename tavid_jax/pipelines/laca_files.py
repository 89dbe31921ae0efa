"""laca.safetensors: the location-aware cross-attention that was trained upon a Wan.

The file holds the node of the parameters, "q/kernel" and so on, each with a leading axis over the
blocks that have one; its metadata say what it is (`Locate`) and for which model.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from tavid_jax.models.layers.located import init_laca
from tavid_jax.models.wan.config import WanConfig
from tavid_jax.models.wan.sharding import LOCATED_SHARDING
from tavid_jax.models.wan.transformer import param_shapes
from tavid_jax.pipelines.additions import has_experts
from tavid_jax.pipelines.card import LOCATED
from tavid_jax.pipelines.located import NODE, Locate, locate
from tavid_jax.pipelines.part import Part
from tavid_jax.untrusted.texts import parse_json
from tavid_jax.weights import WeightsError
from tavid_jax.weights.lazy import LazyArray
from tavid_jax.weights.safetensors import read_metadata, read_safetensors, write_safetensors
from tavid_jax.weights.table import nest, walk

# Names in the metadata.
_LOCATE, _MODEL = "locate", "model"
# Fields of a config that tell which model it is.
_FIELDS = ("num_layers", "num_heads", "head_dim", "text_dim")
# Positions of its texts, which no weight is of: those that it was trained with are read.
_LENGTH = "text_length"
# Of a file, bytes at its beginning and end that tell it from others.
_LOOKED_AT = 1 << 20


def save_laca(path: str | Path, params: Mapping[str, Any], how: Locate, config: WanConfig) -> Path:
    """Writes the file, whole or not at all.

    Args:
      path: of the file.
      params: the node; kept in its own types.
      how: what it is.
      config: of the transformer.

    Raises:
      WeightsError: parameters of another form than `how` says, or values that are not finite.
    """
    path, params = Path(path), {name: np.asarray(leaf) for name, leaf in walk(params)}
    _check(f"{NODE} to be saved", params, how, config)
    for name, leaf in params.items():
        if not np.isfinite(leaf.astype(np.float32)).all():
            raise WeightsError(f"{NODE}: {name} holds values that are not finite")
    model = _identity(config) | {_LENGTH: config.text_length}
    metadata = {_LOCATE: json.dumps(how.to_json()), _MODEL: json.dumps(model)}
    write_safetensors(path, params, metadata)
    return path


def load_laca(path: str | Path, config: WanConfig) -> tuple[dict[str, Any], Locate, int]:
    """The node, not read yet (`LazyArray`), what it is, and the positions of the model's texts.

    Args:
      path: of a file that `save_laca` wrote, or a folder that holds one.
      config: of the transformer that it is for.

    Raises:
      WeightsError: no such file; a damaged or another one; one of another model; a parameter that
        is missing, unknown or of another shape.
    """
    path = find_laca(path)
    how, model = _metadata(path)
    other = {name: value for name, value in _identity(config).items() if model.get(name) != value}
    if other:
        name, value = next(iter(other.items()))
        raise WeightsError(
            f"{path} was trained upon another model: {name} {model.get(name)}, this one has {value}"
        )
    tensors = read_safetensors(path)
    _check(str(path), tensors, how, config)
    return nest(tensors), how, int(model.get(_LENGTH, config.text_length))


def read_locate(path: str | Path) -> Locate:
    """What the attention of a file is; WeightsError as `load_laca`."""
    return _metadata(find_laca(path))[0]


def find_laca(path: str | Path) -> Path:
    """The file itself, or that of a folder; WeightsError where there is none."""
    path = Path(path).expanduser()
    path = path / LOCATED if path.is_dir() else path
    if not path.is_file():
        raise WeightsError(f"no file {path}: give the {LOCATED} of what was trained, or its folder")
    return path


def put_around(transformer: Part, source: str | Path, points: int | None = None) -> Any:
    """Plugs the attention into a transformer.

    Args:
      transformer: of a pipeline.
      source: see `load_laca`.
      points: room for so many trajectories; None is as many as it was trained with.

    Returns:
      What `Pipeline.inject` is to be.

    Raises:
      WeightsError: see `load_laca`; a model that has no place for it.
      ValueError: room for no trajectory.
    """
    config = transformer.module.config
    if has_experts(transformer):
        raise WeightsError(f"laca {source}: two experts read no local texts, it is of one model")
    if not isinstance(config, WanConfig):
        raise WeightsError(f"laca {source}: it is Wan's, CogVideoX has no cross-attention")
    params, how, length = load_laca(source, config)
    how = how if points is None else dataclasses.replace(how, points=points)
    transformer.module = transformer.module.clone(
        config=dataclasses.replace(config, text_length=length)
    )
    transformer.added = {**transformer.added, NODE: params}
    transformer.marks[NODE] = _mark(find_laca(source))
    transformer.sharding = LOCATED_SHARDING
    return functools.partial(locate, **vars(how))


def _metadata(path: Path) -> tuple[Locate, dict[str, Any]]:
    found = read_metadata(path) if path.suffix == ".safetensors" else {}
    missing = [name for name in (_LOCATE, _MODEL) if name not in found]
    if missing:
        raise WeightsError(
            f"{path} holds no location-aware cross-attention: its header does not say "
            f"{missing[0]!r}"
        )
    try:
        return Locate.of(parse_json(found[_LOCATE])), dict(parse_json(found[_MODEL]))
    except (ArithmeticError, ValueError, TypeError, AttributeError) as error:
        raise WeightsError(f"{path}: its header makes no sense ({error})") from error


def _identity(config: WanConfig) -> dict[str, int]:
    return {name: int(getattr(config, name)) for name in _FIELDS}


def _check(
    origin: str, tensors: Mapping[str, LazyArray | np.ndarray], how: Locate, config: WanConfig
) -> None:
    wanted = dict(walk(shapes_of(how, config)))
    missing = sorted(set(wanted) - set(tensors))
    if missing:
        raise WeightsError(f"{origin} lacks {missing[0]} ({len(missing)} of {len(wanted)} missing)")
    unknown = sorted(set(tensors) - set(wanted))
    if unknown:
        raise WeightsError(f"{origin} holds {unknown[0]}, which such an attention does not have")
    for name, leaf in wanted.items():
        if tuple(tensors[name].shape) != leaf.shape:
            raise WeightsError(
                f"{origin}: {name} has shape {tuple(tensors[name].shape)}, expected {leaf.shape} "
                "(blocks first)"
            )


def shapes_of(how: Locate, config: WanConfig) -> Any:
    """Shapes of the node; WeightsError for blocks that the model does not have."""
    cross = param_shapes(config)["blocks"]["cross"]
    try:
        return jax.eval_shape(lambda x, key: init_laca(x, how.laca, key), cross, jax.random.key(0))
    except ValueError as error:
        raise WeightsError(f"{NODE}: {error}") from error


def _mark(file: Path) -> str:
    """Tells a file from others; gigabytes are not read for it."""
    size = file.stat().st_size
    digest = hashlib.sha256(f"{size} ".encode())
    with file.open("rb") as stream:
        digest.update(stream.read(_LOOKED_AT))
        stream.seek(max(0, size - _LOOKED_AT))
        digest.update(stream.read())
    return digest.hexdigest()[:12]
