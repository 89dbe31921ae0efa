"""Model FLOPs of a training step of the methods that adapt a published backbone.

The closed forms of the models stand beside them (`models/*/flops.py`); here they are put together
as `Finetune` and its kinds do it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from tavid_jax.models.cogvideox import flops as cogvideox
from tavid_jax.models.cogvideox.vae import flops as cogvideox_vae
from tavid_jax.models.cogvideox.vae.config import CogVideoXVAEConfig
from tavid_jax.models.layers.flops import Trained, Weights, Work
from tavid_jax.models.text import flops as text
from tavid_jax.models.vision import flops as vision
from tavid_jax.models.wan import flops as wan
from tavid_jax.models.wan.vae import flops as wan_vae
from tavid_jax.models.wan.vae.config import WanVAEConfig
from tavid_jax.pipelines.backbones import Backbone, CogVideoXBackbone

Shape = cogvideox.CogVideoXShape | wan.WanShape


def trained_below(prefix: str, trainable: Sequence[str], frozen: Sequence[str]) -> Trained:
    """Which parameters of the node `prefix` are trained, by a method's patterns."""

    def trained(path: str) -> bool:
        whole = f"{prefix}/{path}"
        if any(re.fullmatch(pattern, whole) for pattern in frozen):
            return False
        return any(re.fullmatch(pattern, whole) for pattern in trainable)

    return trained


def shape_of(
    backbone: Backbone,
    batch: int,
    *,
    conditions: int = 0,
    text_batch: int = 0,
    text_live: bool = False,
) -> Shape:
    """Sizes of one evaluation of a backbone.

    Args:
      backbone: of the method.
      batch: videos that are noised.
      conditions: condition examples, each of which serves as many videos; 0 without.
      text_batch: prompts, for models whose prompts serve several videos; 0 is one for each.
      text_live: whether text features have a gradient.
    """
    c, spec = backbone.model.config, backbone.spec()
    video, tokens = spec["video"].shape, spec["text"].shape[0]
    common = dict(
        batch=batch,
        grid=c.grid(video[:3]),
        text_tokens=tokens,
        text_live=text_live,
        condition_batch=conditions,
        extra=bool(c.extra_channels),
    )
    if isinstance(backbone, CogVideoXBackbone):
        return cogvideox.CogVideoXShape(**common)
    return wan.WanShape(
        **common,
        text_batch=text_batch or batch,
        groups=video[0] if backbone.given_frames else 1,
        image_tokens=spec["clip"].shape[0] if "clip" in spec else 0,
    )


def evaluate(work: Work, backbone: Backbone, weights: Weights, shape: Shape) -> None:
    """One evaluation of a backbone, and its gradient."""
    model = cogvideox if isinstance(backbone, CogVideoXBackbone) else wan
    model.predict(work, backbone.model.config, weights, shape)


def weights_of(method: Any, node: str) -> Weights:
    """Which of a backbone's parameters a method trains."""
    model = method.backbone.model
    trained = trained_below(node, method.trainable_paths, method.frozen_paths)
    return Weights(trained, model.lora, model.config.num_layers)


def read_text(work: Work, words: Any, prompts: int, *, trained: bool = False) -> None:
    """Features of captions by the text encoder; trained, they have a gradient."""
    text.encode(work, words.module.config, prompts, words.length, trained=trained)


def read_clips(work: Work, method: Any, batch: int) -> None:
    """The frozen encoders of a clip: video, caption, image tokens."""
    videos(work, method, batch)
    if not method.trains_text:
        read_text(work, method.words, batch)
    if method.tower is not None:
        config, shown = method.tower.module.config, 2 if method.tower.last_frame else 1
        patches = (config.image_size // config.patch_size) ** 2
        # Wan reads the tokens in front of the last block.
        vision.tower(work, config, shown * batch, patches, blocks=config.num_layers - 1)


def videos(work: Work, method: Any, batch: int) -> None:
    """Latents of videos, and of what is given of them, see `Recipe`."""
    backbone, geometry = method.backbone, method.backbone.geometry
    lengths = [geometry.frames]
    if backbone.has_image:
        lengths.append(1 if isinstance(backbone, CogVideoXBackbone) else geometry.frames)
    config = method.autoencoder.config
    for frames in lengths:
        if isinstance(config, WanVAEConfig):
            wan_vae.encode(work, config, batch, frames, geometry.size_hw)
        elif isinstance(config, CogVideoXVAEConfig):
            cogvideox_vae.encode(work, config, batch, frames, geometry.size_hw)
