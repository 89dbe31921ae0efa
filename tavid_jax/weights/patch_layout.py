"""The weight of a patch projection: how it lies in a file, and whose it is."""

import dataclasses
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any

from tavid_jax.weights.model_json import PRESETS, preset_of
from tavid_jax.weights.peft_keys import FAMILIES
from tavid_jax.weights.problems import WeightsError
from tavid_jax.weights.registry import CHECKPOINTS
from tavid_jax.weights.table import Row

KERNEL = "patch_embed/kernel"


def patch_row(config: Any, channels: int) -> Row:
    """How the checkpoint's table lays out the weight of a model with so many input channels."""
    wide = dataclasses.replace(config, in_channels=channels)
    rows = CHECKPOINTS[family_of(config)].table(wide).rows
    return next(row for row in rows if row.path == KERNEL)


def weight_shape(config: Any, channels: int) -> tuple[int, ...]:
    """The shape of that weight."""
    return patch_row(config, channels).source_shape((config.patch_elements * channels, config.dim))


def channels_of(weight: tuple[int, ...], config: Any) -> int | None:
    """Input channels of a weight of which all else is the model's; None if something is not."""
    channels, rest = divmod(prod(weight), config.patch_elements * config.dim)
    whole = channels > 0 and not rest
    return channels if whole and weight_shape(config, channels) == weight else None


def checked_channels(origin: str | Path, weight: tuple[int, ...], config: Any) -> int:
    """Input channels of a weight, the model's and perhaps more; WeightsError if it is another's."""
    family_of(config)
    expected = weight_shape(config, config.in_channels)
    channels = channels_of(weight, config) or 0
    if channels >= config.in_channels:
        return channels
    this = preset_of(config) or f"this {type(config).__name__.removesuffix('Config')}"
    raise WeightsError(
        f"{origin} is the patch projection of another model than {this}: its weight is {weight}, "
        f"expected {expected} or more input channels; it fits {described(weight)}"
    )


def described(weight: tuple[int, ...]) -> str:
    """For people: "cogvideox-5b-i2v with 1 further channel"; the models with the fewest."""
    extras = {}
    for preset, config in PRESETS.items():
        if any(isinstance(config, CHECKPOINTS[name].config) for name in FAMILIES):
            channels = channels_of(weight, config) or 0
            if channels >= config.in_channels:
                extras[preset] = channels - config.in_channels
    if not extras:
        return "none of the published"
    fewest = min(extras.values())
    return further([preset for preset, extra in extras.items() if extra == fewest], fewest)


def further(presets: Sequence[str], extra: int) -> str:
    """For people: "a, b with 2 further channels"."""
    return f"{', '.join(presets)} with {extra} further channel{'' if extra == 1 else 's'}"


def family_of(config: Any) -> str:
    """The kind of checkpoint that a model with further channels is based on.

    Raises:
      WeightsError: a model that has no such.
    """
    for name in FAMILIES:
        if isinstance(config, CHECKPOINTS[name].config):
            return name
    raise WeightsError(
        f"only transformers ({', '.join(FAMILIES)}) have a patch projection of further channels, "
        f"not a model of a {type(config).__name__}"
    )
