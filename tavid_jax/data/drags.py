"""Trajectories that a person draws on an image, as words: "x0,y0:x1,y1:..."."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from tavid_jax.data.clip import ClipError
from tavid_jax.data.point_lists import Ease, format_file
from tavid_jax.data.segments import segment_ids
from tavid_jax.tracks.trajectories import Trajectories

_SHIFT = 4  # binary digits of a fraction of a pixel, as OpenCV draws


class DragError(ClipError):
    """A drag cannot be used; the message names it."""


@dataclasses.dataclass(frozen=True)
class Drag:
    """Places that one point passes; a single one stays where it is.

    Attributes:
      places: (x, y) px, the first inside the image.
    """

    places: tuple[tuple[float, float], ...]

    @classmethod
    def parse(cls, text: str) -> Drag:
        """A drag of "x0,y0:x1,y1:...".

        Raises:
          DragError: no such text.
        """
        try:
            places = tuple(_pair(part) for part in text.split(":"))
        except ValueError as error:
            raise DragError(f"drag {text!r}: give places as x0,y0:x1,y1, in px") from error
        return cls(places)

    def keys(self, frames: int) -> list[list[float | int]]:
        """[[frame, x, y], ...] at constant speed from frame 0 to T - 1; no place twice in a row."""
        places = np.array(self.places, np.float64)
        steps = np.linalg.norm(np.diff(places, axis=0), axis=-1)
        places = places[np.concatenate([[True], steps > 0])]
        way = np.concatenate([[0.0], np.cumsum(steps[steps > 0])])
        if len(places) == 1 or frames == 1:
            return [[0, *map(_number, places[0])]]
        times = way / way[-1] * (frames - 1)
        return [
            [_number(time, 6), _number(x), _number(y)]
            for time, (x, y) in zip(times, places, strict=True)
        ]


def drag_file(
    drags: Sequence[Drag],
    size_hw: tuple[int, int],
    frames: int,
    ease: Ease = "linear",
    *,
    masks: Bool[np.ndarray, "S H W"] | None = None,
    fps: float | int | None = None,
) -> dict[str, Any]:
    """The content of a file of points (see `point_lists`), a "path" for each drag.

    Args:
      drags: at least one.
      size_hw: (H, W) of the image.
      frames: T.
      ease: how the points move along.
      masks: of the image; each drag takes the segment that it starts in.
      fps: frames per second, None = not said.

    Raises:
      DragError: no drag, or one that starts outside the image.
    """
    if not drags:
        raise DragError("give at least one --drag x0,y0:x1,y1 or --still x,y")
    height, width = size_hw
    for drag in drags:
        x, y = drag.places[0]
        if not (-0.5 <= x < width - 0.5 and -0.5 <= y < height - 0.5):
            raise DragError(
                f"a drag starts at {x:g},{y:g}, outside the image of {width}x{height}: nothing is "
                "there to take hold of"
            )
    points: list[dict[str, Any]] = [{"path": drag.keys(frames)} for drag in drags]
    held: dict[str, Any] = {"size_hw": [int(height), int(width)], "frames": frames, "ease": ease}
    if fps is not None:
        held["fps"] = fps
    if masks is not None:
        held["segments"] = len(masks)
        starts = np.array([drag.places[0] for drag in drags], np.float32)
        for point, segment in zip(points, segment_ids(starts, masks), strict=True):
            point["segment"] = int(segment)
    return held | {"points": points}


def format_drags(held: dict[str, Any]) -> str:
    """The text of such a file, a point a line."""
    head = {key: value for key, value in held.items() if key != "points"}
    return format_file(head, [json.dumps(point) for point in held["points"]])


def draw_paths(
    image: UInt8[np.ndarray, "H W 3"], trajectories: Trajectories, frame: int | None = None
) -> UInt8[np.ndarray, "H W 3"]:
    """The paths over an image of the same size, with an arrow at their ends, for checking.

    Args:
      image: RGB; pixels of `trajectories.size_hw`.
      trajectories: N points, each in a colour of its own (theirs if they have one).
      frame: where the points are marked; None = where they start.

    Raises:
      DragError: an image of another size.
    """
    if image.shape[:2] != tuple(trajectories.size_hw):
        raise DragError(f"the image is {image.shape[:2]} (HxW), the tracks {trajectories.size_hw}")
    canvas = np.ascontiguousarray(image).copy()
    width = max(1, round(max(image.shape[:2]) / 320))
    for n, colour in enumerate(_colours(trajectories)):
        seen = trajectories.visibility[n]
        path = trajectories.tracks[n][seen]
        if len(path):
            _arrow(canvas, path, colour, width)
        at = int(np.argmax(seen)) if frame is None else frame
        if seen[at]:
            x, y = _fixed(trajectories.tracks[n, at])
            for radius, tone in ((2.5 * width, (255, 255, 255)), (1.8 * width, colour)):
                size = round(radius * 2**_SHIFT)
                cv2.circle(canvas, (x, y), size, tone, -1, cv2.LINE_AA, _SHIFT)
    return canvas


def drag_clip(
    image: UInt8[np.ndarray, "H W 3"], trajectories: Trajectories
) -> UInt8[np.ndarray, "T H W 3"]:
    """The image T times, with the paths and where the points are in each frame."""
    return np.stack([draw_paths(image, trajectories, t) for t in range(trajectories.num_frames)])


def _arrow(canvas: np.ndarray, path: np.ndarray, colour: tuple[int, ...], width: int) -> None:
    points = np.array([_fixed(place) for place in path], np.int32)
    cv2.polylines(canvas, [points], False, (0, 0, 0), width + 2, cv2.LINE_AA, _SHIFT)
    cv2.polylines(canvas, [points], False, colour, width, cv2.LINE_AA, _SHIFT)
    end = path[-1]
    far = np.flatnonzero(np.linalg.norm(path - end, axis=-1) > 2.0 * width)
    if not len(far):  # it stays where it is
        return
    along = (end - path[far[-1]]) / np.linalg.norm(end - path[far[-1]])
    across = np.array([-along[1], along[0]])
    tip = [end + 3 * width * along, end + 2.5 * width * across, end - 2.5 * width * across]
    head = np.array([_fixed(corner) for corner in tip], np.int32)
    cv2.fillPoly(canvas, [head], colour, cv2.LINE_AA, _SHIFT)


def _fixed(place: Float[np.ndarray, "2"]) -> tuple[int, int]:
    x, y = np.clip(np.asarray(place, np.float64), -1e5, 1e5) * 2**_SHIFT
    return round(x), round(y)


def _colours(trajectories: Trajectories) -> list[tuple[int, ...]]:
    if trajectories.colour is not None:
        return [tuple(colour) for colour in trajectories.colour.tolist()]
    hues = (np.arange(trajectories.num_points) * 0.618034 % 1.0 * 180).astype(np.uint8)
    hsv = np.stack([hues, np.full_like(hues, 220), np.full_like(hues, 255)], axis=-1)[None]
    return [tuple(colour) for colour in cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0].tolist()]


def _pair(text: str) -> tuple[float, float]:
    x, y = (float(number) for number in text.split(","))
    if not (np.isfinite(x) and np.isfinite(y)):
        raise ValueError(text)
    return x, y


def _number(value: float | np.floating, digits: int = 3) -> float | int:
    """So many digits after the point, none for a whole number."""
    value = round(float(value), digits)
    return int(value) if value.is_integer() else value
