"""Which segment a point belongs to, and the trajectories of a clip."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

from tavid_jax.data.clip import Clip, ClipError
from tavid_jax.tracks.codes import segmented
from tavid_jax.tracks.trajectories import Trajectories

# An object that covers this share of the pixels that it covers at most is taken to be seen whole.
_WHOLE = 0.9


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
        trajectories = with_segments(trajectories, clip.masks)
    if trajectories.segment is None or not clip.local_captions:
        return trajectories
    texts = ("", *clip.local_captions, *[""] * trajectories.segments)
    return trajectories.replace(texts=tuple(texts[number] for number in trajectories.segment))


def object_tracks(clip: Clip, *, least: float | int = 0.6) -> Trajectories:
    """One trajectory per object of a clip of rigid objects that do not turn: its centre.

    The centre moves as the object's points do on average. Where it begins is the mean of its
    pixels, averaged over all frames that show it whole, each moved back: for the toy scenes 0.1 px
    from the truth on average.

    Args:
      clip: with tracks whose points belong to objects 1..S; better with a segment map.
      least: share of the object's points that must be visible for it to be, in each frame.

    Returns:
      S trajectories in the order of the objects, the k-th in segment k, with the clip's local
      captions as texts. An object without points is never visible.

    Raises:
      ClipError: no tracks, no objects, or local captions for another number of them.
    """
    points = trajectories_of(clip)
    count, texts = points.segments, tuple(clip.local_captions)
    if points.segment is None or not count:
        raise ClipError(f"clip {clip.id!r}: its tracks belong to no objects; give it masks")
    if texts and len(texts) != count:
        raise ClipError(f"clip {clip.id!r}: {len(texts)} local captions for {count} objects")
    tracks = np.zeros((count, *points.tracks.shape[1:]))
    seen = np.zeros(tracks.shape[:2], bool)
    for number in range(1, count + 1):
        mine = points.segment == number
        if mine.any():
            own = points.tracks[mine].astype(np.float64)
            way = (own - own[:, :1]).mean(0)
            start = _first_centre(clip, number, way)
            tracks[number - 1] = (own[:, 0].mean(0) if start is None else start) + way
            seen[number - 1] = points.visibility[mine].mean(0) >= least
    return Trajectories(
        tracks,
        seen,
        points.size_hw,
        segment=np.arange(1, count + 1, dtype=np.int32),
        segments=count,
        fps=clip.fps,
        texts=texts or None,
    )


def _first_centre(
    clip: Clip, number: int, way: Float[np.ndarray, "T 2"]
) -> Float[np.ndarray, "2"] | None:
    """Centre of an object in frame 0 by its pixels in all frames; None where they are unknown."""
    if clip.segment_map is not None:
        pixels = clip.segment_map == number
    elif clip.masks is not None:
        pixels, way = clip.masks[number - 1][None], way[:1]
    else:
        return None
    area = pixels.sum((1, 2))
    whole = area >= max(_WHOLE * area.max(), 1)
    return (mask_centres(pixels[whole]) - way[whole]).mean(0) if whole.any() else None


def mask_centres(masks: Bool[np.ndarray, "*B H W"]) -> Float[np.ndarray, "*B 2"]:
    """Mean pixel (x, y) of each mask; NaN where it is empty."""
    area = masks.sum((-2, -1))
    x = (masks.sum(-2) * np.arange(masks.shape[-1])).sum(-1)
    y = (masks.sum(-1) * np.arange(masks.shape[-2])).sum(-1)
    empty = np.where(area > 0, 0.0, np.nan)[..., None]
    return np.stack([x, y], axis=-1) / np.maximum(area, 1)[..., None] + empty
