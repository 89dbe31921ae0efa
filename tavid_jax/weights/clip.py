"""Tables of CLIP: transformers' naming of one tower or both, and Wan's original file.

Wan's file holds a whole open-clip model, of which Wan runs the image tower alone (and of that
neither the last block nor what follows it). Read, and written, is the image tower to its end; the
other text tower (`textual.*`) and the temperature (`log_scale`) are ignored.
"""

from typing import Literal

import jax
import jax.numpy as jnp

from tavid_jax.models.text.clip import param_shapes as text_shapes
from tavid_jax.models.vision.clip import param_shapes as vision_shapes
from tavid_jax.models.vision.config import CLIPConfig, CLIPVisionConfig
from tavid_jax.weights.ops import COPY, TRANSPOSE, patch_linear, squeeze
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
_ORIGINAL_LINEARS = {"attn.proj": "attn/o", "mlp.0": "mlp/fc1", "mlp.2": "mlp/fc2"}
# Older files hold the numbers 0, 1, 2, ... as a tensor.
_IGNORED = (r"(.*\.)?embeddings\.position_ids",)
_ORIGINAL_IGNORED = (r"textual\..*", r"log_scale")


def vision_table(config: CLIPVisionConfig, naming: VisionNaming = "transformers") -> Table:
    """The table of an image tower."""
    if naming == "original":
        return _original_vision_table(config)
    at = "vision_model." if naming == "transformers" else ""
    rows = _vision_rows(config, at, "")
    return Table(tuple(rows), ignored=_IGNORED)


def clip_table(config: CLIPConfig) -> Table:
    """The table of both towers in transformers' naming."""
    text, at = config.text, "text_model."
    rows = [
        *_vision_rows(config.vision, "vision_model.", "vision/"),
        Row(f"{at}embeddings.token_embedding.weight", "text/token_embed"),
        Row(f"{at}embeddings.position_embedding.weight", "text/pos_embed"),
        *_block_rows(f"{at}encoder.layers", "text/blocks", range(text.num_layers)),
        *norm_rows(f"{at}final_layer_norm", "text/final_norm"),
        Row("text_projection.weight", "text/head/kernel", TRANSPOSE),
        Row("logit_scale", "logit_scale"),
    ]
    return Table(tuple(rows), ignored=_IGNORED)


def clip_shapes(config: CLIPConfig) -> dict:
    """The parameters' shapes: {"vision", "text", "logit_scale"}."""
    towers = {"vision": vision_shapes(config.vision), "text": text_shapes(config.text)}
    return {**towers, "logit_scale": jax.ShapeDtypeStruct((), jnp.float32)}


def _patch_row(config: CLIPVisionConfig, source: str, path: str) -> Row:
    size = config.patch_size
    return Row(source, path, patch_linear(3, (size, size)))


def _vision_rows(config: CLIPVisionConfig, source: str, path: str) -> list[Row]:
    embeddings = f"{source}embeddings"
    rows = [
        Row(f"{embeddings}.class_embedding", f"{path}class_embed"),
        _patch_row(config, f"{embeddings}.patch_embedding.weight", f"{path}patch_embed/kernel"),
        Row(f"{embeddings}.position_embedding.weight", f"{path}pos_embed"),
        *norm_rows(f"{source}pre_layrnorm", f"{path}pre_norm"),  # they spell it so
        *_block_rows(f"{source}encoder.layers", f"{path}blocks", range(config.num_layers)),
        *norm_rows(f"{source}post_layernorm", f"{path}post_norm"),
    ]
    if config.feature_dim is not None:
        rows.append(Row("visual_projection.weight", f"{path}head/kernel", TRANSPOSE))
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
