"""Where what a text names is in a video: found by its looks, never by where it should be."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from tavid_jax.data.synthetic import judging
from tavid_jax.data.tracker import Tracker
from tavid_jax.data.video import scale_points
from tavid_jax.scoring.motion.following import follow
from tavid_jax.scoring.owlvit import OwlViTBoxes, iou
from tavid_jax.scoring.providers import Progress, ScoringError, no_progress

# "first": looked for in the frame in which its target is first visible, and followed from there;
# "every": looked for anew in every frame.
Look = Literal["first", "every"]


class Seen(NamedTuple):
    """What was found in one frame, for each text.

    Attributes:
      places: (x, y) px of a point on it; NaN where it was not found.
      boxes: (x0, y0, x1, y1) px around it; NaN where there is none.
    """

    places: Float[np.ndarray, "N 2"]
    boxes: Float[np.ndarray, "N 4"]


@runtime_checkable
class Detector(Protocol):
    """Finds what texts name in a frame."""

    name: str
    look: Look  # what it is made for

    def describe(self) -> dict[str, Any]:
        """All that changes the numbers, the name first."""
        ...

    def __call__(self, frame: UInt8[np.ndarray, "H W 3"], texts: Sequence[str]) -> Seen:
        """One place for each of at least one text."""
        ...


class OwlViTEntities:
    """Boxes of OWL-ViT: the detector for real videos. A place is the middle of a box.

    Every text gets the box with the best score, best scores first; a box that shares much with one
    that another text has is taken, so that two of a kind get two boxes.

    Args:
      boxes: the model.
      threshold: least score of a box.
      most_shared: overlap (IoU) from which on two boxes are of one thing.
    """

    look: Look = "first"

    def __init__(
        self,
        boxes: OwlViTBoxes,
        *,
        threshold: float | int = 0.1,
        most_shared: float | int = 0.5,
    ):
        self._boxes, self.name = boxes, boxes.name
        self._threshold, self._most_shared = float(threshold), float(most_shared)

    def describe(self) -> dict[str, Any]:
        """Name, weights, thresholds."""
        return {
            **self._boxes.describe(),
            "threshold": self._threshold,
            "most_shared": self._most_shared,
        }

    def __call__(self, frame: UInt8[np.ndarray, "H W 3"], texts: Sequence[str]) -> Seen:
        """One place for each text."""
        found = self._boxes(frame, texts)
        boxes = given_out(found.boxes, found.scores, self._threshold, self._most_shared)
        return Seen((boxes[:, :2] + boxes[:, 2:]) / 2 - 0.5, boxes)


def given_out(
    boxes: Float[np.ndarray, "K 4"],
    scores: Float[np.ndarray, "K N"],
    threshold: float,
    most_shared: float,
) -> Float[np.ndarray, "N 4"]:
    """A box for each text, NaN where none is left; see `OwlViTEntities`."""
    out = np.full((scores.shape[1], 4), np.nan)
    for index in np.argsort(-scores, axis=None, kind="stable"):
        box, text = np.unravel_index(index, scores.shape)
        if scores[box, text] <= threshold or np.isfinite(out).all():
            break
        given = out[np.isfinite(out[:, 0])]
        if np.isnan(out[text, 0]) and all(iou(boxes[box], o) <= most_shared for o in given):
            out[text] = boxes[box]
    return out


class ColourEntities:
    """The colour that a text names, in synthetic scenes: the mean of its pixels.

    Needs no weights; two texts that name one colour are one thing to it.
    """

    name = "toy-colours"
    look: Look = "every"

    def describe(self) -> dict[str, Any]:
        """Name, colours."""
        return {"name": self.name, "colours": list(judging.JUDGED_COLOURS)}

    def __call__(self, frame: UInt8[np.ndarray, "H W 3"], texts: Sequence[str]) -> Seen:
        """One place for each text.

        Raises:
          ScoringError: a text without a colour that is known.
        """
        names = [_colour(text) for text in texts]
        places = judging.centres(frame[None], names)[:, 0]
        return Seen(places, np.full((len(texts), 4), np.nan))


def _colour(text: str) -> str:
    for word in re.findall(r"\w+", text.lower()):
        if word in judging.JUDGED_COLOURS:
            return word
    known = ", ".join(judging.JUDGED_COLOURS)
    raise ScoringError(
        f"text {text!r} names no colour of synthetic scenes ({known}); for real videos give "
        "--owlvit CHECKPOINT"
    )


class Located(NamedTuple):
    """Where the entities of one video are.

    Attributes:
      tracks: (x, y) px of the trajectories; NaN where an entity was looked for and not found.
      detected: whether it was found at all.
      boxes: (x0, y0, x1, y1) px of the frame, where it was found first; NaN without a box.
    """

    tracks: Float[np.ndarray, "N T 2"]
    detected: Bool[np.ndarray, " N"]
    boxes: Float[np.ndarray, "N 4"]


def locate(
    video: UInt8[np.ndarray, "T H W 3"],
    texts: Sequence[str],
    query: Int[np.ndarray, " N"],
    size_hw: tuple[int, int],
    detector: Detector,
    tracker: Tracker,
    *,
    look: Look | None = None,
    progress: Progress = no_progress,
) -> Located:
    """Finds the entities that texts name, and where they go.

    Args:
      video: frames.
      texts: one for each entity, none of them empty.
      query: the first frame in which each one's target is visible, -1: never (not looked for).
      size_hw: (H, W) that the tracks refer to; the shape of the video's frames.
      detector: finds entities in a frame.
      tracker: follows them, for "first".
      look: see `Look`; None: what the detector is made for.
      progress: called with (frames done, frames in all).
    """
    hw, look = video.shape[1:3], look or detector.look
    count, length = len(texts), len(video)
    places, boxes = np.full((length, count, 2), np.nan), np.full((count, 4), np.nan)
    starts = np.unique(query[query >= 0])
    frames = starts if look == "first" else np.arange(length)
    for number, t in enumerate(frames if count else ()):
        found = detector(video[t], texts)
        asked = query == t if look == "first" else query >= 0
        places[t, asked] = found.places[asked]
        new = asked & np.isnan(boxes[:, 0])
        boxes[new] = found.boxes[new]
        progress(number + 1, len(frames))
    tracks = np.moveaxis(scale_points(places, hw, size_hw), 0, 1)
    detected = np.isfinite(tracks).all(-1).any(-1)
    if look == "every":
        return Located(tracks, detected, boxes)
    first = tracks[np.arange(count), np.maximum(query, 0)]
    query = np.where(detected, query, -1)
    followed = follow(tracker, video, np.nan_to_num(first), query, size_hw).tracks
    return Located(np.where(detected[:, None, None], followed, np.nan), detected, boxes)
