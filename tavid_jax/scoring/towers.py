"""Features of frames by published image encoders: DINO for subjects, CLIP for backgrounds."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8

from tavid_jax.models.text.clip import CLIPText
from tavid_jax.models.text.clip_tokenizer import CLIPTokenizer
from tavid_jax.models.vision.clip import CLIPVision
from tavid_jax.models.vision.config import CLIPVisionConfig
from tavid_jax.models.vision.images import clip_preprocess, dino_preprocess
from tavid_jax.models.vision.vit import ViT
from tavid_jax.scoring.providers import Progress, ScoringError, no_progress
from tavid_jax.weights import open_parameters
from tavid_jax.weights.opened import Opened
from tavid_jax.weights.source import HUB
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


def tokenizer_folder(checkpoint: str | Path, option: str) -> Path:
    """The folder of a checkpoint, in which its tokenizer lies.

    Raises:
      ScoringError: a `hf:` name.
    """
    if str(checkpoint).startswith(HUB):
        raise ScoringError(
            f"{option} {checkpoint}: its tokenizer is not downloaded with the weights; give "
            "--tokenizer FOLDER with the model's tokenizer.json"
        )
    path = Path(checkpoint).expanduser()
    return path if path.is_dir() else path.parent


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
        return self.pictures(list(frames), progress)

    def pictures(
        self, pictures: Sequence[UInt8[np.ndarray, "_ _ 3"]], progress: Progress = no_progress
    ) -> Float[np.ndarray, "T D"]:
        """Features of at least one picture, of any sizes that give inputs of one size."""
        features = []
        for start in range(0, len(pictures), _BATCH):
            some = pictures[start : start + _BATCH]
            given = np.concatenate([self._prepare(picture[None]) for picture in some])
            features.append(self._encode(self._params, _filled(given))[: len(some)])
            progress(min(start + _BATCH, len(pictures)), len(pictures))
        return np.concatenate([np.asarray(some) for some in features])


def _filled(batch: np.ndarray) -> np.ndarray:
    """The last batch is filled up: one shape, one compilation."""
    return np.concatenate([batch, np.repeat(batch[-1:], _BATCH - len(batch), axis=0)])


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
    """Image features of CLIP: background consistency, consistency of frames.

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
        self._open(opened, config)

    def _open(self, opened: Opened, config: CLIPVisionConfig) -> None:
        model, size = CLIPVision(config), config.image_size
        super().__init__(
            opened,
            (opened.preset or "clip").removesuffix("-vision"),
            f"shorter side {size}, bicubic, middle, CLIP's normalisation",
            read_float32(opened, "vision/" if opened.name == "clip" else ""),
            lambda params, images: model.apply({"params": params}, images, method="features"),
            functools.partial(clip_preprocess, size=size),
        )


class CLIPPair(CLIPFeatures):
    """Both towers of a CLIP: pictures and texts, for CLIP-T.

    Args:
      checkpoint: transformers' folder of openai/clip-vit-large-patch14,
        laion/CLIP-ViT-H-14-laion2B-s32B-b79K, openai/clip-vit-base-patch32, ...
      tokenizer: folder of its tokenizer; None: the checkpoint's.

    Raises:
      ScoringError: a checkpoint of one tower alone, or of another model.
      ValueError: no tokenizer there.
    """

    def __init__(self, checkpoint: str | Path, *, tokenizer: str | Path | None = None):
        wanted = "a CLIP with both towers (openai/clip-vit-large-patch14)"
        opened = open_as(checkpoint, ("clip",), "--clip", wanted)
        config = opened.config
        folder = tokenizer or tokenizer_folder(checkpoint, "--clip")
        self._read = CLIPTokenizer.open(folder, config.text.text_length)
        self._open(opened, config.vision)
        model = CLIPText(config.text)
        self._text_params = {"params": read_float32(opened, "text/")}
        self._encode_texts = jax.jit(model.apply)
        self._known: dict[str, np.ndarray] = {}

    def texts(self, texts: Sequence[str]) -> Float[np.ndarray, "S D"]:
        """Features of at least one text; what is too long is cut (77 tokens), with a warning."""
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        for start in range(0, len(new), _BATCH):
            some = new[start : start + _BATCH]
            found = self._encode_texts(self._text_params, _filled(self._read(some)))
            self._known |= zip(some, np.asarray(found), strict=False)
        return np.stack([self._known[text] for text in texts])
