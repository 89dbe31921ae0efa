"""Fewer points, or points in fewer frames: what is left out becomes invisible, ids stay.

Choices of points and of frames are masks, made here and applied by `keep`. Shares are of all
points (frames), whether visible or not.
"""

import numpy as np
from jaxtyping import Bool, Float, Int

from tavid_jax.tracks.codes import segments_at
from tavid_jax.tracks.trajectories import Trajectories

BORDER = 20  # px at the left and right in which a mask counts as background


def keep(
    trajectories: Trajectories,
    points: Bool[np.ndarray, " N"] | None = None,
    frames: Bool[np.ndarray, " T"] | None = None,
) -> Trajectories:
    """Hides all other points, and all points in other frames; None keeps all."""
    visibility = trajectories.visibility
    if points is not None:
        visibility = visibility & points[:, None]
    if frames is not None:
        visibility = visibility & frames
    return trajectories.replace(visibility=visibility)


def random_points(
    count: int, share: float | int, rng: np.random.Generator
) -> Bool[np.ndarray, " N"]:
    """int(count * share) of the points, at least one, each as likely as another.

    Raises:
      ValueError: a share outside (0, 1].
    """
    _check_share(share)
    chosen = np.zeros(count, bool)
    chosen[rng.permutation(count)[: max(1, int(count * share))]] = True
    return chosen


def points_of_each(
    segment: Int[np.ndarray, " N"], share: float | int, rng: np.random.Generator
) -> Bool[np.ndarray, " N"]:
    """A random share of the points of every segment, at least one of each: max(1, int(n share))
    of its n points.

    Raises:
      ValueError: a share outside of (0, 1].
    """
    kept = np.zeros(len(segment), bool)
    for number in np.unique(segment):
        mine = np.flatnonzero(segment == number)
        kept[mine[random_points(len(mine), share, rng)]] = True
    return kept


def region_points(
    coarse: Int[np.ndarray, " N"],
    fine: Int[np.ndarray, " N"],
    share: float | int,
    rng: np.random.Generator,
) -> Bool[np.ndarray, " N"]:
    """Of each coarse segment int(its points * share), filled up by whole fine segments.

    Args:
      coarse: each point's segment among large regions (0, in none, counts as one).
      fine: each point's segment among small regions, likewise; taken in random order, the last one
        that is taken in part.

    Raises:
      ValueError: a share outside (0, 1].
    """
    _check_share(share)
    chosen = np.zeros(len(coarse), bool)
    for region in np.unique(coarse):
        members = np.flatnonzero(coarse == region)
        parts = np.unique(fine[members])
        turn = np.empty(len(parts), int)
        turn[rng.permutation(len(parts))] = np.arange(len(parts))
        # Stable: within a fine segment points stay in array order.
        by_part = np.argsort(turn[np.searchsorted(parts, fine[members])], kind="stable")
        chosen[members[by_part][: int(len(members) * share)]] = True
    return chosen


def foreground_points(
    xy: Float[np.ndarray, "N 2"], masks: Bool[np.ndarray, "S H W"], share: float | int
) -> Bool[np.ndarray, " N"]:
    """Points in the most object-like masks: whole ones until they fill `share` of the frame.

    Args:
      xy: positions in the masks' frame.
      masks: see `mask_scores`.

    Raises:
      ValueError: a share outside (0, 1].
    """
    _check_share(share)
    best = np.argsort(-mask_scores(masks), kind="stable")
    area = np.cumsum(masks[best].mean(axis=(1, 2)))
    enough = int(np.searchsorted(area, share)) + 1
    return segments_at(xy, masks[best[:enough]]) > 0


def mask_scores(masks: Bool[np.ndarray, "S H W"], border: int = BORDER) -> Float[np.ndarray, " S"]:
    """How much each mask looks like an object in front: 0.6 * away + 0.4 * area; empty: -1.

    area: share of the frame. away: 1 - share of the strips of `border` px at the left and right.
    """
    border = min(border, max(1, masks.shape[2] // 2))
    strips = np.concatenate([masks[..., :border], masks[..., -border:]], axis=-1)
    area, touching = masks.mean(axis=(1, 2)), strips.mean(axis=(1, 2))
    return np.where(area > 0, 0.6 * (1 - touching) + 0.4 * area, -1.0)


def uniform_frames(count: int, share: float | int) -> Bool[np.ndarray, " T"]:
    """max(2, int(count * share)) frames at even distances, the first and the last among them.

    Raises:
      ValueError: a share outside [0, 1].
    """
    chosen = np.zeros(count, bool)
    chosen[np.linspace(0, count - 1, _frames_kept(count, share)).astype(int)] = True
    return chosen


def random_frames(
    count: int, share: float | int, rng: np.random.Generator
) -> Bool[np.ndarray, " T"]:
    """As many frames as `uniform_frames`: the first, the last, and any others.

    Raises:
      ValueError: a share outside [0, 1].
    """
    chosen = np.zeros(count, bool)
    chosen[[0, -1]] = True
    between = rng.permutation(np.arange(1, count - 1))
    chosen[between[: _frames_kept(count, share) - 2]] = True
    return chosen


def _frames_kept(count, share):
    if not 0 <= share <= 1:
        raise ValueError(f"share of frames must be in [0, 1], got {share}")
    return max(2, int(count * share))


def _check_share(share):
    if not 0 < share <= 1:
        raise ValueError(f"share of points must be above 0 and at most 1, got {share}")
