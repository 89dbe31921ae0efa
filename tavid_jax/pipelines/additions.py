"""What is plugged into a transformer: adapters, the reading of condition videos, and a patch
projection with mask channels."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Num

from tavid_jax.models.layers.lora import LoraRule
from tavid_jax.models.wan.experts import HIGH_NOISE, LOW_NOISE
from tavid_jax.pipelines.folder import TRANSFORMER
from tavid_jax.pipelines.part import Part
from tavid_jax.pipelines.targets import Targets
from tavid_jax.weights import WeightsError, load_flextraj, load_lora, load_patch_embed
from tavid_jax.weights.files import read_file
from tavid_jax.weights.flextraj import is_flextraj
from tavid_jax.weights.peft import AUTO, components
from tavid_jax.weights.safetensors import write_safetensors
from tavid_jax.weights.table import walk

# What the adapters of two experts are called in a pipeline's file.
EXPERT_COMPONENTS = {HIGH_NOISE: TRANSFORMER, LOW_NOISE: f"{TRANSFORMER}_2"}
# Names of the marks of what was added, see `Part.marks`.
LORA, CONTROL, PATCH_EMBED = "lora", "control", "patch_embed"
_VECTORS = "embedding"


def has_experts(transformer: Part) -> bool:
    """Whether it is two transformers, one for each side of a noise level."""
    return "experts" in transformer.opened.name


def adapt(
    transformer: Part, source: str | Path, scale: float | int | str = AUTO
) -> tuple[str, ...]:
    """Plugs adapters into the transformer, beside its weights.

    Args:
      transformer: of a pipeline.
      source: any form that `weights.load_lora` reads; of two experts it may hold both or one.
      scale: see there.

    Returns:
      Of two experts those that the adapters are of.

    Raises:
      WeightsError: see `weights.load_lora`; two experts whose adapters are of other rules.
    """
    if is_flextraj(source):
        raise WeightsError(f"lora {source} steers by condition videos: give it as control")
    opened, experts = transformer.opened, ()
    if has_experts(transformer):
        added, rules, experts = _of_experts(source, opened.config, scale)
    else:
        adapters, rules = load_lora(source, _kind(transformer), opened.config, scale=scale)
        added = {"lora": adapters}
    transformer.added = added
    transformer.marks[LORA] = _mark(added, rules)
    transformer.module = transformer.module.clone(lora=rules)
    return experts


def _kind(transformer: Part) -> str:
    return "cogvideox" if transformer.opened.name == "cogvideox" else "wan"


def steer(transformer: Part, source: str | Path) -> int:
    """Plugs in what reads condition videos: adapters of their stream, beside those that are there,
    and the projection that fuses two of them.

    Args:
      transformer: of a pipeline.
      source: any form that `weights.load_flextraj` reads.

    Returns:
      How many condition videos it reads.

    Raises:
      WeightsError: see `weights.load_flextraj`; two experts, of which none reads such videos.
    """
    if has_experts(transformer):
        raise WeightsError(f"control {source}: two experts read no condition videos")
    params, rules = load_flextraj(source, _kind(transformer), transformer.opened.config)
    transformer.marks[CONTROL] = _mark(params, rules)
    module, count = transformer.module, 2 if "fuse" in params else 1
    taken = {rule.name for rule in module.lora}
    names = {rule.name: f"{CONTROL}_{rule.name}" if rule.name in taken else rule.name
             for rule in rules}  # fmt: skip
    rules = (dataclasses.replace(rule, name=names[rule.name]) for rule in rules)
    adapters = {names[name]: node for name, node in params.pop("lora").items()}
    lora = {"lora": transformer.added.get("lora", {}) | adapters}
    transformer.added = transformer.added | lora | params
    transformer.module = module.clone(
        config=dataclasses.replace(module.config, condition_videos=count),
        lora=(*module.lora, *rules),
    )
    return count


def _of_experts(
    source: str | Path, config: Any, scale: float | int | str
) -> tuple[dict[str, dict[str, Any]], tuple[LoraRule, ...], tuple[str, ...]]:
    """What is added to each of two experts, the rules of both, and whose adapters there are: one
    program runs them."""
    loaded = {
        expert: load_lora(source, "wan", config, scale=scale, component=component)
        for expert, component in EXPERT_COMPONENTS.items()
        if component in components(source)
    }
    (first, rules), *others = loaded.values()
    if any(other != rules for _, other in others):
        raise WeightsError(
            f"{source}: the adapters of the two experts differ in ranks, scales or layers; open "
            "a file of equal ones"
        )
    none = jax.tree.map(np.zeros_like, first)  # for an expert that has no adapters
    added = {e: {"lora": loaded[e][0] if e in loaded else none} for e in EXPERT_COMPONENTS}
    return added, rules, tuple(loaded)


def extend(transformer: Part, source: str | Path, experts: Sequence[str] = ()) -> int:
    """Puts a patch projection in the place of the transformer's own.

    Args:
      transformer: of a pipeline.
      source: see `weights.load_patch_embed`.
      experts: of two, those that read the masks; () is both. The other one keeps its projection.

    Returns:
      How many further channels it has, K.

    Raises:
      WeightsError: see `weights.load_patch_embed`.
    """
    config = transformer.module.config
    params = load_patch_embed(source, config)
    further = {name: leaf for name, leaf in params.items() if name == "patch_embed_extra"}
    count = sum(leaf.shape[0] for _, leaf in walk(further)) // config.patch_elements
    if has_experts(transformer):
        unread = jax.tree.map(np.zeros_like, further)
        transformer.added = {
            expert: transformer.added.get(expert, {})
            | (params if expert in (experts or EXPERT_COMPONENTS) else unread)
            for expert in EXPERT_COMPONENTS
        }
    else:
        transformer.added = transformer.added | params
    transformer.marks[PATCH_EMBED] = _mark(params, experts)
    extended = dataclasses.replace(config, extra_channels=count)
    transformer.module = transformer.module.clone(config=extended)
    return count


def targets_of(given: Targets | None, channels: int, source: str | Path) -> Targets | None:
    """What a model with mask channels knows of its targets.

    Args:
      given: by the caller or the model's card.
      channels: of the model, K.
      source: of its patch projection, for messages.

    Raises:
      ValueError: another number of targets than channels, or several channels and no word about
        them.
    """
    if not channels:
        return given
    if given is None and channels == 1:
        return Targets(sentence="")
    if given is None:
        raise ValueError(
            f"{source} has {channels} mask channels: give the trigger word of each, such as "
            "targets=Targets(words=('source', 'target'), objects=('actor', 'target'), "
            "sentence='') (--trigger source target)"
        )
    if given.count != channels:
        raise ValueError(
            f"{source} has {channels} mask channel{'s' * (channels > 1)}, targets.words "
            f"{given.words} names {given.count}: give one word for each channel"
        )
    return given


def read_embedding(file: Path, shape: tuple[int, int]) -> Float[np.ndarray, "K D"]:
    """Learned vectors of trigger words, float32.

    Args:
      file: a safetensors file that `write_embedding` wrote.
      shape: targets, and width of the text's features.

    Raises:
      WeightsError: a file of something else, or of another model.
    """
    tensors = read_file(file)
    if set(tensors) != {_VECTORS}:
        raise WeightsError(f"{file} holds {', '.join(tensors)}: expected the key {_VECTORS} alone")
    if tensors[_VECTORS].shape != shape:
        raise WeightsError(
            f"{file} holds vectors of shape {tensors[_VECTORS].shape}: this model's are {shape}, "
            "one for each trigger word"
        )
    return tensors[_VECTORS].read().astype(np.float32)


def write_embedding(file: Path, vectors: Num[Any, "K D"]) -> None:
    """Writes vectors of trigger words, one row for each.

    Raises:
      WeightsError: values that are not finite.
    """
    vectors = np.asarray(vectors, np.float32)
    if not np.isfinite(vectors).all():
        raise WeightsError("the vectors of the trigger words hold values that are not finite")
    write_safetensors(file, {_VECTORS: vectors})


def _mark(params: Mapping[str, Any], *facts: Any) -> str:
    """Tells parameters from others: a hash of their content."""
    digest = hashlib.sha256(repr(facts).encode())
    for path, leaf in walk(params):
        digest.update(path.encode() + np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()[:12]
