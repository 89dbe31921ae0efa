"""Published pipelines at tiny sizes, on disk as diffusers writes them, with random weights."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKLCogVideoX,
    AutoencoderKLWan,
    CogVideoXTransformer3DModel,
    WanTransformer3DModel,
)
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModel,
    T5Config,
    T5EncoderModel,
    UMT5Config,
    UMT5EncoderModel,
)

from tavid_jax.models.text import tokenizer as tokenizers
from tests.models.random_weights import randomise

TEXT_DIM = 24
WAN = dict(
    patch_size=(1, 2, 2), num_attention_heads=2, attention_head_dim=16, in_channels=4,
    out_channels=4, text_dim=TEXT_DIM, freq_dim=16, ffn_dim=48, num_layers=2, rope_max_seq_len=32,
)  # fmt: skip
WAN_VAE = dict(
    base_dim=8, z_dim=4, latents_mean=[0.1, -0.2, 0.3, 0.0], latents_std=[1.1, 0.9, 1.3, 0.7]
)
WAN_VAE_2 = dict(
    base_dim=8, decoder_base_dim=16, z_dim=6, is_residual=True, in_channels=12, out_channels=12,
    patch_size=2, scale_factor_spatial=16,
    latents_mean=[0.1, -0.2, 0.3, 0.0, 0.2, -0.1], latents_std=[1.1, 0.9, 1.3, 0.7, 1.2, 0.8],
)  # fmt: skip
COGVIDEOX = dict(
    num_attention_heads=2, attention_head_dim=16, in_channels=4, out_channels=4, time_embed_dim=8,
    text_embed_dim=TEXT_DIM, num_layers=2, sample_width=6, sample_height=4, sample_frames=9,
    max_text_seq_length=12, use_rotary_positional_embeddings=True,
)  # fmt: skip
COGVIDEOX_VAE = dict(
    block_out_channels=(8, 16, 16, 24), latent_channels=4, layers_per_block=1, norm_num_groups=4,
    sample_height=96, sample_width=80, scaling_factor=0.7,
    down_block_types=("CogVideoXDownBlock3D",) * 4, up_block_types=("CogVideoXUpBlock3D",) * 4,
)  # fmt: skip
_T5 = dict(
    vocab_size=600, d_model=TEXT_DIM, d_kv=5, d_ff=40, num_layers=2, num_heads=3,
    feed_forward_proj="gated-gelu", dense_act_fn="gelu_new", is_gated_act=True,
)  # fmt: skip


def wan_folder(
    folder: Path,
    seed: int = 0,
    *,
    transformer: Mapping[str, Any] | None = None,
    vae: Mapping[str, Any] | None = None,
    clip: bool = False,
    experts: bool = False,
) -> dict[str, torch.nn.Module]:
    """Writes a Wan pipeline and returns its models."""
    config = WAN | dict(transformer or {})
    models: dict[str, torch.nn.Module] = {
        "transformer": randomise(WanTransformer3DModel(**config), seed),
        "vae": randomise(AutoencoderKLWan(**(vae or WAN_VAE)), seed + 1),
        "text_encoder": randomise(UMT5EncoderModel(UMT5Config(**_T5)), seed + 2),
    }
    if experts:
        models["transformer_2"] = randomise(WanTransformer3DModel(**config), seed + 3)
    if clip:
        vision = CLIPVisionConfig(
            hidden_size=config["image_dim"], intermediate_size=48, num_hidden_layers=3,
            num_attention_heads=4, image_size=28, patch_size=14, hidden_act="gelu",
        )  # fmt: skip
        models["image_encoder"] = randomise(CLIPVisionModel(vision), seed + 4)
    return _written(folder, models)


def cogvideox_folder(
    folder: Path, seed: int = 0, *, transformer: Mapping[str, Any] | None = None, **vae: Any
) -> dict[str, torch.nn.Module]:
    """Writes a CogVideoX pipeline and returns its models."""
    models = {
        "transformer": randomise(
            CogVideoXTransformer3DModel(**COGVIDEOX | dict(transformer or {})), seed
        ),
        "vae": randomise(AutoencoderKLCogVideoX(**COGVIDEOX_VAE | vae), seed + 1),
        "text_encoder": randomise(T5EncoderModel(T5Config(**_T5)), seed + 2),
    }
    return _written(folder, models)


def _written(folder: Path, models: dict[str, torch.nn.Module]) -> dict[str, torch.nn.Module]:
    for name, model in models.items():
        model.save_pretrained(folder / name)
    (folder / "tokenizer").mkdir()
    shutil.copy(
        Path(tokenizers.__file__).with_name("captions.model"), folder / "tokenizer" / "spiece.model"
    )
    return models
