"""Which clips show an interaction: the actor is seen and apart from the target at first, and
touches it later.

Where a clip has a map of the objects in every frame (synthetic scenes) that is what is judged.
Otherwise the masks of frame 0 are carried through the video by the tracker, and without a mask of
the actor the judgement rests on single points and is coarse: see `select`.
"""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
from jaxtyping import Bool, Float

from tavid_jax.data.carry import carry_masks, enlarged
from tavid_jax.data.clip import Clip
from tavid_jax.data.tracker import DISTracker, Tracker
from tavid_jax.data.verdicts import Verdict
from tavid_jax.data.video import scale_points


@dataclasses.dataclass(frozen=True)
class Rule:
    """What an interaction is; lengths are shares of the frame's shorter side.

    Attributes:
      actor_share: least share of frame 0 that the actor covers.
      target_share: most that the target covers.
      reach: masks that come so near (at least 2 px, between the centres of pixels) touch.
      hold: frames in a row that a contact lasts at least.
      motion: less motion (at least 0.75 px) is none.
    """

    actor_share: float | int = 0.002
    target_share: float | int = 0.6
    reach: float | int = 0.02
    hold: int = 3
    motion: float | int = 0.01

    def reach_px(self, size_hw: tuple[int, int]) -> float:
        """`reach` in px of frames of a size."""
        return max(2.0, self.reach * min(size_hw))

    def motion_px(self, size_hw: tuple[int, int]) -> float:
        """`motion` in px of frames of a size."""
        return max(0.75, self.motion * min(size_hw))


_FINE = 24  # points along the shorter side where motion is looked for
_COARSE = 16  # a clip's own tracks will do if they are so many


def select(
    clip: Clip,
    rule: Rule = Rule(),  # noqa: B008 (frozen)
    tracker: Tracker = DISTracker(),  # noqa: B008 (frozen)
    masks: Bool[np.ndarray, "S T H W"] | None = None,
) -> Verdict:
    """Whether a clip shows its actor coming to its target and touching it.

    Kept are clips in which target and actor are seen in frame 0 and are apart, something moves,
    the two touch later for some frames in a row, and until then the actor moves more than the
    target, so that it is the actor who comes (motion of the camera is taken off).

    Without an actor a moving thing is one of the points on a grid (the clip's own tracks if they
    are dense, else 24 along the shorter side): it starts away from the target, moves by more than
    two reaches, and comes to within a reach and half of the grid's spacing of it. That is coarse.
    It cannot tell an actor from anything else that moves, hands that are narrower than the spacing
    are missed, and the frame of the contact is early.

    Args:
      clip: with masks and a target; with a segment map or a video.
      rule: the bounds.
      tracker: follows masks and points.
      masks: what `follow` gives for this clip, if that is there already.

    Raises:
      ValueError: neither a segment map nor a video.
    """
    frame = clip.size_hw[0] * clip.size_hw[1]
    if clip.masks is None or clip.target < 1:
        return Verdict(False, "no target mask")
    target, actor = (_first(clip, number) for number in (clip.target, clip.actor))
    if not target.any():
        return Verdict(False, "the target is not seen in frame 0")
    if target.sum() > rule.target_share * frame:
        share = target.sum() / frame
        return Verdict(False, f"the target covers {share:.0%} of the frame, at most "
                              f"{rule.target_share:.0%} are wanted")  # fmt: skip
    if clip.actor > 0 and actor.sum() < rule.actor_share * frame:
        share = actor.sum() / frame
        return Verdict(False, f"the actor is not seen in frame 0: it covers {share:.2%}, at least "
                              f"{rule.actor_share:.2%} are wanted")  # fmt: skip
    masks = follow(clip, tracker) if masks is None else masks
    points = _points(clip, tracker)
    if clip.actor > 0:
        return _by_masks(clip, rule, masks, points)
    return _by_points(clip, rule, masks[0], points)


