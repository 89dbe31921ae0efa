"""Table of the CogVideoX transformers (2B, 5B, 5B-I2V, 1.5), in the naming of diffusers.

`patch_output`: the published head writes the channel slowest, ours fastest.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tavid_jax.models.cogvideox.config import CogVideoXConfig
from tavid_jax.models.cogvideox.transformer import param_shapes
from tavid_jax.weights.formats import Format
from tavid_jax.weights.ops import patch_linear, patch_output, squeeze
from tavid_jax.weights.table import Row, Table, linear_rows, norm_rows

_LINEARS = {
    "patch_embed.text_proj": "text_embed",
    "time_embedding.linear_1": "time_embed/fc1",
    "time_embedding.linear_2": "time_embed/fc2",
    "norm_out.linear": "out_mod",
}
_OFS_LINEARS = {
    "ofs_embedding.linear_1": "ofs_embed/fc1",
    "ofs_embedding.linear_2": "ofs_embed/fc2",
}
_NORMS = {"norm_final": "final_norm", "norm_out.norm": "out_norm"}
_BLOCK_LINEARS = {
    "norm1.linear": "mod1",
    "norm2.linear": "mod2",
    "attn1.to_q": "attn/q",
    "attn1.to_k": "attn/k",
    "attn1.to_v": "attn/v",
    "attn1.to_out.0": "attn/o",
    "ff.net.0.proj": "mlp/fc1",
    "ff.net.2": "mlp/fc2",
}
_BLOCK_NORMS = {
    "norm1.norm": "norm1",
    "norm2.norm": "norm2",
    "attn1.norm_q": "attn/q_norm",
    "attn1.norm_k": "attn/k_norm",
}


def cogvideox_table(config: CogVideoXConfig) -> Table:
    """The table of one transformer."""
    frames, *taps = config.patch_size
    # Two frames per token: a linear layer on flat patches. One: a convolution over each frame.
    patch = patch_linear(config.in_channels, tuple(taps) if frames == 1 else ())
    output = patch_output(config.out_channels)
    rows = [
        Row("patch_embed.proj.weight", "patch_embed/kernel", patch),
        Row("patch_embed.proj.bias", "patch_embed/bias"),
        Row("proj_out.weight", "out_proj/kernel", output),
        Row("proj_out.bias", "out_proj/bias", output),
    ]
    if config.learned_positions:
        rows.append(Row("patch_embed.pos_embedding", "pos_embed", squeeze(1)))
    has_ofs = config.ofs_dim is not None
    for source, path in (_LINEARS | (_OFS_LINEARS if has_ofs else {})).items():
        rows += linear_rows(source, path)
    for source, path in _NORMS.items():
        rows += norm_rows(source, path)
    layers = range(config.num_layers)
    for source, path in _BLOCK_LINEARS.items():
        rows += linear_rows(f"transformer_blocks.{{i}}.{source}", f"blocks/{path}", layers)
    for source, path in _BLOCK_NORMS.items():
        rows += norm_rows(f"transformer_blocks.{{i}}.{source}", f"blocks/{path}", layers)
    return Table(tuple(rows))


def cogvideox_shapes(config: CogVideoXConfig) -> dict:
    """The parameters' shapes, without those of ports, which no published file has."""
    return param_shapes(replace(config, extra_channels=0, condition_videos=0))


def _decode(
    content: Mapping[str, Any], stated: dict[str, Any], path: Path | str, keys: Any
) -> dict[str, Any]:
    size = content.get("patch_size", 2)
    return {
        "patch_size": (content.get("patch_size_t") or 1, size, size),
        "sample_hw": (content.get("sample_height", 60), content.get("sample_width", 90)),
    }


def _encode(config: CogVideoXConfig) -> dict[str, Any]:
    frames, rows, _ = config.patch_size
    return {
        "patch_size": rows,
        "patch_size_t": None if frames == 1 else frames,
        "patch_bias": frames == 1,
        "sample_height": config.sample_hw[0],
        "sample_width": config.sample_hw[1],
    }


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
        _decode,
        _encode,
    ),
}
