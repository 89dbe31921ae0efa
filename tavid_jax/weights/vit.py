"""Tables of a plain ViT: transformers' namings of ViT and DINOv2, and that of original files."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from tavid_jax.models.vision.config import ViTConfig
from tavid_jax.models.vision.vit import param_shapes as vit_shapes
from tavid_jax.weights.formats import CLASSES, Format
from tavid_jax.weights.ops import COPY, TRANSPOSE, patch_linear, squeeze
from tavid_jax.weights.table import Row, Table, linear_rows, norm_rows

__all__ = ["FORMATS", "vit_shapes", "vit_table"]

Naming = Literal["transformers", "dinov2", "original"]

_LINEARS = {
    "attention.attention.query": "attn/q",
    "attention.attention.key": "attn/k",
    "attention.attention.value": "attn/v",
    "attention.output.dense": "attn/o",
    "intermediate.dense": "mlp/fc1",
    "output.dense": "mlp/fc2",
}
_DINOV2_LINEARS = {
    **{theirs: ours for theirs, ours in _LINEARS.items() if ours.startswith("attn")},
    "mlp.fc1": "mlp/fc1",
    "mlp.fc2": "mlp/fc2",
}
_ORIGINAL_LINEARS = {"attn.proj": "attn/o", "mlp.fc1": "mlp/fc1", "mlp.fc2": "mlp/fc2"}
_POOLER = r"pooler\..*"  # behind the features, and never trained
_MASK = r"(embeddings\.)?mask_token"  # of DINOv2's training


def vit_table(config: ViTConfig, naming: Naming = "transformers") -> Table:
    """The table of a ViT without a classifier."""
    if naming == "original":
        return _original_table(config)
    is_v2 = naming == "dinov2"
    norms = ("norm1", "norm2") if is_v2 else ("layernorm_before", "layernorm_after")
    layers, block = range(config.num_layers), "encoder.layer.{i}"
    rows = _embedding_rows(
        config,
        "embeddings.cls_token",
        "embeddings.position_embeddings",
        "embeddings.patch_embeddings.projection",
    )
    for theirs, ours in (_DINOV2_LINEARS if is_v2 else _LINEARS).items():
        rows += linear_rows(f"{block}.{theirs}", f"blocks/{ours}", layers)
    for number, norm in enumerate(norms, 1):
        rows += norm_rows(f"{block}.{norm}", f"blocks/norm{number}", layers)
    if config.layer_scale:
        rows += _scale_rows(f"{block}.layer_scale", "lambda1", layers)
    rows += norm_rows("layernorm", "final_norm")
    return Table(tuple(rows), ignored=(_MASK if is_v2 else _POOLER,))


def _scale_rows(source: str, leaf: str, layers: Sequence[int]) -> list[Row]:
    return [Row(f"{source}{n}.{leaf}", f"blocks/scale{n}", COPY, layers) for n in "12"]


def _original_table(config: ViTConfig) -> Table:
    layers, block = range(config.num_layers), "blocks.{i}"
    rows = _embedding_rows(config, "cls_token", "pos_embed", "patch_embed.proj")
    for place, name in enumerate("qkv"):
        part = (place, 3)
        path = f"blocks/attn/{name}"
        rows.append(Row(f"{block}.attn.qkv.weight", f"{path}/kernel", TRANSPOSE, layers, part))
        rows.append(Row(f"{block}.attn.qkv.bias", f"{path}/bias", COPY, layers, part))
    for theirs, ours in _ORIGINAL_LINEARS.items():
        rows += linear_rows(f"{block}.{theirs}", f"blocks/{ours}", layers)
    for number in "12":
        rows += norm_rows(f"{block}.norm{number}", f"blocks/norm{number}", layers)
    if config.layer_scale:
        rows += _scale_rows(f"{block}.ls", "gamma", layers)
    rows += norm_rows("norm", "final_norm")
    return Table(tuple(rows), ignored=(_MASK,) if config.layer_scale else ())


def _embedding_rows(config: ViTConfig, token: str, positions: str, patches: str) -> list[Row]:
    taps = (config.patch_size, config.patch_size)
    return [
        Row(token, "class_embed", squeeze(2)),
        Row(positions, "pos_embed", squeeze(1)),
        Row(f"{patches}.weight", "patch_embed/kernel", patch_linear(3, taps)),
        Row(f"{patches}.bias", "patch_embed/bias"),
    ]


# Name in the file -> (ours, value where the file does not say).
_FIELDS = {
    "hidden_size": ("width", 768),
    "num_attention_heads": ("num_heads", 12),
    "num_hidden_layers": ("num_layers", 12),
    "intermediate_size": ("mlp_dim", 3072),
    "image_size": ("image_size", 224),
    "patch_size": ("patch_size", 16),
    "layer_norm_eps": ("epsilon", 1e-12),
}
_FIXED = {"hidden_act": "gelu", "num_channels": 3, "qkv_bias": True}


def _wide_mlp(content: Mapping[str, Any], stated: dict[str, Any], *_: Any) -> dict[str, Any]:
    return {"mlp_dim": int(stated["width"] * content.get("mlp_ratio", 4)), "layer_scale": True}


_DINOV2_FIELDS = {
    "hidden_size": ("width", 768),
    "num_attention_heads": ("num_heads", 12),
    "num_hidden_layers": ("num_layers", 12),
    "image_size": ("image_size", 224),
    "patch_size": ("patch_size", 14),
    "layer_norm_eps": ("epsilon", 1e-6),
}
FORMATS = {
    "ViTModel": Format(
        ViTConfig,
        _FIELDS,
        _FIXED,
        encode=lambda c: {"model_type": "vit"},
        describes=lambda c: not c.layer_scale,
        class_key=CLASSES,
    ),
    "Dinov2Model": Format(
        ViTConfig,
        _DINOV2_FIELDS,
        {**_FIXED, "use_swiglu_ffn": False},
        decode=_wide_mlp,
        encode=lambda c: {"model_type": "dinov2", "mlp_ratio": c.mlp_dim // c.width},
        describes=lambda c: c.layer_scale,
        class_key=CLASSES,
    ),
}
