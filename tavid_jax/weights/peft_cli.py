"""What the commands do with files of adapters."""

import re
from collections.abc import Iterator
from pathlib import Path

from tavid_jax.weights.imported import for_people
from tavid_jax.weights.lazy import KEEP
from tavid_jax.weights.model_json import PRESETS
from tavid_jax.weights.peft import LoraFile, components, fitting, kind_of, load_lora, open_lora
from tavid_jax.weights.peft_export import save_lora
from tavid_jax.weights.peft_keys import all_namings
from tavid_jax.weights.problems import WeightsError, fold


def describe(path: str, preset: str | None = None) -> Iterator[str]:
    """Lines about a file of adapters: where its scale comes from, what it fits, a table.

    Raises:
      WeightsError: it fits no published model, or not the one that is named.
    """
    for number, component in enumerate(components(path)):
        file = open_lora(path, component)
        if number:
            yield ""
        yield f"checkpoint  {file.path}"
        yield f"kind        LoRA of a {component}"
        if file.own is not None:
            for rule in file.own.rules:
                yield f"rule        {rule}"
            baked = "multiplied into lora_B" if file.own.baked else "not multiplied into lora_B"
            yield f"scale       {baked}"
        origin = file.settings.origin if file.settings else "none; alpha = rank if not in the keys"
        yield f"settings    {origin}"
        if preset is not None:
            check_preset(file, preset)
        yield f"fits        {preset or ', '.join(fitting(file)) or 'none of the published'}"
        yield from table(file)


def check_preset(file: LoraFile, preset: str) -> None:
    """WeightsError for adapters that are not of a published model, or one that is not known."""
    if preset not in PRESETS:
        raise WeightsError(f"no preset {preset!r}; known: {', '.join(PRESETS)}")
    file.adapters(all_namings(kind_of(PRESETS[preset]), PRESETS[preset]))


def table(file: LoraFile) -> Iterator[str]:
    """A line for each projection of equal rank, alpha and dtype, its layers folded into one."""
    groups: dict[tuple, list[str]] = {}
    whole = {m: parts for m, parts in file.modules.items() if {"a", "b"} <= parts.keys()}
    for module, parts in whole.items():
        rank = parts["a"].shape[0]
        beside = float(parts["alpha"].read().reshape(-1)[0]) if "alpha" in parts else None
        alpha = file.alpha_of(module, rank, beside)
        name = re.sub(r"\.\d+\.", ".#.", module, count=1)
        key = name, str(rank), f"{alpha:g}", f"{alpha / rank:g}", str(parts["a"].dtype)
        groups.setdefault(key, []).append(module)
    rows = [("module", "rank", "alpha", "scale", "dtype", "size")]
    for (_, *cells), modules in groups.items():
        nbytes = sum(whole[m][leaf].nbytes for m in modules for leaf in "ab")
        rows.append((fold(modules)[0], *cells, for_people(nbytes)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    yield ""
    for name, *cells in rows:
        rest = (f"{cell:>{width}}" for cell, width in zip(cells, widths[1:], strict=True))
        yield "  ".join([f"{name:{widths[0]}}", *rest])
    leaves = [parts[leaf] for parts in whole.values() for leaf in "ab"]
    size = for_people(sum(leaf.nbytes for leaf in leaves))
    yield ""
    yield f"{len(whole)} adapters, {sum(leaf.size for leaf in leaves):,} parameters, {size}"


def convert(
    source: str, folder: str, format: str | None, preset: str | None, dtype: str
) -> list[Path]:
    """Writes a file of adapters in another format or dtype.

    Raises:
      WeightsError: the file is of a model that is not known, or `folder` cannot be written.
    """
    file = open_lora(source)
    fits = [preset] if preset is not None else fitting(file)
    if not fits:
        raise WeightsError(f"{source}: adapters of no published model; --preset tells what differs")
    check_preset(file, fits[0])
    config = PRESETS[fits[0]]
    adapters, rules = load_lora(source, kind_of(config), config)
    if dtype == KEEP:
        dtype = str(next(p["b"].dtype for p in file.modules.values() if "b" in p))
    return save_lora(
        adapters, rules, folder, kind_of(config), config, format or "diffusers", dtype=dtype
    )
