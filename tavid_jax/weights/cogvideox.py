"""Table of the CogVideoX transformers (2B, 5B, 5B-I2V, 1.5), in the naming of diffusers.

`patch_output`: the published head writes the channel slowest, ours fastest.
"""

from dataclasses import replace

from tavid_jax.models.cogvideox.config import CogVideoXConfig
from tavid_jax.models.cogvideox.transformer import param_shapes
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
    """The parameters' shapes; those of `extra_channels`, which no file has, are left out."""
    return param_shapes(replace(config, extra_channels=0))
