"""From a config to what TAViD adds to fine-tuning: targets, the loss on attention, masks."""

from __future__ import annotations

from typing import Any

from tavid_jax.methods.finetune.settings import build
from tavid_jax.methods.tavid.attention import AttentionLoss, Blocks
from tavid_jax.methods.tavid.method import Masks
from tavid_jax.pipelines.targets import Targets


def read_targets(config: Any) -> Targets:
    """`config.targets`.

    Raises:
      ValueError: an unknown field, or see `Targets`.
    """
    return Targets.of(config.targets.to_dict())


def read_attention(config: Any, stage: Any) -> AttentionLoss:
    """`config.attention` with the stage's own changes.

    Raises:
      ValueError: an unknown field, or see `AttentionLoss` and `Blocks`.
    """
    fields = _of_stage(config, stage, "attention")
    blocks = build(Blocks, "attention.blocks", fields.pop("blocks"))
    return build(AttentionLoss, "attention", {**fields, "blocks": blocks, "seed": config.seed})


def read_masks(config: Any, stage: Any) -> Masks:
    """`config.masks` with the stage's own changes.

    Raises:
      ValueError: an unknown field, or see `Masks`.
    """
    return build(Masks, "masks", _of_stage(config, stage, "masks"))


def _of_stage(config: Any, stage: Any, node: str) -> dict[str, Any]:
    merged = config[node].to_dict()
    for name, value in stage.options.get(node, {}).items():
        inner = isinstance(merged.get(name), dict)
        merged[name] = {**merged[name], **value} if inner else value
    return merged
