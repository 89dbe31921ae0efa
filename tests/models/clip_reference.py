"""Tiny CLIPs of transformers with random weights, and our parameters from the same weights."""

import dataclasses
from typing import Any

import numpy as np
from random_weights import randomise, state_arrays

from tavid_jax.models.vision.config import CLIPConfig, CLIPTextConfig, CLIPVisionConfig
from tavid_jax.weights.clip import clip_shapes, clip_table
from tavid_jax.weights.streaming import port_table

# No two sizes are equal, so that nothing fits by accident.
VISION = CLIPVisionConfig(
    width=32, num_heads=4, num_layers=3, mlp_dim=48, image_size=28, patch_size=7, feature_dim=20
)
TEXT = CLIPTextConfig(
    width=24, num_heads=3, num_layers=2, mlp_dim=40, vocab_size=53, text_length=11, feature_dim=20
)


def variant(activation: str = "gelu", **text: Any) -> CLIPConfig:
    """Both towers with one activation; `text` are changes of the text tower."""
    return CLIPConfig(
        dataclasses.replace(VISION, activation=activation),
        dataclasses.replace(TEXT, activation=activation, **text),
    )


CONFIGS = {
    "gelu": variant(),
    "quick_gelu": variant("quick_gelu"),
    "first end token": variant(end_id=7),
    "one block, other sizes": CLIPConfig(
        dataclasses.replace(
            VISION, num_layers=1, num_heads=2, image_size=15, patch_size=5, epsilon=1e-3
        ),
        dataclasses.replace(TEXT, num_layers=1, num_heads=4, epsilon=1e-3, text_length=17),
    ),
}
# Layers in front of norms: tokens near 0.01, where a wrong epsilon shows.
SHRUNK = (
    r"_embedding",
    r"layers\.0\.(self_attn\.out_proj|mlp\.fc2)",
    r"pre_layrnorm",
)


def torch_config(config: CLIPConfig):
    """Configuration of `transformers.CLIPModel`."""
    import transformers

    end_id = {"eos_token_id": 2 if config.text.end_id is None else config.text.end_id}
    ids = {"bos_token_id": 0, "pad_token_id": 1}
    vision, text = (_arguments(tower) for tower in (config.vision, config.text))
    vision |= {"image_size": config.vision.image_size, "patch_size": config.vision.patch_size}
    text |= {
        "vocab_size": config.text.vocab_size,
        "max_position_embeddings": config.text.text_length,
    }
    return transformers.CLIPConfig(
        text_config={**text, **end_id, **ids},
        vision_config=vision,
        projection_dim=config.text.feature_dim,
    )


def _arguments(tower) -> dict[str, Any]:
    return dict(
        hidden_size=tower.width,
        intermediate_size=tower.mlp_dim,
        num_hidden_layers=tower.num_layers,
        num_attention_heads=tower.num_heads,
        hidden_act=tower.activation,
        layer_norm_eps=tower.epsilon,
        projection_dim=tower.feature_dim,
    )


def torch_model(config: CLIPConfig, seed: int = 0):
    """transformers' model, every tensor random."""
    import transformers

    return randomise(transformers.CLIPModel(torch_config(config)), seed, SHRUNK)


def ported(model, config: CLIPConfig) -> dict[str, Any]:
    """Our parameters of both towers."""
    return port_table(clip_table(config), state_arrays(model), clip_shapes(config))


def images(config: CLIPVisionConfig, seed: int = 0, batch: int = 2) -> np.ndarray:
    """Random preprocessed images."""
    shape = (batch, config.image_size, config.image_size, 3)
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def channels_first(x: np.ndarray) -> np.ndarray:
    """(B, H, W, C) -> (B, C, H, W)."""
    return np.ascontiguousarray(np.moveaxis(x, -1, 1))


def tokens(config: CLIPTextConfig, seed: int = 0, batch: int = 4) -> np.ndarray:
    """Random texts that end at different places, pads behind."""
    rng = np.random.default_rng(seed)
    end = config.vocab_size - 1 if config.end_id is None else config.end_id
    ids = rng.integers(8, config.vocab_size - 1, (batch, config.text_length))
    for row in range(batch):
        stop = int(rng.integers(2, config.text_length - 1))
        ids[row, stop:] = (end, 3)[row % 2]  # pads may be the end token itself
        ids[row, stop] = end
    return ids.astype(np.int32)
