"""Where the actor is: by what a text names, by OpenCV's people detector, or by what moves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from tavid_jax.metrics.contact import region_of_boxes
from tavid_jax.scoring.flows import DISFlow
from tavid_jax.scoring.owlvit import OwlViTBoxes, iou
from tavid_jax.scoring.providers import Found, Progress, ScoringError, no_progress

QUERIES = ("a hand",)


class OwlViTActors:
    """What a text names, as boxes of OWL-ViT: the provider for real videos.

    A box is an approximate place: that of a hand says more about contact than that of a person.

    Args:
      checkpoint: transformers' folder of google/owlvit-base-patch32.
      tokenizer: folder of its tokenizer; None: the checkpoint's.
      queries: what the actor is called, e.g. "a hand", "a dog".
      threshold: least score of a box.
      most_shared: boxes of a frame whose overlap (IoU) with a better one is greater are dropped.
    """

    def __init__(
        self,
        checkpoint: str | Path,
        queries: Sequence[str] = QUERIES,
        *,
        tokenizer: str | Path | None = None,
        threshold: float | int = 0.1,
        most_shared: float | int = 0.5,
    ):
        if not queries:
            raise ScoringError("OWL-ViT looks for what a text names: give at least one text")
        self._boxes = OwlViTBoxes(checkpoint, tokenizer=tokenizer)
        self.name, self._queries = self._boxes.name, tuple(queries)
        self._threshold, self._most_shared = float(threshold), float(most_shared)

    def describe(self) -> dict[str, Any]:
        """Name, queries, thresholds, fingerprint of the weights."""
        return {
            **self._boxes.describe(),
            "queries": list(self._queries),
            "threshold": self._threshold,
            "most_shared": self._most_shared,
        }

    def __call__(
        self,
        frames: UInt8[np.ndarray, "T H W 3"],
        objects: Bool[np.ndarray, "S T H W"],
        progress: Progress = no_progress,
    ) -> Found:
        """The actor's boxes in each frame."""
        boxes, notes = [], []
        for number, frame in enumerate(frames):
            found = self._boxes(frame, self._queries)
            best, scores = found.scores.argmax(-1), found.scores.max(-1)
            kept = _kept(found.boxes, scores, self._threshold, self._most_shared)
            boxes.append(found.boxes[kept])
            notes.append(tuple(f"{self._queries[best[k]]} {scores[k]:.2f}" for k in kept))
            progress(number + 1, len(frames))
        return Found(region_of_boxes(boxes, frames.shape[1:3]), tuple(boxes), tuple(notes))


class HOGActors:
    """People, by the histograms of gradients that OpenCV was trained with (Dalal & Triggs 2005).

    Coarse: it knows whole, upright people of a hundred pixels or more, and no hands.

    Args:
      threshold: least score of a box.

    Raises:
      ScoringError: an OpenCV without it (5 has it in its contributed modules alone).
    """

    name = "opencv-hog-people"

    def __init__(self, threshold: float | int = 0.3):
        if not hasattr(cv2, "HOGDescriptor"):
            raise ScoringError(
                f"OpenCV {cv2.__version__} comes without the people detector; install "
                "opencv-contrib-python-headless instead of opencv-python-headless, or choose "
                "another detector"
            )
        self._threshold = float(threshold)
        self._hog = cv2.HOGDescriptor()
        self._hog.setSVMDetector(cv2.HOGDescriptor_getDefaultPeopleDetector())

    def describe(self) -> dict[str, Any]:
        """Name, threshold, OpenCV's version."""
        return {"name": self.name, "threshold": self._threshold, "opencv": cv2.__version__}

    def __call__(
        self,
        frames: UInt8[np.ndarray, "T H W 3"],
        objects: Bool[np.ndarray, "S T H W"],
        progress: Progress = no_progress,
    ) -> Found:
        """Boxes of people in each frame."""
        height, width = frames.shape[1:3]
        # The detector's window is 64x128 px: smaller frames are enlarged to hold one.
        zoom = max(1.0, 128 / height, 64 / width)
        boxes, notes = [], []
        for number, frame in enumerate(frames):
            grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
            grey = cv2.resize(grey, None, fx=zoom, fy=zoom) if zoom > 1 else grey
            found, scores = self._hog.detectMultiScale(grey, winStride=(8, 8), scale=1.05)
            found = np.reshape(np.asarray(found, np.float64), (-1, 4)) / zoom
            scores = np.reshape(np.asarray(scores, np.float64), -1)
            found[:, 2:] += found[:, :2]
            kept = np.flatnonzero(scores >= self._threshold)
            boxes.append(found[kept])
            notes.append(tuple(f"person {scores[k]:.2f}" for k in kept))
            progress(number + 1, len(frames))
        return Found(region_of_boxes(boxes, (height, width)), tuple(boxes), tuple(notes))


