"""LoRA adapters out: files that diffusers, PEFT and tools for the original Wan names load."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from tavid_jax.models.layers.linear import ALL_STREAMS
from tavid_jax.models.layers.lora import LoraRule, targets
from tavid_jax.weights.lazy import as_lazy, to_dtype
from tavid_jax.weights.peft_alpha import (
    DIFFUSERS_KEY,
    PEFT_CONFIG,
    own_metadata,
    peft_settings,
)
from tavid_jax.weights.peft_keys import COMPONENTS, Projection, known_projections, module_keys
from tavid_jax.weights.peft_rules import Place, label, places_of
from tavid_jax.weights.problems import WeightsError, raise_all, with_nearest
from tavid_jax.weights.registry import checkpoint_kind
from tavid_jax.weights.safetensors import write_safetensors
from tavid_jax.weights.table import walk

DIFFUSERS_FILE = "pytorch_lora_weights.safetensors"
PEFT_FILE = "adapter_model.safetensors"
FORMATS = ("diffusers", "peft", "original")


def save_lora(
    adapters: Mapping[str, Any],
    rules: Sequence[LoraRule],
    path: str | Path,
    name: str,
    config: Any,
    format: str = "diffusers",
    *,
    bake_scale: bool = True,
    dtype: Any = "keep",
    component: str = COMPONENTS[0],
) -> list[Path]:
    """Writes adapters as a file that other tools load: the inverse of `load_lora`.

    Our own metadata names the rules and their streams, so that `load_lora` gives back the same
    rules and (up to a rounding, where a scale that is no power of two was multiplied in) the same
    adapters. Other tools know no streams and apply an adapter to all tokens; a warning is logged.

    Args:
      adapters, rules: the subtree `lora` and the rules it was made with.
      path: of a `.safetensors` file, or of a folder for files of the usual names.
      name, config: see `load_lora`; `name` decides the naming of PEFT's files.
      format: "diffusers" (its naming and metadata), "peft" (a folder with adapter_config.json) or
        "original" (Wan's own naming, as ComfyUI and the like read it).
      bake_scale: multiply lora_B by alpha / rank and state alpha = rank: right in every tool,
        also in those that read no alpha (older diffusers, see `peft`). False: the factors as they
        are, and alpha where the format keeps it.
      dtype: of the factors, "bf16", "f32", ..., or "keep".
      component: of the pipeline, see `load_lora`.

    Returns:
      The files.

    Raises:
      WeightsError: adapters that are not those of the rules, two rules on one projection, a
        format that the model does not have, or a file that is there already.
    """
    naming = _naming(name, format)
    found = list(file_factors(adapters, rules, naming, config, bake_scale=bake_scale))
    _warn(rules)
    cast = to_dtype(dtype)
    at = _prefix(format, component)
    tensors, stated = {}, []
    for projection, rule, a, b in found:
        alpha = float(rule.rank * (1 if bake_scale else rule.scale))
        keys = module_keys(projection.module, at)
        tensors[keys["a"]] = a.astype(cast or a.dtype)
        tensors[keys["b"]] = b.astype(cast or a.dtype)
        if format == "original" and not bake_scale:
            tensors[keys["alpha"]] = np.array(alpha, np.float32)
        stated.append((projection.module, rule.rank, alpha))
    metadata = own_metadata(rules, config.num_layers, bake_scale)
    return _write(
        Path(path).expanduser(), format, component, tensors, peft_settings(stated), metadata
    )


def file_factors(
    adapters: Mapping[str, Any],
    rules: Sequence[LoraRule],
    naming: str,
    config: Any,
    *,
    bake_scale: bool = True,
) -> Iterator[tuple[Projection, LoraRule, np.ndarray, np.ndarray]]:
    """(projection, its rule, lora_A, lora_B) of adapters; see `save_lora` for arguments and errors.

    `naming` is a key of `peft_keys.FAMILIES`.
    """
    places = {(p.path, p.layer): p for p in known_projections(naming, config).values()}
    chosen = _check_adapters(adapters, rules, checkpoint_kind(naming).shapes(config))
    for rule, selected in zip(rules, chosen, strict=True):
        for place, a, b in _factors(adapters[rule.name], selected):
            if bake_scale and rule.scale != 1:
                b = b.astype(np.float32) * np.float32(rule.scale)
            yield places[place], rule, *places[place].to_file(a, b)


def _naming(name: str, format: str) -> str:
    if format not in FORMATS:
        raise WeightsError(f"no format {format!r}; known: {', '.join(FORMATS)}")
    if format == "original" and name == "cogvideox":
        raise WeightsError("CogVideoX has no original naming; use format='diffusers'")
    if format == "peft" or name not in ("wan", "wan_diffusers"):
        return name
    return {"diffusers": "wan_diffusers", "original": "wan"}[format]


def _prefix(format: str, component: str) -> str:
    if component not in COMPONENTS:
        raise WeightsError(f"no component {component!r}; known: {', '.join(COMPONENTS)}")
    return {
        "diffusers": f"{component}.",
        "peft": "base_model.model.",
        "original": "diffusion_model.",
    }[format]


def _check_adapters(
    adapters: Mapping[str, Any], rules: Sequence[LoraRule], shapes: Mapping[str, Any]
) -> list[list[Place]]:
    """The places of each rule, if the adapters are those of the rules."""
    chosen = [places_of(rule, shapes) for rule in rules]
    wanted: dict[str, tuple[int, ...]] = {}
    owner: dict[Place, str] = {}
    shared = []
    for rule, places in zip(rules, chosen, strict=True):
        for path, kernel in targets(shapes, rule).items():
            *stack, n_in, n_out = kernel.shape
            lead = tuple(len(rule.selected(n)) for n in stack)
            wanted[f"{rule.name}/{path}/a"] = (*lead, n_in, rule.rank)
            wanted[f"{rule.name}/{path}/b"] = (*lead, rule.rank, n_out)
        for place in places:
            if owner.setdefault(place, rule.name) != rule.name:
                shared.append(f"{label(place)} ({owner[place]!r}, {rule.name!r})")
    have = {path: tuple(leaf.shape) for path, leaf in walk(adapters)}
    missing = [path for path in wanted if path not in have]
    unknown = [path for path in have if path not in wanted]
    problems = {
        "missing adapters": with_nearest(missing, unknown),
        "adapters of no rule and projection": with_nearest(unknown, missing),
        "wrong shape": [
            f"{path}: {have[path]}, expected {shape}"
            for path, shape in wanted.items()
            if have.get(path, shape) != shape
        ],
        "two rules on one projection (a file holds one adapter: save each alone)": shared,
    }
    if len({rule.name for rule in rules}) < len(rules) or not rules:
        problems["names of rules"] = [str([rule.name for rule in rules])]
    raise_all(problems, "cannot write these adapters", "check the rules they were made with")
    return chosen


def _warn(rules: Sequence[LoraRule]) -> None:
    for rule in rules:
        if rule.stream != ALL_STREAMS:
            logging.warning(
                "adapter %r acts on the stream %r alone; other tools will apply the file to all "
                "tokens",
                rule.name,
                rule.stream,
            )
    if len({rule.rank for rule in rules}) > 1:
        logging.warning(
            "the ranks of %s differ; older versions of diffusers scale some of them wrongly",
            ", ".join(repr(rule.name) for rule in rules),
        )


def _factors(
    subtree: Mapping[str, Any], places: Sequence[Place]
) -> Iterator[tuple[Place, np.ndarray, np.ndarray]]:
    """(place, a, b) of one rule, each stack read once."""
    leaves = {path: as_lazy(leaf) for path, leaf in walk(subtree)}
    read: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for path, layer in places:
        if path not in read:
            read = {path: tuple(leaves[f"{path}/{leaf}"].read() for leaf in "ab")}
            place = 0
        a, b = read[path]
        yield (path, layer), *((a, b) if layer is None else (a[place], b[place]))
        place += 1


def _write(
    path: Path,
    format: str,
    component: str,
    tensors: Mapping[str, np.ndarray],
    settings: Mapping[str, Any],
    metadata: dict[str, str],
) -> list[Path]:
    """The files of one format, none of which may be there."""
    if path.suffix == ".safetensors":
        file = path
    else:
        file = path / (PEFT_FILE if format == "peft" else DIFFUSERS_FILE)
    if format == "diffusers":
        prefixed = {f"{component}.{key}": value for key, value in settings.items()}
        metadata |= {DIFFUSERS_KEY: json.dumps(prefixed, indent=2, sort_keys=True)}
    files = [file, file.with_name(PEFT_CONFIG)] if format == "peft" else [file]
    for there in files:
        if there.exists():
            raise WeightsError(f"{there} exists already; remove it or choose another place")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_safetensors(file, tensors, metadata)
        if format == "peft":
            content = {"peft_type": "LORA", "task_type": None, "bias": "none", **settings}
            files[1].write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise WeightsError(f"{file} cannot be written ({error})") from error
    return files
