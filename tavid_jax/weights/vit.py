"""Tables of a plain ViT: transformers' naming, and that of DINO's original files."""

from typing import Literal

from tavid_jax.models.vision.config import ViTConfig
from tavid_jax.models.vision.vit import param_shapes as vit_shapes
from tavid_jax.weights.formats import CLASSES, Format
from tavid_jax.weights.ops import COPY, TRANSPOSE, patch_linear, squeeze
from tavid_jax.weights.table import Row, Table, linear_rows, norm_rows

__all__ = ["FORMATS", "vit_shapes", "vit_table"]

Naming = Literal["transformers", "original"]

_LINEARS = {
    "attention.attention.query": "attn/q",
    "attention.attention.key": "attn/k",
    "attention.attention.value": "attn/v",
    "attention.output.dense": "attn/o",
    "intermediate.dense": "mlp/fc1",
    "output.dense": "mlp/fc2",
}
_ORIGINAL_LINEARS = {"attn.proj": "attn/o", "mlp.fc1": "mlp/fc1", "mlp.fc2": "mlp/fc2"}
_POOLER = r"pooler\..*"  # behind the features, and never trained


def vit_table(config: ViTConfig, naming: Naming = "transformers") -> Table:
    """The table of a ViT without a classifier."""
    if naming == "original":
        return _original_table(config)
    layers, block = range(config.num_layers), "encoder.layer.{i}"
    rows = _embedding_rows(
        config,
        "embeddings.cls_token",
        "embeddings.position_embeddings",
        "embeddings.patch_embeddings.projection",
    )
    for theirs, ours in _LINEARS.items():
        rows += linear_rows(f"{block}.{theirs}", f"blocks/{ours}", layers)
    rows += norm_rows(f"{block}.layernorm_before", "blocks/norm1", layers)
    rows += norm_rows(f"{block}.layernorm_after", "blocks/norm2", layers)
    rows += norm_rows("layernorm", "final_norm")
    return Table(tuple(rows), ignored=(_POOLER,))


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
    rows += norm_rows("norm", "final_norm")
    return Table(tuple(rows))


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
FORMATS = {
    "ViTModel": Format(
        ViTConfig, _FIELDS, _FIXED, encode=lambda c: {"model_type": "vit"}, class_key=CLASSES
    )
}
