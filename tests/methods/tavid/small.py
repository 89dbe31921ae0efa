"""The smallest TAViD: two blocks on pixels as latents, built without a config."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp

from tavid_jax.methods.finetune.method import Conditioning
from tavid_jax.methods.finetune.objectives import VPrediction
from tavid_jax.methods.finetune.words import Words
from tavid_jax.methods.tavid.attention import AttentionLoss, Blocks
from tavid_jax.methods.tavid.method import Masks, Tavid
from tavid_jax.models.layers.space_to_depth import SpaceToDepth, SpaceToDepthConfig
from tavid_jax.models.text.t5 import T5Encoder
from tavid_jax.models.text.tokenizer import Tokenizer
from tavid_jax.pipelines.backbones import Geometry, make_backbone
from tavid_jax.pipelines.targets import TargetReader, Targets
from tests.pipelines import trained

GEOMETRY = Geometry(9, (16, 16))


def method(
    *,
    masks: Masks = Masks(),  # noqa: B008 (frozen)
    weight: float = 0.1,
    blocks: Blocks = Blocks(chosen=(0, 1)),  # noqa: B008 (frozen)
    embedding: bool = False,
    text_dropout: float = 0.0,
    from_clips: bool = False,
) -> Tavid:
    """Adapters of the attention of `trained.CONFIGS["cogvideox"]`, and one target."""
    targets = Targets(sentence="", embedding=embedding)
    config = trained.CONFIGS["cogvideox"]
    sizes: dict[str, Any] = dataclasses.asdict(config)
    coder = SpaceToDepth(SpaceToDepthConfig())
    backbone = make_backbone(
        "cogvideox-5b-i2v",
        GEOMETRY,
        sizes | {"extra_channels": targets.count if masks.given else 0},
        False,
        stride=coder.config.stride_hw,
        predicts="data",
        lora=trained.RULES,
        dtype=jnp.float32,
        param_dtype=jnp.float32,
    )
    tokenizer, length = Tokenizer.captions(), config.text_length
    running = dict(dtype=jnp.float32, param_dtype=jnp.float32)
    encoder = T5Encoder(trained.text_config("cogvideox"), **running)
    return Tavid(
        TargetReader(targets, tokenizer, backbone, length, wan=False),
        AttentionLoss(weight=weight, blocks=blocks),
        masks,
        backbone=backbone,
        objective=VPrediction(predicts="data"),
        autoencoder=coder,
        words=Words(encoder, tokenizer, length, wan=False) if from_clips else None,
        conditioning=Conditioning(text_dropout=text_dropout),
    )