def follow(clip: Clip, tracker: Tracker = DISTracker()) -> Bool[np.ndarray, "S T H W"]:  # noqa: B008
    """Masks of the target and, if there is one, the actor, in every frame.

    The true ones of what is seen if the clip has a segment map, else those that `carry` gives.

    Raises:
      ValueError: neither a segment map nor a video, or an empty mask to carry.
    """
    numbers = [number for number in (clip.target, clip.actor) if number > 0]
    if clip.segment_map is not None:
        return np.stack([clip.segment_map == number for number in numbers])
    if clip.video is None:
        raise ValueError(f"clip {clip.id!r} has neither a segment map nor a video to select by")
    return carry_masks(clip.video, clip.masks[[number - 1 for number in numbers]], tracker)


def _first(clip: Clip, number: int) -> Bool[np.ndarray, "H W"] | None:
    """Mask of an object in frame 0; None for no object."""
    if number < 1:
        return None
    return clip.masks[number - 1] if clip.segment_map is None else clip.segment_map[0] == number


@dataclasses.dataclass(frozen=True)
class _Points:
    """Points on a grid of frame 0 and their motion.

    Attributes:
      xy: (x, y) px.
      seen: in which frames.
      spacing: px between neighbours at first.
    """

    xy: Float[np.ndarray, "N T 2"]
    seen: Bool[np.ndarray, "N T"]
    spacing: float

    def shift(self, at: int, apart: Bool[np.ndarray, " N"]) -> Float[np.ndarray, "2"]:
        """Motion of the ground until a frame: the median of points that belong to no object."""
        some = apart & self.seen[:, at]
        return (
            np.median((self.xy[:, at] - self.xy[:, 0])[some], axis=0)
            if some.any()
            else 0.0 * (self.xy[0, 0])
        )

    def greatest_motion(self) -> float:
        """Of any seen point, in px."""
        moved = np.linalg.norm(self.xy - self.xy[:, :1], axis=-1)
        return float(np.where(self.seen, moved, 0.0).max())


def _points(clip: Clip, tracker: Tracker) -> _Points:
    """The clip's own tracks, or new ones where they are too few to find an unknown actor."""
    height, width = clip.size_hw
    if clip.tracks is not None:
        spacing = float(np.sqrt(height * width / len(clip.tracks)))
        if clip.actor > 0 or clip.video is None or spacing <= min(height, width) / _COARSE:
            seen = clip.visibility
            seen = np.ones(clip.tracks.shape[:2], bool) if seen is None else seen
            return _Points(clip.tracks.astype(np.float64), seen, spacing)
    spacing = max(1.0, min(height, width) / _FINE)
    x = np.arange(spacing / 2 - 0.5, width - 0.5, spacing)
    y = np.arange(spacing / 2 - 0.5, height - 0.5, spacing)
    query = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    video = enlarged(clip.video)
    tracks, seen = tracker(video, scale_points(query, clip.size_hw, video.shape[1:3]))
    tracks = scale_points(tracks, video.shape[1:3], clip.size_hw)
    return _Points(tracks.astype(np.float64), seen, spacing)


def _by_masks(
    clip: Clip, rule: Rule, masks: Bool[np.ndarray, "S T H W"], points: _Points
) -> Verdict:
    reach = rule.reach_px(clip.size_hw)
    gaps = np.array([_gap(*pair) for pair in zip(*masks, strict=True)])
    near = gaps <= reach
    if near[0]:
        if near[-1]:
            return Verdict(False, "actor and target touch in frame 0 already")
        return Verdict(False, "actor and target touch in frame 0 and are apart at the end, as if "
                              "played backwards")  # fmt: skip
    moved = max(np.linalg.norm(_moved(m, t)) for m in masks for t in range(len(m)) if m[t].any())
    if (still := _still(clip, rule, points)) and moved < rule.motion_px(clip.size_hw):
        return still
    contact = _run(near, rule.hold)
    if contact < 0:
        return Verdict(False, _no_contact(gaps, near, reach, rule.hold))
    # Within reach they may still approach: they touch when they are about as near as they get.
    nearest = gaps[contact : contact + np.argmin([*near[contact:], False])].min()
    contact += int(np.argmax(gaps[contact:] <= max(1.5, nearest + reach / 4)))
    apart = ~masks[:, 0].any(0)[_pixels(points.xy[:, 0], clip.size_hw)]
    ground = points.shift(contact, apart)
    target, actor = (np.linalg.norm(_moved(mask, contact) - ground) for mask in masks)
    if actor < max(rule.motion_px(clip.size_hw), target):
        return Verdict(False, f"not the actor comes to the target: until they touch it moves by "
                              f"{actor:.1f} px, the target by {target:.1f} px")  # fmt: skip
    return Verdict(True, f"they touch from frame {contact} on", contact)


