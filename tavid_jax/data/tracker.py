"""Trackers: a protocol, and the embedded one that chains OpenCV's dense optical flow."""

from __future__ import annotations

import dataclasses
from typing import Literal, Protocol, runtime_checkable

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from tavid_jax.data.video import resize_image, scale_points

_PRESETS = {"ultrafast": 0, "fast": 1, "medium": 2, "fine": 2}  # cv2.DISOPTICAL_FLOW_PRESET_*


@runtime_checkable
class Tracker(Protocol):
    """Follows points of the first frame through a video."""

    @property
    def fingerprint(self) -> str:
        """Name and settings; part of the key of cached tracks."""
        ...

    def working_hw(self, size_hw: tuple[int, int]) -> tuple[int, int]:
        """Size (H, W) at which it wants frames that come in this size."""
        ...

    def __call__(
        self, video: UInt8[np.ndarray, "T H W 3"], query_xy: Float[np.ndarray, "N 2"]
    ) -> tuple[Float[np.ndarray, "N T 2"], Bool[np.ndarray, "N T"]]:
        """Tracks (x, y) px of the video (pixel centres at integers), and their visibility."""
        ...


@dataclasses.dataclass(frozen=True)
class DISTracker:
    """Chains dense inverse search optical flow (Kroeger et al. 2016) from frame to frame.

    A point is moved by the flow read bilinearly at its sub-pixel place. It is visible until the
    first frame in which it has left the frame or the backward flow does not bring it back to
    within `threshold_px`; from then on it stays at its last place, invisible.

    Its weakness is plain surfaces: flow spreads onto them from moving things beside them, so that
    points there drift along until the check drops them.

    Attributes:
      threshold_px: largest forward-backward distance, in px of the working resolution.
      long_side: working resolution; frames are shrunk (never enlarged) to this long side; 0 =
        native.
      preset: quality of the flow, "ultrafast", "fast", "medium", or "fine": "medium" refined down
        to whole pixels instead of every second, half the error at four times the cost.
    """

    threshold_px: float | int = 1.0
    long_side: int = 512
    preset: Literal["ultrafast", "fast", "medium", "fine"] = "medium"

    @property
    def fingerprint(self) -> str:
        """Name and settings; part of the key of cached tracks."""
        return f"dis1-{self.preset}-{self.long_side}-{self.threshold_px:g}"

    def working_hw(self, size_hw: tuple[int, int]) -> tuple[int, int]:
        """Size at which flow is computed for frames of this size."""
        scale = min(1.0, self.long_side / max(size_hw)) if self.long_side else 1.0
        return max(1, round(size_hw[0] * scale)), max(1, round(size_hw[1] * scale))

    def __call__(
        self, video: UInt8[np.ndarray, "T H W 3"], query_xy: Float[np.ndarray, "N 2"]
    ) -> tuple[Float[np.ndarray, "N T 2"], Bool[np.ndarray, "N T"]]:
        """Tracks (x, y) px of the video (pixel centres at integers), and their visibility."""
        size_hw = video.shape[1:3]
        work_hw = self.working_hw(size_hw)
        _check_size(work_hw)
        flow = self._make_flow()
        points = scale_points(query_xy, size_hw, work_hw).astype(np.float64)
        alive = _inside(points, work_hw)
        tracks, visibility = [points], [alive]
        before = _grey(video[0], work_hw)
        for frame in video[1:]:
            after = _grey(frame, work_hw)
            forward, backward = flow.calc(before, after, None), flow.calc(after, before, None)
            moved = points + sample_flow(forward, points)
            error = np.linalg.norm(moved + sample_flow(backward, moved) - points, axis=-1)
            points = np.where(alive[:, None], moved, points)
            alive = alive & (error <= self.threshold_px) & _inside(moved, work_hw)
            tracks.append(points)
            visibility.append(alive)
            before = after
        tracks = scale_points(np.stack(tracks, axis=1), work_hw, size_hw)
        tracks[:, 0] = query_xy  # exactly, whatever the two scalings rounded
        return tracks, np.stack(visibility, axis=1)

    def _make_flow(self) -> cv2.DISOpticalFlow:
        """A fresh one per call: it holds buffers, so threads must not share it."""
        flow = cv2.DISOpticalFlow_create(_PRESETS[self.preset])
        if self.preset == "fine":
            flow.setFinestScale(0)
        return flow


def sample_flow(
    flow: Float[np.ndarray, "H W 2"], points: Float[np.ndarray, "N 2"]
) -> Float[np.ndarray, "N 2"]:
    """Reads a field bilinearly at (x, y) px; the edge value outside the frame. Float64."""
    height, width = flow.shape[:2]
    x = np.clip(points[:, 0], 0, width - 1)
    y = np.clip(points[:, 1], 0, height - 1)
    x0 = np.minimum(x.astype(int), max(width - 2, 0))
    y0 = np.minimum(y.astype(int), max(height - 2, 0))
    x1, y1 = np.minimum(x0 + 1, width - 1), np.minimum(y0 + 1, height - 1)
    fx, fy = (x - x0)[:, None], (y - y0)[:, None]
    top = flow[y0, x0] * (1 - fx) + flow[y0, x1] * fx
    bottom = flow[y1, x0] * (1 - fx) + flow[y1, x1] * fx
    return top * (1 - fy) + bottom * fy


def _inside(points: Float[np.ndarray, "N 2"], size_hw: tuple[int, int]) -> Bool[np.ndarray, " N"]:
    """Whether a point lies on a pixel of the frame, that is within [-1/2, W - 1/2)."""
    limit = np.array([size_hw[1], size_hw[0]]) - 0.5
    return ((points >= -0.5) & (points < limit)).all(axis=-1)


def _grey(frame: UInt8[np.ndarray, "H W 3"], size_hw: tuple[int, int]) -> np.ndarray:
    return cv2.cvtColor(resize_image(frame, size_hw), cv2.COLOR_RGB2GRAY)


def _check_size(size_hw: tuple[int, int]) -> None:
    if min(size_hw) < 16:
        raise ValueError(
            f"frames of {size_hw[0]}x{size_hw[1]} (HxW) are too small for optical flow; give the "
            f"tracker larger frames (at least 16 px a side)"
        )
