"""LoRA adapters in, from files of diffusers, PEFT and tools for the original Wan names.

A file holds lora_A (rank, in) and lora_B (out, rank) of each adapted layer, W + alpha/rank * B A.

The trap is alpha. Older versions of diffusers (0.32 among them) neither write nor read it: their
files may have been trained with any alpha, and are applied with alpha = rank. Newer ones keep it
in the metadata, kohya-style tools beside each adapter. `load_lora` takes what the file says and,
where it says nothing, does as diffusers does; a model that was published at another scale than it
was trained at can be had at either with `scale=`. `save_lora` (in `peft_export`) by default
multiplies the scale into lora_B and writes alpha = rank, so that every tool of any age computes
the same.
"""

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from tavid_jax.models.layers.linear import ALL_STREAMS
from tavid_jax.models.layers.lora import LoraRule
from tavid_jax.weights.lazy import LazyArray
from tavid_jax.weights.model_json import PRESETS, preset_of
from tavid_jax.weights.peft_alpha import Own, Settings, read_own, read_settings
from tavid_jax.weights.peft_export import DIFFUSERS_FILE, PEFT_FILE
from tavid_jax.weights.peft_keys import (
    COMPONENTS,
    FAMILIES,
    FileAdapter,
    Projection,
    all_namings,
    any_fits,
    is_adapter_key,
    match,
    parse,
)
from tavid_jax.weights.peft_rules import Place, check_rules, depths, derived_rules, places_of
from tavid_jax.weights.problems import WeightsError, raise_all
from tavid_jax.weights.registry import CHECKPOINTS, checkpoint_kind
from tavid_jax.weights.source import open_source
from tavid_jax.weights.table import nest

AUTO = "auto"


@dataclasses.dataclass(frozen=True)
class LoraFile:
    """An opened file of adapters; no factor is read.

    Attributes:
      path: the file.
      modules: module -> its tensors "a", "b", "alpha".
      unknown: keys that are no adapter's.
      settings: PEFT's settings, None without.
      own: what `save_lora` left, None in files of others.
    """

    path: Path
    modules: Mapping[str, Mapping[str, LazyArray]]
    unknown: Sequence[str]
    settings: Settings | None
    own: Own | None

    def adapters(self, known: Mapping[str, Projection]) -> dict[Place, FileAdapter]:
        """The adapter of each projection; WeightsError lists all that does not fit the model."""
        found: dict[Place, FileAdapter] = {}
        for adapter in match(self.modules, self.unknown, known):
            place = adapter.projection.path, adapter.projection.layer
            if place in found:
                other = found[place].projection.module
                raise WeightsError(f"{other} and {adapter.projection.module} are the same layer")
            found[place] = adapter
        return found

    def alpha_of(self, module: str, rank: int, beside: float | None) -> float:
        """alpha of a module: of the key beside it, of the settings, or its rank."""
        if beside is not None:
            return beside
        return self.settings.alpha_of(module, rank) if self.settings else float(rank)


def open_lora(
    path: str | Path, component: str = COMPONENTS[0], ignored: Sequence[str] = ()
) -> LoraFile:
    """Finds and indexes a file of adapters; see `load_lora` for the arguments and errors."""
    if component not in COMPONENTS:
        raise WeightsError(f"no component {component!r}; known: {', '.join(COMPONENTS)}")
    source = open_source(usual_file(path))
    if len(source.files) != 1:
        raise WeightsError(f"{path}: adapters lie in one file, here are {len(source.files)}")
    file = source.files[0]
    modules, unknown = parse(source.tensors, component, ignored)
    return LoraFile(file, modules, unknown, read_settings(file, component), read_own(file))


def is_lora(path: str | Path) -> bool:
    """Whether a checkpoint is a file of adapters; WeightsError if there is none."""
    return any(map(is_adapter_key, open_source(usual_file(path)).tensors))


