"""Fixed judge of toy videos with given trajectories: is what the words say where they say it is?

An object is found by its colour, frame by frame, and its place is the mean of its pixels; nothing
is learned or followed. A mean flatters a torn blob, whose middle is easily right: so what is
missing, swapped, spread too far or of other colours is told beside the error.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from tavid_jax.data.clip import Clip
from tavid_jax.data.segments import mask_centres, object_tracks
from tavid_jax.data.synthetic import judging
from tavid_jax.tracks.trajectories import Trajectories

# Values per video, see `Located`.
VALUES = ("epe", "swap", "missing", "colours", "clean", "spread")
BETTER = {
    "epe": "lower",
    "swap": "lower",
    "missing": "lower",
    "colours": "higher",
    "clean": "higher",
    "spread": "lower",
}
_MARGIN = 0.1  # of the frame's diagonal: targets nearer together than this cannot be swapped


class Goal(NamedTuple):
    """Where the S objects of a video should be.

    Attributes:
      colours: by which they are found.
      places: (x, y) px of `size_hw`.
      counts: frames in which an object should be seen; its place is not read in others.
      spread: px, root mean square distance of the true object's pixels from their mean; NaN where
        it is unknown.
      size_hw: of the frames.
    """

    colours: tuple[str, ...]
    places: Float[np.ndarray, "S T 2"]
    counts: Bool[np.ndarray, "S T"]
    spread: Float[np.ndarray, " S"]
    size_hw: tuple[int, int]


class Located(NamedTuple):
    """What was found in one video. A frame and an object count where the goal says so.

    Attributes:
      places: px where each object was found. Where its colour is absent it stays where it was last,
        or is where it will be first; the middle of the frame if it never is there.
      seen: frames in which its colour covers 1.5 % of the frame.
      epe: px between these places and the goal's, mean over all that counts; NaN if nothing does.
      swap: share of the found objects that are nearer to the path of another one; see `judge`. NaN
        if none can be.
      missing: share of the objects whose colour is absent in more than half of the frames that
        count; NaN if nothing counts.
      colours: 1.0 if the colours of all objects are there in 80 % of the frames that count, else
        0.0; NaN if nothing counts.
      clean: share of what is not background that has one of the named colours; 0.0 if all is
        background.
      spread: the objects' root mean square distance from their places over that of the true ones,
        mean over the frames that count and show them, then over objects: 1.0 if they are whole,
        less where something hides a part, more if they are torn. NaN if no object is found or its
        true spread is unknown.
    """

    places: Float[np.ndarray, "S T 2"]
    seen: Bool[np.ndarray, "S T"]
    epe: float
    swap: float
    missing: float
    colours: float
    clean: float
    spread: float


def goal_of(clip: Clip, trajectories: Trajectories | None = None) -> Goal:
    """Where the objects should be that a clip shows, or that its trajectories ask for.

    Args:
      clip: a true one, with tracks and masks; see `object_tracks`.
      trajectories: one per object, in the order of the clip's masks, each with a text such as "a
        red disc"; the clip's own if None.

    Raises:
      ClipError: a clip without objects.
      ValueError: no texts or texts of another form, or a colour that two of them name.
    """
    tracks = object_tracks(clip) if trajectories is None else trajectories
    if tracks.texts is None:
        raise ValueError(f"clip {clip.id!r}: its trajectories have no texts to be judged by")
    objects = [judging.expected_objects(text) for text in tracks.texts]
    if any(len(named) != 1 for named in objects):
        raise ValueError(f"clip {clip.id!r}: each text must name one object: {tracks.texts}")
    colours = tuple(named[0].colour for named in objects)
    if len(set(colours)) < len(colours):
        raise ValueError(f"objects of one colour cannot be told apart: {list(colours)}")
    spread = np.full(len(colours), np.nan)
    if clip.masks is not None and len(clip.masks) == len(colours):
        spread = _spread(clip.masks, mask_centres(clip.masks))
    places = tracks.tracks.astype(np.float64)
    return Goal(colours, places, tracks.visibility, spread, tracks.size_hw)


def judge(
    video: judging.Video, goal: Goal, *, colours: Sequence[str] = judging.JUDGED_COLOURS
) -> Located:
    """Looks for the objects of a goal in a video.

    An object is swapped if there is another one to whose path it is nearer than to its own: mean
    distances over the frames in which both goals count and the object is seen. Two goals that lie
    nearer together than a tenth of the frame's diagonal, in the mean over these frames, are not
    compared. Objects that are compared with none are left out.

    Args:
      video: uint8, or float in [-1, 1], of the goal's size and length.
      goal: from `goal_of`.
      colours: names of the palette that may occur, the goal's among them.

    Raises:
      ValueError: another size or length, unknown colours.
    """
    shape = (goal.places.shape[1], *goal.size_hw)
    if video.shape[:3] != shape:
        raise ValueError(f"a video of {video.shape[:3]} (frames, rows, columns), not of {shape}")
    unknown = sorted(set(goal.colours) - set(colours))
    if unknown:
        raise ValueError(f"the judge knows no colour {unknown}: use some of {sorted(colours)}")
    parts = judging.segment(video, tuple(colours))
    numbers = [list(colours).index(colour) for colour in goal.colours]
    masks = np.moveaxis(parts.masks[..., numbers], -1, 0)  # (S, T, H, W)
    seen = masks.mean((2, 3)) >= judging.LEAST_AREA
    places = _held(mask_centres(masks), seen, goal.size_hw)
    counts, shown = goal.counts, goal.counts.any(1)
    share = _mean(seen, counts)[shown]  # of the frames that count
    errors = np.linalg.norm(places - goal.places, axis=-1)
    spread = _mean(_spread(masks, places), counts & seen) / goal.spread
    foreground = parts.foreground.sum()
    return Located(
        places,
        seen,
        epe=float(_mean(errors.ravel(), counts.ravel())),
        swap=_swap(places, goal, seen),
        missing=_finite_mean((share < 0.5).astype(np.float64)),
        colours=float((share >= judging.SEEN_IN).all()) if len(share) else np.nan,
        clean=float(masks.any(0).sum() / max(foreground, 1)),
        spread=_finite_mean(spread),
    )


def values_of(judged: Sequence[Located]) -> dict[str, Float[np.ndarray, " C"]]:
    """Name of `VALUES` -> one value per video, NaN where nothing counts."""
    return {name: np.array([getattr(one, name) for one in judged]) for name in VALUES}


def _held(
    places: Float[np.ndarray, "S T 2"], seen: Bool[np.ndarray, "S T"], size_hw: tuple[int, int]
) -> Float[np.ndarray, "S T 2"]:
    """Places for all frames: the last one seen, or else the first, or else the middle."""
    frames = np.arange(seen.shape[1])
    last = np.maximum.accumulate(np.where(seen, frames, -1), axis=1)
    at = np.where(last >= 0, last, seen.argmax(1)[:, None])
    held = np.take_along_axis(places, at[..., None], axis=1)
    middle = (np.array(size_hw[::-1]) - 1) / 2.0
    return np.where(seen.any(1)[:, None, None], held, middle)


def _swap(places: Float[np.ndarray, "S T 2"], goal: Goal, seen: Bool[np.ndarray, "S T"]) -> float:
    """See `judge`."""
    both = goal.counts[:, None] & goal.counts[None] & seen[:, None]  # (S, S, T)
    to_goals = np.linalg.norm(places[:, None] - goal.places[None], axis=-1)
    to_own = np.linalg.norm(places - goal.places, axis=-1)[:, None]
    apart = np.linalg.norm(goal.places[:, None] - goal.places[None], axis=-1)
    compared = _mean(apart, both) >= _MARGIN * np.hypot(*goal.size_hw)
    nearer = compared & (_mean(to_goals, both) < _mean(np.broadcast_to(to_own, both.shape), both))
    return _finite_mean(np.where(compared.any(1), nearer.any(1), np.nan))


def _spread(
    masks: Bool[np.ndarray, "*B H W"], places: Float[np.ndarray, "*B 2"]
) -> Float[np.ndarray, "*B"]:
    """Root mean square distance in px of the pixels of each mask from a place; 0 without any."""
    x = np.arange(masks.shape[-1]) - places[..., :1]
    y = np.arange(masks.shape[-2]) - places[..., 1:]
    total = (masks.sum(-2) * x**2).sum(-1) + (masks.sum(-1) * y**2).sum(-1)
    return np.sqrt(total / np.maximum(masks.sum((-2, -1)), 1))


def _mean(values: np.ndarray, counts: Bool[np.ndarray, "*B n"]) -> Float[np.ndarray, "*B"]:
    """Mean along the last axis of what counts; NaN if nothing does."""
    number = counts.sum(-1)
    total = np.where(counts, values, 0.0).sum(-1)
    return np.where(number > 0, total / np.maximum(number, 1), np.nan)


def _finite_mean(values: Float[np.ndarray, " n"]) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else float("nan")
