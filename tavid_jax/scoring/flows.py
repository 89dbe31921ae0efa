"""Flow and midpoints without weights, by OpenCV's inverse search (Kroeger et al. 2016)."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from tavid_jax.scoring.providers import ScoringError

_LEAST_SIDE = 16  # px


class DISFlow:
    """Dense flow at the frames' own size; not VBench's RAFT, so scores compare with each other
    alone.
    """

    name = "opencv-dis-medium"

    def describe(self) -> dict[str, Any]:
        """The name, and OpenCV's version."""
        return {"name": self.name, "opencv": cv2.__version__}

    def __call__(
        self, before: UInt8[np.ndarray, "H W 3"], after: UInt8[np.ndarray, "H W 3"]
    ) -> Float[np.ndarray, "H W 2"]:
        """(x, y) px by which each pixel of `before` moves."""
        if min(before.shape[:2]) < _LEAST_SIDE:
            raise ScoringError(
                f"frames of {before.shape[1]}x{before.shape[0]} are too small for optical flow; "
                f"each side needs {_LEAST_SIDE} px"
            )
        # A fresh one each time: it holds buffers of the last size.
        search = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        grey = (cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in (before, after))
        return search.calc(*grey, None)


class DISMidpoint:
    """The frame between two frames: both are moved half-way along the flow and averaged.

    The two flows are joined as in Super SloMo (Jiang et al. 2018, arXiv:1712.00080): at the
    midpoint, the way back to a frame is a quarter of the difference of both flows. Nothing is
    learned, so that thin or hidden things blur: scores lie below those of VBench's AMT.
    """

    name = "opencv-dis-midpoint"

    def __init__(self):
        self._flow = DISFlow()

    def describe(self) -> dict[str, Any]:
        """The name, and OpenCV's version."""
        return {"name": self.name, "opencv": cv2.__version__}

    def __call__(
        self, before: UInt8[np.ndarray, "H W 3"], after: UInt8[np.ndarray, "H W 3"]
    ) -> UInt8[np.ndarray, "H W 3"]:
        """The frame half-way."""
        there, back = self._flow(before, after), self._flow(after, before)
        half = (there - back) / 4
        moved = [_warp(before, -half), _warp(after, half)]
        return np.round((moved[0] + moved[1]) / 2).astype(np.uint8)


def _warp(
    frame: UInt8[np.ndarray, "H W 3"], offset: Float[np.ndarray, "H W 2"]
) -> Float[np.ndarray, "H W 3"]:
    """Reads the frame at each pixel's place plus the offset, bilinearly; edges are repeated."""
    height, width = frame.shape[:2]
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    return cv2.remap(
        frame.astype(np.float32),
        x + offset[..., 0].astype(np.float32),
        y + offset[..., 1].astype(np.float32),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
