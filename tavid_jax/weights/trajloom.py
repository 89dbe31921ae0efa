"""Tables of the three TrajLoom checkpoints: VAE, flow ("generator") and visibility predictor."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from tavid_jax.models.latte.anchors import pixel_anchors
from tavid_jax.models.latte.flow import TrackFlow, TrackFlowConfig
from tavid_jax.models.latte.vae import TrackVAE, TrackVAEConfig
from tavid_jax.models.latte.visibility import VisibilityConfig, VisibilityHead
from tavid_jax.weights.ops import (
    CONV1D,
    CONV_TRANSPOSE1D,
    COPY,
    PATCH_CONV,
    POINTWISE_CONV,
    squeeze,
)
from tavid_jax.weights.table import Derived, Row, Table, linear_rows


def vae_table(config: TrackVAEConfig) -> Table:
    """TrajLoom-VAE. norm2, which the model never applies, is carried along."""
    rows = [
        Row("pos_embed", "pos_embed", squeeze(1)),
        Row("temp_embed_in", "temp_embed_in", squeeze(1)),
        Row("x_embedder.proj.weight", "x_embedder/kernel", PATCH_CONV),
        Row("x_embedder.proj.bias", "x_embedder/bias"),
        Row("patch_pos_lff.w", "patch_pos_lff/w"),
    ]
    for name in ("patch_pos_lff.mlp.fc1", "patch_pos_lff.mlp.fc2", "patch_pos_proj"):
        rows += linear_rows(name, name.replace(".", "/"))
    for name in ("to_latents", "from_latents", "final_layer"):
        rows += linear_rows(name, name)
    if config.use_temp_compress:
        rows += [
            Row("temp_compressor.conv.weight", "temp_compressor/kernel", CONV1D),
            Row("temp_compressor.conv.bias", "temp_compressor/bias"),
            Row("temp_expander.deconv.weight", "temp_expander/kernel", CONV_TRANSPOSE1D),
            Row("temp_expander.deconv.bias", "temp_expander/bias"),
        ]
    rows += _axial_block_rows("encoder_blocks", range(config.encoder_depth))
    rows += _axial_block_rows("decoder_blocks", range(config.decoder_depth))
    anchors = Derived("offset_anchor_grid", lambda: _anchor_buffer(config))
    return Table(
        rows=tuple(rows),
        derived=(anchors,) if config.use_offsets else (),
        ignored=() if config.use_offsets else ("offset_anchor_grid",),
    )


def _anchor_buffer(config: TrackVAEConfig) -> np.ndarray:
    """(1, 1, 2, H, W)."""
    return np.ascontiguousarray(pixel_anchors(config.size_hw).transpose(2, 0, 1)[None, None])


def _axial_block_rows(stack: str, layers: Sequence[int]) -> list[Row]:
    rows = [
        Row(f"{stack}.{{i}}.{gate}", f"{stack}/{gate}", squeeze(2), layers)
        for gate in ("gate_msa", "gate_mlp")
    ]
    for norm in ("norm1", "norm2", "norm3"):
        rows.append(Row(f"{stack}.{{i}}.{norm}.weight", f"{stack}/{norm}/scale", COPY, layers))
    for name in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"):
        rows += linear_rows(f"{stack}.{{i}}.{name}", f"{stack}/{name.replace('.', '/')}", layers)
    return rows


# Scalars of the generator that have no effect when their condition is off; a checkpoint may
# hold them all the same.
_INERT = (
    "alpha_hist_vis",
    "alpha_video_ctx",
    "beta_video_cond",
    "track_fusion_scale",
    "track_fusion_gate_logit",
    "video_fusion_scale",
)


def flow_table(config: TrackFlowConfig) -> Table:
    """TrajLoom-Flow ("generator"). Keys of conditions that are off are absent."""
    c, layers = config, range(config.depth)
    scalars = {
        "beta_track_cond": True,
        "alpha_hist_vis": c.use_hist_vis_cond,
        "alpha_video_ctx": c.use_video_cond,
        "beta_video_cond": c.use_video_cond,
        "track_fusion_scale": c.track_fusion != "none",
        "video_fusion_scale": c.video_fusion != "none",
        "track_fusion_gate_logit": c.has_time_gate,
    }
    linears = {
        "in_proj": True,
        "hist_track_proj": True,
        "track_global_proj": True,
        "hist_vis_proj": c.use_hist_vis_cond,
        "hist_video_proj": c.use_video_cond,
        "video_global_proj": c.use_video_cond,
        "text_proj": c.use_text_cond,
        "out_proj": True,
    }
    rows = [Row("pos_embed", "pos_embed", squeeze(1)), Row("seg_embed", "seg_embed")]
    rows += [Row(name, name) for name, used in scalars.items() if used]
    for name, used in linears.items():
        rows += linear_rows(name, name) if used else []
    rows += linear_rows("time_mlp.0", "time_mlp/fc1") + linear_rows("time_mlp.2", "time_mlp/fc2")
    for name in ("attn.qkv", "attn.proj", "xattn.q", "xattn.kv", "xattn.proj"):
        rows += linear_rows(f"blocks.{{i}}.{name}", f"blocks/{name.replace('.', '/')}", layers)
    for name in ("mlp.fc1", "mlp.fc2"):
        rows += linear_rows(f"blocks.{{i}}.{name}", f"blocks/{name.replace('.', '/')}", layers)
    rows += linear_rows("blocks.{i}.adaLN.1", "blocks/adaln", layers)
    inert = tuple(name for name in _INERT if not scalars[name])
    return Table(rows=tuple(rows), ignored=inert)


def visibility_table(config: VisibilityConfig) -> Table:
    """Visibility predictor: convolutions at even positions of a sequence with activations."""
    layers = range(0, 2 * config.depth, 2)
    rows = [
        *linear_rows("in_proj", "in_proj"),
        Row("temporal_net.{i}.weight", "temporal_net/kernel", CONV1D, layers),
        Row("temporal_net.{i}.bias", "temporal_net/bias", COPY, layers),
        Row("out.weight", "out/kernel", POINTWISE_CONV),
        Row("out.bias", "out/bias"),
    ]
    return Table(rows=tuple(rows))


def vae_shapes(config: TrackVAEConfig) -> dict:
    """The parameters' shapes."""
    tracks = (1, config.num_frames, *config.grid_hw, 2)
    return _shapes(TrackVAE(config), tracks)


def flow_shapes(config: TrackFlowConfig) -> dict:
    """The parameters' shapes."""
    latents = (1, config.num_latent_frames, config.num_tokens, config.latent_channels)
    return _shapes(TrackFlow(config), latents, (1,), latents)


def visibility_shapes(config: VisibilityConfig) -> dict:
    """The parameters' shapes."""
    future = (1, 1, 1, config.latent_channels)
    last = [(1, 1, config.latent_channels)] if config.use_hist_last else []
    return _shapes(VisibilityHead(config), future, *last)


def _shapes(model, *inputs: tuple[int, ...]) -> dict:
    specs = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in inputs]
    return jax.eval_shape(model.init, jax.random.key(0), *specs)["params"]