def components(path: str | Path) -> list[str]:
    """The parts of a pipeline that a file names; the first of all where it names none."""
    keys = open_source(usual_file(path)).tensors
    named = [name for name in COMPONENTS if any(key.startswith(f"{name}.") for key in keys)]
    return named or [COMPONENTS[0]]


def usual_file(path: str | Path) -> str | Path:
    """The adapters' file in a folder that may hold others, the path itself if it has no such."""
    inside = (Path(path).expanduser() / name for name in (DIFFUSERS_FILE, PEFT_FILE))
    return next((file for file in inside if file.is_file()), path)


def load_lora(
    path: str | Path,
    name: str,
    config: Any,
    rules: Sequence[LoraRule] | None = None,
    scale: float | int | str = AUTO,
    *,
    stream: str | None = None,
    component: str = COMPONENTS[0],
    ignored: Sequence[str] = (),
) -> tuple[dict[str, Any], tuple[LoraRule, ...]]:
    """Adapters of a published or an exported file, for `params["lora"]` and the model's `lora`.

    Args:
      path: a safetensors (or `.pt`, read as tensors only) file, its folder, or `hf:owner/name`.
        Names of layers may be those of diffusers, PEFT, the original Wan code or musubi-tuner,
        with or without the prefixes of these tools.
      name: "cogvideox", "wan" or "wan_diffusers"; either Wan name reads both namings.
      config: of the base model.
      rules: those that the file must fulfil. None: they follow from the file, one rule
        ("default", "default_1", ...) for all projections of equal rank, scale and layers; or they
        are those that the file was exported with.
      scale: "auto" for what the file says (keys `.alpha`, else metadata or adapter_config.json,
        else 1), or the scale itself.
      stream: of the rules that follow from the file; default: all tokens.
      component: of a pipeline's file with two experts, "transformer" (A14B: high noise) or
        "transformer_2" (low noise).
      ignored: patterns of whole keys that are left out, for files that hold more than adapters.

    Returns:
      ({rule: {path...: {a, b}}} in float32, rules).

    Raises:
      WeightsError: nothing usable there; adapters of another model; keys, shapes, ranks or layers
        that do not fit the config, or rules that do not fit the file. Everything wrong of a kind
        is listed.
    """
    check_scale(scale)
    all_namings(name, config)  # which names what is no model with adapters
    return read_lora(open_lora(path, component, ignored), name, config, rules, scale, stream)


def read_lora(
    file: LoraFile,
    name: str,
    config: Any,
    rules: Sequence[LoraRule] | None = None,
    scale: float | int | str = AUTO,
    stream: str | None = None,
) -> tuple[dict[str, Any], tuple[LoraRule, ...]]:
    """`load_lora` of an opened file, or of some of its modules."""
    check_scale(scale)
    known = all_namings(name, config)
    shapes = checkpoint_kind(name).shapes(config)
    check_backbone(file, known, config)
    try:
        found = file.adapters(known)
        scales, divisors, streams = _stated(file, found, shapes, scale)
        if rules is None and file.own is not None:
            rules = file.own.rules
        elif rules is None:
            ranks = {place: adapter.rank for place, adapter in found.items()}
            rules = derived_rules(ranks, scales, depths(shapes), stream or ALL_STREAMS)
        if scale != AUTO:
            rules = [dataclasses.replace(rule, alpha=scale * rule.rank) for rule in rules]
        if stream is not None:
            streams = dict.fromkeys(found, stream)
        chosen = [places_of(rule, shapes) for rule in rules]
        check_rules(rules, chosen, found, scales, streams)
    except WeightsError as error:
        raise WeightsError(f"{file.path}: {error}") from error
    adapters = {
        rule.name: _stacks(places, found, divisors)
        for rule, places in zip(rules, chosen, strict=True)
    }
    return adapters, tuple(rules)


