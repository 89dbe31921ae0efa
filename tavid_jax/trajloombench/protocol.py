"""What the bench asks: which frames are given, which are forecast, on which grid of points."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Float

from tavid_jax.tracks.grid import grid_shape, query_points

# Data sets of the paper, in the order of its tables: name -> heading.
DATASETS = {
    "kinetics": "Kinetics",
    "robotap": "RoboTAP",
    "kubric": "Kubric",
    "magicdata": "MagicData",
}


class BenchError(ValueError):
    """Something that the bench was given cannot be used; the message names it and the mend."""


@dataclasses.dataclass(frozen=True)
class Protocol:
    """Sizes; the defaults are the paper's.

    Attributes:
      size_hw: of the frames that all pixels refer to.
      stride: px between the points, which are seeded in the first frame.
      origin: of the first point, "topleft" (0, 0) or "center" of its cell.
      history: frames that are given.
      future: frames that follow; the longest forecast, and the window of reconstructions.
      horizons: lengths of forecasts that are evaluated.

    Raises:
      BenchError: sizes that do not fit together.
    """

    size_hw: tuple[int, int] = (480, 832)
    stride: int = 32
    origin: str = "topleft"
    history: int = 81
    future: int = 81
    horizons: tuple[int, ...] = (24, 81)

    def __post_init__(self):
        try:
            query_points(self.size_hw, self.stride, self.origin)
        except ValueError as error:
            raise BenchError(str(error)) from error
        if self.history < 1 or self.future < 1:
            raise BenchError(f"history {self.history} and future {self.future} must be positive")
        wrong = [count for count in self.horizons if not 2 <= count <= self.future]
        if wrong or not self.horizons:
            raise BenchError(
                f"forecasts of {wrong or 'no'} frames: give lengths from 2 to {self.future}, the "
                "frames that follow the history"
            )

    @property
    def frames(self) -> int:
        """Frames of a clip; what it has beyond them is not read."""
        return self.history + self.future

    @property
    def grid_hw(self) -> tuple[int, int]:
        """Rows and columns of the points."""
        return grid_shape(self.size_hw, self.stride)

    @property
    def queries(self) -> Float[np.ndarray, "N 2"]:
        """Points (x, y) px in the first frame, row-major."""
        return query_points(self.size_hw, self.stride, self.origin)

    def describe(self) -> dict[str, Any]:
        """All but the horizons, for JSON."""
        return {
            "size_hw": list(self.size_hw),
            "stride": self.stride,
            "origin": self.origin,
            "history": self.history,
            "future": self.future,
        }