def _by_points(
    clip: Clip, rule: Rule, target: Bool[np.ndarray, "T H W"], points: _Points
) -> Verdict:
    if still := _still(clip, rule, points):
        return still
    reach = rule.reach_px(clip.size_hw)
    near_px = reach + points.spacing / 2
    count = points.xy.shape[1]
    gaps = np.full(points.xy.shape[:2], np.inf)
    for t in range(count):
        gaps[:, t] = _distances(target[t])[_pixels(points.xy[:, t], clip.size_hw)]
    away = (gaps[:, 0] > near_px) & points.seen[:, 0]
    ground = np.stack([points.shift(t, away) for t in range(count)])
    moved = np.linalg.norm(points.xy - points.xy[:, :1] - ground, axis=-1) > 2 * reach
    coming = away[:, None] & moved & points.seen
    gaps = np.where(coming, gaps, np.inf).min(0)
    contact = _run(gaps <= near_px, rule.hold)
    if contact < 0:
        why = _no_contact(gaps, gaps <= near_px, near_px, rule.hold)
        return Verdict(False, f"no actor mask, and of what moves: {why}")
    return Verdict(True, f"something that moves is at the target from frame {contact} on", contact)


def _still(clip: Clip, rule: Rule, points: _Points) -> Verdict | None:
    if points.greatest_motion() >= rule.motion_px(clip.size_hw):
        return None
    return Verdict(False, "a still video: nothing moves")


def _no_contact(
    gaps: Float[np.ndarray, " T"], near: Bool[np.ndarray, " T"], reach: float, hold: int
) -> str:
    if near.any():
        longest = max(len(run) for run in "".join(" x"[int(one)] for one in near).split())
        return f"a contact of only {longest} frames in a row, {hold} are wanted"
    if not np.isfinite(gaps).any():
        return "nothing comes near the target"
    return f"no contact: at least {gaps.min():.1f} px apart, {reach:.1f} px count as touching"


def _run(near: Bool[np.ndarray, " T"], hold: int) -> int:
    """First frame of the first run of at least `hold` frames; -1 if there is none."""
    length = 0
    for t, one in enumerate(near):
        length = length + 1 if one else 0
        if length == hold:
            return t - hold + 1
    return -1


def _distances(mask: Bool[np.ndarray, "H W"]) -> Float[np.ndarray, "H W"]:
    """Px from every pixel to the nearest one of a mask; infinite if that is empty."""
    if not mask.any():
        return np.full(mask.shape, np.inf, np.float32)
    outside = (~mask).astype(np.uint8)
    return cv2.distanceTransform(outside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)


def _gap(one: Bool[np.ndarray, "H W"], other: Bool[np.ndarray, "H W"]) -> float:
    """Px between two masks, 0 if they overlap; infinite if one is empty."""
    return float(_distances(one)[other].min()) if one.any() and other.any() else np.inf


def _moved(mask: Bool[np.ndarray, "T H W"], at: int) -> Float[np.ndarray, "2"]:
    """How far the centre of a mask has moved until a frame, (x, y) px."""
    centres = [np.argwhere(mask[t]).mean(0)[::-1] for t in (0, at)]
    return centres[1] - centres[0]


def _pixels(xy: Float[np.ndarray, "N 2"], size_hw: tuple[int, int]) -> tuple:
    """(rows, columns) of the pixels under points; those outside the frame take its edge."""
    x, y = np.round(xy).astype(int).T
    return y.clip(0, size_hw[0] - 1), x.clip(0, size_hw[1] - 1)
