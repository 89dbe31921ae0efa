"""Consistency: how alike the frames of a video are, by the cosines of their features.

With image features of CLIP ViT-B/32 this is what FlexTraj's "Consistency" appears to be; its code
is not public, so this is our definition. Large motion lowers it: look at it beside that of the real
video. VBench's scores are made of the same cosines in another way, see `vbench.consistency`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float


class FrameCosines(NamedTuple):
    """Cosines of frames 1 ... T - 1 of a video, in [-1, 1].

    Attributes:
      before: with the frame before.
      first: with frame 0.
    """

    before: Float[np.ndarray, "_"]
    first: Float[np.ndarray, "_"]


def frame_cosines(features: Float[np.ndarray, "T D"]) -> FrameCosines:
    """Cosines of the features of frames, in float64.

    The mean of `before` is a video's Consistency (our definition), that of `first` its consistency
    with the given image.

    Raises:
      ValueError: fewer than two frames.
    """
    if len(features) < 2:
        raise ValueError(f"consistency compares frames: the video has {len(features)}")
    unit = features.astype(np.float64)
    unit = unit / np.linalg.norm(unit, axis=1, keepdims=True)
    return FrameCosines((unit[1:] * unit[:-1]).sum(axis=1), unit[1:] @ unit[0])
