"""config.json of published models as our configs and back, and where the two disagree."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tavid_jax.models.cogvideox.config import PRESETS as COGVIDEOX_PRESETS
from tavid_jax.models.cogvideox.config import CogVideoXConfig
from tavid_jax.models.wan.config import PRESETS as WAN_PRESETS
from tavid_jax.models.wan.config import WanConfig
from tavid_jax.weights.problems import WeightsError, raise_all
from tavid_jax.weights.source import read_json

ModelConfig = CogVideoXConfig | WanConfig
PRESETS: dict[str, ModelConfig] = {**COGVIDEOX_PRESETS, **WAN_PRESETS}
CLASS = "_class_name"


@dataclass(frozen=True)
class Format:
    """The config.json of one published class.

    Attributes:
      config: our class.
      fields: name in the file -> (ours, value where the file does not say). Fields that need more
        than a copy are in `_decode` and `_encode`.
      fixed: what our model always computes; any other value is refused.
    """

    config: type
    fields: Mapping[str, tuple[str, Any]]
    fixed: Mapping[str, Any]


FORMATS = {
    "CogVideoXTransformer3DModel": Format(
        CogVideoXConfig,
        {
            "num_attention_heads": ("num_heads", 30),
            "attention_head_dim": ("head_dim", 64),
            "num_layers": ("num_layers", 30),
            "in_channels": ("in_channels", 16),
            "out_channels": ("out_channels", 16),
            "time_embed_dim": ("time_embed_dim", 512),
            "text_embed_dim": ("text_dim", 4096),
            "max_text_seq_length": ("text_length", 226),
            "use_rotary_positional_embeddings": ("rotary", False),
            "use_learned_positional_embeddings": ("learned_positions", False),
            "ofs_embed_dim": ("ofs_dim", None),
            "sample_frames": ("sample_frames", 49),
            "temporal_compression_ratio": ("time_compression", 4),
            "spatial_interpolation_scale": ("spatial_scale", 1.875),
            "temporal_interpolation_scale": ("temporal_scale", 1.0),
        },
        {
            "activation_fn": "gelu-approximate",
            "timestep_activation_fn": "silu",
            "attention_bias": True,
            "norm_elementwise_affine": True,
            "norm_eps": 1e-5,
            "flip_sin_to_cos": True,
            "freq_shift": 0,
        },
    ),
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
    ),
}
# Of the original's model types, those that are one transformer as ours; (image_dim, image_tokens)
# of the Wan2.1 ones with an image branch.
_MODEL_TYPES = {"t2v": None, "ti2v": None, "i2v": (1280, None), "flf2v": (1280, 514)}


def config_from_json(path: str | Path, keys: Iterable[str] | None = None) -> ModelConfig:
    """Our config of the model that a config.json (or the folder with it) describes.

    Args:
      path: a file of any published class: diffusers' or the original Wan repositories'.
      keys: the checkpoint's keys if known. The original files do not say whether an image-to-video
        model has the image branch (Wan2.1) or not (Wan2.2 A14B); without keys the folder tells.

    Raises:
      WeightsError: not JSON, another class, or an option that our model does not have.
    """
    path = Path(path)
    path = path / "config.json" if path.is_dir() else path
    stated = parse_config(read_json(path), path, keys)
    return _format(read_json(path), path).config(**stated)


def parse_config(
    content: Mapping[str, Any], path: Path | str, keys: Iterable[str] | None = None
) -> dict[str, Any]:
    """The fields of our config that the content of a config.json decides."""
    form = _format(content, path)
    odd = [
        f"{name}: {content[name]!r}, supported is {value!r}"
        for name, value in form.fixed.items()
        if name in content and content[name] != value
    ]
    raise_all({"options": odd}, f"{path} describes a model that this library does not have", "")
    stated = {ours: content.get(name, default) for name, (ours, default) in form.fields.items()}
    decode = {
        "CogVideoXTransformer3DModel": _decode_cogvideox,
        "WanTransformer3DModel": _decode_wan,
        "WanModel": _decode_original_wan,
    }[class_of(content)]
    return stated | decode(content, stated, path, keys)


def config_to_json(config: ModelConfig, naming: str = "diffusers") -> dict[str, Any]:
    """Content of the config.json of a published model: the inverse of `config_from_json`."""
    if isinstance(config, CogVideoXConfig):
        name = "CogVideoXTransformer3DModel"
    else:
        name = "WanModel" if naming == "original" else "WanTransformer3DModel"
    form = FORMATS[name]
    content = {key: getattr(config, ours) for key, (ours, _) in form.fields.items()}
    if name == "CogVideoXTransformer3DModel":
        frames, rows, columns = config.patch_size
        content |= {
            "patch_size": rows,
            "patch_size_t": None if frames == 1 else frames,
            "patch_bias": frames == 1,
            "sample_height": config.sample_hw[0],
            "sample_width": config.sample_hw[1],
        }
    elif name == "WanTransformer3DModel":
        content["added_kv_proj_dim"] = None if config.image_dim is None else config.dim
    else:
        content |= {"dim": config.dim, "model_type": _model_type(config)}
    content = {k: list(v) if isinstance(v, tuple) else v for k, v in content.items()}
    return {CLASS: name, **dict(sorted((content | form.fixed).items()))}


def preset_of(config: ModelConfig) -> str | None:
    """The published name of a config, None if it has none."""
    plain = replace(config, extra_channels=0)
    return next((name for name, preset in PRESETS.items() if preset == plain), None)


def class_of(content: Mapping[str, Any]) -> str | None:
    """The class that a config.json names; some original ones only have its fields."""
    original = "WanModel" if {"model_type", "in_dim", "dim"} <= content.keys() else None
    return content.get(CLASS, original)


def differences(stated: Mapping[str, Any], config: Any) -> list[str]:
    """Lines "field: theirs in config.json, ours here" for each field that disagrees."""
    return [
        f"{name}: {value!r} in config.json, {getattr(config, name)!r} here"
        for name, value in stated.items()
        if value != getattr(config, name)
    ]


def _format(content: Mapping[str, Any], path: Path | str) -> Format:
    name = class_of(content)
    if name not in FORMATS:
        raise WeightsError(
            f"{path} describes a {name or 'model without a class name'}; "
            f"known classes: {', '.join(FORMATS)}"
        )
    return FORMATS[name]


def _decode_cogvideox(
    content: Mapping[str, Any], stated: dict[str, Any], path: Path | str, keys: Any
) -> dict[str, Any]:
    size = content.get("patch_size", 2)
    return {
        "patch_size": (content.get("patch_size_t") or 1, size, size),
        "sample_hw": (content.get("sample_height", 60), content.get("sample_width", 90)),
    }


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
    return {"patch_size": tuple(stated["patch_size"]), "out_channels": out}


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
