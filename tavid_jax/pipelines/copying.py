"""The motion of a video for a model of local texts: a few points of each thing, with its words."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

from tavid_jax.data.rle_masks import frame_masks
from tavid_jax.data.segments import with_segments
from tavid_jax.data.tracked import track_points
from tavid_jax.data.video import read_video
from tavid_jax.pipelines.locating import read_texts
from tavid_jax.tracks.trajectories import Trajectories

# Of the pixels of a segment, how many are looked at.
_LOOKED_AT = 4000


def copied(
    video: str | os.PathLike,
    frames: int,
    texts: str | os.PathLike | Sequence[str],
    points: int,
    segments: str | os.PathLike | None = None,
) -> Trajectories:
    """Points of a video's first frames, followed by optical flow, each with a text.

    Args:
      video: a file, or a folder of images.
      frames: how many.
      texts: one for each segment, see `locating.read_texts`; without segments, one for all.
      points: how many are followed at the most: spread over the segments, each has one at least
        and larger ones have more; without segments, over the frame.
      segments: file of masks, see `data.rle_masks`; those of the first frame.

    Raises:
      ValueError: files that cannot be read or do not fit one another, a segment that the first
        frame does not show, more of them than points, or another number of texts.
    """
    texts = read_texts(texts)
    masks = None if segments is None else frame_masks(segments, 0)
    count = 1 if masks is None else len(masks)
    if len(texts) != count:
        each = "without segments all points have one text" if masks is None else "give one for each"
        raise ValueError(f"{len(texts)} texts for {count} segment{'s' * (count > 1)}: {each}")
    read = read_video(video, range(frames))
    if masks is None:
        return _tracked(read, [np.ones(read.shape[1:3], bool)], texts, points)
    if masks.shape[1:] != read.shape[1:3]:
        raise ValueError(
            f"{segments}: masks are {masks.shape[1:]} (HxW), {video} is {read.shape[1:3]}"
        )
    return with_segments(_tracked(read, list(masks), texts, points), masks)


def _tracked(
    video: np.ndarray, masks: Sequence[np.ndarray], texts: Sequence[str], points: int
) -> Trajectories:
    counts = shares([int(mask.sum()) for mask in masks], points)
    starts = [spread(mask, count) for mask, count in zip(masks, counts, strict=True)]
    words = [text for text, start in zip(texts, starts, strict=True) for _ in start]
    return track_points(video, np.concatenate(starts)).replace(texts=tuple(words))


def shares(areas: Sequence[int], points: int) -> list[int]:
    """How many points each area has: one at least, and the rest by size.

    Raises:
      ValueError: an empty area, or more areas than points.
    """
    if min(areas) < 1:
        raise ValueError(f"segment {int(np.argmin(areas)) + 1} is not in the first frame: drop it")
    if len(areas) > points:
        raise ValueError(
            f"{len(areas)} segments, this model has room for {points} trajectories: leave some out"
        )
    counts = np.minimum(np.ones(len(areas), int), areas)
    for _ in range(points - len(areas)):
        # To the one whose points stand for the most pixels; none has more points than pixels.
        room = np.where(counts < areas, np.asarray(areas) / counts, 0.0)
        if not room.any():
            break
        counts[int(np.argmax(room))] += 1
    return [int(count) for count in counts]


def spread(mask: Bool[np.ndarray, "H W"], count: int) -> Float[np.ndarray, "_ 2"]:
    """Places (x, y) px in a mask, far from one another, the first one deep inside.

    Args:
      mask: at least `count` pixels of it are set.
      count: how many.
    """
    rows, columns = np.nonzero(mask)
    places = np.stack([columns, rows], axis=-1).astype(np.float32)
    places = places[:: max(1, len(places) // max(_LOOKED_AT, count))]
    first = np.linalg.norm(places - places.mean(0), axis=-1).argmin()
    chosen, nearest = [first], np.full(len(places), np.inf)
    while len(chosen) < count:
        nearest = np.minimum(nearest, np.linalg.norm(places - places[chosen[-1]], axis=-1))
        chosen.append(int(nearest.argmax()))
    return places[np.array(chosen)]
