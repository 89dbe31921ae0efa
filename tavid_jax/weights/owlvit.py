"""Table of OWL-ViT in transformers' naming."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tavid_jax.models.vision.config import CLIPTextConfig, CLIPVisionConfig, OwlViTConfig
from tavid_jax.models.vision.owlvit import param_shapes as owlvit_shapes
from tavid_jax.weights.clip import (
    IGNORED,
    TEXT_FIELDS,
    VISION_FIELDS,
    clip_rows,
    tower_fields,
)
from tavid_jax.weights.formats import CLASSES, Format
from tavid_jax.weights.table import Table, linear_rows, norm_rows

__all__ = ["FORMATS", "owlvit_shapes", "owlvit_table"]

_HEADS = {
    "class_head.dense0": "class_head/embed",
    "class_head.logit_shift": "class_head/shift",
    "class_head.logit_scale": "class_head/scale",
    "box_head.dense0": "box_head/fc1",
    "box_head.dense1": "box_head/fc2",
    "box_head.dense2": "box_head/fc3",
}


def owlvit_table(config: OwlViTConfig) -> Table:
    """The table of the two towers and the heads."""
    rows = clip_rows(config.vision, config.text, "owlvit.", pre_norm="pre_layernorm")
    rows += norm_rows("layer_norm", "patch_norm")
    for theirs, ours in _HEADS.items():
        rows += linear_rows(theirs, ours)
    return Table(tuple(rows), ignored=(*IGNORED, "box_bias"))


# Where a file does not say: OWL-ViT's own, which are not CLIP's.
_VISION = VISION_FIELDS | {"image_size": ("image_size", 768)}
_TEXT = TEXT_FIELDS | {"max_position_embeddings": ("text_length", 16)}
_FEATURES = ("projection_dim", 512)


def _decode(
    content: Mapping[str, Any], stated: dict[str, Any], path: Path | str, keys: Any
) -> dict[str, Any]:
    features = content.get(*_FEATURES)
    vision = tower_fields(content, "vision_config", _VISION, path)
    text = tower_fields(content, "text_config", _TEXT, path)
    return {
        "vision": CLIPVisionConfig(**vision, feature_dim=features),
        "text": CLIPTextConfig(**text, feature_dim=features),
    }


def _encode(config: OwlViTConfig) -> dict[str, Any]:
    return {
        "model_type": "owlvit",
        _FEATURES[0]: config.text.feature_dim,
        "vision_config": _entries(config.vision, _VISION, "owlvit_vision_model"),
        "text_config": _entries(config.text, _TEXT, "owlvit_text_model"),
    }


def _entries(tower: Any, fields: Mapping[str, tuple], model_type: str) -> dict[str, Any]:
    entries = {theirs: getattr(tower, ours) for theirs, (ours, _) in fields.items()}
    return {**entries, "model_type": model_type}


FORMATS = {
    "OwlViTForObjectDetection": Format(OwlViTConfig, {}, {}, _decode, _encode, class_key=CLASSES)
}
