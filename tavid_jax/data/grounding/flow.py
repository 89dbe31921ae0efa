"""The embedded tracker: chained optical flow, with small frames made large enough for it."""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Bool, Float, UInt8

from tavid_jax.data.carry import enlarged
from tavid_jax.data.tracker import DISTracker
from tavid_jax.data.video import scale_points


@dataclasses.dataclass(frozen=True)
class FlowTracker:
    """`data.tracker.DISTracker` on frames with a shorter side of at least 384 px.

    Attributes:
      tracker: follows the points.
    """

    tracker: DISTracker = DISTracker()

    @property
    def fingerprint(self) -> str:
        """Name and settings."""
        return f"enlarged-{self.tracker.fingerprint}"

    def __call__(
        self, video: UInt8[np.ndarray, "T H W 3"], query_xy: Float[np.ndarray, "N 2"]
    ) -> tuple[Float[np.ndarray, "N T 2"], Bool[np.ndarray, "N T"]]:
        """See `providers.Tracker`."""
        small_hw, large = video.shape[1:3], enlarged(video)
        large_hw = large.shape[1:3]
        tracks, seen = self.tracker(large, scale_points(query_xy, small_hw, large_hw))
        tracks = scale_points(tracks, large_hw, small_hw)
        tracks[:, 0] = query_xy  # exactly, whatever the two scalings rounded
        return tracks, seen