class MotionActors:
    """What moves against the rest of the picture and is none of the objects; needs no weights.

    A pixel moves if optical flow says so and it also changes: flow alone spreads over plain
    surfaces, change alone sees every flicker. Coarse all the same: whatever moves is taken for the
    actor, its shadow too, an actor that holds still is not seen, and where it will be next is taken
    for it as well. For one actor before a steady background, as in TAViD's clips: in 75 synthetic
    interactions with known masks it finds 95 % of the contacts and none with a look-alike.

    Args:
      least: px per look, as a share of the frame's short side, that count as motion.
      change: of grey (0 ... 255) from one look to the next.
      area: least share of the frame that a moving part covers.
      margin: how far objects reach around their masks, as a share of the short side: what moves
        there may be the edge of a moved object. Must stay below the reach of the contact rule.
    """

    name = "opencv-dis-motion"

    def __init__(
        self,
        *,
        least: float | int = 0.005,
        change: float | int = 12,
        area: float | int = 0.002,
        margin: float | int = 0.01,
    ):
        self._settings = {"least": least, "change": change, "area": area, "margin": margin}
        self._flow = DISFlow()

    def describe(self) -> dict[str, Any]:
        """Name, thresholds, OpenCV's version."""
        return {"name": self.name, **self._settings, "opencv": cv2.__version__}

    def __call__(
        self,
        frames: UInt8[np.ndarray, "T H W 3"],
        objects: Bool[np.ndarray, "S T H W"],
        progress: Progress = no_progress,
    ) -> Found:
        """Moving regions of each frame, without boxes."""
        moving = np.zeros(frames.shape[:3], bool)
        for t in range(len(frames) - 1):
            # Both ways: seen as moving is what leaves as well as what arrives.
            for a, b in ((t, t + 1), (t + 1, t)):
                moving[a] |= self._moves(frames[a], frames[b])
            progress(t + 1, len(frames) - 1)
        short, pixels = min(frames.shape[1:3]), frames.shape[1] * frames.shape[2]
        ring = _disc(self._settings["margin"] * short)
        close = _disc(0.02 * short)
        for t, region in enumerate(moving):
            taken = cv2.dilate(objects[:, t].any(0).astype(np.uint8), ring) > 0
            whole = cv2.morphologyEx(region.astype(np.uint8), cv2.MORPH_CLOSE, close) > 0
            moving[t] = _large(whole & ~taken, self._settings["area"] * pixels)
        none = np.zeros((0, 4))
        return Found(moving, (none,) * len(frames), ((),) * len(frames))

    def _moves(
        self, frame: UInt8[np.ndarray, "H W 3"], other: UInt8[np.ndarray, "H W 3"]
    ) -> Bool[np.ndarray, "H W"]:
        flow = self._flow(frame, other)
        # Most of the picture moves as the camera does.
        camera = np.median(flow.reshape(-1, 2), axis=0)
        own = np.hypot(*np.moveaxis(flow - camera, -1, 0))
        grey, there = (
            cv2.GaussianBlur(cv2.cvtColor(f, cv2.COLOR_RGB2GRAY), (0, 0), 1.5).astype(np.float32)
            for f in (frame, other)
        )
        back = np.array([[1, 0, -camera[0]], [0, 1, -camera[1]]], np.float32)
        there = cv2.warpAffine(there, back, grey.shape[::-1], borderMode=cv2.BORDER_REPLICATE)
        changed = np.abs(grey - there) >= self._settings["change"]
        return changed & (own >= self._settings["least"] * min(grey.shape))


def _disc(radius: float) -> np.ndarray:
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * max(1, round(radius)) + 1,) * 2)


def _large(region: Bool[np.ndarray, "H W"], least: float) -> Bool[np.ndarray, "H W"]:
    """The connected parts of a region that have at least this area."""
    _, parts, stats, _ = cv2.connectedComponentsWithStats(region.astype(np.uint8))
    kept = stats[:, cv2.CC_STAT_AREA] >= least
    kept[0] = False  # what is outside of the region
    return kept[parts]


def _kept(
    boxes: Float[np.ndarray, "N 4"],
    scores: Float[np.ndarray, " N"],
    threshold: float,
    most_shared: float,
) -> list[int]:
    """The boxes above the threshold, best first, without those that a better one covers."""
    kept: list[int] = []
    for index in np.argsort(-scores, kind="stable"):
        if scores[index] <= threshold:
            break
        if all(iou(boxes[index], boxes[other]) <= most_shared for other in kept):
            kept.append(int(index))
    return kept
