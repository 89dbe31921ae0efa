"""Aggregations of VBench (Huang et al. 2024): from features, flows and frames to scores.

The networks that make features (DINO, CLIP), flows (RAFT) and interpolated frames (AMT) are not
here: these functions take their outputs, one video at a time.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from tavid_jax.metrics.consistency import frame_cosines


def consistency(features: Float[np.ndarray, "T D"]) -> Float[np.ndarray, "T_minus_1"]:
    """Subject (DINO) or background (CLIP) consistency of frames 1 ... T - 1, in [0, 1].

    The mean of a frame's clipped cosine with the frame before it and with frame 0. A video's score
    is the mean of these; the score of a data set is the mean over the frames of all videos pooled.

    Raises:
      ValueError: fewer than two frames.
    """
    cosines = frame_cosines(features)
    return (np.maximum(cosines.before, 0) + np.maximum(cosines.first, 0)) / 2


class DynamicDegree(NamedTuple):
    """Whether a video moves, and how that was decided."""

    dynamic: bool
    scores: Float[np.ndarray, "F"]  # per flow, pixels
    threshold: float  # pixels
    needed: int  # how many scores must exceed the threshold


def dynamic_degree(flows: Float[np.ndarray, "F H W 2"]) -> DynamicDegree:
    """Dynamic degree of a video from the F optical flows between its F + 1 sampled frames.

    See `flow_size` and `is_dynamic`, which serve where not all flows fit into memory.
    """
    scores = np.array([flow_size(flow) for flow in flows], np.float64)
    return is_dynamic(scores, flows.shape[1:3])


def flow_size(flow: Float[np.ndarray, "H W 2"]) -> float:
    """The score of one flow: the mean of its largest 5 % of magnitudes, px."""
    sizes = np.sqrt(np.square(flow.astype(np.float64)).sum(axis=-1)).reshape(-1)
    top = max(1, math.floor(0.05 * sizes.size))
    return float(np.sort(sizes)[-top:].mean())


def is_dynamic(scores: Float[np.ndarray, "F"], size_hw: tuple[int, int]) -> DynamicDegree:
    """Dynamic when enough scores exceed a threshold that grows with the frame.

    Args:
      scores: `flow_size` of each flow.
      size_hw: of the frames; the threshold is 6 px at a short side of 256.
    """
    threshold = 6.0 * min(size_hw) / 256
    # Halves go to the even number, as in the public code.
    needed = round(4 * (len(scores) + 1) / 16)
    return DynamicDegree(int((scores > threshold).sum()) >= needed, scores, threshold, needed)


def motion_smoothness(
    frames: UInt8[np.ndarray, "T H W C"], interpolated: UInt8[np.ndarray, "M H W C"]
) -> float:
    """Motion smoothness in [0, 1]: how well odd frames follow from the even ones around them.

    See `midpoint_error` and `smoothness`, which serve where not all midpoints fit into memory.

    Args:
      frames: the video.
      interpolated: midpoints between successive even frames, made by an interpolation network.

    Raises:
      ValueError: there is not one midpoint for every odd frame between two even ones.
    """
    odd = odd_frames(len(frames))
    if len(odd) != len(interpolated) or not len(odd):
        raise ValueError(
            f"a video of {len(frames)} frames has {len(odd)} odd frames between two even ones, "
            f"got {len(interpolated)} interpolated frames"
        )
    pairs = zip(odd, interpolated, strict=True)
    return smoothness(np.array([midpoint_error(frames[t], middle) for t, middle in pairs]))


def odd_frames(num_frames: int) -> range:
    """The odd frames of a video that lie between two even ones."""
    return range(1, num_frames - 1, 2)


def midpoint_error(
    frame: UInt8[np.ndarray, "H W C"], midpoint: UInt8[np.ndarray, "H W C"]
) -> float:
    """Mean absolute difference of an odd frame and the midpoint of its neighbours, 0 ... 255."""
    return float(np.abs(frame.astype(np.int16) - midpoint).mean(dtype=np.float64))


def smoothness(errors: Float[np.ndarray, " M"]) -> float:
    """The score of a video from its `midpoint_error`s."""
    return float((255 - errors.mean()) / 255)
