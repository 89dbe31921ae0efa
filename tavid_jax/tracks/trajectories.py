"""Point trajectories: what a user gives, a tracker finds and a clip has, as one checked type."""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8


class TrajectoryError(ValueError):
    """Trajectories break the type's rules; the message names the field and the mend."""


@dataclasses.dataclass(frozen=True, eq=False)
class Trajectories:
    """N points over T frames; numpy, checked when made.

    Attributes:
      tracks: float32 (N, T, 2), (x, y) px of `size_hw`, pixel centres at integers; may leave the
        frame. Where a point is not visible its place is not read: NaN there becomes 0.
      visibility: bool (N, T), True = seen in that frame.
      size_hw: (H, W) that the pixels refer to.
      depth: float32 (N, T), smaller = nearer; None if unknown.
      segment: int32 (N,), 0 = in no segment, k = in segment k of `segments`; None if unknown.
      segments: how many there are, S (some may hold no point).
      number: int32 (N,), which point of its segment each one is; None counts them in their order.
      colour: uint8 (N, 3), one RGB colour for each point; None if there is none.
      fps: frames per second, None if unknown.
      texts: words about what each point belongs to, N strings ("" = none, also where there is only
        white space; that around words is dropped); None if there are none.

    Raises:
      TrajectoryError: see the class.
    """

    tracks: Float[np.ndarray, "N T 2"]
    visibility: Bool[np.ndarray, "N T"]
    size_hw: tuple[int, int]
    depth: Float[np.ndarray, "N T"] | None = None
    segment: Int[np.ndarray, " N"] | None = None
    segments: int = 0
    number: Int[np.ndarray, " N"] | None = None
    colour: UInt8[np.ndarray, "N 3"] | None = None
    fps: float | int | None = None
    texts: tuple[str, ...] | None = None

    def __post_init__(self):
        tracks = np.asarray(self.tracks)
        if tracks.ndim != 3 or tracks.shape[-1] != 2 or tracks.dtype.kind not in "fiu":
            _fail(f"tracks must be numbers (N, T, 2), got {tracks.dtype} {tracks.shape}")
        seen = np.asarray(self.visibility)
        if seen.shape != tracks.shape[:2] or seen.dtype != np.bool_:
            found = f"{seen.dtype} {seen.shape}"
            _fail(f"visibility must be bool (N, T) = {tracks.shape[:2]}, got {found}")
        tracks = tracks.astype(np.float32)
        lost = ~np.isfinite(tracks).all(-1)
        if (lost & seen).any():
            n, t = np.argwhere(lost & seen)[0]
            _fail(
                f"tracks: point {n} is visible in frame {t}, but its place is not finite; mark it "
                "invisible there"
            )
        self._set("tracks", np.where(lost[..., None], np.float32(0), tracks))
        self._set("visibility", seen)
        self._check_depth(seen)
        self._check_segment(len(tracks))
        self._check_number(len(tracks))
        if self.colour is not None and (
            self.colour.shape != (len(tracks), 3) or self.colour.dtype != np.uint8
        ):
            _fail(f"colour must be uint8 (N, 3), got {self.colour.dtype} {self.colour.shape}")
        if self.texts is not None:
            self._check_texts(len(tracks))
        if len(self.size_hw) != 2 or min(self.size_hw) < 1:
            _fail(f"size_hw must be (H, W) in pixels, got {self.size_hw}")

    def _check_depth(self, seen: np.ndarray) -> None:
        if self.depth is None:
            return
        depth = np.asarray(self.depth)
        if depth.shape != seen.shape or depth.dtype.kind not in "fiu":
            _fail(f"depth must be numbers (N, T) = {seen.shape}, got {depth.dtype} {depth.shape}")
        depth = depth.astype(np.float32)
        if not np.isfinite(depth[seen]).all():
            _fail("depth of a visible point is not finite; mark the point invisible")
        self._set("depth", np.where(np.isfinite(depth), depth, np.float32(0)))

    def _check_segment(self, count: int) -> None:
        if self.segment is None:
            return
        segment = np.asarray(self.segment)
        if segment.shape != (count,) or segment.dtype.kind not in "iu":
            _fail(
                f"segment must be integers (N,) = ({count},), got {segment.dtype} {segment.shape}"
            )
        if segment.size and (segment.min() < 0 or segment.max() > self.segments):
            wrong = segment.min() if segment.min() < 0 else segment.max()
            _fail(f"segment {wrong} does not exist: there are {self.segments}, 0 is none")
        self._set("segment", segment.astype(np.int32))

    def _check_number(self, count: int) -> None:
        if self.number is None:
            return
        number = np.asarray(self.number)
        if number.shape != (count,) or number.dtype.kind not in "iu":
            _fail(f"number must be integers (N,) = ({count},), got {number.dtype} {number.shape}")
        if number.size and number.min() < 0:
            _fail(f"number {number.min()} of a point must not be negative")
        self._set("number", number.astype(np.int32))

    def _check_texts(self, count: int) -> None:
        if isinstance(self.texts, str):
            _fail(f"texts must be one string for each of {count} points, got {self.texts!r}")
        texts = tuple(self.texts)
        if len(texts) != count:
            _fail(
                f"texts must be one for each of {count} points, got {len(texts)}: a text needs a "
                'trajectory; a trajectory that has no text takes ""'
            )
        for n, text in enumerate(texts):
            if not isinstance(text, str):
                _fail(f"texts: that of point {n} must be a string, got {text!r}")
        self._set("texts", tuple(text.strip() for text in texts))

    def _set(self, name: str, value: np.ndarray | tuple[str, ...]) -> None:
        object.__setattr__(self, name, value)

    @property
    def num_points(self) -> int:
        """N."""
        return self.tracks.shape[0]

    @property
    def num_frames(self) -> int:
        """T."""
        return self.tracks.shape[1]

    def replace(self, **changes) -> Trajectories:
        """A copy with some fields replaced, checked anew."""
        return dataclasses.replace(self, **changes)

    def take(self, points: Int[np.ndarray, " M"] | Bool[np.ndarray, " N"]) -> Trajectories:
        """Some of the points, by index or by a mask."""
        chosen = {
            name: None if getattr(self, name) is None else getattr(self, name)[points]
            for name in ("tracks", "visibility", "depth", "segment", "number", "colour")
        }
        if self.texts is not None:
            chosen["texts"] = tuple(np.array(self.texts, object)[points])
        return self.replace(**chosen)

    def window(self, start: int, length: int) -> Trajectories:
        """Frames [start, start + length).

        Raises:
          TrajectoryError: fewer frames than that.
        """
        if start < 0 or length < 1 or start + length > self.num_frames:
            _fail(
                f"tracks have {self.num_frames} frames, frames {start} to {start + length - 1} are "
                "asked for: give longer tracks or make a shorter video"
            )
        frames = slice(start, start + length)
        cut = {
            name: None if getattr(self, name) is None else getattr(self, name)[:, frames]
            for name in ("tracks", "visibility", "depth")
        }
        return self.replace(**cut)


def joined_texts(first: Trajectories, second: Trajectories) -> tuple[str, ...] | None:
    """The texts of two sets of points, one behind the other; "" for those of a set without any."""
    if first.texts is None and second.texts is None:
        return None
    return sum((one.texts or ("",) * one.num_points for one in (first, second)), ())


def _fail(what: str) -> None:
    raise TrajectoryError(what)
