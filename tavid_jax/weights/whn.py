"""Tables of WHN's two checkpoints: denoiser and track VAE."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from tavid_jax.models.whn.config import WhnConfig, WhnVAEConfig
from tavid_jax.models.whn.denoiser import WhnDenoiser
from tavid_jax.models.whn.vae import WhnVAE
from tavid_jax.weights.ops import COPY, patch_linear, squeeze
from tavid_jax.weights.table import Derived, Row, Table, linear_rows


def denoiser_table(config: WhnConfig) -> Table:
    """The denoiser; tables of places and times are kept as they are stored."""
    c, layers = config, range(config.depth)
    rows = _common_rows(c)
    rows += linear_rows("t_embedder.mlp.0", "time_mlp/fc1")
    rows += linear_rows("t_embedder.mlp.2", "time_mlp/fc2")
    derived: tuple[Derived, ...] = ()
    if c.raw:
        rows += _encoder_rows()
        derived = (Derived("x_encoder.lff.scale", lambda: np.asarray(1 / np.sqrt(c.fourier_dim))),)
    if c.text_dim:
        rows += linear_rows("text_embeds_proj.fc1", "text_proj/fc1")
        rows += linear_rows("text_embeds_proj.fc2", "text_proj/fc2")
    rows += _block_rows("blocks", layers)
    rows += linear_rows("blocks.{i}.adaLN_modulation.1", "blocks/adaln", layers)
    rows += linear_rows("final_layer.adaLN_modulation.1", "final_adaln")
    return Table(tuple(rows), derived)


def vae_table(config: WhnVAEConfig) -> Table:
    """The track VAE."""
    rows = _common_rows(config) + _encoder_rows()
    rows += linear_rows("to_latents", "to_latents") + linear_rows("from_latents", "from_latents")
    for stack, depth in (("encoder", config.encoder_depth), ("decoder", config.decoder_depth)):
        stack, layers = f"{stack}_blocks", range(depth)
        rows += _block_rows(stack, layers)
        for gate in ("gate_msa", "gate_mxa", "gate_mlp"):
            rows.append(Row(f"{stack}.{{i}}.{gate}", f"{stack}/{gate}", squeeze(2), layers))
        for norm in ("norm1", "norm2", "norm3"):
            name = f"{stack}.{{i}}.{norm}.weight"
            rows.append(Row(name, f"{stack}/{norm}/scale", COPY, layers))
    return Table(tuple(rows))


def _common_rows(config: WhnConfig | WhnVAEConfig) -> list[Row]:
    patches = patch_linear(config.embed_channels, (config.patch, config.patch))
    tables = ("pos_embed", "temp_embed", "frame_embed")
    return [
        *(Row(name, name, squeeze(1)) for name in tables),
        Row("x_embedder.proj.weight", "x_embedder/kernel", patches),
        Row("x_embedder.proj.bias", "x_embedder/bias"),
        *linear_rows("frame_proj", "frame_proj"),
        *linear_rows("final_layer.linear", "final_layer"),
    ]


def _encoder_rows() -> list[Row]:
    return [
        Row("x_encoder.lff.w", "x_encoder/w"),
        *linear_rows("x_encoder.lff.mlp.0", "x_encoder/mlp/fc1"),
        *linear_rows("x_encoder.lff.mlp.3", "x_encoder/mlp/fc2"),
    ]


def _block_rows(stack: str, layers: Sequence[int]) -> list[Row]:
    rows = []
    for name in ("mlp.fc1", "mlp.fc2"):
        rows += linear_rows(f"{stack}.{{i}}.{name}", f"{stack}/{name.replace('.', '/')}", layers)
    for attention in ("attn", "xattn"):
        source, path = f"{stack}.{{i}}.{attention}", f"{stack}/{attention}"
        for name in ("q", "kv", "proj"):
            rows += linear_rows(f"{source}.{name}", f"{path}/{name}", layers)
        for norm in ("q_norm", "k_norm"):
            rows.append(Row(f"{source}.{norm}.weight", f"{path}/{norm}/scale", COPY, layers))
    return rows


def denoiser_shapes(config: WhnConfig) -> dict:
    """The parameters' shapes."""
    text = [(1, config.text_dim)] if config.text_dim else []
    x = (1, config.num_frames, *config.grid_hw, config.channels)
    frame = (1, config.frame_tokens, config.frame_dim)
    return _shapes(WhnDenoiser(config), x, (1,), frame, *text)


def vae_shapes(config: WhnVAEConfig) -> dict:
    """The parameters' shapes."""
    tracks = (1, config.num_frames, *config.grid_hw, 2)
    return _shapes(WhnVAE(config), tracks, (1, config.frame_tokens, config.frame_dim))


def _shapes(model, *inputs: tuple[int, ...]) -> dict:
    specs = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in inputs]
    return jax.eval_shape(model.init, jax.random.key(0), *specs)["params"]
