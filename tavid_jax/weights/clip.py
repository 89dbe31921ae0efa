"""Tables of CLIP: transformers' naming of one tower or both, and Wan's original file.

Wan's file holds a whole open-clip model, of which Wan runs the image tower alone (and of that
neither the last block nor what follows it). Read, and written, is the image tower to its end; the
other text tower (`textual.*`) and the temperature (`log_scale`) are ignored.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp

from tavid_jax.models.text.clip import param_shapes as text_shapes
from tavid_jax.models.vision.clip import param_shapes as vision_shapes
from tavid_jax.models.vision.config import (
    Activation,
    CLIPConfig,
    CLIPTextConfig,
    CLIPVisionConfig,
)
from tavid_jax.weights.formats import CLASSES, Format
from tavid_jax.weights.ops import COPY, TRANSPOSE, patch_linear, squeeze
from tavid_jax.weights.problems import WeightsError
from tavid_jax.weights.table import Row, Table, linear_rows, norm_rows

# "transformers" has the tower below "vision_model."; "bare", of newer files of the tower alone,
# has not; "original" is the file of Wan.
VisionNaming = Literal["transformers", "bare", "original"]

_LINEARS = {
    "self_attn.q_proj": "attn/q",
    "self_attn.k_proj": "attn/k",
    "self_attn.v_proj": "attn/v",
    "self_attn.out_proj": "attn/o",
    "mlp.fc1": "mlp/fc1",
    "mlp.fc2": "mlp/fc2",
}
PRE_NORM = "pre_layrnorm"  # they spell it so
_ORIGINAL_LINEARS = {"attn.proj": "attn/o", "mlp.0": "mlp/fc1", "mlp.2": "mlp/fc2"}
# Older files hold the numbers 0, 1, 2, ... as a tensor.
IGNORED = (r"(.*\.)?embeddings\.position_ids",)
_ORIGINAL_IGNORED = (r"textual\..*", r"log_scale")


def vision_table(config: CLIPVisionConfig, naming: VisionNaming = "transformers") -> Table:
    """The table of an image tower."""
    if naming == "original":
        return _original_vision_table(config)
    at = "vision_model." if naming == "transformers" else ""
    rows = _vision_rows(config, at, "")
    return Table(tuple(rows), ignored=IGNORED)


def clip_table(config: CLIPConfig) -> Table:
    """The table of both towers in transformers' naming."""
    return Table(tuple(clip_rows(config.vision, config.text)), ignored=IGNORED)


def clip_rows(
    vision: CLIPVisionConfig, text: CLIPTextConfig, at: str = "", pre_norm: str = PRE_NORM
) -> list[Row]:
    """Both towers, with `at` in front of every key; `pre_norm` is how they spell that norm."""
    below = f"{at}text_model."
    return [
        *_vision_rows(vision, f"{at}vision_model.", "vision/", at, pre_norm),
        Row(f"{below}embeddings.token_embedding.weight", "text/token_embed"),
        Row(f"{below}embeddings.position_embedding.weight", "text/pos_embed"),
        *_block_rows(f"{below}encoder.layers", "text/blocks", range(text.num_layers)),
        *norm_rows(f"{below}final_layer_norm", "text/final_norm"),
        Row(f"{at}text_projection.weight", "text/head/kernel", TRANSPOSE),
        Row(f"{at}logit_scale", "logit_scale"),
    ]


def clip_shapes(config: CLIPConfig) -> dict:
    """The parameters' shapes: {"vision", "text", "logit_scale"}."""
    towers = {"vision": vision_shapes(config.vision), "text": text_shapes(config.text)}
    return {**towers, "logit_scale": jax.ShapeDtypeStruct((), jnp.float32)}


def _patch_row(config: CLIPVisionConfig, source: str, path: str) -> Row:
    size = config.patch_size
    return Row(source, path, patch_linear(3, (size, size)))


def _vision_rows(
    config: CLIPVisionConfig, source: str, path: str, at: str = "", pre_norm: str = PRE_NORM
) -> list[Row]:
    embeddings = f"{source}embeddings"
    rows = [
        Row(f"{embeddings}.class_embedding", f"{path}class_embed"),
        _patch_row(config, f"{embeddings}.patch_embedding.weight", f"{path}patch_embed/kernel"),
        Row(f"{embeddings}.position_embedding.weight", f"{path}pos_embed"),
        *norm_rows(f"{source}{pre_norm}", f"{path}pre_norm"),
        *_block_rows(f"{source}encoder.layers", f"{path}blocks", range(config.num_layers)),
        *norm_rows(f"{source}post_layernorm", f"{path}post_norm"),
    ]
    if config.feature_dim is not None:
        rows.append(Row(f"{at}visual_projection.weight", f"{path}head/kernel", TRANSPOSE))
    return rows


def _block_rows(source: str, path: str, layers: range) -> list[Row]:
    rows = []
    for theirs, ours in _LINEARS.items():
        rows += linear_rows(f"{source}.{{i}}.{theirs}", f"{path}/{ours}", layers)
    for number in "12":
        rows += norm_rows(f"{source}.{{i}}.layer_norm{number}", f"{path}/norm{number}", layers)
    return rows


