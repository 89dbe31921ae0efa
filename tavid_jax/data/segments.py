"""Which segment a point belongs to, and the trajectories of a clip."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int

from tavid_jax.data.clip import Clip, ClipError
from tavid_jax.tracks.trajectories import Trajectories


def segment_ids(
    xy: Float[np.ndarray, "N 2"], masks: Bool[np.ndarray, "S H W"]
) -> Int[np.ndarray, " N"]:
    """The first mask that a point lies in: k + 1 for mask k, 0 for none; int32.

    FlexTraj's rule: places (x, y) px are rounded to the nearest pixel (half to even) and brought
    into the frame, so a point outside has the segment of the border nearest to it.
    """
    count, height, width = masks.shape
    if not count:
        return np.zeros(len(xy), np.int32)
    x = np.clip(np.rint(xy[:, 0]), 0, width - 1).astype(np.int64)
    y = np.clip(np.rint(xy[:, 1]), 0, height - 1).astype(np.int64)
    inside = masks[:, y, x]
    return np.where(inside.any(0), inside.argmax(0) + 1, 0).astype(np.int32)


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
    ids = segment_ids(trajectories.tracks[:, frame], masks)
    return trajectories.replace(segment=ids, segments=len(masks))


def trajectories_of(clip: Clip) -> Trajectories:
    """The tracks of a clip, with its segments, depth and rate.

    A point that must not supervise (`valid`) counts as not seen. Segments are the clip's own, or
    else read from its masks at the points' places in frame 0.

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
    masks = 0 if clip.masks is None else len(clip.masks)
    largest = int(clip.segment.max(initial=0)) if clip.segment is not None else 0
    trajectories = Trajectories(
        tracks=clip.tracks - shift,
        visibility=seen,
        size_hw=tuple(int(side) for side in clip.size_hw),
        depth=clip.depth,
        segment=clip.segment,
        segments=max(masks, largest),
        fps=clip.fps,
    )
    if clip.segment is None and clip.masks is not None:
        return with_segments(trajectories, clip.masks)
    return trajectories
