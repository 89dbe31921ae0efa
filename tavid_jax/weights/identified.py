"""What a checkpoint is: which table reads it, and the config of its model."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax.numpy as jnp

from tavid_jax.weights.files import read_beside
from tavid_jax.weights.lazy import LazyArray
from tavid_jax.weights.model_json import (
    FORMATS,
    PRESETS,
    class_of,
    differences,
    is_described,
    parse_config,
    preset_of,
)
from tavid_jax.weights.problems import WeightsError, raise_all
from tavid_jax.weights.registry import CHECKPOINTS, Checkpoint, checkpoint_kind
from tavid_jax.weights.source import Source, open_source
from tavid_jax.weights.streaming import Place, plan
from tavid_jax.weights.table import nest, walk
from tavid_jax.weights.trajloom_configs import stated_fields


@dataclass(frozen=True)
class Identified:
    """A checkpoint together with what reads it.

    Attributes:
      source: where its tensors lie.
      name: key of `CHECKPOINTS`.
      config: of its model.
      preset: published name of the config, None if it has none.
    """

    source: Source
    name: str
    config: Any
    preset: str | None

    def plan(self, dtype: Any = "keep") -> dict[str, LazyArray]:
        """path -> parameter, read when asked for; WeightsError on any mismatch."""
        kind = checkpoint_kind(self.name)
        try:
            kind.check_config(self.source.tensors, self.config)
            shapes = _shapes(self.name, self.config)
            return plan(kind.table(self.config), self.source.tensors, shapes, dtype)
        except WeightsError as error:
            raise WeightsError(f"{self.source.name} as {self.name}: {error}") from error


@functools.lru_cache(maxsize=16)  # every stage of a run opens the same models
def _shapes(name: str, config: Any) -> dict:
    return checkpoint_kind(name).shapes(config)


def identify(source: str | Path, name: str | None = None, config: Any = None) -> Identified:
    """Open a checkpoint and find out what it is; no tensor is read.

    Args:
      source: file, folder or `hf:` name, see `source`.
      name: key of `CHECKPOINTS`; by default the keys tell.
      config: a model config or the name of a preset. By default config.json tells, or, without
        one, the preset whose shapes the tensors have.

    Raises:
      WeightsError: nothing usable there, a kind or size that cannot be told, or a config.json
        that disagrees with `config` (all fields listed).
    """
    opened = _open(source, name)
    name = name or _kind_of(opened)
    config = _config(opened, name, config)
    preset = preset_of(config) if is_described(config) else None
    return Identified(opened, name, config, _of_pair(preset, name))


def load(
    name: str | None,
    path: str | Path,
    config: Any = None,
    place: Place | None = None,
    dtype: Any = "float32",
) -> dict:
    """Parameters (a nested dict) of a published checkpoint, one of them in host memory at a time.

    Args:
      name, path, config: see `identify`.
      place: where each parameter goes, (path, numpy array) -> array, e.g. a sharded `device_put`;
        default: default device.
      dtype: of the parameters: "bf16", "f32", a numpy dtype, or "keep" for the checkpoint's.

    Raises:
      WeightsError: see `identify`; and any mismatch, with all that is missing, left over or of
        another shape.
    """
    place = place or (lambda path, array: jnp.asarray(array))
    planned = identify(path, name, config).plan(dtype)
    return nest({path: place(path, leaf.read()) for path, leaf in planned.items()})


def _open(source: str | Path, name: str | None) -> Source:
    """The source; one that is plainly of another kind than `name` is told by its own."""
    every = tuple(c for kind in CHECKPOINTS.values() for c in kind.containers)
    if name is None:
        return open_source(source, every)
    kind = checkpoint_kind(name)
    try:
        opened = open_source(source, kind.containers)
        if kind.sign in opened.tensors:
            return opened
        found = _kind_or_none(opened)
    except WeightsError:
        found = _kind_or_none(open_source(source, every))
        if found is None:
            raise
    if found is not None:
        raise WeightsError(
            f"{source} is a checkpoint of kind {found}, not {name}: give the file of that kind"
        )
    return opened


def _config(source: Source, name: str, config: Any) -> Any:
    """What was asked for if it is what the checkpoint says, or what the checkpoint says."""
    kind = checkpoint_kind(name)
    if isinstance(config, str):
        if config not in PRESETS:
            raise WeightsError(f"no preset {config!r}; known: {', '.join(PRESETS)}")
        config = PRESETS[config]
    if config is not None and not isinstance(config, kind.config):
        raise WeightsError(
            f"{source.name} is a checkpoint of kind {name}, which needs a "
            f"{kind.config.__name__}, not a {type(config).__name__}"
        )
    own = _inside(source, kind)
    if own is not None:
        lines = [] if config is None else differences(stated_fields(own), config, "in its cfg")
        raise_all({"fields": lines}, f"{source.name} has another config in it", "give its own")
        return own if config is None else config
    stated = _stated(source, kind.config)
    if config is None:
        return kind.config(**stated) if stated else _config_of_shapes(source, name)
    what = f"{source.config_path} disagrees with the config that was asked for"
    raise_all({"fields": differences(stated, config)}, what, "give the checkpoint's own")
    return config


def _inside(source: Source, kind: Checkpoint) -> Any:
    """The config that a training script saved beside the tensors, None without one."""
    if kind.described is None or len(source.files) != 1:
        return None
    content = read_beside(source.files[0]).get("cfg")
    if not isinstance(content, Mapping):
        return None
    return kind.described(content, f"cfg in {source.name}")


def _stated(source: Source, wanted: type) -> dict[str, Any]:
    """The fields that config.json decides; none if it is not of one of these models."""
    if source.config is None or source.config_path is None:
        return {}
    if all(form.config is not wanted for form in FORMATS.values()):
        return {}
    described = class_of(source.config)
    if described is None:
        return {}
    if described in FORMATS and FORMATS[described].config is not wanted:
        if source.files == (Path(source.name).expanduser(),):
            return {}  # the original encoders lie beside the config.json of the transformer
        raise WeightsError(
            f"{source.config_path} describes a {described}, which has no {wanted.__name__}: give "
            "the checkpoint's own kind, or none"
        )
    return parse_config(source.config, source.config_path, source.tensors)


def _kind_or_none(source: Source) -> str | None:
    signs = {name: kind.sign for name, kind in CHECKPOINTS.items()}
    return next((name for name, sign in signs.items() if sign in source.tensors), None)


def _kind_of(source: Source) -> str:
    found = _kind_or_none(source)
    if found is not None:
        return found
    first = ", ".join(list(source.tensors)[:5])
    raise WeightsError(
        f"{source.name} is none of the known checkpoints ({', '.join(CHECKPOINTS)}); "
        f"its first keys are {first}"
    )


def _config_of_shapes(source: Source, name: str) -> Any:
    """The preset all of whose tensors are there, with these shapes; the largest of several."""
    kind = checkpoint_kind(name)
    have = {key: tensor.shape for key, tensor in source.tensors.items()}
    configs = [config for config in PRESETS.values() if isinstance(config, kind.config)]
    configs = configs or [kind.config()]
    expected = [_expected(kind, config) for config in configs]
    fits = [i for i, e in enumerate(expected) if e.items() <= have.items()]
    if not fits:
        what = f"{source.name} has no config.json, and its shapes are those of no published model"
        lines = kind.differences(source.tensors, configs[0]) if len(configs) == 1 else []
        raise_all({"fields that differ from the published config": lines}, what, "give a config")
        raise WeightsError(f"{what}; give a config. Presets: {', '.join(PRESETS)}")
    largest = max(len(expected[i]) for i in fits)
    best = [configs[i] for i in fits if len(expected[i]) == largest]
    if any(config != best[0] for config in best):
        raise WeightsError(
            f"{source.name} has no config.json, and its shapes are those of several published "
            f"models: give one of {', '.join(preset_of(config) for config in best)} as the config"
        )
    return best[0]


def _expected(kind: Any, config: Any) -> Mapping[str, tuple[int, ...]]:
    shapes = {path: tuple(leaf.shape) for path, leaf in walk(kind.shapes(config))}
    rows = kind.table(config).rows
    return {key: row.source_shape(shapes[row.path]) for row in rows for key in row.keys()}


def _of_pair(preset: str | None, name: str) -> str | None:
    """The pair's own name where a single model of the same sizes comes first in the list."""
    pairs = {"wan2.1-t2v-14b": "wan2.2-t2v-a14b"}
    return pairs.get(preset, preset) if "experts" in name and preset else preset
