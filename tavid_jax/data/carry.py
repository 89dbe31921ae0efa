"""Masks of frame 0 carried through a video by a point tracker.

Points inside a mask are followed. In every frame a similarity is fitted to those still seen, with
weights that leave out points that went astray, and what it leaves over beyond a small rest is
spread smoothly between the points, so that arms that move on their own are bent along. The outline
of the mask is moved so and filled. Where the points are lost, because the object is fast or was
hidden, it is looked for near its last place by its last looks, and followed anew from there.

A carried mask is that of the whole object: what covers a part of it does not cut it.
"""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from tavid_jax.data.masks import resize_mask
from tavid_jax.data.outlines import Outlines, Pose, fit_pose
from tavid_jax.data.tracker import DISTracker, Tracker
from tavid_jax.data.video import resize_image

_LEAST_SIDE = 384  # px: shorter frames are enlarged, flow needs room,
_LARGEST_SCALE = 8  # but loses itself in large plain surfaces
_POINTS = 500  # of one mask, about
_ALIKE = 60.0  # of 255: a point whose colour changes more lies on something else
_FOUND = 0.7  # correlation of looks that finds an object again
_SEARCHES = 4  # that may follow an object anew: each runs the tracker
_GONE = 0.5  # share of a lost object's area outside the frame: it has left


def carry_mask(
    video: UInt8[np.ndarray, "T H W 3"],
    mask: Bool[np.ndarray, "H W"],
    tracker: Tracker = DISTracker(),  # noqa: B008 (frozen)
) -> Bool[np.ndarray, "T H W"]:
    """Where the object of a mask of frame 0 is in every frame.

    Frame 0 is the mask itself. While few points are seen the object only moves with them; without
    any, and not found again, it stays where it was, or is gone (an empty mask) if most of it had
    left the frame.

    Args:
      video: RGB; small frames are enlarged for the tracker.
      mask: of frame 0.
      tracker: follows the points.

    Raises:
      ValueError: an empty mask.
    """
    return carry_masks(video, mask[None], tracker)[0]


def carry_masks(
    video: UInt8[np.ndarray, "T H W 3"],
    masks: Bool[np.ndarray, "S H W"],
    tracker: Tracker = DISTracker(),  # noqa: B008 (frozen)
) -> Bool[np.ndarray, "S T H W"]:
    """`carry_mask` of several objects at once, which share the first run of the tracker."""
    if not masks.any(axis=(1, 2)).all():
        raise ValueError(
            f"mask {int(masks.any(axis=(1, 2)).argmin())} is empty: there is nothing to carry"
        )
    size_hw, large = video.shape[1:3], enlarged(video)
    large_hw = large.shape[1:3]
    outlines = [Outlines.of(resize_mask(mask, large_hw)) for mask in masks]
    points = [_points_inside(one.fill(large_hw)[0] > 0) for one in outlines]
    tracks, seen = tracker(large, np.concatenate(points))
    borders = np.cumsum([len(some) for some in points])[:-1]
    carried = np.zeros((len(masks), len(video), *size_hw), bool)
    for k, one in enumerate(zip(np.split(tracks, borders), np.split(seen, borders), strict=True)):
        followed = _Object(large, tracker, outlines[k], *one)
        for t in range(1, len(video)):
            carried[k, t] = resize_image(followed.step(t), size_hw) > 127
    carried[:, 0] = masks
    return carried


