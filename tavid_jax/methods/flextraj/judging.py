"""Whether the objects of a toy video go where the given points say.

An object is found by its colour, frame by frame: its place is the mean of its pixels. Nothing is
learned or tracked. It should be where it began in the true clip, moved on as its points are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, UInt8

from tavid_jax.data.clip import Clip, ClipError
from tavid_jax.data.synthetic import judging as judge_toy
from tavid_jax.metrics import result
from tavid_jax.metrics.trajerr import ErrorSums, clip_error, counted_samples, trajectory_error
from tavid_jax.metrics.trajsim import trajectory_similarity
from tavid_jax.tracks.trajectories import Trajectories

Frames = UInt8[np.ndarray, "T H W 3"]
# Values per scene. "error": TrajErr of the objects and frames that were given, in sides of the
# frame; "error_all": of all objects and frames; "similarity": TrajSIM of the objects that were
# given and move; "lost": share of the objects that are gone; "first_frame": its error, in 1/255.
VALUES = ("error", "error_all", "similarity", "lost", "first_frame")
Values = dict[str, Float[np.ndarray, " C"]]
# How a granularity is judged: name -> (the value, what it is called, which is better).
TRAJERR, TRAJSIM = MEASURES = ("trajerr", "trajsim")
VALUE_OF = {TRAJERR: "error", TRAJSIM: "similarity"}
TITLE_OF = {TRAJERR: "TrajErr", TRAJSIM: "TrajSIM"}
BETTER = {
    "error": "lower",
    "error_all": "lower",
    "similarity": "higher",
    "lost": "lower",
    "first_frame": "lower",
}
# Of the frame's side: an object whose way is less (root mean square) has no direction.
STILL = 0.04
_SEEN_IN = 0.8  # of the frames, or else an object is lost
_LEVELS = 255.0


class Goal(NamedTuple):
    """Where the S objects of a clip should be.

    Attributes:
      colours: by which they are found.
      places: (x, y) px, from the first frame of the true clip on.
      counts: frames in which the true clip shows an object whose points are known.
      given: frames in which a point on the object steers.
    """

    colours: tuple[str, ...]
    places: Float[np.ndarray, "S T 2"]
    counts: Bool[np.ndarray, "S T"]
    given: Bool[np.ndarray, "S T"]


class Judged(NamedTuple):
    """What was found in one video; see `VALUES`.

    Attributes:
      given: errors of what was given.
      everywhere: errors of all objects in all frames.
      similarity, lost, first_frame: see there; NaN where nothing counts.
      places: where the objects were found, px; a lost one stays where it was seen last.
    """

    given: ErrorSums
    everywhere: ErrorSums
    similarity: float
    lost: float
    first_frame: float
    places: Float[np.ndarray, "S T 2"]


def goal_of(clip: Clip, tracks: Trajectories, steering: Trajectories) -> Goal:
    """Where the objects of a clip should be by the points that steer it.

    Args:
      clip: a scene of `toy.steered`: its caption names the objects, in the order of its masks.
      tracks: all points, of the clip itself or of its partner; they belong to segments.
      steering: the same points, with those invisible that are not given.

    Raises:
      ClipError: points without segments, or another number of objects than the caption names.
      ValueError: a caption of another form.
    """
    colours = tuple(one.colour for one in judge_toy.expected_objects(clip.caption))
    if tracks.segment is None or tracks.segments != len(colours):
        found = "none" if tracks.segment is None else str(tracks.segments)
        raise ClipError(
            f"clip {clip.id!r}: its caption names {len(colours)} objects, its points have {found}: "
            "only scenes of toy.steered are judged"
        )
    true = judge_toy.centres(clip.video, colours)
    members = [tracks.segment == number for number in range(1, len(colours) + 1)]
    ways = np.stack([_way(tracks.tracks[mine]) for mine in members])
    known = np.array([mine.any() for mine in members]) & np.isfinite(true[:, 0]).all(-1)
    return Goal(
        colours,
        np.where(known[:, None, None], np.nan_to_num(true[:, :1]) + ways, 0.0),
        np.isfinite(true).all(-1) & known[:, None],
        np.stack([steering.visibility[mine].any(0) for mine in members]),
    )


def judge(frames: Frames, clip: Clip, goal: Goal) -> Judged:
    """Looks at a video that was made from a clip's first frame.

    Args:
      frames: of the video.
      clip: the true one.
      goal: where its objects should be.
    """
    places, seen = found_places(frames, goal)
    size_hw = tuple(frames.shape[1:3])
    sums = [
        clip_error(places, goal.places, counted, size_hw, seen=seen)
        for counted in (counted_samples(goal.counts, goal.given), counted_samples(goal.counts))
    ]
    shown = goal.counts.sum(1)
    kept = result.ratio((seen & goal.counts).sum(1), shown)[shown > 0]
    error = math.sqrt(judge_toy.first_frame_error(frames, clip.video[0]))
    return Judged(
        *sums,
        _similarity(places, goal, size_hw),
        float((kept < _SEEN_IN).mean()) if len(kept) else math.nan,
        error / 2.0 * _LEVELS,
        places,
    )


def found_places(
    frames: Frames, goal: Goal
) -> tuple[Float[np.ndarray, "S T 2"], Bool[np.ndarray, "S T"]]:
    """Where a video shows the objects (px), and in which frames. One that is gone stays where it
    was seen last; one that never was there, where it should have begun."""
    places = judge_toy.centres(frames, goal.colours)
    seen = np.isfinite(places).all(-1)
    last = goal.places[:, 0]
    for t in range(places.shape[1]):
        last = places[:, t] = np.where(seen[:, t, None], places[:, t], last)
    return places, seen


def _way(tracks: Float[np.ndarray, "n T 2"]) -> Float[np.ndarray, "T 2"]:
    """How far points have moved since frame 0, their mean; all toy objects are rigid."""
    if not len(tracks):
        return np.zeros(tracks.shape[1:])
    return (tracks - tracks[:, :1]).mean(0, dtype=np.float64)


def _similarity(places: Float[np.ndarray, "S T 2"], goal: Goal, size_hw: tuple[int, int]) -> float:
    """TrajSIM of the paths of objects that are given and move; NaN where there is none."""
    way = (goal.places - goal.places[:, :1]) / np.array(size_hw[::-1])
    size = np.sqrt(np.square(way).sum(-1).mean(1))
    counts = goal.counts & ((size >= STILL) & goal.given.any(1))[:, None]
    found = trajectory_similarity(places[None], goal.places[None], counts[None])
    return float(found["per_clip"][0])


# ---- numbers of many scenes --------------------------------------------------------------------


def values_of(judged: Sequence[Judged]) -> Values:
    """Name of `VALUES` -> one value per scene, NaN where nothing counts."""
    sums = {
        "error": [one.given for one in judged],
        "error_all": [one.everywhere for one in judged],
    }
    values = {name: np.array(trajectory_error(each)["per_clip"]) for name, each in sums.items()}
    rest = ("similarity", "lost", "first_frame")
    return values | {name: np.array([getattr(one, name) for one in judged]) for name in rest}
