"""From a config to the parts of a method: backbone, objective, autoencoder, text encoder."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from ml_collections import ConfigDict

from tavid_jax.methods.finetune.method import Conditioning
from tavid_jax.methods.finetune.tower import Tower
from tavid_jax.methods.finetune.words import Words
from tavid_jax.models.layers.autoencoder import VideoAutoencoder
from tavid_jax.models.layers.lora import LoraRule
from tavid_jax.models.layers.tiling import Tiles
from tavid_jax.models.text.config import TEXT_PRESETS
from tavid_jax.models.text.t5 import T5Encoder
from tavid_jax.models.text.tokenizer import Tokenizer
from tavid_jax.models.vision.clip import CLIPVision
from tavid_jax.models.vision.config import VISION_PRESETS
from tavid_jax.pipelines.autoencoders import PRESETS as AUTOENCODERS
from tavid_jax.pipelines.autoencoders import make_autoencoder, tiles_of
from tavid_jax.pipelines.backbones import Backbone, Geometry, make_backbone
from tavid_jax.pipelines.settings import PUBLISHED, Published

LORA_FIELDS = ("path", "rank", "alpha", "layers", "stream", "name")
DTYPES = ("float32", "bfloat16")


def model_of(config: Any, stage: Any) -> ConfigDict:
    """`config.model` with the stage's own changes."""
    merged = ConfigDict(config.model.to_dict())
    merged.update(stage.options.get("model", {}))
    if reads_masks(config, stage):
        merged.changes.extra_channels = len(config.targets.words)
    return merged


def reads_masks(config: Any, stage: Any) -> bool:
    """Whether a stage's model has channels for the masks of `config.targets`."""
    given = stage.options.get("masks", {}).get("given", config.get("masks", {}).get("given", False))
    return bool(given)


def published_of(model: Any) -> Published:
    """The published model that `config.model` begins with.

    Raises:
      ValueError: there is none of this name.
    """
    if model.backbone not in PUBLISHED:
        raise ValueError(f"model.backbone {model.backbone!r} is none of {', '.join(PUBLISHED)}")
    return PUBLISHED[model.backbone]


def read_conditioning(config: Any, stage: Any) -> Conditioning:
    """`config.learn` with the stage's own changes.

    Raises:
      ValueError: an unknown field, or see `Conditioning`.
    """
    fields = {**config.learn, **stage.options.get("learn", {})}
    return build(Conditioning, "learn", fields)


def read_autoencoder(config: Any) -> tuple[VideoAutoencoder, Tiles | None]:
    """The module of `config.autoencoder`, by default the backbone's published one, and its tiles.

    Raises:
      ValueError: an unknown name, field or dtype.
    """
    options = config.autoencoder
    name = options.name or published_of(config.model).autoencoder
    if name not in AUTOENCODERS:
        raise ValueError(f"autoencoder.name {name!r} is none of {', '.join(AUTOENCODERS)}")
    sizes = _replaced(AUTOENCODERS[name], "autoencoder.changes", options.changes)
    module = make_autoencoder(sizes, dtype=_dtype("autoencoder", options.dtype))
    return module, tiles_of(sizes, options.tiles)


def read_words(config: Any, tokenizer: Tokenizer) -> Words:
    """The text encoder of `config.text`, by default the backbone's published one.

    Raises:
      ValueError: an unknown field or dtype.
    """
    published = published_of(config.model)
    sizes = TEXT_PRESETS[published.text_encoder]
    sizes = _replaced(sizes, "text.changes", config.text.changes)
    length = config.model.changes.get("text_length", _text_length(published.family))
    dtype = _dtype("model", config.model.dtype)
    kept = jnp.float32 if config.text.train else dtype  # as of the backbone
    module = T5Encoder(sizes, dtype, kept, config.model.scan)
    return Words(module, tokenizer, length, wan=published.family == "wan")


def read_tower(config: Any) -> Tower | None:
    """The published image tower, where the backbone reads its tokens.

    Raises:
      ValueError: an unknown field or dtype.
    """
    published = published_of(config.model)
    if published.image_encoder is None:
        return None
    dtype = _dtype("model", config.model.dtype)
    changes = config.get("image", {}).get("changes", {})  # older runs have none
    sizes = _replaced(VISION_PRESETS[published.image_encoder], "image.changes", changes)
    module = CLIPVision(sizes, dtype, dtype, config.model.scan)
    return Tower(module, last_frame=published.backbone == "wan2.1-flf2v-14b")


def read_backbone(model: Any, data: Any, autoencoder: VideoAutoencoder) -> Backbone:
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
        stride=autoencoder.config.stride_hw,
        predicts=model.predicts,
        dtype=dtype,
        # What is trained stays in float32; a frozen base is stored as it is used.
        param_dtype=dtype if rules else jnp.float32,
        lora=rules,
        scan=model.scan,
        remat=model.remat,
        attention=model.attention,
    )


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


def _dtype(node: str, name: str) -> jnp.dtype:
    if name not in DTYPES:
        raise ValueError(f"{node}.dtype {name!r} is none of {', '.join(DTYPES)}")
    return jnp.dtype(name)


def _text_length(family: str) -> int:
    return 512 if family == "wan" else 226


def _replaced(config: Any, node: str, changes: Any) -> Any:
    """A config with some fields replaced; ValueError naming those that it does not have."""
    return build(dataclasses.replace, node, dict(changes), config)


def build(kind: Any, node: str, fields: Mapping[str, Any], *given: Any) -> Any:
    """A dataclass from the fields of a config's node, or a given one with these replaced.

    Raises:
      ValueError: a field that it does not have, or what its own checks say.
    """
    known = [field.name for field in dataclasses.fields(given[0] if given else kind)]
    unknown = sorted(set(fields) - set(known))
    if unknown:
        raise ValueError(f"{node}.{unknown[0]} is no field; there are {', '.join(known)}")
    fields = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
    return kind(*given, **fields)
