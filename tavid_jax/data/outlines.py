"""Outlines of a mask, and how they move with points of it."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

_LEAST_SEEN = 0.05  # share of the points that a pose needs
_SPREAD = 0.3  # of the points at first: narrower sets tell no turn or size
_KERNEL = 0.12  # radius of bending, as a share of the mask's size
_REST = 0.04  # of the mask's size: smaller offsets are the tracker's errors
_GROWTH = 1.1  # most that a size changes from frame to frame; more is something else in its place
_SHIFT = 4  # binary digits of a fraction of a pixel


@dataclasses.dataclass(frozen=True)
class Outlines:
    """Closed lines around a mask and its holes.

    Attributes:
      parts: (x, y) px of each line; one inside another is a hole.
      size: square root of the area of the mask that they were taken from, px.
    """

    parts: list[Float[np.ndarray, "_ 2"]]
    size: float | np.floating

    @classmethod
    def of(cls, mask: Bool[np.ndarray, "h w"]) -> Outlines:
        """Those of a mask."""
        found, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        return cls([part[:, 0].astype(np.float64) for part in found], np.sqrt(mask.sum()))

    def moved(self, pose: Pose) -> Outlines:
        """After a pose."""
        return Outlines([pose(part) for part in self.parts], self.size)

    def fill(self, size_hw: tuple[int, int]) -> tuple[UInt8[np.ndarray, "h w"], float]:
        """(255 inside and 0 outside, which share of the area lies inside the frame)."""
        height, width = size_hw
        canvas = np.zeros((3 * height, 3 * width), np.uint8)  # it may be outside by a frame
        far = 100.0 * max(size_hw)
        fixed = [
            np.round(np.clip(part + [width, height], -far, far) * 2**_SHIFT).astype(np.int32)
            for part in self.parts
        ]
        cv2.fillPoly(canvas, fixed, 255, shift=_SHIFT)
        inside = np.ascontiguousarray(canvas[height : 2 * height, width : 2 * width])
        total = np.count_nonzero(canvas)
        return inside, np.count_nonzero(inside) / total if total else 0.0


@dataclasses.dataclass(frozen=True)
class Pose:
    """x -> linear @ x + shift, after x was bent by the offsets of points near it.

    Attributes:
      linear: turn and size.
      shift: px.
      anchors: points of the first frame.
      offsets: of each, px of the first frame.
      size: of the object, px.
    """

    linear: Float[np.ndarray, "2 2"]
    shift: Float[np.ndarray, "2"]
    anchors: Float[np.ndarray, "N 2"]
    offsets: Float[np.ndarray, "N 2"]
    size: float | np.floating

    @classmethod
    def rest(cls, size: float | np.floating) -> Pose:
        """Where an object was first."""
        return cls(np.eye(2), np.zeros(2), np.zeros((0, 2)), np.zeros((0, 2)), size)

    def __call__(self, points: Float[np.ndarray, "P 2"]) -> Float[np.ndarray, "P 2"]:
        """Where points of the first frame are."""
        if len(self.anchors):
            points = points + self._bend(points)
        return points @ self.linear.T + self.shift

    def _bend(self, points: Float[np.ndarray, "P 2"]) -> Float[np.ndarray, "P 2"]:
        radius = max(2.0, _KERNEL * self.size)
        squares = ((points[:, None] - self.anchors[None]) ** 2).sum(-1)
        near = np.exp(-squares / (2 * radius**2))
        bend = near @ self.offsets / (near.sum(1, keepdims=True) + 0.1)
        length = np.linalg.norm(bend, axis=-1, keepdims=True)
        return bend * np.maximum(0.0, 1.0 - _REST * self.size / np.maximum(length, 1e-9))


def fit_pose(
    last: Pose,
    start: Float[np.ndarray, "N 2"],
    now: Float[np.ndarray, "N 2"],
    seen: Bool[np.ndarray, " N"],
) -> Pose | None:
    """The pose that brings points of the first frame to where they are now.

    Args:
      last: pose of the frame before. Few points, or points close together, give a shift alone and
        keep its turn, size and bending.
      start, now: (x, y) px.
      seen: those that count.

    Returns:
      None if too few points are seen.
    """
    if seen.sum() < max(4, _LEAST_SEEN * len(start)):
        return None
    x, y = start[seen], now[seen]
    turns = len(x) >= 8 and np.sqrt(x.var(0).sum()) > _SPREAD * np.sqrt(start.var(0).sum())
    weight = np.ones(len(x))
    for _ in range(8):
        if turns:
            linear, shift = _similarity(x, y, weight)
        else:
            linear = last.linear
            shift = np.average(y - x @ linear.T, axis=0, weights=weight)
        error = np.linalg.norm(x @ linear.T + shift - y, axis=-1)
        weight = 1.0 / (1.0 + (error / max(0.5, 1.5 * np.median(error))) ** 2)
    if not turns:
        return dataclasses.replace(last, shift=shift)
    growth = np.sqrt(np.linalg.det(linear) / np.linalg.det(last.linear))
    if not 1 / _GROWTH < growth < _GROWTH:
        shift = np.average(y - x @ last.linear.T, axis=0, weights=weight)
        return dataclasses.replace(last, shift=shift)
    offsets = (y - shift) @ np.linalg.inv(linear).T - x
    near = np.linalg.norm(offsets, axis=-1) < 0.3 * last.size  # others went astray
    return Pose(linear, shift, x[near], offsets[near], last.size)


def _similarity(
    x: Float[np.ndarray, "N 2"], y: Float[np.ndarray, "N 2"], weight: Float[np.ndarray, " N"]
) -> tuple[Float[np.ndarray, "2 2"], Float[np.ndarray, "2"]]:
    """Turn, size and shift that bring x nearest to y in weighted squares."""
    weight = weight / weight.sum()
    mean_x, mean_y = weight @ x, weight @ y
    u, v = x - mean_x, y - mean_y
    size = weight @ (u * u).sum(-1)
    a = weight @ (u * v).sum(-1) / size
    b = weight @ (u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0]) / size
    linear = np.array([[a, -b], [b, a]])
    return linear, mean_y - linear @ mean_x
