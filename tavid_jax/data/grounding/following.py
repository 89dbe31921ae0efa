"""Points of objects and their tracks: chosen among those that a clip has, or followed anew."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float, Int

from tavid_jax.data.clip import Clip, ClipError
from tavid_jax.data.grounding.points import PointRule, own_parts, place, place_among
from tavid_jax.data.tracked import even_points
from tavid_jax.tracks.coordinates import in_bounds

_GROUND_HW = (16, 28)  # points among which those of the background are found

Masks = Bool[np.ndarray, "S H W"]
Tracks = tuple[Float[np.ndarray, "M T 2"], Bool[np.ndarray, "M T"]]


@dataclasses.dataclass(frozen=True, eq=False)
class Held:
    """N points on objects, those of one object in a row, its first point first.

    Attributes:
      owner: number of each one's object, from 0.
      tracks, seen: (x, y) px and where they are visible, which is inside the frame.
      depth: if it is known.
      ground: tracks of points on no object, and where they are visible.
    """

    owner: Int[np.ndarray, " N"]
    tracks: Float[np.ndarray, "N T 2"]
    seen: Bool[np.ndarray, "N T"]
    ground: Tracks
    depth: Float[np.ndarray, "N T"] | None = None

    def take(self, kept: Bool[np.ndarray, " N"]) -> Held:
        """Some of the points."""
        depth = None if self.depth is None else self.depth[kept]
        return Held(self.owner[kept], self.tracks[kept], self.seen[kept], self.ground, depth)


def own_tracks(clip: Clip, masks: Masks, rule: PointRule) -> Held:
    """Of a clip's tracks those that are seen in frame 0 and start where points should lie."""
    seen = in_bounds(clip.tracks, clip.size_hw)
    for known in (clip.visibility, clip.valid):
        seen = seen if known is None else seen & known
    there = np.flatnonzero(seen[:, 0])
    start = clip.tracks[there, 0]
    chosen = [
        there[place_among(start, part, count, rule.core)] for part, count in _parts(masks, rule)
    ]
    index = np.concatenate(chosen)
    ground = there[~_covered(start, masks)]
    return Held(
        owner=np.repeat(np.arange(len(masks)), [len(some) for some in chosen]),
        tracks=clip.tracks[index],
        seen=seen[index],
        ground=(clip.tracks[ground], seen[ground]),
        depth=None if clip.depth is None else clip.depth[index],
    )


def followed(clip: Clip, masks: Masks, rule: PointRule, tracker: Callable, name: str) -> Held:
    """Points placed on objects, and some beside them, followed by a tracker.

    Args:
      clip: with its video.
      masks: of the objects.
      rule: how many points they have.
      tracker: see `providers.Tracker`.
      name: of the tracker, for errors.

    Raises:
      ClipError: the tracker gives other shapes, or a visible place that is not finite.
    """
    placed = [place(part, count, rule.core) for part, count in _parts(masks, rule)]
    grid_hw = tuple(min(a, b) for a, b in zip(_GROUND_HW, clip.size_hw, strict=True))
    beside = even_points(clip.size_hw, grid_hw)
    beside = beside[~_covered(beside, masks)]
    query = np.concatenate([*placed, beside])
    tracks, seen = _checked(tracker(clip.video, query), len(query), clip.num_frames, name)
    seen = seen & in_bounds(tracks, clip.size_hw)
    count = len(query) - len(beside)
    return Held(
        owner=np.repeat(np.arange(len(masks)), [len(some) for some in placed]),
        tracks=tracks[:count],
        seen=seen[:count],
        ground=(tracks[count:], seen[count:]),
    )


def _parts(masks: Masks, rule: PointRule):
    """What of each mask is its own, and how many points it has."""
    counts = rule.counts(masks.mean(axis=(1, 2)).tolist())
    return zip(own_parts(masks), counts, strict=True)


def _covered(xy: Float[np.ndarray, "M 2"], masks: Masks) -> Bool[np.ndarray, " M"]:
    """Whether a point inside the frame lies on an object."""
    height, width = masks.shape[1:]
    columns, rows = np.rint(xy).astype(int).T
    return masks.any(axis=0)[rows.clip(0, height - 1), columns.clip(0, width - 1)]


def _checked(answer, count: int, frames: int, name: str) -> Tracks:
    try:
        tracks, seen = (np.asarray(part) for part in answer)
    except (TypeError, ValueError) as error:
        raise ClipError(f"{name} must give (tracks, visibility): {error}") from error
    if tracks.shape != (count, frames, 2) or tracks.dtype.kind != "f":
        raise ClipError(
            f"{name} gave tracks {tracks.dtype} {tracks.shape}, wanted floats {(count, frames, 2)}"
        )
    if seen.shape != (count, frames) or seen.dtype != np.bool_:
        raise ClipError(
            f"{name} gave visibility {seen.dtype} {seen.shape}, wanted bool {(count, frames)}"
        )
    finite = np.isfinite(tracks).all(axis=-1)
    if (seen & ~finite).any():
        n, t = np.argwhere(seen & ~finite)[0]
        raise ClipError(f"{name} says that point {n} is visible in frame {t}, at no finite place")
    return np.where(finite[..., None], tracks, 0).astype(np.float32), seen