def _original_vision_table(config: CLIPVisionConfig) -> Table:
    layers, block = range(config.num_layers), "visual.transformer.{i}"
    rows = [
        Row("visual.cls_embedding", "class_embed", squeeze(2)),
        _patch_row(config, "visual.patch_embedding.weight", "patch_embed/kernel"),
        Row("visual.pos_embedding", "pos_embed", squeeze(1)),
        *norm_rows("visual.pre_norm", "pre_norm"),
        *norm_rows("visual.post_norm", "post_norm"),
    ]
    for place, name in enumerate("qkv"):
        weight, bias = (f"{block}.attn.to_qkv.{kind}" for kind in ("weight", "bias"))
        part = (place, 3)
        rows.append(Row(weight, f"blocks/attn/{name}/kernel", TRANSPOSE, layers, part))
        rows.append(Row(bias, f"blocks/attn/{name}/bias", COPY, layers, part))
    for theirs, ours in _ORIGINAL_LINEARS.items():
        rows += linear_rows(f"{block}.{theirs}", f"blocks/{ours}", layers)
    for number in "12":
        rows += norm_rows(f"{block}.norm{number}", f"blocks/norm{number}", layers)
    if config.feature_dim is not None:
        rows.append(Row("visual.head", "head/kernel"))
    return Table(tuple(rows), ignored=_ORIGINAL_IGNORED)


# Name in the file -> (ours, value where the file does not say).
_TOWER = {
    "num_hidden_layers": ("num_layers", 12),
    "hidden_act": ("activation", "quick_gelu"),
    "layer_norm_eps": ("epsilon", 1e-5),
}
VISION_FIELDS = _TOWER | {
    "hidden_size": ("width", 768),
    "intermediate_size": ("mlp_dim", 3072),
    "num_attention_heads": ("num_heads", 12),
    "image_size": ("image_size", 224),
    "patch_size": ("patch_size", 32),
}
TEXT_FIELDS = _TOWER | {
    "hidden_size": ("width", 512),
    "intermediate_size": ("mlp_dim", 2048),
    "num_attention_heads": ("num_heads", 8),
    "vocab_size": ("vocab_size", 49408),
    "max_position_embeddings": ("text_length", 77),
}
_FEATURES = ("projection_dim", 512)
_END = ("eos_token_id", 49407)
# This number in a file stands for the largest id of a text, not for the token of that number.
_LARGEST = 2


def _decode_vision(
    content: Mapping[str, Any], stated: dict[str, Any], path: Path | str, keys: Iterable[str] | None
) -> dict[str, Any]:
    _check_activation(stated["activation"], path)
    projects = content[CLASSES][0].endswith("WithProjection")
    projects = projects if keys is None else "visual_projection.weight" in keys
    return {"feature_dim": content.get(*_FEATURES) if projects else None}


def _encode_vision(config: CLIPVisionConfig) -> dict[str, Any]:
    features = {} if config.feature_dim is None else {_FEATURES[0]: config.feature_dim}
    return {"model_type": "clip_vision_model", **features}


def _decode_clip(
    content: Mapping[str, Any], stated: dict[str, Any], path: Path | str, keys: Any
) -> dict[str, Any]:
    features = content.get(*_FEATURES)
    vision = tower_fields(content, "vision_config", VISION_FIELDS, path)
    text = tower_fields(content, "text_config", TEXT_FIELDS, path)
    end_id = _entries(content, "text_config").get(*_END)
    end_id = None if end_id == _LARGEST else end_id
    return {
        "vision": CLIPVisionConfig(**vision, feature_dim=features),
        "text": CLIPTextConfig(**text, feature_dim=features, end_id=end_id),
    }


def _encode_clip(config: CLIPConfig) -> dict[str, Any]:
    end_id = config.text.end_id
    return {
        "model_type": "clip",
        _FEATURES[0]: config.text.feature_dim,
        "vision_config": {
            **{theirs: getattr(config.vision, ours) for theirs, (ours, _) in VISION_FIELDS.items()},
            **_encode_vision(config.vision),
        },
        "text_config": {
            **{theirs: getattr(config.text, ours) for theirs, (ours, _) in TEXT_FIELDS.items()},
            _FEATURES[0]: config.text.feature_dim,
            _END[0]: _LARGEST if end_id is None else end_id,
            "model_type": "clip_text_model",
        },
    }


def _entries(content: Mapping[str, Any], name: str) -> dict[str, Any]:
    """One tower's part; what older files have a second time, under "..._dict", counts."""
    return {**(content.get(name) or {}), **(content.get(f"{name}_dict") or {})}


def tower_fields(
    content: Mapping[str, Any], name: str, fields: Mapping[str, tuple], path: Path | str
) -> dict[str, Any]:
    """Fields of one tower's config; `fields` as in `Format`."""
    entries = _entries(content, name)
    stated = {ours: entries.get(theirs, default) for theirs, (ours, default) in fields.items()}
    _check_activation(stated["activation"], path)
    return stated


def _check_activation(name: str, path: Path | str) -> None:
    if name not in get_args(Activation):
        known = ", ".join(get_args(Activation))
        raise WeightsError(f"{path}: hidden_act {name!r} is not supported; known: {known}")


_CHANNELS = {"num_channels": 3}
FORMATS = {
    "CLIPVisionModelWithProjection": Format(
        CLIPVisionConfig,
        VISION_FIELDS,
        _CHANNELS,
        _decode_vision,
        _encode_vision,
        describes=lambda config: config.feature_dim is not None,
        class_key=CLASSES,
    ),
    "CLIPVisionModel": Format(
        CLIPVisionConfig,
        VISION_FIELDS,
        _CHANNELS,
        _decode_vision,
        _encode_vision,
        describes=lambda config: config.feature_dim is None,
        class_key=CLASSES,
    ),
    "CLIPModel": Format(CLIPConfig, {}, {}, _decode_clip, _encode_clip, class_key=CLASSES),
}
