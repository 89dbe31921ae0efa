"""TrajSIM: how alike two motions are, whatever their place; also without knowing which point is
which.

FlexTraj reports it, for trajectories that do not lie on the object, without publishing code. All
variants here are our definition, chosen so that the magnitudes fit and named in the settings of
every result; they are not comparable to the digit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from tavid_jax.metrics import result

TINY = 1e-6  # floor of a product of norms: a point that stands still has no direction
ADDED = 1e-8  # to the product of norms of matched points
FAR = 0.1  # of the box's diagonal: farther points are not matched
STILL = 0.01  # of the box's diagonal: root mean square of what moves less does not count


def trajectory_similarity(
    prediction: Float[np.ndarray, "C N T 2"],
    truth: Float[np.ndarray, "C N T 2"],
    visibility: Bool[np.ndarray, "C N T"],
    *,
    of: Literal["path", "velocity"] = "path",
) -> dict[str, Any]:
    """TrajSIM of tracks that belong together, which a constant shift does not change.

    Our definition.

    Args:
      prediction, truth: pixels (x, y).
      visibility: samples that count.
      of: "path" compares a track's whole path relative to its frame 0 (one cosine a track);
        "velocity" the displacements between frames in which the point is visible (one cosine
        a track and frame, averaged over both).

    Returns:
      Record with `trajectory_similarity` in [-1, 1] (mean over all tracks of all clips that count),
      `per_clip` (C values), `n` cosines.
    """
    result.check_shapes(truth.shape, prediction=prediction)
    if of == "path":
        mask = visibility[..., None]
        moved = [np.where(mask, x - x[:, :, :1], 0).astype(np.float64) for x in (prediction, truth)]
        moved = [x.reshape(*x.shape[:2], -1) for x in moved]
        counted = visibility.any(axis=2)
    else:
        counted = visibility[:, :, 1:] & visibility[:, :, :-1]
        moved = [np.diff(x, axis=2).astype(np.float64) for x in (prediction, truth)]
        moved = [np.where(counted[..., None], x, 0) for x in moved]
    norms = np.linalg.norm(moved[0], axis=-1) * np.linalg.norm(moved[1], axis=-1)
    cosines = (moved[0] * moved[1]).sum(axis=-1) / np.maximum(norms, TINY)
    axes = tuple(range(1, cosines.ndim))
    totals, counts = np.where(counted, cosines, 0).sum(axis=axes), counted.sum(axis=axes)
    return result.record(
        {
            "trajectory_similarity": float(result.ratio(totals.sum(), counts.sum())),
            "per_clip": result.ratio(totals, counts),
        },
        n=counts.sum(),
        of=of,
        definition="tavid_jax",
    )


class SetSimilarity(NamedTuple):
    """TrajSIM of one clip's point sets; our definition.

    Attributes:
      value: mean of the cosines, in [-1, 1]; NaN if no point counts.
      cosines: of each condition point; NaN where it does not count.
      matched: share of the moving condition points that have a partner; NaN if none moves.
    """

    value: float
    cosines: Float[np.ndarray, " N"]
    matched: float


def set_similarity(
    condition: Float[np.ndarray, "N T 2"],
    condition_seen: Bool[np.ndarray, "N T"],
    generated: Float[np.ndarray, "M S 2"],
    generated_seen: Bool[np.ndarray, "M S"],
    *,
    same_points_of: tuple[int, int] | None = None,
    far: float | int = FAR,
    still: float | int = STILL,
) -> SetSimilarity:
    """TrajSIM of two foregrounds, of which nobody knows which point is which; our definition.

    Places and ways are measured in boxes: relative to the middle of the box around a set's points
    of frame 0, divided by its diagonal. Every condition point is compared with the generated point
    that lies nearest then: the cosine of their ways from frame 0, over the frames in which both are
    seen. A point that is not seen in frame 0 has no place and does not count.

    Args:
      condition, generated: px (x, y), each of a frame of its own.
      condition_seen, generated_seen: where these points are visible.
      same_points_of: (H, W) px of the frame if both sets are the same points in the same order:
        then nothing is matched, and ways are divided by the frame's diagonal.
      far: a point whose nearest one is farther away, in boxes, has no partner and is left out.
      still: a condition point whose way is less (root mean square over the frames in which it is
        seen, in boxes) is left out: it has no direction. What the generated point does, or whether
        it is lost, does not change what counts.

    Returns:
      The similarity; all NaN where a set has no box (fewer than two places in frame 0).

    Raises:
      ValueError: shapes that differ.
    """
    result.check_shapes(condition.shape[:2], condition_seen=condition_seen)
    result.check_shapes(generated.shape[:2], generated_seen=generated_seen)
    if condition.shape[1] != generated.shape[1]:
        raise ValueError(
            f"the condition has {condition.shape[1]} frames, the generated tracks "
            f"{generated.shape[1]}: cut both to the same frames"
        )
    cosines = np.full(len(condition), np.nan)
    sets = (condition, condition_seen), (generated, generated_seen)
    if same_points_of is not None:
        result.check_shapes(condition.shape, generated=generated)
        scales = [float(np.hypot(*same_points_of))] * 2
        partner = np.where(condition_seen[:, 0] & generated_seen[:, 0], np.arange(len(cosines)), -1)
    else:
        boxes = [_box(points[:, 0], seen[:, 0]) for points, seen in sets]
        if min(scale for _, scale in boxes) <= 0:
            return SetSimilarity(np.nan, cosines, np.nan)
        scales = [scale for _, scale in boxes]
        first = [(p[:, 0] - c) / s for (p, _), (c, s) in zip(sets, boxes, strict=True)]
        partner = _nearest(first[0], first[1], generated_seen[:, 0], far)
    ways = [(p.astype(np.float64) - p[:, :1]) / s for (p, _), s in zip(sets, scales, strict=True)]
    moving = condition_seen[:, 0] & (_size(ways[0], condition_seen) >= still)
    counted = np.flatnonzero(moving & (partner >= 0))
    partners = partner[counted]
    both = condition_seen[counted] & generated_seen[partners]
    cosines[counted] = _cosines(ways[0][counted], ways[1][partners], both)
    value = float(cosines[counted].mean()) if len(counted) else np.nan
    return SetSimilarity(value, cosines, float(result.ratio(len(counted), moving.sum())))


def similarity_of_sets(clips: Sequence[SetSimilarity]) -> dict[str, Any]:
    """TrajSIM of a data set: the mean over its clips, all of the same weight; our definition.

    Returns:
      Record with `trajectory_similarity` in [-1, 1], `per_clip` (NaN where no point counts),
      `matched` (mean share of points with a partner), `n` clips that count.
    """
    values = np.array([clip.value for clip in clips], np.float64)
    matched = np.array([clip.matched for clip in clips], np.float64)
    return result.record(
        {
            "trajectory_similarity": result.finite_mean(values),
            "per_clip": values,
            "matched": result.finite_mean(matched),
        },
        n=np.isfinite(values).sum(),
        of="sets",
        definition="tavid_jax",
    )


def _box(
    places: Float[np.ndarray, "N 2"], seen: Bool[np.ndarray, " N"]
) -> tuple[Float[np.ndarray, "2"], float]:
    """Middle and diagonal of the box around the points that are seen; diagonal 0 of none."""
    if not seen.any():
        return np.zeros(2), 0.0
    low, high = places[seen].min(axis=0), places[seen].max(axis=0)
    return (low.astype(np.float64) + high) / 2, float(np.linalg.norm(high.astype(np.float64) - low))


def _nearest(
    points: Float[np.ndarray, "N 2"],
    others: Float[np.ndarray, "M 2"],
    allowed: Bool[np.ndarray, " M"],
    far: float | int,
) -> np.ndarray:
    """Which of the allowed others lies nearest to each point; -1 where that is too far."""
    numbers = np.flatnonzero(allowed)
    found = np.full(len(points), -1)
    for i, point in enumerate(points):  # one row at a time: thousands of points on either side
        distances = np.linalg.norm(others[numbers] - point, axis=1)
        best = distances.argmin()
        if distances[best] <= far:
            found[i] = numbers[best]
    return found


def _size(ways: Float[np.ndarray, "N T 2"], seen: Bool[np.ndarray, "N T"]) -> np.ndarray:
    """Root mean square of each way over the frames in which the point is seen."""
    squares = np.where(seen, np.square(ways).sum(axis=-1), 0).sum(axis=1)
    return np.sqrt(squares / np.maximum(seen.sum(axis=1), 1))


def _cosines(
    first: Float[np.ndarray, "K T 2"],
    second: Float[np.ndarray, "K T 2"],
    both: Bool[np.ndarray, "K T"],
) -> Float[np.ndarray, " K"]:
    first, second = (np.where(both[..., None], x, 0) for x in (first, second))
    norms = [np.sqrt(np.square(x).sum(axis=(1, 2))) for x in (first, second)]
    return (first * second).sum(axis=(1, 2)) / (norms[0] * norms[1] + ADDED)
