"""Fine-tuning as a system: from its config to the methods of its stages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from ml_collections import ConfigDict

from tavid_jax.engine.method import Method, System
from tavid_jax.methods.finetune.method import Finetune
from tavid_jax.methods.finetune.objectives import FlowMatching, objective_of
from tavid_jax.models.layers.lora import LoraRule
from tavid_jax.pipelines.autoencoders import PRESETS as AUTOENCODERS
from tavid_jax.pipelines.autoencoders import make_autoencoder, tiles_of
from tavid_jax.pipelines.backbones import Backbone, Geometry, make_backbone
from tavid_jax.pipelines.settings import PUBLISHED

LORA_FIELDS = ("path", "rank", "alpha", "layers", "stream", "name")
DTYPES = ("float32", "bfloat16")


class FinetuneSystem(System):
    """Trains adapters, or everything, on videos that an earlier stage has encoded."""

    def __init__(self, config: Any):
        self.config = config

    def method(self, stage: str) -> Method:
        options = self.config.stages[stage]
        if options.method == "encode":
            raise ValueError(
                f"stage {stage!r}: videos and captions cannot be encoded into latents and text "
                "features yet, so there is nothing to fine-tune on. Whether the training step fits "
                "your chips can be told: python launch/fit.py --config=configs/finetune.py:"
                f"{self.config.preset} --topology=v5e:2x4 --batch_per_chip=1"
            )
        if options.method != "finetune":
            raise ValueError(f"stages.{stage}.method {options.method!r}: there is finetune")
        merged = ConfigDict(self.config.model.to_dict())
        merged.update(options.options.get("model", {}))
        backbone = read_backbone(merged, self.config.data)
        flow = FlowMatching(merged.shift, tuple(merged.levels))
        coder = AUTOENCODERS[PUBLISHED[merged.backbone].autoencoder]
        module = make_autoencoder(coder, dtype=_dtype("autoencoder", self.config.autoencoder.dtype))
        tiles = tiles_of(coder, self.config.autoencoder.tiles)
        return Finetune(backbone, objective_of(backbone, flow), module, tiles)


def read_backbone(model: Any, data: Any) -> Backbone:
    """The backbone that `config.model` and `config.data` describe.

    Raises:
      ValueError: an unknown backbone, field, dtype or low-rank rule; sizes that do not fit.
    """
    dtype = _dtype("model", model.dtype)
    rules = tuple(read_rule(rule) for rule in model.lora)
    return make_backbone(
        model.backbone,
        Geometry(data.frames, tuple(data.size_hw)),
        model.changes.to_dict(),
        model.first_frame,
        dtype=dtype,
        # What is trained stays in float32; a frozen base is stored as it is used.
        param_dtype=dtype if rules else jnp.float32,
        lora=rules,
        scan=model.scan,
        remat=model.remat,
        attention=model.attention,
    )


def _dtype(node: str, name: str) -> jnp.dtype:
    if name not in DTYPES:
        raise ValueError(f"{node}.dtype {name!r} is none of {', '.join(DTYPES)}")
    return jnp.dtype(name)


def read_rule(rule: Any) -> LoraRule:
    """A low-rank rule from its config.

    Raises:
      ValueError: a field that rules do not have, or lack, or that makes no sense.
    """
    if not isinstance(rule, Mapping | ConfigDict):
        raise ValueError(f"model.lora: {rule!r} is no rule: give path=..., rank=...")
    fields = dict(rule)
    unknown = sorted(set(fields) - set(LORA_FIELDS))
    if unknown:
        known = ", ".join(LORA_FIELDS)
        raise ValueError(f"model.lora: {unknown[0]!r} is no field of a rule; there are {known}")
    if not {"path", "rank"} <= set(fields):
        raise ValueError(f"model.lora: the rule {fields} needs a path and a rank")
    if isinstance(fields.get("layers"), list):
        fields["layers"] = tuple(fields["layers"])
    return LoraRule(**fields)
