"""Encoders of single pictures for those who train on what they say: opened, not read."""

from __future__ import annotations

from pathlib import Path

from tavid_jax.models.vision.config import ViTConfig
from tavid_jax.pipelines.pretrained import differences
from tavid_jax.weights import WeightsError
from tavid_jax.weights.opened import Opened, open_parameters

_KINDS = ("dinov2", "vit_original")


def open_dinov2(source: str | Path, expected: ViTConfig | None = None) -> Opened:
    """A DINOv2 without registers: transformers' folder (facebook/dinov2-small, ...) or its file.

    Args:
      source: file, folder or `hf:` name.
      expected: sizes that it must have; None takes any.

    Raises:
      WeightsError: nothing usable there, another model, or other sizes (all fields listed).
    """
    opened = open_parameters(source)
    if opened.name not in _KINDS or not opened.config.layer_scale:
        raise WeightsError(
            f"{source} holds {opened.preset or 'a model'} (kind {opened.name}): give a DINOv2 "
            "without registers, such as facebook/dinov2-small"
        )
    if expected is not None and opened.config != expected:
        lines = "\n  ".join(differences(opened.config, expected))
        raise WeightsError(f"{source} is another DINOv2 than the config's:\n  {lines}")
    return opened
