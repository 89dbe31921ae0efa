"""What the commands do with FlexTraj's files."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tavid_jax.weights.flextraj import (
    FILES,
    PEFT_DEFAULT,
    RELEASED,
    FlexTrajFile,
    load_flextraj,
    open_flextraj,
    save_flextraj,
)
from tavid_jax.weights.lazy import KEEP
from tavid_jax.weights.model_json import PRESETS
from tavid_jax.weights.peft import fitting, kind_of
from tavid_jax.weights.peft_cli import check_preset, table
from tavid_jax.weights.problems import WeightsError

# The models that FlexTraj was released for; others may have layers of the same sizes.
BACKBONES = ("cogvideox-5b-i2v", "wan2.2-ti2v-5b")
_STYLES = {None: RELEASED, "peft": PEFT_DEFAULT}


def describe(source: str, preset: str | None = None) -> Iterator[str]:
    """Lines about a file: what it fits, ranks and layers in a table, the fusion projection.

    Raises:
      WeightsError: it is damaged, or not of the model that is named.
    """
    file = open_flextraj(source)
    yield f"checkpoint  {file.lora.path}"
    yield "kind        FlexTraj: LoRA of the condition stream, and a fusion projection"
    if preset is not None:
        check_preset(file.lora, preset)
    yield f"fits        {preset or ', '.join(_fitting(file)) or 'none of the published'}"
    ranks = sorted({parts["a"].shape[0] for parts in file.lora.modules.values() if "a" in parts})
    yield f"rank        {', '.join(map(str, ranks))}"
    yield f"fuse        {', '.join(_line(part, leaf) for part, leaf in file.fuse.items())}"
    yield from table(file.lora)


def convert(
    source: str, folder: str, naming: str | None, preset: str | None, dtype: str
) -> list[Path]:
    """Writes a file in another spelling or dtype.

    Raises:
      WeightsError: the file is of a model that is not known, or `folder` cannot be written.
    """
    if naming not in _STYLES:
        raise WeightsError(f"FlexTraj's files are as released (the default), or peft, not {naming}")
    file = open_flextraj(source)
    fits = [preset] if preset is not None else _fitting(file)
    if not fits:
        raise WeightsError(f"{source}: of no published model; --preset tells what differs")
    check_preset(file.lora, fits[0])
    config = PRESETS[fits[0]]
    kind = "cogvideox" if kind_of(config) == "cogvideox" else "wan"
    params, rules = load_flextraj(file.lora.path, kind, config)
    if dtype == KEEP:
        dtype = str(next(parts["b"].dtype for parts in file.lora.modules.values()))
    target = Path(folder) / FILES[kind]
    return [save_flextraj(target, params, kind, config, rules, _STYLES[naming], dtype=dtype)]


def _fitting(file: FlexTrajFile) -> list[str]:
    """Published models whose layers have these sizes: FlexTraj's own, if it is among them."""
    found = fitting(file.lora)
    return [name for name in found if name in BACKBONES] or found


def _line(part: str, leaf: Any) -> str:
    return f"{part} {'x'.join(map(str, leaf.shape))} {leaf.dtype}"
