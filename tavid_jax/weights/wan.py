"""Tables of the Wan 2.1 and 2.2 transformers, in the original naming and in diffusers'."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from tavid_jax.models.wan.config import PRESETS, WanConfig
from tavid_jax.models.wan.transformer import param_shapes
from tavid_jax.weights.formats import Format
from tavid_jax.weights.ops import COPY, patch_linear, squeeze
from tavid_jax.weights.problems import WeightsError
from tavid_jax.weights.table import Row, Table, linear_rows, norm_rows, side_by_side

Naming = Literal["original", "diffusers"]
EXPERTS = ("high_noise", "low_noise")

# Each line: our path, the original name, diffusers' name.
_LINEARS = (
    ("text_embed/fc1", "text_embedding.0", "condition_embedder.text_embedder.linear_1"),
    ("text_embed/fc2", "text_embedding.2", "condition_embedder.text_embedder.linear_2"),
    ("time_embed/fc1", "time_embedding.0", "condition_embedder.time_embedder.linear_1"),
    ("time_embed/fc2", "time_embedding.2", "condition_embedder.time_embedder.linear_2"),
    ("time_proj", "time_projection.1", "condition_embedder.time_proj"),
    ("out_proj", "head.head", "proj_out"),
)
_OUT_MODULATION = ("out_modulation", "head.modulation", "scale_shift_table")
_IMAGE_LINEARS = (
    ("image_embed/fc1", "img_emb.proj.1", "condition_embedder.image_embedder.ff.net.0.proj"),
    ("image_embed/fc2", "img_emb.proj.3", "condition_embedder.image_embedder.ff.net.2"),
)
_IMAGE_NORMS = (
    ("image_embed/norm1", "img_emb.proj.0", "condition_embedder.image_embedder.norm1"),
    ("image_embed/norm2", "img_emb.proj.4", "condition_embedder.image_embedder.norm2"),
)
_IMAGE_POSITIONS = (
    "image_embed/pos_embed",
    "img_emb.emb_pos",
    "condition_embedder.image_embedder.pos_embed",
)

# Names inside a block.
_BLOCK_MODULATION = ("modulation", "modulation", "scale_shift_table")
_BLOCK_LINEARS = (
    *((f"attn/{x}", f"self_attn.{x}", f"attn1.to_{x}") for x in "qkv"),
    ("attn/o", "self_attn.o", "attn1.to_out.0"),
    *((f"cross/{x}", f"cross_attn.{x}", f"attn2.to_{x}") for x in "qkv"),
    ("cross/o", "cross_attn.o", "attn2.to_out.0"),
    ("mlp/fc1", "ffn.0", "ffn.net.0.proj"),
    ("mlp/fc2", "ffn.2", "ffn.net.2"),
)
_BLOCK_SCALES = (
    *((f"attn/{x}_norm", f"self_attn.norm_{x}", f"attn1.norm_{x}") for x in "qk"),
    *((f"cross/{x}_norm", f"cross_attn.norm_{x}", f"attn2.norm_{x}") for x in "qk"),
)
# Of the three norms in a block only this one has parameters; the two namings count differently.
_BLOCK_NORM = ("cross_norm", "norm3", "norm2")
_BLOCK_IMAGE_LINEARS = (
    ("cross/image_k", "cross_attn.k_img", "attn2.add_k_proj"),
    ("cross/image_v", "cross_attn.v_img", "attn2.add_v_proj"),
)
_BLOCK_IMAGE_SCALE = ("cross/image_k_norm", "cross_attn.norm_k_img", "attn2.norm_added_k")

# Some diffusers files hold the norm of image queries, which no model applies.
_IGNORED = (r"blocks\.\d+\.attn2\.norm_added_q\.weight",)


def wan_table(config: WanConfig, naming: Naming = "original") -> Table:
    """The table of one transformer, with its image branch if it has one."""
    column = {"original": 1, "diffusers": 2}[naming]
    has_image, has_positions = config.image_dim is not None, config.image_tokens is not None
    patch = patch_linear(config.in_channels, config.patch_size)
    rows = [
        Row("patch_embedding.weight", "patch_embed/kernel", patch),
        Row("patch_embedding.bias", "patch_embed/bias"),
        Row(_OUT_MODULATION[column], _OUT_MODULATION[0], squeeze(1)),
    ]
    for names in _LINEARS + (_IMAGE_LINEARS if has_image else ()):
        rows += linear_rows(names[column], names[0])
    for names in _IMAGE_NORMS if has_image else ():
        rows += norm_rows(names[column], names[0])
    if has_positions:
        rows.append(Row(_IMAGE_POSITIONS[column], _IMAGE_POSITIONS[0], squeeze(1)))
    rows += _block_rows(range(config.num_layers), column, has_image)
    return Table(tuple(rows), ignored=_IGNORED if naming == "diffusers" else ())


def _block_rows(layers: range, column: int, has_image: bool) -> list[Row]:
    def key(names: tuple[str, ...]) -> str:
        return f"blocks.{{i}}.{names[column]}"

    def path(names: tuple[str, ...]) -> str:
        return f"blocks/{names[0]}"

    rows = [Row(key(_BLOCK_MODULATION), path(_BLOCK_MODULATION), squeeze(1), layers)]
    rows += norm_rows(key(_BLOCK_NORM), path(_BLOCK_NORM), layers)
    for names in _BLOCK_LINEARS + (_BLOCK_IMAGE_LINEARS if has_image else ()):
        rows += linear_rows(key(names), path(names), layers)
    for names in _BLOCK_SCALES + ((_BLOCK_IMAGE_SCALE,) if has_image else ()):
        rows.append(Row(f"{key(names)}.weight", f"{path(names)}/scale", COPY, layers))
    return rows


def wan_shapes(config: WanConfig) -> dict:
    """The parameters' shapes, without those of ports, which no published file has."""
    return param_shapes(replace(config, extra_channels=0, condition_videos=0))


