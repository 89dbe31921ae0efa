"""Trajectories as JSON that people write: the points and the places that they pass.

    {
      "size_hw": [480, 720],         (H, W) px that places refer to
      "frames": 49,                  T
      "points": [
        {"path": [[0, 100, 200], [24, 300, 220], [48, 500, 150]], "text": "a cat"},
        {"path": [[0, 400, 300]], "visible": [[0, 20], [30, 48]], "segment": 1},
        {"xy": [[10.5, 20], null, ...], "colour": [255, 0, 0], "depth": 0.5}
      ]
    }

The file:

    points    list of points, not empty. Needed.
    size_hw   [H, W]. Needed, unless the reader is told it.
    frames    T. Needed with "path", unless the reader is told it; else the length of "xy".
    fps       frames per second.
    segments  how many segments there are; else the largest "segment" of a point.
    ease      "linear" (default) or "smooth": how points with a "path" move between its places.

A point has either "path" or "xy":

    path      [[frame, x, y], ...]: where it is in some frames, which ascend and may be fractions.
              Before the first and after the last it stands still.
    xy        [[x, y], ...], one place for each of T frames; null = not visible, place unknown.

and may have:

    ease      as above, for this point. "smooth" starts and ends at rest and turns no corners.
    visible   true (default), false, T times true or false (1 or 0), or spans [[first, last], ...]
              of frames in which it is visible, the last included.
    segment   0 (default) = in no segment, or k >= 1.
    colour    [red, green, blue], each 0 to 255; all points have one, or none.
    depth     a number, or T of them; smaller is nearer; all points have it, or none.
    text      words about what moves along it; "" (default) = none.

Places are (x, y) px, x to the right and y down from the centre of the first pixel; they may lie
outside the frame. Unknown keys are errors.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from tavid_jax.data.official import TrackFileError
from tavid_jax.tracks.trajectories import Trajectories
from tavid_jax.untrusted import limits
from tavid_jax.untrusted.errors import LimitError

Ease = Literal["linear", "smooth"]
EASES = ("linear", "smooth")
_LARGEST = 3e38  # that float32 holds
FILE_KEYS = ("points", "size_hw", "frames", "fps", "segments", "ease")
POINT_KEYS = ("path", "xy", "ease", "visible", "segment", "colour", "depth", "text")


def parse_points(
    held: Mapping[str, Any], *, size_hw: tuple[int, int] | None = None, frames: int | None = None
) -> Trajectories:
    """The trajectories of such a file.

    Args:
      held: its content.
      size_hw: what it refers to if it does not say.
      frames: T if it does not say.

    Raises:
      TrackFileError: the message names the point and the key.
      TrajectoryError: see `Trajectories`.
    """
    _check_keys("", held, FILE_KEYS)
    points = held.get("points")
    if not isinstance(points, list) or not points:
        raise TrackFileError("'points' must be a list of at least one point")
    size_hw = _size(held.get("size_hw", size_hw))
    count = _frames(held, points, frames)
    try:
        limits.check_tracks(len(points), count)
        if _is_count(held.get("segments", 0)):
            limits.check("segments", held.get("segments", 0), "'segments'")
    except LimitError as error:
        raise TrackFileError(str(error)) from error
    ease = _ease("", held.get("ease", "linear"))
    made = [_Point(f"points[{n}]", point, count, ease) for n, point in enumerate(points)]
    segment = _all_or_none("segment", [point.segment for point in made], needed=False)
    largest = int(max(segment)) if segment is not None else 0
    segments = held.get("segments", largest)
    if not _is_count(segments):
        raise TrackFileError(f"'segments' must be a count, got {segments!r}")
    return Trajectories(
        tracks=np.stack([point.xy for point in made]),
        visibility=np.stack([point.visible for point in made]),
        size_hw=size_hw,
        depth=_all_or_none("depth", [point.depth for point in made]),
        segment=segment,
        segments=segments,
        colour=_all_or_none("colour", [point.colour for point in made]),
        fps=_fps(held.get("fps")),
        texts=_texts([point.text for point in made]),
    )


def format_points(trajectories: Trajectories) -> str:
    """Such a file of trajectories, every place of every point, exact to the last bit of float32."""
    segment, depth, colour = trajectories.segment, trajectories.depth, trajectories.colour
    texts = trajectories.texts
    lines = []
    for n in range(trajectories.num_points):
        seen = trajectories.visibility[n]
        point: dict[str, Any] = {"xy": _shortest(trajectories.tracks[n])}
        if not seen.all():
            point["visible"] = _spans(seen) if seen.any() else False
        if segment is not None:
            point["segment"] = int(segment[n])
        if colour is not None:
            point["colour"] = colour[n].tolist()
        if depth is not None:
            point["depth"] = _shortest(depth[n])
        if texts is not None:
            point["text"] = texts[n]
        lines.append(json.dumps(point, ensure_ascii=False))
    head: dict[str, Any] = {
        "size_hw": [int(side) for side in trajectories.size_hw],
        "frames": trajectories.num_frames,
    }
    if trajectories.fps is not None:
        head["fps"] = trajectories.fps
    if trajectories.segments:
        head["segments"] = int(trajectories.segments)
    return format_file(head, lines)


def format_file(head: Mapping[str, Any], points: Sequence[str]) -> str:
    """JSON with a line for each key of the head, and for each point (its own JSON)."""
    keys = "".join(f"  {json.dumps(key)}: {json.dumps(value)},\n" for key, value in head.items())
    rows = ",\n".join(f"    {point}" for point in points)
    return f'{{\n{keys}  "points": [\n{rows}\n  ]\n}}\n'


def along(
    keys: Float[np.ndarray, "K 3"], frames: int, ease: Ease = "linear"
) -> Float[np.ndarray, "T 2"]:
    """Where a point is in frames 0 to T - 1 that passes (frame, x, y), frames ascending.

    "smooth" is the cubic that passes every place at the mean velocity of the ways to the places
    beside it, and the first and last at rest.
    """
    with np.errstate(all="ignore"):  # what is not finite then is refused with the trajectories
        return _along(keys[:, 0].astype(np.float64), keys[:, 1:].astype(np.float64), frames, ease)


def _along(
    times: Float[np.ndarray, " K"], places: Float[np.ndarray, "K 2"], frames: int, ease: Ease
) -> Float[np.ndarray, "T 2"]:
    at = np.clip(np.arange(frames, dtype=np.float64), times[0], times[-1])
    if ease == "linear" or len(times) == 1:
        out = np.stack([np.interp(at, times, places[:, axis]) for axis in (0, 1)], axis=-1)
        return out.astype(np.float32)
    speed = np.zeros_like(places)
    speed[1:-1] = (places[2:] - places[:-2]) / (times[2:] - times[:-2])[:, None]
    left = np.clip(np.searchsorted(times, at, side="right") - 1, 0, len(times) - 2)
    span = (times[left + 1] - times[left])[:, None]
    u = (at[:, None] - times[left][:, None]) / span
    start, end = places[left], places[left + 1]
    bend = u * (1 - u)
    out = start + (end - start) * u * u * (3 - 2 * u)
    out += span * bend * ((1 - u) * speed[left] - u * speed[left + 1])
    return out.astype(np.float32)


class _Point:
    """One point of the file, checked."""

    def __init__(self, name: str, held: Any, frames: int, ease: Ease):
        if not isinstance(held, dict):
            raise TrackFileError(f"{name} must be an object with 'path' or 'xy', got {held!r}")
        _check_keys(name, held, POINT_KEYS)
        if "text" in held and not {"path", "xy"} & set(held):
            raise TrackFileError(
                f"{name} has a text, {_short(held['text'])}, but no trajectory: give it a 'path' "
                "or 'xy', or take it out"
            )
        if ("path" in held) == ("xy" in held):
            raise TrackFileError(f"{name} must have either 'path' or 'xy'")
        self._name, self._frames = name, frames
        ease = _ease(f"{name}.", held.get("ease", ease))
        self.visible = self._visible(held.get("visible", True))
        if "path" in held:
            self.xy = along(self._keys(held["path"]), frames, ease)
        else:
            self.xy, known = self._places(held["xy"])
            self.visible = self.visible & known
        self.segment = self._segment(held.get("segment"))
        self.colour = self._colour(held.get("colour"))
        self.depth = self._depth(held.get("depth"))
        self.text = self._text(held.get("text"))

    def _fail(self, key: str, what: str) -> None:
        raise TrackFileError(f"{self._name}: {key!r} {what}")

    def _keys(self, path: Any) -> np.ndarray:
        keys = _array(path)
        if keys is None or keys.ndim != 2 or keys.shape[1] != 3 or not len(keys):
            self._fail("path", f"must be [[frame, x, y], ...], got {_short(path)}")
        times = keys[:, 0]
        if times[0] < 0 or times[-1] > self._frames - 1 or (np.diff(times) <= 0).any():
            self._fail(
                "path",
                f"has frames {times.tolist()}: they must ascend from 0 to {self._frames - 1}",
            )
        return keys

    def _places(self, xy: Any) -> tuple[np.ndarray, np.ndarray]:
        if not isinstance(xy, list) or len(xy) != self._frames:
            found = f"{len(xy)}" if isinstance(xy, list) else _short(xy)
            self._fail("xy", f"must hold a place for each of {self._frames} frames, got {found}")
        known = np.array([place is not None for place in xy])
        places = _array([[0, 0] if place is None else place for place in xy])
        if places is None or places.ndim != 2 or places.shape[1] != 2:
            self._fail("xy", f"must be [[x, y], ...] with numbers or null, got {_short(xy)}")
        return places.astype(np.float32), known

    def _visible(self, visible: Any) -> np.ndarray:
        if isinstance(visible, bool):
            return np.full(self._frames, visible)
        if isinstance(visible, list) and visible and all(isinstance(v, list) for v in visible):
            return self._within(visible)
        flags = isinstance(visible, list) and all(v in (0, 1) for v in visible)
        if not flags or len(visible) != self._frames:
            self._fail(
                "visible",
                f"must be true, false, {self._frames} of them or spans [[first, last], ...], got "
                f"{_short(visible)}",
            )
        return np.array(visible, bool)

    def _within(self, spans: list) -> np.ndarray:
        seen = np.zeros(self._frames, bool)
        for span in spans:
            good = len(span) == 2 and all(_is_count(frame) for frame in span)
            if not good or not span[0] <= span[1] < self._frames:
                self._fail("visible", f"has no such span of frames 0 to {self._frames - 1}: {span}")
            seen[span[0] : span[1] + 1] = True
        return seen

    def _segment(self, segment: Any) -> int | None:
        if segment is not None and not _is_count(segment):
            self._fail("segment", f"must be 0, 1, 2, ..., got {_short(segment)}")
        return segment

    def _colour(self, colour: Any) -> np.ndarray | None:
        if colour is None:
            return None
        whole = isinstance(colour, list) and len(colour) == 3 and all(map(_is_count, colour))
        if not whole or max(colour) > 255:
            self._fail("colour", f"must be [red, green, blue] of 0 to 255, got {_short(colour)}")
        return np.array(colour, np.uint8)

    def _depth(self, depth: Any) -> np.ndarray | None:
        if depth is None:
            return None
        values = _array(depth)
        if values is None or values.shape not in ((), (self._frames,)):
            self._fail("depth", f"must be a number or {self._frames} of them, got {_short(depth)}")
        return np.broadcast_to(values, (self._frames,)).astype(np.float32)

    def _text(self, text: Any) -> str | None:
        if text is not None and not isinstance(text, str):
            self._fail("text", f"must be words in quotes, got {_short(text)}")
        return text


def _check_keys(name: str, held: Mapping[str, Any], known: Sequence[str]) -> None:
    for key in held:
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            mend = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
            raise TrackFileError(f"{name or 'the file'} has an unknown key {key!r}; {mend}")


def _size(size: Any) -> tuple[int, int]:
    if size is None:
        raise TrackFileError("says no 'size_hw': [H, W], the size that its places refer to")
    if not isinstance(size, list | tuple) or len(size) != 2 or not all(map(_is_count, size)):
        raise TrackFileError(f"'size_hw' must be [H, W] in px, got {_short(size)}")
    return int(size[0]), int(size[1])


def _frames(held: Mapping[str, Any], points: list, told: int | None) -> int:
    lengths = (p["xy"] for p in points if isinstance(p, dict) and isinstance(p.get("xy"), list))
    count = held.get("frames")
    count = next(map(len, lengths), told) if count is None else count
    if count is None:
        raise TrackFileError("says no 'frames', how many there are")
    if not _is_count(count) or not count:
        raise TrackFileError(f"'frames' must be a count of at least 1, got {_short(count)}")
    return count


def _ease(name: str, ease: Any) -> Ease:
    if ease not in EASES:
        raise TrackFileError(f"'{name}ease' must be one of {', '.join(EASES)}, got {_short(ease)}")
    return ease


def _fps(fps: Any) -> float | int | None:
    number = isinstance(fps, int | float) and not isinstance(fps, bool) and fps > 0
    if fps is not None and not number:
        raise TrackFileError(f"'fps' must be a positive number, got {_short(fps)}")
    return fps


def _all_or_none(key: str, values: list, needed: bool = True) -> np.ndarray | None:
    """Values of all points, stacked; a missing one is an error, or 0 if it is not needed."""
    if all(value is None for value in values):
        return None
    if needed and any(value is None for value in values):
        bare = next(n for n, value in enumerate(values) if value is None)
        raise TrackFileError(f"points[{bare}] has no {key!r}, others have: give it to all or none")
    return np.stack([np.asarray(0 if value is None else value) for value in values])


def _texts(texts: list[str | None]) -> tuple[str, ...] | None:
    return None if all(text is None for text in texts) else tuple(text or "" for text in texts)


def _array(values: Any) -> np.ndarray | None:
    """Finite numbers as float64; None if they are none."""
    try:
        array = np.asarray(values)
    except ValueError:  # rows of different lengths
        return None
    good = array.dtype.kind in "fiu" and (np.abs(array.astype(np.float64)) <= _LARGEST).all()
    return array.astype(np.float64) if good else None


def _is_count(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and value >= 0


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _shortest(values: np.ndarray) -> list:
    """Nested lists of the shortest decimal numbers that are read back as the same float32."""
    return values.astype(np.float32).astype(str).astype(np.float64).tolist()


def _spans(seen: np.ndarray) -> list[list[int]]:
    edges = np.flatnonzero(np.diff(np.concatenate([[0], seen.astype(np.int8), [0]])))
    return [[int(start), int(stop) - 1] for start, stop in edges.reshape(-1, 2)]
