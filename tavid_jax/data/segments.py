"""Which segment a point belongs to, and the trajectories of a clip."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool

from tavid_jax.data.clip import Clip, ClipError
from tavid_jax.tracks.codes import segmented
from tavid_jax.tracks.trajectories import Trajectories


def with_segments(
    trajectories: Trajectories, masks: Bool[np.ndarray, "S H W"], frame: int = 0
) -> Trajectories:
    """Trajectories whose points take the segment of the mask that they lie in.

    Args:
      trajectories: N points.
      masks: of that frame, in pixels of `trajectories.size_hw`.
      frame: the masks' own; -1 = the last (of tracks that run backwards in time).

    Raises:
      ClipError: masks of another size.
    """
    if masks.shape[1:] != tuple(trajectories.size_hw):
        (height, width), (own_height, own_width) = masks.shape[1:], trajectories.size_hw
        raise ClipError(
            f"masks are {width}x{height}, the tracks are in pixels of {own_width}x{own_height}: "
            "give masks of that size, or bring the tracks to the masks' size first (`resized`, "
            "`--size`)"
        )
    return segmented(trajectories, masks, frame)


def trajectories_of(clip: Clip) -> Trajectories:
    """The tracks of a clip, with its segments, their texts, depth and rate.

    A point that must not supervise (`valid`) counts as not seen. Segments are the clip's own, or
    else read from its masks at the points' places in frame 0. A point has the text of its segment,
    "" in no segment; where a clip has no texts, or segments are unknown, points have none.

    Raises:
      ClipError: no tracks, or masks of another size than `size_hw`.
      TrajectoryError: a visible point whose place is not finite.
    """
    if clip.tracks is None:
        raise ClipError(f"clip {clip.id!r}: has no tracks; read it with a tracker or track files")
    shape = clip.tracks.shape[:2]
    seen = np.ones(shape, bool) if clip.visibility is None else clip.visibility
    seen = seen if clip.valid is None else seen & clip.valid
    shift = np.float32(0.5 if clip.coord == "raster" else 0.0)
    known = max(0 if clip.masks is None else len(clip.masks), len(clip.local_captions))
    largest = int(clip.segment.max(initial=0)) if clip.segment is not None else 0
    trajectories = Trajectories(
        tracks=clip.tracks - shift,
        visibility=seen,
        size_hw=tuple(int(side) for side in clip.size_hw),
        depth=clip.depth,
        segment=clip.segment,
        segments=max(known, largest),
        fps=clip.fps,
    )
    if clip.segment is None and clip.masks is not None:
        trajectories = with_segments(trajectories, clip.masks)
    if trajectories.segment is None or not clip.local_captions:
        return trajectories
    texts = ("", *clip.local_captions, *[""] * trajectories.segments)
    return trajectories.replace(texts=tuple(texts[number] for number in trajectories.segment))
