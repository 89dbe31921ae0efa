"""The scale of an adapter: where files state alpha and rank, and how we state them.

Tools keep alpha in three places: a key `<module>.alpha` beside each adapter; the safetensors
metadata, where newer versions of diffusers keep PEFT's settings; PEFT's adapter_config.json.
"""

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tavid_jax.models.layers.lora import LoraRule
from tavid_jax.untrusted.errors import UntrustedError, told
from tavid_jax.untrusted.texts import parse_json
from tavid_jax.weights.peft_keys import COMPONENTS
from tavid_jax.weights.problems import WeightsError
from tavid_jax.weights.safetensors import read_metadata
from tavid_jax.weights.source import read_json

# Where diffusers keeps the settings, and where we keep what they cannot say.
DIFFUSERS_KEY = "lora_adapter_metadata"
OWN_KEY = "tavid_jax"
PEFT_CONFIG = "adapter_config.json"
# PEFT's value where its settings leave alpha out.
_PEFT_ALPHA = 8


@dataclass(frozen=True)
class Settings:
    """PEFT's settings, as far as they decide rank and scale.

    Attributes:
      origin: where they were found, for people.
      rank: of modules without a pattern; None if not stated.
      alpha: numerator of the scale, likewise.
      rank_patterns, alpha_patterns: regular expression -> value; it matches the end of a module's
        name, from a dot on. The first match counts.
      root: the scale is alpha / sqrt(rank).
    """

    origin: str
    rank: int | None
    alpha: float | int
    rank_patterns: Mapping[str, int]
    alpha_patterns: Mapping[str, float | int]
    root: bool

    def rank_of(self, module: str) -> int | None:
        """The rank that a module should have."""
        return _first(self.rank_patterns, module, self.rank)

    def alpha_of(self, module: str, rank: int) -> float:
        """alpha, such that the scale is alpha / rank."""
        alpha = _first(self.alpha_patterns, module, self.alpha)
        return float(alpha) * (math.sqrt(rank) if self.root else 1.0)


@dataclass(frozen=True)
class Own:
    """What a file of ours says in addition.

    Attributes:
      rules: those that the adapters were made with.
      baked: lora_B was multiplied with their scales.
    """

    rules: tuple[LoraRule, ...]
    baked: bool


def read_settings(file: Path, component: str) -> Settings | None:
    """PEFT's settings in a file's metadata or beside it; None if there are none.

    Raises:
      WeightsError: they are damaged, or of an adapter that is no plain LoRA.
    """
    if file.suffix == ".safetensors" and DIFFUSERS_KEY in (metadata := read_metadata(file)):
        stated = _of_component(_json(metadata[DIFFUSERS_KEY], file, DIFFUSERS_KEY), component)
        if stated:
            return _settings(stated, f"metadata of {file.name}")
    beside = file.parent / PEFT_CONFIG
    return _settings(read_json(beside), PEFT_CONFIG) if beside.is_file() else None


def read_own(file: Path) -> Own | None:
    """What `save_lora` left in a file's metadata; None in files of others."""
    if file.suffix != ".safetensors" or OWN_KEY not in (metadata := read_metadata(file)):
        return None
    stated = _json(metadata[OWN_KEY], file, OWN_KEY)
    try:
        rules = []
        for rule in stated["rules"]:
            layers = rule["layers"]
            rules.append(LoraRule(**rule | {"layers": layers and tuple(layers)}))
        return Own(tuple(rules), bool(stated["baked"]))
    except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"{file}: damaged metadata {OWN_KEY!r} ({told(error)})") from error


def own_metadata(rules: Sequence[LoraRule], depth: int, baked: bool) -> dict[str, str]:
    """The inverse of `read_own`."""
    stated = [
        {
            "path": rule.path,
            "rank": rule.rank,
            "alpha": rule.alpha,
            "layers": None if rule.layers is None else list(rule.selected(depth)),
            "stream": rule.stream,
            "name": rule.name,
        }
        for rule in rules
    ]
    return {OWN_KEY: json.dumps({"rules": stated, "baked": baked}, sort_keys=True)}


def peft_settings(modules: Iterable[tuple[str, int, float]]) -> dict[str, Any]:
    """PEFT's settings for {(module, rank, alpha)}, as JSON values."""
    found = list(modules)
    ranks = {module: rank for module, rank, _ in found}
    alphas = {module: int(a) if a == int(a) else a for module, _, a in found}
    rank, alpha = (_commonest(values.values()) for values in (ranks, alphas))
    return {
        "r": rank,
        "lora_alpha": alpha,
        # "^": from the beginning of the name, so that no other module ends like this one.
        "rank_pattern": {f"^{m}": r for m, r in ranks.items() if r != rank},
        "alpha_pattern": {f"^{m}": a for m, a in alphas.items() if a != alpha},
        "target_modules": list(ranks),
    }


def _settings(stated: Mapping[str, Any], origin: str) -> Settings:
    if str(stated.get("peft_type") or "LORA").upper().rpartition(".")[2] != "LORA":
        raise WeightsError(f"{origin}: {stated['peft_type']} is no LoRA")
    if stated.get("use_dora"):
        raise WeightsError(f"{origin}: DoRA (use_dora) is not supported, only plain LoRA")
    try:
        found = Settings(
            origin,
            stated.get("r"),
            stated.get("lora_alpha", _PEFT_ALPHA),
            dict(stated.get("rank_pattern") or {}),
            dict(stated.get("alpha_pattern") or {}),
            bool(stated.get("use_rslora")),
        )
        for value in (found.alpha, *found.alpha_patterns.values()):
            if not math.isfinite(value):
                raise ValueError(f"alpha is {value}")
        for pattern in (*found.rank_patterns, *found.alpha_patterns):
            _check_pattern(pattern)
    except (ArithmeticError, RecursionError, TypeError, ValueError, re.error) as error:
        raise WeightsError(f"{origin}: damaged settings ({told(error)})") from error
    return found


def _check_pattern(pattern: str) -> None:
    """Names of modules, perhaps with a few wildcards: others may take for ever to match."""
    repeats = len(re.findall(r"[*+{]|\)\?", pattern))
    if len(pattern) > 512 or repeats > 2 or re.search(r"\)[*+{]|\\\d|\(\?[^:]", pattern):
        raise ValueError(f"the pattern {pattern[:60]!r} is more than the name of a module")
    re.compile(pattern)


def _first(patterns: Mapping[str, Any], module: str, otherwise: Any) -> Any:
    for pattern, value in patterns.items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            return value
    return otherwise


def _of_component(stated: Mapping[str, Any], component: str) -> dict[str, Any]:
    """A pipeline puts "transformer." before each setting, a model puts nothing."""
    prefixes = tuple(f"{name}." for name in COMPONENTS)
    if not any(key.startswith(prefixes) for key in stated):
        return dict(stated)
    at = f"{component}."
    return {key[len(at) :]: value for key, value in stated.items() if key.startswith(at)}


def _json(text: str, file: Path, key: str) -> dict[str, Any]:
    try:
        stated = parse_json(text)
    except UntrustedError as error:
        raise WeightsError(f"{file}: damaged metadata {key!r} ({told(error)})") from error
    if not isinstance(stated, dict):
        raise WeightsError(f"{file}: damaged metadata {key!r} (not a table)")
    return stated


def _commonest(values: Iterable[Any]) -> Any:
    values = list(values)
    return max(values, key=values.count)
