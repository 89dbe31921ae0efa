"""What forecasts the tracks of a video's next frames: the one contract of all that is compared.

TrajLoom, WHN and trivial forecasts all answer it, so that a benchmark, a report or a bridge to a
video model reads any of them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, UInt8


@dataclasses.dataclass(frozen=True, eq=False)
class Past:
    """What is known of one clip: T frames.

    Attributes:
      tracks: float32 (N, T, 2), (x, y) pixels of `size_hw`, pixel centres at integers; row-major
        points of a grid (`grid_hw`) seeded in the first frame.
      visibility: (N, T).
      size_hw: frame size that the pixels refer to.
      grid_hw: rows and columns of the points.
      video: RGB frames of the same T times, of any size, or None.
      caption: "" for none.
    """

    tracks: Float[np.ndarray, "N T 2"]
    visibility: Bool[np.ndarray, "N T"]
    size_hw: tuple[int, int]
    grid_hw: tuple[int, int]
    video: UInt8[np.ndarray, "T H W 3"] | None = None
    caption: str = ""


@dataclasses.dataclass(frozen=True, eq=False)
class Future:
    """K futures of one clip: the T frames after its past.

    Attributes:
      tracks: float32 (K, N, T, 2) pixels of the past's frame size.
      visible: (K, N, T).
      probability: (K, N, T) of being visible, None where a forecast has no such thing.
    """

    tracks: Float[np.ndarray, "K N T 2"]
    visible: Bool[np.ndarray, "K N T"]
    probability: Float[np.ndarray, "K N T"] | None = None


@runtime_checkable
class Predictor(Protocol):
    """A forecast of tracks.

    Attributes:
      name: for tables, such as "TrajLoom".
      facts: all that its answers depend on besides the clip: solver, steps, hash of the weights.
    """

    name: str
    facts: Mapping[str, Any]

    def predict(self, past: Past, frames: int, samples: int = 1, seed: int = 0) -> Future:
        """K = `samples` futures of `frames` frames; the same seed gives the same ones.

        Raises:
          ValueError: a past of another size, grid or length than it was made for, or more frames
            than it forecasts.
        """

    def reconstruct(self, tracks: Float[np.ndarray, "N T 2"]) -> Float[np.ndarray, "N T 2"] | None:
        """Tracks through its autoencoder and back, None if it has none."""
