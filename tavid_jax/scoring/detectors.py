"""Where the actor is: by what a text names, by OpenCV's people detector, or by what moves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, UInt8

from tavid_jax.metrics.contact import region_of_boxes
from tavid_jax.models.text.clip_tokenizer import CLIPTokenizer
from tavid_jax.models.vision.images import owlvit_preprocess
from tavid_jax.models.vision.owlvit import OwlViT
from tavid_jax.scoring.flows import DISFlow
from tavid_jax.scoring.providers import Found, Progress, ScoringError, no_progress
from tavid_jax.scoring.towers import open_as, read_float32

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
        wanted = "OWL-ViT (google/owlvit-base-patch32)"
        opened = open_as(checkpoint, ("owlvit",), "--owlvit", wanted)
        if not queries:
            raise ScoringError("OWL-ViT looks for what a text names: give at least one text")
        self.name = opened.preset or "owlvit"
        self._queries = tuple(queries)
        self._threshold, self._most_shared = float(threshold), float(most_shared)
        self._weights = opened.fingerprint()
        config = opened.config
        read = CLIPTokenizer.open(tokenizer or _folder(checkpoint), config.text.text_length)
        self._size, model, params = config.vision.image_size, OwlViT(config), read_float32(opened)
        tokens = jnp.asarray(read(self._queries))
        self._vectors = jax.jit(model.apply, static_argnames="method")(
            {"params": params}, tokens, method="queries"
        )
        self._params = {"params": params}
        self._detect = jax.jit(lambda p, images, q: model.apply(p, images, q, method="detect"))

    def describe(self) -> dict[str, Any]:
        """Name, queries, thresholds, fingerprint of the weights."""
        return {
            "name": self.name,
            "queries": list(self._queries),
            "threshold": self._threshold,
            "most_shared": self._most_shared,
            "weights": self._weights,
        }

    def __call__(
        self,
        frames: UInt8[np.ndarray, "T H W 3"],
        objects: Bool[np.ndarray, "S T H W"],
        progress: Progress = no_progress,
    ) -> Found:
        """The actor's boxes in each frame."""
        height, width = frames.shape[1:3]
        boxes, notes = [], []
        for number, frame in enumerate(frames):
            given = owlvit_preprocess(frame[None], self._size)
            found = self._detect(self._params, given, self._vectors)
            logits, places = np.asarray(found.logits)[0], np.asarray(found.boxes)[0]
            best = logits.argmax(-1)
            scores = 1 / (1 + np.exp(-logits.max(-1).astype(np.float64)))
            corners = _corners(places) * np.array([width, height, width, height])
            kept = _kept(corners, scores, self._threshold, self._most_shared)
            boxes.append(corners[kept])
            notes.append(tuple(f"{self._queries[best[k]]} {scores[k]:.2f}" for k in kept))
            progress(number + 1, len(frames))
        return Found(region_of_boxes(boxes, (height, width)), tuple(boxes), tuple(notes))


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

    Coarse: whatever moves is taken for the actor, and an actor that holds still is not seen.
    Trustworthy with one actor before a steady background, as in TAViD's clips.

    Args:
      least: px per frame, as a share of the frame's short side, that count as motion.
      area: least share of the frame that a moving part covers.
      margin: how far objects reach around their masks, as a share of the short side: what moves
        there may be the edge of a moved object. Must stay below the reach of the contact rule.
    """

    name = "opencv-dis-motion"

    def __init__(
        self, *, least: float | int = 0.005, area: float | int = 0.002, margin: float | int = 0.01
    ):
        self._least, self._area, self._margin = float(least), float(area), float(margin)
        self._flow = DISFlow()

    def describe(self) -> dict[str, Any]:
        """Name, thresholds, OpenCV's version."""
        return {
            "name": self.name,
            "least": self._least,
            "area": self._area,
            "margin": self._margin,
            "opencv": cv2.__version__,
        }

    def __call__(
        self,
        frames: UInt8[np.ndarray, "T H W 3"],
        objects: Bool[np.ndarray, "S T H W"],
        progress: Progress = no_progress,
    ) -> Found:
        """Moving regions of each frame, and boxes around them."""
        height, width = frames.shape[1:3]
        short = min(height, width)
        moving = np.zeros((len(frames), height, width), bool)
        for t in range(len(frames) - 1):
            # Both ways: seen as moving is what leaves as well as what arrives.
            for a, b in ((t, t + 1), (t + 1, t)):
                moving[a] |= _moves(self._flow(frames[a], frames[b]), self._least * short)
            progress(t + 1, len(frames) - 1)
        radius = max(1, round(self._margin * short))
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1,) * 2)
        boxes, notes = [], []
        for t, region in enumerate(moving):
            taken = cv2.dilate(objects[:, t].any(0).astype(np.uint8), disc) > 0
            region &= ~taken
            found = _keep_large(region, self._area * height * width)
            boxes.append(found)
            notes.append(("moving",) * len(found))
        return Found(moving, tuple(boxes), tuple(notes))


def _moves(flow: Float[np.ndarray, "H W 2"], least: float) -> Bool[np.ndarray, "H W"]:
    """Where the flow differs from that of most of the picture, which is the camera's."""
    own = flow - np.median(flow.reshape(-1, 2), axis=0)
    return np.hypot(own[..., 0], own[..., 1]) >= least


def _keep_large(region: Bool[np.ndarray, "H W"], least: float) -> Float[np.ndarray, "n 4"]:
    """Takes small parts out of a region, in place; gives the boxes of what is left."""
    count, parts, stats, _ = cv2.connectedComponentsWithStats(region.astype(np.uint8))
    boxes = []
    for part in range(1, count):
        left, top, width, height, area = stats[part]
        if area < least:
            region[parts == part] = False
        else:
            boxes.append([left, top, left + width, top + height])
    return np.array(boxes, np.float64).reshape(-1, 4)


def _folder(checkpoint: str | Path) -> Path:
    path = Path(checkpoint).expanduser()
    return path if path.is_dir() else path.parent


def _corners(boxes: Float[np.ndarray, "N 4"]) -> Float[np.ndarray, "N 4"]:
    """(centre, size) -> (x0, y0, x1, y1), cut at the picture's edges."""
    half = boxes[:, 2:] / 2
    return np.clip(np.concatenate([boxes[:, :2] - half, boxes[:, :2] + half], axis=1), 0, 1)


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
        if all(_iou(boxes[index], boxes[other]) <= most_shared for other in kept):
            kept.append(int(index))
    return kept


def _iou(one: Float[np.ndarray, "4"], other: Float[np.ndarray, "4"]) -> float:
    low, high = np.maximum(one[:2], other[:2]), np.minimum(one[2:], other[2:])
    shared = np.prod(np.maximum(high - low, 0))
    areas = np.prod(one[2:] - one[:2]) + np.prod(other[2:] - other[:2])
    return float(shared / (areas - shared)) if areas > shared else 0.0
