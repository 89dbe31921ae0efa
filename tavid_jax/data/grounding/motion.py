"""Which clips have motion worth learning from.

The paper keeps 2.4 of 5 million clips that are "rich in motion" and gives no rule. Ours: the way of
a point is the largest distance, while it is seen, from where it was seen first, as a share of the
frame's diagonal. A clip is kept if the median way of its points is at least `least`, one of them
goes `furthest`, and they are seen in at least `seen` of all (point, frame) places. With
`compensate` the camera's own motion is taken off first: a similarity fitted to points of the
background, robustly, from the first frame to every other.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Bool, Float

_FEWEST = 6  # points of the background that a similarity is fitted to
_ROUNDS = 10
_TUKEY = 4.685 * 1.4826


@dataclasses.dataclass(frozen=True)
class MotionRule:
    """What is motion enough; lengths are shares of the frame's diagonal.

    Attributes:
      least: median way of a clip's points.
      furthest: longest way among them.
      seen: share of (point, frame) places that are visible.
      compensate: whether ways are taken against the background instead of the frame.
    """

    least: float | int = 0.02
    furthest: float | int = 0.04
    seen: float | int = 0.5
    compensate: bool = False

    def __post_init__(self):
        if min(self.least, self.furthest) < 0 or not 0 <= self.seen <= 1:
            raise ValueError(f"lengths must not be negative, and seen lies in 0..1: {self}")


@dataclasses.dataclass(frozen=True)
class Motion:
    """What was measured.

    Attributes:
      median, furthest: way, as a share of the diagonal.
      seen: share of places.
      reason: why the clip is left out, "" = it is kept.
    """

    median: float
    furthest: float
    seen: float
    reason: str = ""


def judge(
    tracks: Float[np.ndarray, "N T 2"],
    visibility: Bool[np.ndarray, "N T"],
    size_hw: tuple[int, int],
    rule: MotionRule = MotionRule(),  # noqa: B008 (frozen)
    ground: tuple[Float[np.ndarray, "M T 2"], Bool[np.ndarray, "M T"]] | None = None,
) -> Motion:
    """Measures a clip and says whether it is kept.

    Args:
      tracks: (x, y) px.
      visibility: where they are seen; every point somewhere.
      size_hw: of the frame.
      rule: the bounds.
      ground: tracks of the background and where they are seen; needed to compensate.
    """
    seen = float(visibility.mean())
    if rule.compensate:
        moved = None if ground is None else camera(*ground)
        if moved is None:
            return Motion(0.0, 0.0, seen, "the camera's motion is not known: too few points of the "
                                          "background are seen")  # fmt: skip
        tracks = steadied(tracks, moved)
    ways = way(tracks, visibility) / np.hypot(*size_hw)
    median, furthest = float(np.median(ways)), float(ways.max())
    return Motion(median, furthest, seen, _reason(median, furthest, seen, rule))


def way(
    tracks: Float[np.ndarray, "N T 2"], visibility: Bool[np.ndarray, "N T"]
) -> Float[np.ndarray, " N"]:
    """Largest distance in px from where a point was seen first, while it is seen; 0 if never."""
    first = tracks[np.arange(len(tracks)), visibility.argmax(axis=1)]
    distance = np.linalg.norm(tracks - first[:, None], axis=-1)
    return np.where(visibility, distance, 0.0).max(axis=1)


def camera(
    tracks: Float[np.ndarray, "M T 2"], visibility: Bool[np.ndarray, "M T"]
) -> Float[np.ndarray, "T 2 3"] | None:
    """The similarity that takes places of frame 0 to those of every frame, by background points.

    A frame that shows too few of them has that of the frame before.

    Returns:
      [linear | shift] for each frame; None if the first frames show too few points.
    """
    moved = np.zeros((tracks.shape[1], 2, 3))
    moved[0, :, :2] = np.eye(2)
    if visibility[:, 0].sum() < _FEWEST:
        return None
    for t in range(1, len(moved)):
        both = visibility[:, 0] & visibility[:, t]
        if both.sum() >= _FEWEST:
            moved[t] = _similarity(tracks[both, 0], tracks[both, t])
        else:
            moved[t] = moved[t - 1]
    return moved


def steadied(
    tracks: Float[np.ndarray, "N T 2"], moved: Float[np.ndarray, "T 2 3"]
) -> Float[np.ndarray, "N T 2"]:
    """Tracks as the camera of frame 0 would see them."""
    inverse = np.linalg.inv(moved[..., :2])
    return np.einsum("tij,ntj->nti", inverse, tracks - moved[..., 2]).astype(np.float32)


def _similarity(before, after) -> Float[np.ndarray, "2 3"]:
    """Least squares with Tukey's weights, begun from the median shift."""
    before, after = before.astype(np.float64), after.astype(np.float64)
    fit = np.concatenate([np.eye(2), np.median(after - before, axis=0)[:, None]], axis=1)
    for _ in range(_ROUNDS):
        rest = np.linalg.norm(after - before @ fit[:, :2].T - fit[:, 2], axis=-1)
        bound = max(_TUKEY * np.median(rest), 0.5)  # px: below it nothing is an outlier
        weight = np.where(rest < bound, (1 - (rest / bound) ** 2) ** 2, 0.0)
        if weight.sum() < _FEWEST / 2:
            break
        fit = _weighted(before, after, weight)
    return fit


def _weighted(before, after, weight) -> Float[np.ndarray, "2 3"]:
    share = weight / weight.sum()
    middle, target = share @ before, share @ after
    x, y = (before - middle).T
    u, v = (after - target).T
    spread = share @ (x * x + y * y) + 1e-6
    a, b = share @ (x * u + y * v) / spread, share @ (x * v - y * u) / spread
    linear = np.array([[a, -b], [b, a]])
    if np.hypot(a, b) < 0.1:  # all points in one place tell a shift only
        linear = np.eye(2)
    return np.concatenate([linear, (target - linear @ middle)[:, None]], axis=1)


def _reason(median: float, furthest: float, seen: float, rule: MotionRule) -> str:
    if seen < rule.seen:
        return f"points are seen in {seen:.0%} of places, at least {rule.seen:.0%} are wanted"
    if median < rule.least:
        return (
            f"little motion: the median way is {median:.1%} of the diagonal, at least "
            f"{rule.least:.1%} is wanted"
        )
    if furthest < rule.furthest:
        return (
            f"little motion: the longest way is {furthest:.1%} of the diagonal, at least "
            f"{rule.furthest:.1%} is wanted"
        )
    return ""
