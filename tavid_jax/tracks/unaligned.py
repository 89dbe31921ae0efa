"""Points that do not fit the first frame: what training needs to learn motion without position.

Either one clip's own points, scaled or shifted, or the moving object's points of a partner clip:
the same motion, made by another actor.
"""

import cv2
import numpy as np
from jaxtyping import Bool, Int

from tavid_jax.tracks.codes import segments_at
from tavid_jax.tracks.sparsify import mask_scores
from tavid_jax.tracks.trajectories import Trajectories, TrajectoryError, joined_texts

MODES = ("released", "translate")
SHIFT_PX = (30, 49)  # of a frame 720 px wide
_WIDTH = 720
_LARGE = 0.2  # share of the frame from which an object is scaled rather than shifted


def unalign(
    trajectories: Trajectories,
    masks: Bool[np.ndarray, "S H W"] | None,
    scale: float | int,
    rng: np.random.Generator,
    mode: str = "released",
    background: float | int = 0.05,
    margin: int = 7,
) -> Trajectories:
    """Moves one clip's points away from its first frame.

    "released": if the most object-like mask (see `sparsify.mask_scores`) covers more than a fifth
    of the frame, its points are scaled about a random one of them, and few others stay visible;
    else, and without masks, all points are shifted sideways. "translate" always shifts (the paper).

    Args:
      masks: objects in the first frame.
      scale: factor of the scaling, along x, y or both, drawn with equal chance.
      background: share of the other points that stays visible beside a scaled object.
      margin: side of the square by which the mask is widened, in pixels.

    Raises:
      ValueError: an unknown mode, a scale that is not positive, or masks of another size.
    """
    if mode not in MODES:
        raise ValueError(f"no mode {mode!r}: use one of {', '.join(MODES)}")
    if not scale > 0:
        raise ValueError(f"scale must be above 0, got {scale}")
    members = np.zeros(trajectories.num_points, bool)
    if mode == "released" and masks is not None and len(masks):
        best = masks[int(np.argmax(mask_scores(masks)))]
        if best.mean() > _LARGE:
            members = _inside(trajectories, dilated(best, margin))
    if not members.any():
        return _shifted(trajectories, rng)
    centre = _path_of_one(trajectories.take(members), rng)
    axes = ((1, 0), (0, 1), (1, 1))[rng.integers(3)]
    factor = np.where(axes, scale, 1.0)
    moved = (centre + (trajectories.tracks[members] - centre) * factor).astype(np.float32)
    tracks = trajectories.tracks.copy()
    tracks[members] = moved
    stays = members | _some(~members, background, rng)
    return trajectories.replace(tracks=tracks, visibility=trajectories.visibility & stays[:, None])


def unaligned_pair(
    own: Trajectories,
    partner: Trajectories,
    own_mask: Bool[np.ndarray, "H W"],
    partner_mask: Bool[np.ndarray, "H W"],
    rng: np.random.Generator,
    background: float | int = 0.01,
    margin: int = 10,
) -> Trajectories:
    """The partner's object in place of one's own, over a little of one's own background.

    The partner's points are moved so that the bounding boxes of both objects have one centre (in
    whole pixels) in the first frame. Of one's own points only those count that start outside of
    both widened objects.

    Args:
      own, partner: the two clips' points.
      own_mask, partner_mask: their objects in the first frame.
      background: share of the background points that is kept.
      margin: side of the square by which masks are widened, in pixels.

    Returns:
      The partner's object (segments as there, 1 of 1 if it has none), then background (segment 0).

    Raises:
      TrajectoryError: clips of different length or size, or an empty mask.
      ValueError: a mask of another size than its trajectories.
    """
    for name in ("num_frames", "size_hw"):
        if getattr(own, name) != getattr(partner, name):
            raise TrajectoryError(
                f"{name}: own tracks have {getattr(own, name)}, the partner's "
                f"{getattr(partner, name)}"
            )
    shift = pair_shift(own_mask, partner_mask)
    front = partner.take(_inside(partner, partner_mask))
    if front.segment is None:
        front = front.replace(segment=np.ones(front.num_points, np.int32), segments=1)
    front = front.replace(tracks=front.tracks + shift.astype(np.float32))
    both = dilated(own_mask, margin) | dilated(_moved(partner_mask, shift), margin)
    back = own.take(_some(~_inside(own, both), background, rng))
    back = back.replace(segment=np.zeros(back.num_points, np.int32), segments=front.segments)
    changes = {}
    for name in ("tracks", "visibility", "depth", "segment", "colour"):
        parts = [getattr(front, name), getattr(back, name)]
        # What only one of them has cannot be said of both.
        changes[name] = None if any(p is None for p in parts) else np.concatenate(parts)
    return front.replace(texts=joined_texts(front, back), **changes)


def pair_shift(
    own_mask: Bool[np.ndarray, "H W"], partner_mask: Bool[np.ndarray, "H W"]
) -> Int[np.ndarray, " 2"]:
    """(x, y) px that bring the box of the partner's object to the centre of one's own.

    Raises:
      TrajectoryError: an empty mask.
    """
    return _box_centre(own_mask, "own") - _box_centre(partner_mask, "partner")


def _shifted(trajectories, rng):
    pixels = rng.integers(SHIFT_PX[0], SHIFT_PX[1] + 1) * rng.choice((-1, 1))
    shift = np.array([pixels * trajectories.size_hw[1] / _WIDTH, 0], np.float32)
    return trajectories.replace(tracks=trajectories.tracks + shift)


def _path_of_one(members, rng):
    """(T, 2) of a random one of those that are visible most often, interpolated between."""
    count = members.visibility.sum(axis=1)
    one = rng.choice(np.flatnonzero(count == count.max()))
    seen = np.flatnonzero(members.visibility[one])
    if not len(seen):
        return members.tracks[one]
    frames = np.arange(members.num_frames)
    return np.stack([np.interp(frames, seen, xy) for xy in members.tracks[one, seen].T], axis=-1)


def _some(of, share, rng):
    """A mask with int(share) of those that are True in `of`."""
    chosen = np.zeros(len(of), bool)
    chosen[rng.permutation(np.flatnonzero(of))[: int(of.sum() * share)]] = True
    return chosen


def _inside(trajectories, mask):
    """Points whose first position lies in the mask."""
    if mask.shape != tuple(trajectories.size_hw):
        raise ValueError(
            f"mask is {mask.shape}, the tracks are of {trajectories.size_hw}: resize it"
        )
    return segments_at(trajectories.tracks[:, 0], mask[None]) > 0


def dilated(mask: Bool[np.ndarray, "H W"], side: int) -> Bool[np.ndarray, "H W"]:
    """A mask widened by a square of `side` px."""
    return cv2.dilate(mask.astype(np.uint8), np.ones((side, side), np.uint8)) > 0


def _moved(mask, shift):
    """The mask shifted by whole pixels (x, y); what leaves the frame is lost."""
    rows, columns = np.nonzero(mask)
    rows, columns = rows + shift[1], columns + shift[0]
    height, width = mask.shape
    stays = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    moved = np.zeros_like(mask)
    moved[rows[stays], columns[stays]] = True
    return moved


def _box_centre(mask, whose):
    """(x, y) of the bounding box's centre, whole pixels."""
    if not mask.any():
        raise TrajectoryError(f"{whose}_mask is empty: it must show the object in the first frame")
    rows, columns = np.nonzero(mask)
    return np.array([columns.min() + columns.max(), rows.min() + rows.max()]) // 2
