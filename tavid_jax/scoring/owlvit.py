"""Boxes for what texts name, by OWL-ViT from a checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8

from tavid_jax.models.text.clip_tokenizer import CLIPTokenizer
from tavid_jax.models.vision.images import owlvit_preprocess
from tavid_jax.models.vision.owlvit import OwlViT
from tavid_jax.scoring.towers import open_as, read_float32, tokenizer_folder

_QUERIES = 8  # the number of texts is filled up to a multiple: few shapes, few compilations


class Proposals(NamedTuple):
    """What may be where in a frame.

    Attributes:
      boxes: (x0, y0, x1, y1) px, cut at the frame's edges.
      scores: of each box for each text, in (0, 1).
    """

    boxes: Float[np.ndarray, "K 4"]
    scores: Float[np.ndarray, "K Q"]


class OwlViTBoxes:
    """OWL-ViT with its weights and tokenizer.

    Args:
      checkpoint: transformers' folder of google/owlvit-base-patch32.
      tokenizer: folder of its tokenizer; None: the checkpoint's.

    Raises:
      ScoringError: a checkpoint of another model.
      ValueError: no tokenizer there.
    """

    def __init__(self, checkpoint: str | Path, *, tokenizer: str | Path | None = None):
        wanted = "OWL-ViT (google/owlvit-base-patch32)"
        opened = open_as(checkpoint, ("owlvit",), "--owlvit", wanted)
        self.name = opened.preset or "owlvit"
        self._weights = opened.fingerprint()
        config = opened.config
        folder = tokenizer or tokenizer_folder(checkpoint, "--owlvit")
        self._read = CLIPTokenizer.open(folder, config.text.text_length)
        self._size, model = config.vision.image_size, OwlViT(config)
        self._params = {"params": read_float32(opened)}
        self._embed = jax.jit(lambda p, tokens: model.apply(p, tokens, method="queries"))
        self._detect = jax.jit(lambda p, images, q: model.apply(p, images, q, method="detect"))
        self._known: dict[str, np.ndarray] = {}

    def describe(self) -> dict[str, Any]:
        """Name, fingerprint of the weights."""
        return {"name": self.name, "weights": self._weights}

    def __call__(self, frame: UInt8[np.ndarray, "H W 3"], texts: Sequence[str]) -> Proposals:
        """All boxes of a frame, each with a score for each of at least one text."""
        height, width = frame.shape[:2]
        filled = [*texts, *texts[:1] * (-len(texts) % _QUERIES)]
        vectors = jnp.asarray(np.stack([self._vector(text) for text in filled]))
        given = owlvit_preprocess(frame[None], self._size)
        found = self._detect(self._params, given, vectors)
        logits = np.asarray(found.logits)[0, :, : len(texts)].astype(np.float64)
        corners = _corners(np.asarray(found.boxes)[0]) * np.array([width, height, width, height])
        return Proposals(corners, 1 / (1 + np.exp(-logits)))

    def _vector(self, text: str) -> Float[np.ndarray, " E"]:
        if text not in self._known:
            tokens = jnp.asarray(self._read([text]))
            self._known[text] = np.asarray(self._embed(self._params, tokens))[0]
        return self._known[text]


def _corners(boxes: Float[np.ndarray, "N 4"]) -> Float[np.ndarray, "N 4"]:
    """(centre, size) -> (x0, y0, x1, y1), cut at the picture's edges."""
    half = boxes[:, 2:] / 2
    return np.clip(np.concatenate([boxes[:, :2] - half, boxes[:, :2] + half], axis=1), 0, 1)


def iou(one: Float[np.ndarray, "4"], other: Float[np.ndarray, "4"]) -> float:
    """Area that two boxes share, as a share of all that they cover."""
    low, high = np.maximum(one[:2], other[:2]), np.minimum(one[2:], other[2:])
    shared = np.prod(np.maximum(high - low, 0))
    areas = np.prod(one[2:] - one[:2]) + np.prod(other[2:] - other[:2])
    return float(shared / (areas - shared)) if areas > shared else 0.0
