"""Rules of adapters: what they select layer by layer, and whether a file is as they say."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tavid_jax.models.layers.lora import LoraRule, targets
from tavid_jax.weights.peft_keys import FileAdapter
from tavid_jax.weights.problems import WeightsError, raise_all

# (path, layer): one projection of the base.
Place = tuple[str, int | None]
_DISAGREE = "take the rules that the file has (rules=None), or give scale="


def derived_rules(
    ranks: Mapping[Place, int],
    scales: Mapping[Place, float],
    depth: Mapping[str, int | None],
    stream: str,
) -> list[LoraRule]:
    """A rule for all projections of equal rank, scale and layers."""
    layers: dict[tuple[str, int, float], list[int]] = {}
    for (path, layer), rank in ranks.items():
        layers.setdefault((path, rank, scales[path, layer]), []).append(layer)
    groups: dict[tuple[int, float, tuple[int, ...] | None], list[str]] = {}
    for (path, rank, scale), chosen in layers.items():
        every = depth[path] is None or len(chosen) == depth[path]
        key = rank, scale, None if every else tuple(sorted(chosen))
        groups.setdefault(key, []).append(path)
    return [
        LoraRule(
            path=_pattern(paths),
            rank=rank,
            alpha=None if scale == 1 else scale * rank,
            layers=chosen,
            stream=stream,
            name=f"default_{number}" if number else "default",
        )
        for number, ((rank, scale, chosen), paths) in enumerate(groups.items())
    ]


def _pattern(paths: Sequence[str]) -> str:
    """A regular expression for these paths: "blocks/attn/(k|o|q|v)|text_embed"."""
    inside: dict[str, list[str]] = {}
    for path in sorted(paths):
        parent, slash, name = path.rpartition("/")
        inside.setdefault(parent + slash, []).append(name)
    return "|".join(
        parent + (names[0] if len(names) == 1 else f"({'|'.join(names)})")
        for parent, names in inside.items()
    )


def depths(shapes: Mapping[str, Any]) -> dict[str, int | None]:
    """Projection -> number of layers it is stacked over."""
    every = LoraRule(".*", rank=1)
    kernels = targets(shapes, every)
    return {path: k.shape[0] if len(k.shape) == 3 else None for path, k in kernels.items()}


def places_of(rule: LoraRule, shapes: Mapping[str, Any]) -> list[Place]:
    """What a rule selects, layer by layer; WeightsError if that is nothing."""
    try:
        return [
            (path, layer)
            for path, kernel in targets(shapes, rule).items()
            for layer in (rule.selected(kernel.shape[0]) if len(kernel.shape) == 3 else (None,))
        ]
    except ValueError as error:
        raise WeightsError(str(error)) from error


def check_rules(
    rules: Sequence[LoraRule],
    chosen: Sequence[Sequence[Place]],
    found: Mapping[Place, FileAdapter],
    scales: Mapping[Place, float],
    streams: Mapping[Place, str],
) -> None:
    """Every adapter is selected by one rule, and is as that rule says."""
    problems: dict[str, list[str]] = {}

    def wrong(kind: str, line: str) -> None:
        if line not in problems.setdefault(kind, []):
            problems[kind].append(line)

    owner: dict[Place, str] = {}
    for rule, places in zip(rules, chosen, strict=True):
        for place in places:
            at = label(place)
            if place not in found:
                wrong("selected by a rule, not in the file", f"{at} ({rule.name!r})")
                continue
            if place in owner:
                wrong("selected by two rules", f"{at} ({owner[place]!r}, {rule.name!r})")
            owner[place] = rule.name
            for kind, have, want in (
                ("ranks", found[place].rank, rule.rank),
                ("scales", scales[place], rule.scale),
                ("streams", streams.get(place, rule.stream), rule.stream),
            ):
                # A scale may have been rounded where it was alpha / rank.
                if have != want and not (kind == "scales" and np.isclose(have, want, 1e-6)):
                    wrong(kind, f"{place[0]}: {have} in the file, {want} in {rule.name!r}")
    for place in found:
        if place not in owner:
            wrong("in the file, selected by no rule", label(place))
    raise_all(problems, "the rules disagree with the adapters", _DISAGREE)
    if len({rule.name for rule in rules}) < len(rules):
        raise WeightsError(f"rules need names of their own: {[rule.name for rule in rules]}")


def label(place: Place) -> str:
    path, layer = place
    return path if layer is None else f"{path} of layer {layer}"
