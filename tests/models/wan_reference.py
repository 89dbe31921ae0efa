"""Tiny Wan transformers of every published kind: ours, diffusers' with the same weights, inputs."""

import dataclasses
from typing import Any

import numpy as np
from random_weights import randomise, state_arrays

from tavid_jax import weights
from tavid_jax.models.wan.config import WanConfig

BATCH, LATENT, GRID = 2, (3, 4, 6), (3, 2, 3)
TOKENS = 18

T2V = WanConfig(
    num_heads=2,
    head_dim=16,  # rotary: 8 channels for time, 4 for rows, 4 for columns
    ffn_dim=48,
    num_layers=2,
    in_channels=4,
    out_channels=3,
    freq_dim=16,
    text_dim=24,
    text_length=9,
    max_positions=32,
)
# Behind image tokens diffusers takes the last 512 tokens for text, whatever the config says.
I2V = dataclasses.replace(T2V, in_channels=9, image_dim=20, text_length=512)

CONFIGS = {
    "t2v": T2V,
    "i2v": I2V,
    "flf2v": dataclasses.replace(I2V, image_tokens=10),
    "ti2v": dataclasses.replace(T2V, in_channels=6, out_channels=6, num_heads=3),
    # No image tokens; rotary: 10 channels for time, 6 for rows, 6 for columns.
    "i2v-a14b": dataclasses.replace(T2V, in_channels=9, num_heads=3, head_dim=22, num_layers=3),
    "patches of two frames": dataclasses.replace(T2V, patch_size=(3, 1, 2)),
}

# Layers in front of norms: the tokens stay near 0.01, and so do queries and keys.
SHRUNK = (
    r"^patch_embedding",
    r"attn[12]\.to_out",
    r"ffn\.net\.2",
    r"attn[12]\.to_[qk]\.",
)
SHRUNK_IMAGE = (r"add_k_proj", r"image_embedder\.ff\.net\.2")


def diffusers_arguments(config: WanConfig) -> dict[str, Any]:
    """Those of `diffusers.WanTransformer3DModel`."""
    image = config.image_dim is not None
    return dict(
        patch_size=config.patch_size,
        num_attention_heads=config.num_heads,
        attention_head_dim=config.head_dim,
        in_channels=config.in_channels,
        out_channels=config.out_channels,
        text_dim=config.text_dim,
        freq_dim=config.freq_dim,
        ffn_dim=config.ffn_dim,
        num_layers=config.num_layers,
        eps=config.epsilon,
        image_dim=config.image_dim,
        added_kv_proj_dim=config.dim if image else None,
        rope_max_seq_len=config.max_positions,
        pos_embed_seq_len=config.image_tokens,
    )


def torch_model(config: WanConfig, seed: int = 0):
    """diffusers' model, every tensor random; what stands in front of norms is small."""
    from diffusers import WanTransformer3DModel

    shrunk = SHRUNK + (SHRUNK_IMAGE if config.image_dim else ())
    return randomise(WanTransformer3DModel(**diffusers_arguments(config)), seed, shrunk)


def ported(model, config: WanConfig) -> dict[str, Any]:
    """Our parameters, from diffusers' state dict."""
    return weights.port("wan_diffusers", state_arrays(model), config)


def inputs(config: WanConfig, seed: int = 0, batch: int = BATCH) -> dict[str, np.ndarray]:
    """Latents, text and, where the model reads them, image tokens; and a target."""
    rng = np.random.default_rng((7, seed))

    def draw(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float32)

    given = {
        "latents": draw(batch, *LATENT, config.in_channels),
        "text": draw(batch, config.text_length, config.text_dim),
        "target": draw(batch, *LATENT, config.out_channels),
    }
    if config.image_dim is not None:
        # Small, so that the first norm's epsilon counts.
        given["image"] = 0.02 * draw(batch, config.image_tokens or 5, config.image_dim)
    return given


def channels_first(x: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(np.moveaxis(x, -1, 1))
