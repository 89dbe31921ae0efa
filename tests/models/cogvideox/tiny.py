"""Tiny CogVideoX transformers of every published kind, here and in diffusers, on equal weights."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tavid_jax.models.cogvideox.config import CogVideoXConfig
from tavid_jax.models.cogvideox.transformer import CogVideoX, param_shapes
from tavid_jax.models.layers.lora import init_lora

# Three heads, and sizes of which no two are equal, so that nothing fits by accident.
_COMMON = dict(num_heads=3, head_dim=16, num_layers=2, in_channels=4, out_channels=4)
_COMMON |= dict(time_embed_dim=10, text_dim=24, text_length=5, sample_hw=(4, 6), sample_frames=9)


def config_of(**changes: Any) -> CogVideoXConfig:
    """The common sizes with changes."""
    return CogVideoXConfig(**_COMMON | changes)


# Layers in front of a norm, shrunk until its epsilon shows: of the first block's norms; of the
# heads' norms; of the head's second norm.
SHRUNK = (r"^patch_embed\.", r"blocks\.1\.attn1\.to_q", r"blocks\.0\.attn1\.to_k", r"^norm_final")

_I2V = config_of(in_channels=9, out_channels=4, learned_positions=True)
_V1_5 = config_of(patch_size=(2, 2, 2), sample_hw=(20, 20))


@dataclasses.dataclass(frozen=True)
class Variant:
    """A config and the latent size (F, H, W) that it is run at."""

    config: CogVideoXConfig
    size: tuple[int, int, int]


PUBLISHED = ("2b", "5b", "5b-i2v", "1.5-t2v", "1.5-i2v")
VARIANTS = {
    "2b": Variant(config_of(rotary=False), (3, 4, 6)),
    "2b at another size": Variant(config_of(rotary=False, spatial_scale=1.4), (2, 6, 8)),
    "5b": Variant(config_of(num_layers=3), (3, 4, 6)),
    "5b cropped": Variant(config_of(sample_hw=(16, 12)), (2, 4, 8)),
    "5b-i2v": Variant(_I2V, (3, 4, 6)),
    "5b-i2v of fewer frames": Variant(_I2V, (2, 4, 6)),
    "1.5-t2v": Variant(_V1_5, (4, 4, 6)),
    "1.5-i2v": Variant(dataclasses.replace(_V1_5, in_channels=8, ofs_dim=10), (4, 6, 4)),
}


def torch_arguments(config: CogVideoXConfig) -> dict[str, Any]:
    """Arguments of diffusers' class for one of our configs."""
    frames, patch, _ = config.patch_size
    return dict(
        num_attention_heads=config.num_heads,
        attention_head_dim=config.head_dim,
        in_channels=config.in_channels,
        out_channels=config.out_channels,
        time_embed_dim=config.time_embed_dim,
        ofs_embed_dim=config.ofs_dim,
        text_embed_dim=config.text_dim,
        num_layers=config.num_layers,
        sample_height=config.sample_hw[0],
        sample_width=config.sample_hw[1],
        sample_frames=config.sample_frames,
        patch_size=patch,
        patch_size_t=None if frames == 1 else frames,
        patch_bias=frames == 1,
        temporal_compression_ratio=config.time_compression,
        max_text_seq_length=config.text_length,
        spatial_interpolation_scale=config.spatial_scale,
        temporal_interpolation_scale=config.temporal_scale,
        use_rotary_positional_embeddings=config.rotary,
        use_learned_positional_embeddings=config.learned_positions,
    )


def torch_model(config: CogVideoXConfig, seed: int, shrunk=SHRUNK):
    """diffusers' transformer with random weights."""
    from diffusers import CogVideoXTransformer3DModel

    from tests.models import random_weights

    model = CogVideoXTransformer3DModel(**torch_arguments(config))
    return random_weights.randomise(model, seed, shrunk)


def inputs(config: CogVideoXConfig, size: tuple[int, int, int], seed: int, batch: int = 2):
    """(latents, text, target of the prediction), numpy, channels last."""
    rng = np.random.default_rng(seed)

    def normal(*shape):
        return rng.standard_normal(shape).astype(np.float32)

    return (
        normal(batch, *size, config.in_channels),
        normal(batch, config.text_length, config.text_dim),
        normal(batch, *size, config.out_channels),
    )


def random_tree(shapes: Any, seed: int, scale: float = 1.0) -> dict[str, Any]:
    """Noise in the shapes of a parameter tree: scales of norms around one, kernels by fan-in."""
    rng = np.random.default_rng(seed)

    def fill(path, leaf):
        name = path[-1].key
        noise = rng.standard_normal(leaf.shape).astype(np.float32)
        if name == "scale":
            return jnp.array(1 + 0.3 * noise)
        fan_in = leaf.shape[-2] if name in ("kernel", "a", "b") else 10
        return jnp.array(scale * fan_in**-0.5 * noise, jnp.float32)

    return jax.tree_util.tree_map_with_path(fill, shapes)


def params_of(model: CogVideoX, seed: int = 0) -> dict[str, Any]:
    """Random parameters of one of our models, adapters too; nothing is compiled for it."""
    base = param_shapes(model.config)
    if model.lora:
        base["lora"] = jax.eval_shape(lambda: init_lora(jax.random.key(0), base, model.lora))
    return random_tree(base, seed)
