"""CLIP-T: how well a video shows what a text says, as the cosine of their CLIP features.

TGT reports it for the whole frame against the prompt (global) and for a crop around each
trajectory against that trajectory's own text (local), as plain cosines without CLIP's temperature.
The networks are not here: these functions take what `models/vision/clip.py` and
`models/text/clip.py` make of frames, crops and texts.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from tavid_jax.metrics import result


def clip_t(
    frames: Float[np.ndarray, "C T D"],
    prompts: Float[np.ndarray, "C E"],
    valid: Bool[np.ndarray, "C T"] | None = None,
    *,
    network: str,
) -> dict[str, Any]:
    """Global CLIP-T: mean cosine between the frames of a clip and its prompt, in [-1, 1].

    Args:
      frames: image features, of any length.
      prompts: text features, as wide as the images'.
      valid: frames that count; None: all.
      network: which CLIP made the features, e.g. "clip-vit-l-14"; values of different ones cannot
        be compared.

    Returns:
      Record with `clip_t` (over all frames of all clips, NaN when none counts), `per_clip`
      (C values), `n` frames.

    Raises:
      ValueError: shapes that do not belong together.
    """
    clips, _, width = frames.shape
    result.check_shapes((clips, width), prompts=prompts)
    result.check_shapes(frames.shape[:2], valid=valid)
    counted = np.ones(frames.shape[:2], bool) if valid is None else valid
    return summary("clip_t", cosines(frames, prompts[:, None]), counted, network=network)


def local_clip_t(
    crops: Float[np.ndarray, "C N T D"],
    captions: Float[np.ndarray, "C N E"],
    visibility: Bool[np.ndarray, "C N T"],
    *,
    network: str,
    crop_rule: str,
) -> dict[str, Any]:
    """Local CLIP-T: mean cosine between crops around trajectories and their texts, in [-1, 1].

    Args:
      crops: image features of the crop of each trajectory in each frame.
      captions: text features of each trajectory, as wide as the images'.
      visibility: crops that count; others may hold anything. A trajectory that only fills up a
        batch is nowhere visible.
      network: see `clip_t`.
      crop_rule: how the crops were cut; no published one, so values depend on it.

    Returns:
      Record with `local_clip_t` (over all crops that count, NaN when none does), `per_clip`
      (C values), `n` crops.

    Raises:
      ValueError: shapes that do not belong together.
    """
    result.check_shapes((*crops.shape[:2], crops.shape[3]), captions=captions)
    result.check_shapes(crops.shape[:3], visibility=visibility)
    found = cosines(crops, captions[:, :, None])
    return summary("local_clip_t", found, visibility, network=network, crop_rule=crop_rule)


def cosines(
    images: Float[np.ndarray, "*I D"], texts: Float[np.ndarray, "*S D"]
) -> Float[np.ndarray, "*C"]:
    """Cosines over the last axis, the others broadcast, float64; NaN where a feature is zero."""
    images, texts = images.astype(np.float64), texts.astype(np.float64)
    norms = np.linalg.norm(images, axis=-1) * np.linalg.norm(texts, axis=-1)
    return result.ratio((images * texts).sum(axis=-1), norms)


def summary(
    name: str,
    values: Float[np.ndarray, "C *D"],
    counted: Bool[np.ndarray, "C *D"],
    *,
    network: str,
    **settings: Any,
) -> dict[str, Any]:
    """The record of cosines that are known already, as `clip_t` and `local_clip_t` return it.

    Args:
      name: of the value.
      values: cosines by clip.
      counted: which of them count.
      network: see `clip_t`.
      **settings: all else that changes the value.
    """
    axes = tuple(range(1, values.ndim))
    total = result.masked_mean(values, counted, axis=tuple(range(values.ndim)))
    counts = counted.sum(axis=axes)
    per_clip = result.masked_mean(values, counted, axis=axes)
    return result.record(
        {name: float(total), "per_clip": per_clip, "counts": counts},
        n=counted.sum(),
        clips=len(values),
        network=network,
        **settings,
    )
