"""Trackers by name: the embedded one, or any function of the caller's."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
from jaxtyping import UInt8

from tavid_jax.data.tracker import DISTracker, Tracker
from tavid_jax.trajloombench.named import named_function
from tavid_jax.trajloombench.protocol import BenchError

EMBEDDED = "dis"


@dataclasses.dataclass(frozen=True)
class FunctionTracker:
    """A function (video, query_xy) -> (tracks, visibility) as a `data.tracker.Tracker`.

    Attributes:
      fingerprint: "module:function".
      function: takes uint8 (T, H, W, 3) and (N, 2) px of the first frame; gives (N, T, 2) px,
        pixel centres at integers, and bool (N, T).
    """

    fingerprint: str
    function: Callable

    def working_hw(self, size_hw: tuple[int, int]) -> tuple[int, int]:
        """As the frames come."""
        return size_hw

    def __call__(self, video: UInt8[np.ndarray, "T H W 3"], query_xy: np.ndarray) -> tuple:
        """See `data.tracker.Tracker`."""
        return self.function(video, query_xy)


def named_tracker(name: str = EMBEDDED) -> Tracker:
    """The tracker of a name.

    Args:
      name: "dis", the embedded optical flow; "dis:fine" or another of its presets; or
        "module:function", see `FunctionTracker`.

    Raises:
      BenchError: no such preset, module or function.
    """
    module, _, attribute = name.partition(":")
    if module == EMBEDDED:
        presets = ("ultrafast", "fast", "medium", "fine")
        if attribute and attribute not in presets:
            raise BenchError(f"tracker {name!r}: presets are {', '.join(presets)}")
        return DISTracker(preset=attribute) if attribute else DISTracker()
    if not attribute:
        raise BenchError(f"no tracker {name!r}: use {EMBEDDED}, or module:function of your own")
    return FunctionTracker(name, named_function(name, "tracker"))
