"""Aggregations of VBench (Huang et al. 2024): from features, flows and frames to scores.

The networks that make features (DINO, CLIP), flows (RAFT) and interpolated frames (AMT) are not
here: these functions take their outputs, one video at a time.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8


def consistency(features: Float[np.ndarray, "T D"]) -> Float[np.ndarray, "T_minus_1"]:
    """Subject (DINO) or background (CLIP) consistency of frames 1 ... T - 1, in [0, 1].

    The mean of a frame's clipped cosine with the frame before it and with frame 0. A video's score
    is the mean of these; the score of a data set is the mean over the frames of all videos pooled.

    Raises:
      ValueError: fewer than two frames.
    """
    if len(features) < 2:
        raise ValueError(f"consistency compares frames: the video has {len(features)}")
    unit = features.astype(np.float64)
    unit = unit / np.linalg.norm(unit, axis=1, keepdims=True)
    before = (unit[1:] * unit[:-1]).sum(axis=1)
    first = unit[1:] @ unit[0]
    return (np.maximum(before, 0) + np.maximum(first, 0)) / 2


class DynamicDegree(NamedTuple):
    """Whether a video moves, and how that was decided."""

    dynamic: bool
    scores: Float[np.ndarray, "F"]  # per flow, pixels
    threshold: float  # pixels
    needed: int  # how many scores must exceed the threshold


def dynamic_degree(flows: Float[np.ndarray, "F H W 2"]) -> DynamicDegree:
    """Dynamic degree of a video from the F optical flows between its F + 1 sampled frames.

    A flow's score is the mean of its largest 5 % of magnitudes. The video is dynamic when enough
    scores exceed a threshold that grows with the frame (6 px at a short side of 256).
    """
    num_flows, height, width, _ = flows.shape
    sizes = np.sqrt(np.square(flows.astype(np.float64)).sum(axis=-1)).reshape(num_flows, -1)
    top = max(1, math.floor(0.05 * height * width))
    scores = np.sort(sizes, axis=1)[:, -top:].mean(axis=1)
    threshold = 6.0 * min(height, width) / 256
    needed = round(4 * (num_flows + 1) / 16)  # halves go to the even number, as in the public code
    return DynamicDegree(int((scores > threshold).sum()) >= needed, scores, threshold, needed)


def motion_smoothness(
    frames: UInt8[np.ndarray, "T H W C"], interpolated: UInt8[np.ndarray, "M H W C"]
) -> float:
    """Motion smoothness in [0, 1]: how well odd frames follow from the even ones around them.

    Args:
      frames: the video.
      interpolated: midpoints between successive even frames, made by an interpolation network.

    Raises:
      ValueError: there is not one midpoint for every odd frame between two even ones.
    """
    odd = frames[1:-1:2] if len(frames) % 2 else frames[1:-2:2]
    if len(odd) != len(interpolated) or not len(odd):
        raise ValueError(
            f"a video of {len(frames)} frames has {len(odd)} odd frames between two even ones, "
            f"got {len(interpolated)} interpolated frames"
        )
    difference = np.abs(odd.astype(np.float64) - interpolated).mean(axis=(1, 2, 3))
    return float((255 - difference.mean()) / 255)