def experts_table(config: WanConfig, naming: Naming = "original") -> Table:
    """The table of the pair of transformers of an A14B model, for high and for low noise."""
    return side_by_side(dict.fromkeys(EXPERTS, wan_table(config, naming)))


def experts_shapes(config: WanConfig) -> dict:
    """The parameters' shapes of the pair."""
    return {name: wan_shapes(config) for name in EXPERTS}


# Of the original's model types, those that are one transformer as ours; (image_dim, image_tokens)
# of the Wan2.1 ones with an image branch.
_MODEL_TYPES = {"t2v": None, "ti2v": None, "i2v": (1280, None), "flf2v": (1280, 514)}


def _decode_wan(
    content: Mapping[str, Any], stated: dict[str, Any], path: Path | str, keys: Any
) -> dict[str, Any]:
    width = stated["num_heads"] * stated["head_dim"]
    added = content.get("added_kv_proj_dim")
    if added not in (None, width) or (added is None) != (stated["image_dim"] is None):
        raise WeightsError(
            f"{path}: added_kv_proj_dim {added} with image_dim {stated['image_dim']} is not "
            f"supported; an image branch has both, the first as wide as the model ({width})"
        )
    out = stated["out_channels"] or stated["in_channels"]
    # Ours: diffusers' models are told the length by their pipeline, which always says 512.
    length = {"text_length": content["text_length"]} if "text_length" in content else {}
    return {"patch_size": tuple(stated["patch_size"]), "out_channels": out} | length


def _encode_wan(config: WanConfig) -> dict[str, Any]:
    length = {} if config.text_length == 512 else {"text_length": config.text_length}
    return {"added_kv_proj_dim": None if config.image_dim is None else config.dim} | length


def _decode_original_wan(
    content: Mapping[str, Any], stated: dict[str, Any], path: Path | str, keys: Any
) -> dict[str, Any]:
    kind = content.get("model_type", "t2v")
    if kind not in _MODEL_TYPES:
        raise WeightsError(
            f"{path}: model_type {kind!r} is not supported; known: {', '.join(_MODEL_TYPES)}"
        )
    width, heads = content.get("dim", 2048), stated["num_heads"]
    branch = _MODEL_TYPES[kind]
    if keys is not None:
        has_branch = any("img_emb." in key for key in keys)
    else:
        has_branch = Path(path).parent.name not in ("high_noise_model", "low_noise_model")
    image_dim, image_tokens = branch if branch and has_branch else (None, None)
    return {
        "head_dim": width // heads,
        "patch_size": tuple(stated["patch_size"]),
        "image_dim": image_dim,
        "image_tokens": image_tokens,
    }


def _model_type(config: WanConfig) -> str:
    if config.image_tokens is not None:
        return "flf2v"
    if config.in_channels > config.out_channels:
        return "i2v"
    return "ti2v" if config.out_channels == PRESETS["wan2.2-ti2v-5b"].out_channels else "t2v"


FORMATS = {
    "WanTransformer3DModel": Format(
        WanConfig,
        {
            "num_attention_heads": ("num_heads", 40),
            "attention_head_dim": ("head_dim", 128),
            "ffn_dim": ("ffn_dim", 13824),
            "num_layers": ("num_layers", 40),
            "in_channels": ("in_channels", 16),
            "out_channels": ("out_channels", 16),
            "patch_size": ("patch_size", (1, 2, 2)),
            "freq_dim": ("freq_dim", 256),
            "text_dim": ("text_dim", 4096),
            "image_dim": ("image_dim", None),
            "pos_embed_seq_len": ("image_tokens", None),
            "eps": ("epsilon", 1e-6),
            "rope_max_seq_len": ("max_positions", 1024),
        },
        {"cross_attn_norm": True, "qk_norm": "rms_norm_across_heads"},
        _decode_wan,
        _encode_wan,
    ),
    "WanModel": Format(  # the original repositories
        WanConfig,
        {
            "num_heads": ("num_heads", 16),
            "ffn_dim": ("ffn_dim", 8192),
            "num_layers": ("num_layers", 32),
            "in_dim": ("in_channels", 16),
            "out_dim": ("out_channels", 16),
            "patch_size": ("patch_size", (1, 2, 2)),
            "freq_dim": ("freq_dim", 256),
            "text_dim": ("text_dim", 4096),
            "text_len": ("text_length", 512),
            "eps": ("epsilon", 1e-6),
        },
        {"cross_attn_norm": True, "qk_norm": True},
        _decode_original_wan,
        lambda config: {"dim": config.dim, "model_type": _model_type(config)},
        naming="original",
    ),
}
