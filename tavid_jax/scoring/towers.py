"""Features of frames by published image encoders: DINO for subjects, CLIP for backgrounds."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8

from tavid_jax.models.vision.clip import CLIPVision
from tavid_jax.models.vision.images import clip_preprocess, dino_preprocess
from tavid_jax.models.vision.vit import ViT
from tavid_jax.scoring.providers import Progress, ScoringError, no_progress
from tavid_jax.weights import open_parameters
from tavid_jax.weights.opened import Opened
from tavid_jax.weights.table import nest

_BATCH = 8  # frames at once


def open_as(checkpoint: str | Path, kinds: tuple[str, ...], option: str, wanted: str) -> Opened:
    """Opens a checkpoint, of one of these kinds.

    Args:
      checkpoint: file, folder or `hf:` name, published or imported.
      kinds: keys of `weights.CHECKPOINTS`.
      option: of the command that named it, for the error.
      wanted: what it should be, in words.

    Raises:
      ScoringError: a checkpoint of another model.
      WeightsError: nothing usable there.
    """
    opened = open_parameters(checkpoint)
    if opened.name not in kinds:
        raise ScoringError(
            f"{option} {checkpoint}: holds {opened.preset or 'a model'} (kind {opened.name}), "
            f"but {wanted} is needed here"
        )
    return opened


def read_float32(opened: Opened, below: str = "") -> dict:
    """The parameters whose path begins with `below` (which is cut off), as a nested dict."""
    return nest(
        {
            path.removeprefix(below): jnp.asarray(np.asarray(leaf.read(), np.float32))
            for path, leaf in opened.leaves.items()
            if path.startswith(below)
        }
    )


class _Tower:
    """Frames through preprocessing and an encoder, batch by batch."""

    name: str

    def __init__(
        self,
        opened: Opened,
        name: str,
        rule: str,
        params: dict,
        encode: Callable,
        prepare: Callable,
    ):
        self.name, self._params = name, params
        self._about = {
            "name": name,
            "weights": opened.fingerprint(),
            "config": str(opened.config),
            "preprocessing": rule,
        }
        self._encode, self._prepare = jax.jit(encode), prepare

    def describe(self) -> dict[str, Any]:
        """Name, fingerprint of the weights, preprocessing."""
        return dict(self._about)

    def __call__(
        self, frames: UInt8[np.ndarray, "T H W 3"], progress: Progress = no_progress
    ) -> Float[np.ndarray, "T D"]:
        """Features of the frames of one video."""
        features = []
        for start in range(0, len(frames), _BATCH):
            some = frames[start : start + _BATCH]
            # The last batch is filled up: one shape, one compilation.
            filled = np.concatenate([some, np.repeat(some[-1:], _BATCH - len(some), axis=0)])
            features.append(
                np.asarray(self._encode(self._params, self._prepare(filled)))[: len(some)]
            )
            progress(min(start + _BATCH, len(frames)), len(frames))
        return np.concatenate(features)


class DINOFeatures(_Tower):
    """Subject consistency: the class token of a ViT trained by DINO.

    The whole frame is seen, its shorter side at the size that the model was trained at.

    Args:
      checkpoint: transformers' folder of facebook/dino-vitb16, or DINO's own file.
    """

    def __init__(self, checkpoint: str | Path):
        kinds = ("vit", "vit_original")
        opened = open_as(checkpoint, kinds, "--dino", "DINO's ViT-B/16 (facebook/dino-vitb16)")
        model = ViT(opened.config)
        size, patch = opened.config.image_size, opened.config.patch_size
        super().__init__(
            opened,
            opened.preset or "vit",
            f"shorter side {size}, bicubic, whole frame, ImageNet's normalisation",
            read_float32(opened),
            lambda params, images: model.apply({"params": params}, images),
            functools.partial(dino_preprocess, size=size, patch=patch),
        )


class CLIPFeatures(_Tower):
    """Background consistency: image features of CLIP.

    Args:
      checkpoint: transformers' folder of openai/clip-vit-base-patch32, or of its image tower with
        the projection.
    """

    def __init__(self, checkpoint: str | Path):
        wanted = "CLIP ViT-B/32 (openai/clip-vit-base-patch32)"
        opened = open_as(checkpoint, ("clip", "clip_vision"), "--clip", wanted)
        both = opened.name == "clip"
        config = opened.config.vision if both else opened.config
        if config.feature_dim is None:
            raise ScoringError(
                f"--clip {checkpoint}: an image tower without the projection to features; give "
                f"{wanted}"
            )
        model, size = CLIPVision(config), config.image_size
        super().__init__(
            opened,
            (opened.preset or "clip").removesuffix("-vision"),
            f"shorter side {size}, bicubic, middle, CLIP's normalisation",
            read_float32(opened, "vision/" if both else ""),
            lambda params, images: model.apply({"params": params}, images, method="features"),
            functools.partial(clip_preprocess, size=size),
        )