def enlarged(video: UInt8[np.ndarray, "T H W 3"]) -> UInt8[np.ndarray, "T h w 3"]:
    """Small frames made so large that points in them can be followed; larger ones as they are."""
    height, width = video.shape[1:3]
    scale = min(_LARGEST_SCALE, max(1, -(-_LEAST_SIDE // min(height, width))))
    if scale == 1:
        return video
    return np.stack([resize_image(frame, (height * scale, width * scale)) for frame in video])


def _points_inside(mask: Bool[np.ndarray, "h w"]) -> Float[np.ndarray, "N 2"]:
    """(x, y) of pixels on a regular grid inside a mask, off its edge where that leaves some."""
    core = cv2.erode(mask.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    core = core if 4 * core.sum() > mask.sum() else mask
    step = max(1, int(np.sqrt(core.sum() / _POINTS)))
    y, x = np.nonzero(core)
    on_grid = (y % step == step // 2) & (x % step == step // 2)
    if on_grid.sum() < 20:  # a thin mask falls between the lines of the grid
        on_grid = np.arange(len(x)) % max(1, len(x) // _POINTS) == 0
    return np.stack([x[on_grid], y[on_grid]], axis=-1).astype(np.float32)


class _Object:
    """One object on its way; `step` must be asked for frames 1, 2, ... in order.

    Args:
      video: (T, h, w, 3) at the size that the tracker gets.
      tracker: to follow it anew.
      outlines: of its mask in frame 0.
      tracks, seen: (N, T, 2) and (N, T) of points inside it.
    """

    def __init__(self, video, tracker, outlines: Outlines, tracks, seen):
        self._video, self._tracker = video, tracker
        self._last = 0  # frame in which it was seen last
        self._gone, self._searches = False, _SEARCHES
        self._start(0, outlines, tracks, seen)

    def _start(self, frame: int, outlines: Outlines, tracks, seen) -> None:
        """Follows it from a frame on by new points."""
        self._from, self._outlines = frame, outlines
        self._tracks, self._seen = tracks.astype(np.float64), seen
        self._pose = Pose.rest(outlines.size)
        self._colours = self._looks_at(frame, self._tracks[:, 0])

    def step(self, t: int) -> UInt8[np.ndarray, "h w"]:
        """255 where the object is in frame t."""
        k = t - self._from
        now, seen = self._tracks[:, k], self._seen[:, k].copy()
        seen[seen] = self._alike(t, now[seen], self._colours[seen])
        pose = fit_pose(self._pose, self._tracks[:, 0], now, seen)
        if pose is None and not self._gone and self._searches:
            pose = self._search(t)
        if pose is not None:
            self._pose, self._last = pose, t
        filled, inside = self._outlines.moved(self._pose).fill(self._video.shape[1:3])
        self._gone = pose is None and (self._gone or inside < 1 - _GONE)
        return np.zeros_like(filled) if self._gone else filled

    def _looks_at(self, t: int, points) -> Float[np.ndarray, "N 3"]:
        """Colours (N, 3) around points of a frame."""
        soft = cv2.blur(self._video[t], (5, 5))
        x, y = np.round(points).astype(int).T
        return soft[y.clip(0, len(soft) - 1), x.clip(0, soft.shape[1] - 1)].astype(np.float64)

    def _alike(self, t: int, points, colours) -> Bool[np.ndarray, " N"]:
        return np.abs(self._looks_at(t, points) - colours).mean(-1) < _ALIKE

    def _search(self, t: int) -> Pose | None:
        """Looks for the object as it was last, near its last place; follows it anew if found."""
        before = self._outlines.moved(self._pose)
        shift = _find(self._video[self._last], self._video[t], before)
        if shift is None:
            return None
        outlines = Outlines([part + shift for part in before.parts], before.size)
        mask = outlines.fill(self._video.shape[1:3])[0] > 0
        if not mask.any():
            return None
        self._searches -= 1
        self._start(t, outlines, *self._tracker(self._video[t:], _points_inside(mask)))
        return self._pose


def _find(
    before: UInt8[np.ndarray, "h w 3"], after: UInt8[np.ndarray, "h w 3"], outlines: Outlines
) -> Float[np.ndarray, "2"] | None:
    """How far an object has moved by its looks, None if nothing near looks like it."""
    height, width = before.shape[:2]
    mask = outlines.fill((height, width))[0]
    y, x = np.nonzero(mask)
    if len(x) < 16:
        return None
    x0, y0, x1, y1 = x.min(), y.min(), x.max() + 1, y.max() + 1
    reach = int(1.0 * max(x1 - x0, y1 - y0))
    left, top = max(0, x0 - reach), max(0, y0 - reach)
    area = after[top : y1 + reach, left : x1 + reach]
    shown, where = before[y0:y1, x0:x1], mask[y0:y1, x0:x1]
    shrink = min(1.0, 48.0 / max(where.shape))  # coarse looks are enough, and forgive blur
    shown, area, where = (
        cv2.resize(one, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
        for one in (shown, area, where)
    )
    if min(shown.shape[:2]) < 4 or any(a < b for a, b in zip(area.shape, shown.shape, strict=True)):
        return None
    weight = np.repeat((where > 127).astype(np.uint8)[..., None], 3, -1)
    match = cv2.matchTemplate(area, shown, cv2.TM_CCOEFF_NORMED, mask=weight)
    match = np.where(np.isfinite(match), match, -1.0)
    j, i = np.unravel_index(match.argmax(), match.shape)
    if match[j, i] < _FOUND:
        return None
    return np.array([i, j]) / shrink + [left - x0, top - y0]