def check_scale(scale: float | int | str) -> None:
    """Raises WeightsError for a word that is no scale."""
    if isinstance(scale, str) and scale != AUTO:
        raise WeightsError(f"scale {scale!r} is neither a number nor {AUTO!r}")


def check_backbone(file: LoraFile, known: Mapping[str, Projection], config: Any) -> None:
    """Raises WeightsError for adapters none of which fits the model; names the models that do."""
    adapters = {m: parts for m, parts in file.modules.items() if {"a", "b"} <= parts.keys()}
    if not adapters or any_fits(adapters, known):
        return
    this = preset_of(config) or f"this {type(config).__name__.removesuffix('Config')}"
    others = fitting(file)
    if others:
        raise WeightsError(
            f"{file.path} holds adapters of {' or '.join(others)}, not of {this}: open them with "
            "the model that they were made for"
        )
    module, parts = next(iter(adapters.items()))
    sizes = f"{parts['a'].shape[-1]} inputs and {parts['b'].shape[0]} outputs"
    raise WeightsError(
        f"{file.path} holds adapters of another model than {this}: theirs has a layer {module} of "
        f"{sizes}; open them with the model that they were made for"
    )


def fitting(file: LoraFile) -> list[str]:
    """Names of the published models whose layers have these shapes."""
    found = []
    for preset, config in PRESETS.items():
        with contextlib.suppress(WeightsError):
            file.adapters(all_namings(kind_of(config), config))
            found.append(preset)
    return found


def kind_of(config: Any) -> str:
    """What `load_lora` calls the kind of a model; WeightsError if it takes no adapters."""
    for name in FAMILIES:
        if isinstance(config, CHECKPOINTS[name].config):
            return name
    raise WeightsError(
        f"adapters are read for transformers ({', '.join(FAMILIES)}), not for a "
        f"{type(config).__name__}"
    )


def _stated(
    file: LoraFile, found: Mapping[Place, FileAdapter], shapes: Any, scale: float | int | str
) -> tuple[dict[Place, float], dict[Place, float], dict[Place, str]]:
    """For each place: its scale; what lora_B was multiplied with; the stream it acts on."""
    scales, divisors, streams, wrong = {}, {}, {}, []
    for place, adapter in found.items():
        module, rank = adapter.projection.module, adapter.rank
        said = file.settings.rank_of(module) if file.settings else None
        if said not in (None, rank):
            wrong.append(f"{module}: rank {rank}, {said} in {file.settings.origin}")
        alpha = file.alpha_of(module, rank, adapter.alpha)
        scales[place] = alpha / rank if scale == AUTO else float(scale)
    raise_all({"ranks": wrong}, "tensors and settings disagree", "export the adapter again")
    for rule in file.own.rules if file.own else ():
        for place in places_of(rule, shapes):
            streams[place] = rule.stream
            if scale != AUTO or place not in found:
                continue
            if file.own.baked:
                divisors[place] = rule.scale
            if file.own.baked or (file.settings is None and found[place].alpha is None):
                scales[place] = rule.scale
    return scales, divisors, streams


def _stacks(
    places: Sequence[Place],
    found: Mapping[Place, FileAdapter],
    divisors: Mapping[Place, float],
) -> dict[str, Any]:
    """One rule's subtree; `places` are in the order of the layers."""
    factors: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    stacked = {path for path, layer in places if layer is not None}
    for place in places:
        adapter = found[place]
        a, b = (leaf.read().astype(np.float32) for leaf in (adapter.a, adapter.b))
        b = b / np.float32(divisors.get(place, 1.0) or 1.0)  # of a scale of zero, zeros are left
        factors.setdefault(place[0], []).append(adapter.projection.from_file(a, b))
    leaves = {}
    for path, pairs in factors.items():
        for leaf, parts in zip(("a", "b"), zip(*pairs, strict=True), strict=True):
            whole = np.stack(parts) if path in stacked else parts[0]
            leaves[f"{path}/{leaf}"] = jnp.asarray(whole)
    return nest(leaves)
