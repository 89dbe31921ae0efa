"""Where on an object its points lie, and how many there are.

The paper takes points from masks "by mask size" and gives no numbers. The rule here is ours: one
point, and one more for every `share` of the frame that the mask covers, at most `each` an object
and `total` a clip. The first point of an object lies where the mask is furthest from its edge (a
mask that the frame cuts has an edge there); every further one as far as can be from those before
it, among places that keep `core` of that distance from the edge.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int

from tavid_jax.tracks.trajectories import Trajectories


@dataclasses.dataclass(frozen=True)
class PointRule:
    """How many points objects have, and which objects count.

    Attributes:
      share: of the frame; a mask has one point more for each.
      each: most points of an object.
      total: most points of a clip.
      core: further points keep this share of the greatest distance from the edge.
      least: share of the frame; smaller masks are left out.
      most: share of the frame; larger masks are left out: background, not object.
      objects: most objects of a clip, the largest ones.
    """

    share: float | int = 0.01
    each: int = 10
    total: int = 40
    core: float | int = 0.3
    least: float | int = 0.0005
    most: float | int = 0.6
    objects: int = 40

    def __post_init__(self):
        if not (0 < self.share <= 1 and 0 <= self.core <= 1 and 0 <= self.least < self.most <= 1):
            raise ValueError(f"shares must lie between 0 and 1, and least below most: {self}")
        if min(self.each, self.total, self.objects) < 1:
            raise ValueError(f"each, total and objects must be at least 1: {self}")

    def counts(self, shares: Sequence[float]) -> list[int]:
        """Points of each object of a clip.

        Where the clip's total would be passed, the object with most points gives one up, again and
        again (the later of equals first); more objects than that keep one point for the first.

        Args:
          shares: of the frame that each mask covers.
        """
        wanted = [min(self.each, 1 + int(share / self.share + 1e-9)) for share in shares]
        while sum(wanted) > self.total:
            most = max(wanted)
            wanted[len(wanted) - 1 - wanted[::-1].index(most)] -= 1
        return wanted


def edge_distance(mask: Bool[np.ndarray, "H W"]) -> Float[np.ndarray, "H W"]:
    """How far each pixel of a mask lies from the nearest one outside it or the frame; px."""
    padded = np.pad(mask.astype(np.uint8), 1)
    return cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]


def own_parts(masks: Bool[np.ndarray, "S H W"]) -> Bool[np.ndarray, "S H W"]:
    """Each mask without what others cover too; a mask that they cover all of stays whole."""
    alone = masks & (masks.sum(axis=0) == 1)
    return np.where(alone.any(axis=(1, 2))[:, None, None], alone, masks)


def place(
    mask: Bool[np.ndarray, "H W"], count: int, core: float | int = 0.3
) -> Float[np.ndarray, "n 2"]:
    """(x, y) of at most `count` pixels of a mask, see the module; the same in every run.

    Fewer where the core holds fewer pixels; none in an empty mask.
    """
    rows, columns = np.nonzero(mask)
    xy = np.stack([columns, rows], axis=-1).astype(np.float32)
    return xy[choose(xy, edge_distance(mask)[rows, columns], count, core)]


def place_among(
    xy: Float[np.ndarray, "M 2"],
    mask: Bool[np.ndarray, "H W"],
    count: int,
    core: float | int = 0.3,
) -> Int[np.ndarray, " n"]:
    """As `place`, but indices of points that are there already (places of tracks in frame 0)."""
    height, width = mask.shape
    columns, rows = np.rint(xy).astype(int).T
    inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
    inside[inside] = mask[rows[inside], columns[inside]]
    held = np.flatnonzero(inside)
    distance = edge_distance(mask)[rows[held], columns[held]]
    return held[choose(xy[held], distance, count, core)]


def choose(
    xy: Float[np.ndarray, "M 2"],
    distance: Float[np.ndarray, " M"],
    count: int,
    core: float | int,
) -> Int[np.ndarray, " n"]:
    """The one with the greatest distance, then again and again the furthest from those chosen."""
    if not len(xy) or count < 1:
        return np.zeros(0, np.int64)
    chosen = [int(distance.argmax())]
    eligible = distance >= core * distance[chosen[0]]
    gap = np.linalg.norm(xy - xy[chosen[0]], axis=-1)
    while len(chosen) < count:
        gap = np.where(eligible, gap, -1.0)
        furthest = int(gap.argmax())
        if gap[furthest] < 1.0:  # px: a second point there would be the same one
            break
        chosen.append(furthest)
        gap = np.minimum(gap, np.linalg.norm(xy - xy[furthest], axis=-1))
    return np.array(chosen, np.int64)


def sparse(trajectories: Trajectories, most: int = 5) -> Trajectories:
    """One point of each object: its first, which is furthest from the edge.

    Of more than `most` objects those stay that are seen in most frames (the earlier of equals), in
    their order. Points of no object are left out.

    Args:
      trajectories: with segments.
      most: objects.

    Raises:
      ValueError: no segments.
    """
    if trajectories.segment is None:
        raise ValueError("these trajectories have no segments: which point is whose is not known")
    numbers = [k for k in np.unique(trajectories.segment) if k > 0]
    first = np.array([np.flatnonzero(trajectories.segment == k)[0] for k in numbers], np.int64)
    seen = trajectories.visibility[first].sum(axis=1)
    return trajectories.take(first[np.sort(np.argsort(-seen, kind="stable")[:most])])
