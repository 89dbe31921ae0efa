"""How far entities are from the trajectories that their words are tied to; who swapped places.

TGT reports an EPE without defining it. Its text-only baseline lies at 265 px of an 832x480 frame,
two random points of which are 349 px apart on average, so entities must have been located by what
they show, not followed from where they should start. Both are here, as definitions of our own:
`epe_detect` and `epe_track`, micro averages over the visible (entity, frame) pairs of all clips,
in px of a stated resolution.

Letters: C clips, N entities (what only fills up a batch is visible nowhere), T frames.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.optimize import linear_sum_assignment

from tavid_jax.metrics import result
from tavid_jax.metrics.forecast import point_errors
from tavid_jax.metrics.trajerr import counted_samples

REFERENCE_HW = (480, 832)
# Where an entity counts as being that was not found: "centre" of the frame; "diagonal": as far away
# as the frame's corners are apart; "skip": nowhere, it is left out (and the rate alone tells).
Missing = Literal["centre", "diagonal", "skip"]
# px of the reference: targets nearer together than this cannot be swapped. A tenth of the diagonal.
MARGIN = 96.0


def epe_detect(
    found: Float[np.ndarray, "C N T 2"],
    target: Float[np.ndarray, "C N T 2"],
    visibility: Bool[np.ndarray, "C N T"],
    detected: Bool[np.ndarray, "C N"],
    *,
    size_hw: tuple[int, int],
    missing: Missing = "centre",
    reference_hw: tuple[int, int] = REFERENCE_HW,
    **about: Any,
) -> dict[str, Any]:
    """Mean distance of entities, located by their words, from their targets; our definition.

    Args:
      found: where each entity is in the generated video, px (x, y); a place that is not finite is
        one in which it was not found.
      target: the trajectories that were given, in the same px.
      visibility: of the targets: pairs that count.
      detected: entities that were found at all; the places of others are not read.
      size_hw: of the frame that the px refer to.
      missing: what an entity that was not found costs, see `Missing`.
      reference_hw: resolution in whose px errors are given; each axis is scaled by itself.
      **about: of the detector and the tracker, into the record.

    Returns:
      Record with `epe` (NaN when nothing counts), `per_clip` (C values), `pairs` (behind each of
      these), `of_found` (EPE of the pairs that were found alone), `missing` (share of the entities
      that were not detected), `missing_pairs` (share of the pairs without a place), `n` pairs.

    Raises:
      ValueError: shapes that do not belong together, an unknown `missing`.
    """
    if missing not in get_args(Missing):
        raise ValueError(f"missing={missing!r} is unknown; known: {', '.join(get_args(Missing))}")
    result.check_shapes(target.shape[:3], visibility=visibility)
    result.check_shapes(target.shape[:2], detected=detected)
    there = detected[..., None] & np.isfinite(found).all(axis=-1)
    errors = point_errors(*(_scaled(xy, size_hw, reference_hw) for xy in (found, target)))
    counted = visibility & there if missing == "skip" else visibility
    if missing == "centre":
        middle = np.broadcast_to((np.array(size_hw[::-1]) - 1) / 2, target.shape)
        away = point_errors(*(_scaled(xy, size_hw, reference_hw) for xy in (middle, target)))
        errors = np.where(there, errors, away)
    elif missing == "diagonal":
        errors = np.where(there, errors, np.hypot(*reference_hw))
    shown = visibility.any(axis=-1)
    return _record(
        errors,
        counted,
        {
            "of_found": float(result.masked_mean(errors, visibility & there, axis=(0, 1, 2))),
            "missing": float(result.ratio((shown & ~detected).sum(), shown.sum())),
            "missing_pairs": float(result.ratio((visibility & ~there).sum(), visibility.sum())),
        },
        kind="detect",
        missing=missing,
        size_hw=size_hw,
        reference_hw=reference_hw,
        **about,
    )


def epe_track(
    found: Float[np.ndarray, "C N T 2"],
    target: Float[np.ndarray, "C N T 2"],
    visibility: Bool[np.ndarray, "C N T"],
    *,
    size_hw: tuple[int, int],
    reference_hw: tuple[int, int] = REFERENCE_HW,
    **about: Any,
) -> dict[str, Any]:
    """Mean distance of points, followed from where their targets start, from these; our definition.

    As Wan-Move judges: whatever is at the start of a trajectory is followed. It says nothing of
    what that is, and without an image to start from mostly how the background moves.

    Args:
      found: tracks of the generated video, each queried at its target's place in the first frame
        in which that is visible (`trajerr.query_frames`); places there and before do not count.
        Where a tracker loses a point its last place counts; NaN makes the clip NaN.
      target, visibility, size_hw, reference_hw, **about: see `epe_detect`.

    Returns:
      Record with `epe` (NaN when nothing counts), `per_clip` (C values), `pairs` (behind each of
      these), `n` pairs.

    Raises:
      ValueError: shapes that do not belong together.
    """
    result.check_shapes(target.shape[:3], visibility=visibility)
    errors = point_errors(*(_scaled(xy, size_hw, reference_hw) for xy in (found, target)))
    flat = visibility.reshape(-1, visibility.shape[-1])
    counted = counted_samples(flat).reshape(visibility.shape)
    return _record(
        errors, counted, {}, kind="track", size_hw=size_hw, reference_hw=reference_hw, **about
    )


class Matched(NamedTuple):
    """Entities handed out anew among targets of equal words."""

    found: Float[np.ndarray, "C N T 2"]
    detected: Bool[np.ndarray, "C N"]


def match_equals(
    found: Float[np.ndarray, "C N T 2"],
    target: Float[np.ndarray, "C N T 2"],
    visibility: Bool[np.ndarray, "C N T"],
    detected: Bool[np.ndarray, "C N"],
    labels: Int[np.ndarray, "C N"],
) -> Matched:
    """Hands entities of equal words out so that they lie nearest to their targets on the whole.

    Two of "a goldfish" cannot be told apart by their words: which one belongs to which trajectory
    is nobody's mistake. Within a clip and a label the assignment with the least sum of mean
    distances (over the frames in which the target is visible) is taken; an entity that was not
    detected costs more than any that was.

    Args:
      found, target, visibility, detected: see `epe_detect`.
      labels: equal numbers for equal words within a clip.

    Raises:
      ValueError: shapes that do not belong together.
    """
    result.check_shapes(target.shape[:3], visibility=visibility)
    result.check_shapes(target.shape[:2], detected=detected, labels=labels)
    out, there = found.copy(), detected.copy()
    for c in range(len(found)):
        for label in np.unique(labels[c]):
            group = np.flatnonzero((labels[c] == label) & visibility[c].any(axis=-1))
            if len(group) < 2:
                continue
            counted = np.broadcast_to(
                visibility[c, group], (len(group), *visibility[c, group].shape)
            )
            cost = _mean_distances(found[c, group], target[c, group], counted)
            cost[~detected[c, group]] = np.nan
            known = np.isfinite(cost)
            cost = np.where(known, cost, 1 + len(group) * cost.max(initial=0.0, where=known))
            rows, columns = linear_sum_assignment(cost)
            out[c, group[columns]] = found[c, group[rows]]
            there[c, group[columns]] = detected[c, group[rows]]
    return Matched(out, there)


def identity_swaps(
    found: Float[np.ndarray, "C N T 2"],
    target: Float[np.ndarray, "C N T 2"],
    visibility: Bool[np.ndarray, "C N T"],
    detected: Bool[np.ndarray, "C N"],
    *,
    size_hw: tuple[int, int],
    labels: Int[np.ndarray, "C N"] | None = None,
    margin: float | int = MARGIN,
    reference_hw: tuple[int, int] = REFERENCE_HW,
    **about: Any,
) -> dict[str, Any]:
    """Share of the entities that follow the trajectory of another one; our definition.

    Entity n and another target m are compared over the frames in which both targets are visible
    and the entity has a place. The pair counts if the two targets lie at least `margin` apart there
    on average, and have different words. Entity n is swapped if for any pair that counts its mean
    distance to target m is smaller than that to its own; two entities for which that holds both
    ways are exchanged. Entities without a pair that counts, as those alone in their clip, and those
    that were not detected are not judged; the latter are counted apart.

    Args:
      found, target, visibility, detected, size_hw, reference_hw, **about: see `epe_detect`.
      labels: equal numbers for equal words within a clip; None: all words differ.
      margin: px of `reference_hw`.

    Returns:
      Record with `swapped` (share of the judged entities, NaN when there are none), `per_clip`
      (share of a clip's), `judged` (behind each of these), `exchanged` (share of the judged pairs),
      `missing` (share of the entities that were not detected), `n` judged entities.

    Raises:
      ValueError: shapes that do not belong together.
    """
    result.check_shapes(target.shape[:3], visibility=visibility)
    result.check_shapes(target.shape[:2], detected=detected, labels=labels)
    places, goals = (_scaled(xy, size_hw, reference_hw) for xy in (found, target))
    names = np.arange(target.shape[1])[None] if labels is None else labels
    clips = target.shape[0]
    counted = np.zeros((clips, *2 * target.shape[1:2]), bool)
    nearer = np.zeros_like(counted)
    for c in range(clips):
        there = detected[c, :, None] & np.isfinite(places[c]).all(axis=-1)
        both = visibility[c, :, None] & visibility[c, None] & there[:, None]
        gap = _mean_distances(goals[c], goals[c], both)
        other = _mean_distances(places[c], goals[c], both)
        own = _mean_distances_to_own(places[c], goals[c], both)
        label = np.broadcast_to(names, target.shape[:2])[c]
        counted[c] = (label[:, None] != label) & (gap >= margin)
        nearer[c] = counted[c] & (other < own)
    judged, swapped = counted.any(axis=-1), nearer.any(axis=-1)
    pairs = np.triu(counted & counted.swapaxes(1, 2))
    shown = visibility.any(axis=-1)
    return result.record(
        {
            "swapped": float(result.ratio(swapped.sum(), judged.sum())),
            "per_clip": result.ratio(swapped.sum(axis=-1), judged.sum(axis=-1)),
            "judged": judged.sum(axis=-1),
            "exchanged": float(
                result.ratio((pairs & nearer & nearer.swapaxes(1, 2)).sum(), pairs.sum())
            ),
            "missing": float(result.ratio((shown & ~detected).sum(), shown.sum())),
        },
        n=judged.sum(),
        clips=clips,
        margin=margin,
        size_hw=size_hw,
        reference_hw=reference_hw,
        definition="tavid_jax",
        **about,
    )


def _scaled(
    xy: Float[np.ndarray, "*D 2"], size_hw: tuple[int, int], reference_hw: tuple[int, int]
) -> Float[np.ndarray, "*D 2"]:
    """Places in px of the reference, up to a shift that distances do not see."""
    shares = [reference_hw[1] / size_hw[1], reference_hw[0] / size_hw[0]]
    return xy.astype(np.float64) * np.array(shares)


def _mean_distances(
    places: Float[np.ndarray, "N T 2"],
    goals: Float[np.ndarray, "M T 2"],
    counted: Bool[np.ndarray, "N M T"],
) -> Float[np.ndarray, "N M"]:
    """Mean distance of every place from every goal over the frames that count; NaN without any."""
    shape = (*counted.shape, 2)
    pairs = np.broadcast_to(places[:, None], shape), np.broadcast_to(goals[None], shape)
    errors = point_errors(*pairs)
    return result.masked_mean(errors, counted & np.isfinite(errors), axis=-1)


def _mean_distances_to_own(
    places: Float[np.ndarray, "N T 2"],
    goals: Float[np.ndarray, "N T 2"],
    counted: Bool[np.ndarray, "N N T"],
) -> Float[np.ndarray, "N N"]:
    """Of each entity from its own goal, over the frames that count for each pair."""
    errors = np.broadcast_to(point_errors(places, goals)[:, None], counted.shape)
    return result.masked_mean(errors, counted, axis=-1)


def _record(
    errors: Float[np.ndarray, "C N T"],
    counted: Bool[np.ndarray, "C N T"],
    values: dict[str, Any],
    **settings: Any,
) -> dict[str, Any]:
    pairs = counted.sum(axis=(1, 2))
    return result.record(
        {
            "epe": float(result.masked_mean(errors, counted, axis=(0, 1, 2))),
            "per_clip": result.masked_mean(errors, counted, axis=(1, 2)),
            "pairs": pairs,
            **values,
        },
        n=pairs.sum(),
        clips=len(errors),
        definition="tavid_jax",
        **settings,
    )
