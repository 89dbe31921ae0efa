"""Fine-tuning as a system: from its config to the methods of its stages."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from ml_collections import ConfigDict

from tavid_jax.engine.method import Method, System
from tavid_jax.methods.finetune.backbones import Geometry, make_backbone
from tavid_jax.methods.finetune.method import Finetune
from tavid_jax.models.layers.lora import LoraRule

LORA_FIELDS = ("path", "rank", "alpha", "layers", "stream", "name")


class FinetuneSystem(System):
    """One stage, "finetune": trains adapters, or everything, on encoded videos."""

    def __init__(self, config: Any):
        self.config = config

    def method(self, stage: str) -> Method:
        options = self.config.stages[stage]
        if options.method != "finetune":
            raise ValueError(f"stages.{stage}.method {options.method!r}: there is finetune")
        merged = ConfigDict(self.config.model.to_dict())
        merged.update(options.options.get("model", {}))
        return Finetune(read_backbone(merged, self.config.data))


def read_backbone(model: Any, data: Any) -> Any:
    """The backbone that `config.model` and `config.data` describe.

    Raises:
      ValueError: an unknown backbone, field or low-rank rule.
    """
    rules = tuple(read_rule(rule) for rule in model.lora)
    return make_backbone(
        model.backbone,
        Geometry(data.frames, tuple(data.size_hw)),
        model.changes.to_dict(),
        model.shift,
        dtype=jnp.dtype(model.dtype),
        # What is trained stays in float32; a frozen base is stored as it is used.
        param_dtype=jnp.dtype(model.dtype) if rules else jnp.float32,
        lora=rules,
        scan=model.scan,
        remat=model.remat,
        attention=model.attention,
    )


def read_rule(rule: Any) -> LoraRule:
    """A low-rank rule from its config.

    Raises:
      ValueError: a field that rules do not have.
    """
    fields = dict(rule)
    unknown = sorted(set(fields) - set(LORA_FIELDS))
    if unknown:
        raise ValueError(f"model.lora: {unknown[0]!r} is no field; there are {LORA_FIELDS}")
    if fields.get("layers") is not None:
        fields["layers"] = tuple(fields["layers"])
    return LoraRule(**fields)
