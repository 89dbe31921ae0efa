"""Contact score and target alignment: does the actor touch the target, and the right one.

TAViD reports a detector-based contact score without publishing its definition. This one is ours
(settings named in the result, values not comparable to the digit): the region of the actor, grown
by a little, must cover a share of the target in several successive frames. Where regions come from
(a detector, a tracker, a synthetic scene) is not the business of these functions, but each result
names it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float, Int, Num

from tavid_jax.metrics import result

Which = Literal["first", "last"]


@dataclasses.dataclass(frozen=True)
class ContactRule:
    """What counts as contact.

    Attributes:
      frames: least number of successive frames.
      overlap: least share of the target (of its area in its first frame) that the actor covers.
      reach: how far the actor's region is grown, as a share of the frame's short side; at least
        one pixel, for two silhouettes of one picture never share any. The default finds the
        contact of all of 300 synthetic interactions, up to six frames early, while the actor is
        slowing down (and one passing of a look-alike in 462); 0.01 misses one contact in 20.
    """

    frames: int = 3
    overlap: float = 0.01
    reach: float = 0.03

    def __post_init__(self):
        if self.frames < 1 or not 0 < self.overlap <= 1 or not 0 <= self.reach < 1:
            raise ValueError(
                f"ContactRule: frames={self.frames}, overlap={self.overlap}, reach={self.reach}; "
                "needed are frames >= 1, overlap in (0, 1], reach in [0, 1)"
            )

    def radius(self, size_hw: tuple[int, int]) -> int:
        """By how many pixels the actor is grown in frames of this size."""
        return max(1, round(self.reach * min(size_hw)))


RULE = ContactRule()


def region_of_boxes(
    boxes: Sequence[Num[np.ndarray, "_ 4"]], size_hw: tuple[int, int]
) -> Bool[np.ndarray, "T H W"]:
    """The pixels that lie in any box of their frame.

    Args:
      boxes: per frame (x0, y0, x1, y1) in px, edges of pixels: a pixel belongs to a box that holds
        its centre, x + 1/2.
      size_hw: of the frames.
    """
    height, width = size_hw
    region = np.zeros((len(boxes), height, width), bool)
    for frame, found in zip(region, boxes, strict=True):
        for x0, y0, x1, y1 in np.asarray(found, np.float64):
            left, top, right, bottom = (max(0, int(np.ceil(v - 0.5))) for v in (x0, y0, x1, y1))
            frame[top:bottom, left:right] = True
    return region


def grow(region: Bool[np.ndarray, "H W"], radius: int) -> Bool[np.ndarray, "H W"]:
    """The pixels within `radius` px (Euclidean, centre to centre) of a region."""
    grown = region.copy()
    ys, xs = np.nonzero(region)
    if radius < 1 or not len(ys):
        return grown
    # Only what lies near the region is looked at.
    height, width = region.shape
    top, bottom = max(0, ys.min() - radius), min(height, ys.max() + radius + 1)
    left, right = max(0, xs.min() - radius), min(width, xs.max() + radius + 1)
    near, out = region[top:bottom, left:right], grown[top:bottom, left:right]
    rows = len(near)
    for dy in range(-min(radius, rows - 1), min(radius, rows - 1) + 1):
        reach = int(np.sqrt(radius**2 - dy**2))
        wide = _widen(near, reach)
        out[max(0, dy) : rows + min(0, dy)] |= wide[max(0, -dy) : rows - max(0, dy)]
    return grown


def _widen(region: Bool[np.ndarray, "H W"], reach: int) -> Bool[np.ndarray, "H W"]:
    """Grown along the rows: by running counts, whatever the reach."""
    width = region.shape[1]
    counts = np.zeros((len(region), width + 1), np.int64)
    np.cumsum(region, axis=1, out=counts[:, 1:])
    columns = np.arange(width)
    first, last = np.maximum(columns - reach, 0), np.minimum(columns + reach + 1, width)
    return counts[:, last] > counts[:, first]


def overlaps(
    actor: Bool[np.ndarray, "T H W"],
    target: Bool[np.ndarray, "_ _ _"],
    rule: ContactRule = RULE,
) -> Float[np.ndarray, " T"]:
    """Share of the target that the grown actor covers in each frame, in [0, ...].

    The target's area is that of its first frame, so that a sliver of a target that is nearly hidden
    or lost does not count as all of it. A target that is nowhere seen in a frame is not touched
    there.

    Raises:
      ValueError: two sizes, or a target that is empty in frame 0.
    """
    result.check_shapes(actor.shape, target=target)
    area = int(target[0].sum())
    if not area:
        raise ValueError("the target's mask is empty in frame 0: there is nothing to touch")
    radius = rule.radius(actor.shape[1:])
    shared = [(grow(a, radius) & b).sum() for a, b in zip(actor, target, strict=True)]
    return np.array(shared, np.float64) / area


def contact_frames(
    shares: Float[np.ndarray, "*K T"], rule: ContactRule = RULE
) -> Bool[np.ndarray, "*K T"]:
    """Frames that belong to a contact: in a run of at least `rule.frames` touching ones."""
    touching = shares >= rule.overlap
    length, need = touching.shape[-1], rule.frames
    held = np.zeros_like(touching)
    if length < need:
        return held
    starts = np.lib.stride_tricks.sliding_window_view(touching, need, axis=-1).all(-1)
    for offset in range(need):
        held[..., offset : offset + length - need + 1] |= starts
    return held


def first_contact(
    shares: Float[np.ndarray, "*K T"], rule: ContactRule = RULE
) -> Int[np.ndarray, "*K"]:
    """Frame in which the first contact begins; -1 where there is none."""
    held = contact_frames(shares, rule)
    return np.where(held.any(-1), held.argmax(-1), -1)


def contact_score(
    shares: Sequence[Float[np.ndarray, " _"]],
    rule: ContactRule = RULE,
    *,
    actor: str,
    target: str,
) -> dict[str, Any]:
    """Contact score: share of clips in which the actor touches the target.

    Args:
      shares: `overlaps` of each clip, of any lengths.
      rule: what counts.
      actor: what found the actor's region, e.g. "owlvit-base-patch32".
      target: what found the target's region in each frame, e.g. a tracker's fingerprint.

    Returns:
      Record with `contact_score` in [0, 1] (NaN without clips), `per_clip` (0 or 1),
      `first_frame` (-1: none), `n` clips.
    """
    first = [int(first_contact(clip, rule)) for clip in shares]
    success = np.array([frame >= 0 for frame in first], np.float64)
    return result.record(
        {
            "contact_score": float(result.ratio(success.sum(), len(success))),
            "per_clip": success,
            "first_frame": first,
        },
        n=len(first),
        **_settings(rule, actor, target),
    )


def touched(
    shares: Float[np.ndarray, "K T"], rule: ContactRule = RULE, which: Which = "first"
) -> int:
    """Which of K candidates is touched first, or at the end; -1 if none is.

    "first": the one whose contact begins first; "last": the one whose contact reaches farthest
    towards the end. Of several at once the one that is covered more, over all frames of contact.
    """
    held = contact_frames(shares, rule)
    if not held.any():
        return -1
    if which == "first":
        time = np.where(held.any(-1), held.argmax(-1), held.shape[-1])
        best = time == time.min()
    else:
        time = np.where(held, np.arange(held.shape[-1]), -1).max(-1)
        best = time == time.max()
    covered = np.where(held, shares, 0).sum(-1)
    return int(np.argmax(np.where(best, covered, -1)))


def target_alignment(
    shares: Sequence[Float[np.ndarray, "_ _"]],
    targets: Sequence[int],
    rule: ContactRule = RULE,
    *,
    which: Which = "first",
    actor: str,
    target: str,
) -> dict[str, Any]:
    """Target-alignment rate: is the object that is touched the one that was masked.

    Args:
      shares: per clip `overlaps` of each candidate, (K, T) of any sizes; one candidate is no
        choice.
      targets: index of the masked one among each clip's candidates.
      rule: what counts as contact.
      which: judged is the object that is touched "first", or "last".
      actor, target: see `contact_score`.

    Returns:
      Record with `target_alignment` (share of all clips), `of_touching` (share of the clips in
      which any candidate is touched; NaN without one), `touching` (their number), `touched` (per
      clip the index, -1: none), `chance` (mean of 1 / K), `n` clips.

    Raises:
      ValueError: a clip with fewer than two candidates, or whose target is none of them.
    """
    for clip, (share, index) in enumerate(zip(shares, targets, strict=True)):
        if len(share) < 2 or not 0 <= index < len(share):
            raise ValueError(
                f"clip {clip}: target {index} of {len(share)} candidates; at least two are needed "
                "and the target must be one of them"
            )
    chosen = [touched(share, rule, which) for share in shares]
    right = np.array([a == b for a, b in zip(chosen, targets, strict=True)], bool)
    any_touched = np.array(chosen, np.int64) >= 0
    chance = sum(1 / len(share) for share in shares)
    return result.record(
        {
            "target_alignment": float(result.ratio(right.sum(), len(right))),
            "of_touching": float(result.ratio(right.sum(), any_touched.sum())),
            "touching": any_touched.sum(),
            "touched": chosen,
            "chance": float(result.ratio(chance, len(right))),
        },
        n=len(right),
        which=which,
        **_settings(rule, actor, target),
    )


def _settings(rule: ContactRule, actor: str, target: str) -> dict[str, Any]:
    return {
        **dataclasses.asdict(rule),
        "actor": actor,
        "target": target,
        "definition": "tavid_jax",
    }
