"""What `inspect` says of the file of a patch projection."""

from collections.abc import Iterator
from pathlib import Path

from tavid_jax.weights.model_json import PRESETS
from tavid_jax.weights.patch_embed import open_patch_embed
from tavid_jax.weights.patch_layout import checked_channels, described, further
from tavid_jax.weights.problems import WeightsError


def describe(file: Path, preset: str | None = None) -> Iterator[str]:
    """Lines about it; its tensors are a table of their own.

    Raises:
      WeightsError: it is damaged, or not of the model that is named.
    """
    _, tensors = open_patch_embed(file)
    weight = tensors["weight"].shape
    yield f"checkpoint  {file}"
    yield "kind        patch projection of a transformer"
    if preset is None:
        yield f"fits        {described(weight)}"
        return
    if preset not in PRESETS:
        raise WeightsError(f"no preset {preset!r}; known: {', '.join(PRESETS)}")
    config = PRESETS[preset]
    extra = checked_channels(file, weight, config) - config.in_channels
    yield f"fits        {further([preset], extra)}"
