"""FlexTraj's released files: adapters of the condition stream, and the fusion projection.

Adapters act on the tokens of the condition videos alone; `fuse_linear` adds the tokens of the
second video (colours) to those of the first (identities). The keys are those of a LoRA file in
the naming of the backbone: "transformer.transformer_blocks.0.attn1.to_q.lora_A.weight" for
CogVideoX, "blocks.0.self_attn.q.lora_A.weight" for Wan. Training states spell them
"lora_A.default.weight" and, for CogVideoX, "fuse_linear.modules_to_save.default.weight".

Wan's file also has adapters of the text's keys and values in cross-attention. No token of the
condition passes these, so they were never trained, lora_B is zero, and nothing applies them.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from absl import logging

from tavid_jax.models.layers.lora import LoraRule
from tavid_jax.models.layers.streams import CONDITION
from tavid_jax.weights.lazy import KEEP, LazyArray, as_lazy, to_dtype
from tavid_jax.weights.peft import (
    AUTO,
    LoraFile,
    check_backbone,
    check_scale,
    open_lora,
    read_lora,
    usual_file,
)
from tavid_jax.weights.peft_alpha import own_metadata
from tavid_jax.weights.peft_export import file_factors
from tavid_jax.weights.peft_keys import (
    Projection,
    all_namings,
    is_adapter_key,
    known_projections,
    without_prefix,
)
from tavid_jax.weights.peft_rules import Place, places_of
from tavid_jax.weights.problems import WeightsError, fold, raise_all
from tavid_jax.weights.registry import checkpoint_kind
from tavid_jax.weights.safetensors import write_safetensors
from tavid_jax.weights.source import HUB, download, open_source

# Kind of backbone -> the name of its released file.
FILES = {"cogvideox": "flextraj_cogvideox.safetensors", "wan": "flextraj_wan.safetensors"}
RELEASED, PEFT_DEFAULT = "released", "peft default"
STYLES = (RELEASED, PEFT_DEFAULT)
# The projections that a released file adapts: those that condition tokens pass, and the others.
_APPLIED = {
    "cogvideox": LoraRule("blocks/attn/(q|k|v|o)", rank=1),
    "wan": LoraRule("blocks/(attn/(q|k|v|o)|cross/(q|o))", rank=1),
}
_IDLE = {"wan": LoraRule("blocks/cross/(k|v)", rank=1)}
_FUSE = re.compile(r"fuse_linear\.(?:modules_to_save\.[^.]+\.)?(?P<part>weight|bias)")
_PARTS = ("weight", "bias")
_HINT = "check that the file is whole, and made for this model"


@dataclasses.dataclass(frozen=True)
class FlexTrajFile:
    """An opened file; nothing of it is read.

    Attributes:
      lora: its adapters, those that nothing applies among them.
      fuse: "weight" and "bias" of the fusion projection, or fewer.
    """

    lora: LoraFile
    fuse: Mapping[str, LazyArray]


def load_flextraj(
    source: str | Path,
    kind: str,
    config: Any,
    rules: Sequence[LoraRule] | None = None,
    *,
    scale: float | int | str = AUTO,
) -> tuple[dict[str, Any], tuple[LoraRule, ...]]:
    """Adapters of the condition stream and the fusion projection, of a released or our own file.

    Args:
      source: a safetensors (or `.pt`, read as tensors only) file, in the released spelling or that
        of training states; or its folder, or `hf:owner/name`, where it has the released name.
      kind: "cogvideox" or "wan".
      config: of the base model.
      rules: those that the file must fulfil. None: all adapters that were released, of whatever
        rank the file has; of a file of ours those that it was saved with.
      scale: of the adapters; "auto" is what the file says, or 1 where it says nothing, as the
        released code does.

    Returns:
      ({"lora": {rule: {path...: {a, b}}}, "fuse": {"kernel": (D, D), "bias": (D,)}} in float32,
      rules of the stream "condition"). A file of ours for one condition video has no "fuse".

    Raises:
      WeightsError: nothing usable there; a file of another backbone; keys that are missing, not
        known or of other shapes than the config's; trained adapters of projections that no
        condition token passes. Everything wrong of a kind is listed.
    """
    _check_kind(kind)
    check_scale(scale)
    known = all_namings(kind, config)
    file = open_flextraj(source, kind)
    check_backbone(file.lora, known, config)
    try:
        applied = _applied(file.lora, known, kind, config, rules)
        fuse = _read_fuse(file, config)
    except WeightsError as error:
        raise WeightsError(f"{file.lora.path}: {error}") from error
    adapters, rules = read_lora(applied, kind, config, rules, scale, stream=CONDITION)
    return {"lora": adapters} | ({"fuse": fuse} if fuse else {}), rules


def save_flextraj(
    file: str | Path,
    params: Mapping[str, Any],
    kind: str,
    config: Any,
    rules: Sequence[LoraRule],
    style: str = RELEASED,
    *,
    dtype: Any = KEEP,
) -> Path:
    """Writes a file that the released code loads: the inverse of `load_flextraj`.

    Every key of a released file is there: adapters that the rules leave out, and those that
    nothing applies, are zeros. Scales are multiplied into lora_B, since the released code knows
    none; our own metadata names the rules, so that `load_flextraj` gives them back.

    Args:
      file: a `.safetensors` file to be created.
      params: with the subtrees `lora` (of these rules alone) and `fuse`; what else is there is
        left out. A model of `config.condition_videos` = 1 has no `fuse`.
      kind, config: see `load_flextraj`.
      rules: that the adapters were made with, all of the stream "condition"; none where the
        transformer was trained itself.
      style: "released", or "peft default", the spelling of training states.
      dtype: of all tensors, "bf16", "f32", ..., or "keep". The released trainers computed, and
        saved, in bf16.

    Returns:
      The file.

    Raises:
      WeightsError: adapters that are not those of the rules, rules of other streams, a projection
        of another shape, or a file that is there already or cannot be written.
    """
    _check_kind(kind)
    if style not in STYLES:
        raise WeightsError(f"no style {style!r}; known: {', '.join(map(repr, STYLES))}")
    file = Path(file).expanduser()
    if file.exists():
        raise WeightsError(f"{file} exists already; remove it or choose another place")
    others = [f"{rule.name!r}: {rule.stream}" for rule in rules if rule.stream != CONDITION]
    raise_all({"rules of other streams": others}, f"cannot write {file}", "save these as LoRA")
    cast = to_dtype(dtype)
    tensors = _adapter_tensors(params.get("lora", {}), rules, kind, config, style, cast)
    tensors |= _fuse_tensors(params.get("fuse", {}), kind, config, style, cast, file)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_safetensors(file, tensors, own_metadata(rules, config.num_layers, baked=True))
    except OSError as error:
        raise WeightsError(f"{file} cannot be written ({error})") from error
    return file


def open_flextraj(source: str | Path, kind: str | None = None) -> FlexTrajFile:
    """Finds and indexes a file; see `load_flextraj`.

    Args:
      source: a file; with `kind`, also the folder or `hf:owner/name` of released ones.
      kind: of the backbone, which tells the released file's name.
    """
    place = usual_file(source) if kind is None else _released_file(source, kind)
    tensors = open_source(place).tensors
    keys = {key: part for key in tensors if (part := fuse_part(key))}
    twice = [key for key, part in keys.items() if list(keys.values()).count(part) > 1]
    raise_all({"spelled twice": twice}, f"{place} cannot be read", "a file holds one projection")
    try:
        lora = open_lora(place, ignored=[re.escape(key) for key in keys])
    except WeightsError as error:
        raise WeightsError(f"{place}: {error}") from error
    fuse = {part: tensors[key] for part in _PARTS for key, found in keys.items() if found == part}
    return FlexTrajFile(lora, fuse)


def is_flextraj(source: str | Path) -> bool:
    """Whether a checkpoint holds adapters and a fusion projection; WeightsError if there is
    none."""
    keys = open_source(usual_file(source)).tensors
    return any(map(fuse_part, keys)) and any(map(is_adapter_key, keys))


def fuse_part(key: str) -> str | None:
    """ "weight" or "bias" for a key of the fusion projection, in any spelling; else None."""
    found = _FUSE.fullmatch(without_prefix(key))
    return found and found["part"]


def _check_kind(kind: str) -> None:
    if kind not in FILES:
        raise WeightsError(f"FlexTraj has no {kind!r}; its backbones are {', '.join(FILES)}")


def _released_file(source: str | Path, kind: str) -> str | Path:
    """The released file in a folder or on the hub, the source itself if it is none."""
    is_hub = str(source).startswith(HUB)
    folder = download(str(source), [FILES[kind]]) if is_hub else Path(source).expanduser()
    file = folder / FILES[kind]
    if is_hub and not file.is_file():
        raise WeightsError(f"there is no {FILES[kind]} in {source}")
    return file if file.is_file() else source


# ---- in --------------------------------------------------------------------------------------


def _applied(
    file: LoraFile,
    known: Mapping[str, Projection],
    kind: str,
    config: Any,
    rules: Sequence[LoraRule] | None,
) -> LoraFile:
    """The file without the adapters that no rule selects, all of which must be zero."""
    shapes = checkpoint_kind(kind).shapes(config)
    if rules is None:
        rules = file.own.rules if file.own else (_APPLIED[kind],)
    found = file.adapters(known)
    modules = {(p.path, p.layer): p.module for p in known_projections(kind, config).values()}
    wanted = {place for rule in rules for place in places_of(rule, shapes)}
    missing = [f"{modules[place]}.lora_A.weight" for place in wanted - found.keys()]
    rest = [adapter for place, adapter in found.items() if place not in wanted]
    trained = [a.projection.module for a in rest if np.any(a.b.read())]
    problems = {
        "missing": fold(sorted(missing)),
        "adapters that no condition token passes, whose lora_B is not zero": fold(
            f"{module}.lora_B.weight" for module in trained
        ),
    }
    raise_all(problems, "these are not FlexTraj's adapters", _HINT)
    idle = {adapter.b for adapter in rest}
    kept = {name: parts for name, parts in file.modules.items() if parts["b"] not in idle}
    return dataclasses.replace(file, modules=kept)


def _read_fuse(file: FlexTrajFile, config: Any) -> dict[str, Any]:
    """{"kernel", "bias"}; nothing of a file of ours for one condition video."""
    videos = 1 if not file.fuse and file.lora.own is not None else 2
    if config.condition_videos not in (0, videos):
        raise WeightsError(
            f"it is for {videos} condition video{'s' * (videos > 1)}, and "
            f"config.condition_videos is {config.condition_videos}: set it to what the file has"
        )
    if videos == 1:
        return {}
    wanted = {"weight": (config.dim, config.dim), "bias": (config.dim,)}
    problems = {
        "missing": [f"fuse_linear.{part}" for part in wanted if part not in file.fuse],
        "wrong shape": [
            f"fuse_linear.{part}: {leaf.shape}, expected {wanted[part]}"
            for part, leaf in file.fuse.items()
            if leaf.shape != wanted[part]
        ],
    }
    raise_all(problems, "there is no fusion projection of this model", _HINT)
    weight, bias = (file.fuse[part].read().astype(np.float32) for part in _PARTS)
    return {"kernel": jnp.asarray(weight.T), "bias": jnp.asarray(bias)}


# ---- out -------------------------------------------------------------------------------------


def _adapter_tensors(
    adapters: Mapping[str, Any],
    rules: Sequence[LoraRule],
    kind: str,
    config: Any,
    style: str,
    cast: np.dtype | None,
) -> dict[str, np.ndarray]:
    """{key: tensor} of all adapters that a released file has, and of what the rules add."""
    factors = file_factors(adapters, rules, kind, config) if rules else ()
    given = {(one.path, one.layer): (a, b) for one, _, a, b in factors}
    released = _released_places(kind, config)
    _warn(rules, given.keys() - released)
    rank = rules[0].rank if rules else 1
    dtype = next((a.dtype for a, _ in given.values()), np.dtype(np.float32))
    tensors = {}
    for projection in known_projections(kind, config).values():
        place = projection.path, projection.layer
        if place in given:
            a, b = given[place]
        elif place in released:
            a, b = (np.zeros(shape, dtype) for shape in projection.file_shapes(rank))
        else:
            continue
        for name, factor in (("lora_A", a), ("lora_B", b)):
            key = _prefix(kind, style) + projection.module + f".{name}{_infix(style)}.weight"
            tensors[key] = factor.astype(cast or factor.dtype)
    return tensors


def _fuse_tensors(
    fuse: Mapping[str, Any],
    kind: str,
    config: Any,
    style: str,
    cast: np.dtype | None,
    file: Path,
) -> dict[str, np.ndarray]:
    """{key: tensor} of the fusion projection, if it is of this model."""
    wanted = {"kernel": (config.dim, config.dim), "bias": (config.dim,)}
    if config.condition_videos == 1:
        wanted = {}
    have = {name: as_lazy(leaf) for name, leaf in fuse.items()}
    problems = {
        "missing": [f"fuse/{name}" for name in wanted if name not in have],
        "not expected": [f"fuse/{name}" for name in have if name not in wanted],
        "wrong shape": [
            f"fuse/{name}: {have[name].shape}, expected {shape}"
            for name, shape in wanted.items()
            if name in have and have[name].shape != shape
        ],
    }
    raise_all(problems, f"cannot write {file}: these are not the config's parameters")
    of_peft = "modules_to_save.default." if (kind, style) == ("cogvideox", PEFT_DEFAULT) else ""
    at = f"{_prefix(kind, style)}fuse_linear.{of_peft}"
    arrays = {name: leaf.read().astype(cast or leaf.dtype) for name, leaf in have.items()}
    named = zip(_PARTS, ("kernel", "bias"), strict=True)
    return {f"{at}{part}": arrays[name].T for part, name in named if name in arrays}


def _prefix(kind: str, style: str) -> str:
    return "transformer." if (kind, style) == ("cogvideox", RELEASED) else ""


def _infix(style: str) -> str:
    return ".default" if style == PEFT_DEFAULT else ""


def _released_places(kind: str, config: Any) -> set[Place]:
    shapes = checkpoint_kind(kind).shapes(config)
    rules = [_APPLIED[kind], *([_IDLE[kind]] if kind in _IDLE else [])]
    return {place for rule in rules for place in places_of(rule, shapes)}


def _warn(rules: Sequence[LoraRule], further: set[Place]) -> None:
    if further:
        paths = ", ".join(sorted({path for path, _ in further}))
        logging.warning("adapters of %s: the released code of FlexTraj applies none there", paths)
    if len({rule.rank for rule in rules}) > 1:
        names = ", ".join(repr(rule.name) for rule in rules)
        logging.warning("the ranks of %s differ; the released code for Wan expects one", names)
