"""What is cut out around a trajectory, to be compared with its words (local CLIP-T).

No rule is published. The default looks where the entity should be, in a box as large as it was in
the first frame: an entity that is elsewhere is not seen in it.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from tavid_jax.metrics import result
from tavid_jax.metrics.located import REFERENCE_HW

Around = Literal["object", "square"]


@dataclasses.dataclass(frozen=True)
class CropRule:
    """How a box around a point is chosen; `OBJECT` and `SQUARE` are the two that are used.

    Attributes:
      around: "object": the box of the object in the first frame, grown; "square": one size for all.
      share: "object": factor by which the object's sides are grown; "square": side of the box, as
        a share of the frame's shorter side.
      least: shortest side, in px of a frame of `REFERENCE_HW`; smaller frames have less.
      moved: what stands out of the frame: True moves the box inside, False cuts it off.

    Raises:
      ValueError: an unknown `around`, sizes that are not positive.
    """

    around: Around = "object"
    share: float | int = 1.2
    least: float | int = 96
    moved: bool = False

    def __post_init__(self):
        if self.around not in ("object", "square"):
            raise ValueError(f"around={self.around!r} is unknown; known: object, square")
        if self.share <= 0 or self.least < 0:
            raise ValueError(f"a box of share={self.share}, least={self.least} is empty")

    @property
    def name(self) -> str:
        """For records, e.g. "object x1.2, at least 96 px of 832x480, cut off"."""
        height, width = REFERENCE_HW
        size = f"object x{self.share:g}" if self.around == "object" else f"square {self.share:g}"
        rest = "moved inside" if self.moved else "cut off"
        return f"{size}, at least {self.least:g} px of {width}x{height}, {rest}"


OBJECT = CropRule()
SQUARE = CropRule("square", share=0.25, least=64, moved=True)
RULES = {"object": OBJECT, "square": SQUARE}


def crop_boxes(
    tracks: Float[np.ndarray, "N T 2"],
    visibility: Bool[np.ndarray, "N T"],
    sizes: Float[np.ndarray, "N 2"] | None,
    size_hw: tuple[int, int],
    rule: CropRule = OBJECT,
) -> Int[np.ndarray, "N T 4"]:
    """Boxes (x0, y0, x1, y1) around trajectories, in whole px, the end excluded.

    Args:
      tracks: (x, y) px, pixel centres at integers.
      visibility: where there is a box; elsewhere, and where nothing of it lies in the frame, it is
        all 0 (and empty).
      sizes: (height, width) px of each object in the first frame; NaN, or None for all: unknown,
        the least box is taken.
      size_hw: of the frame.
      rule: see `CropRule`.

    Raises:
      ValueError: shapes that do not belong together.
    """
    result.check_shapes(tracks.shape[:2], visibility=visibility)
    result.check_shapes((len(tracks), 2), sizes=sizes)
    height, width = size_hw
    least = rule.least * min(height / REFERENCE_HW[0], width / REFERENCE_HW[1])
    if rule.around == "square":
        sides = np.full((len(tracks), 2), rule.share * min(size_hw))
    else:
        known = np.full((len(tracks), 2), np.nan) if sizes is None else sizes.astype(np.float64)
        sides = rule.share * np.nan_to_num(known)
    sides = np.maximum(sides, least)[:, None, ::-1]  # as (width, height)
    limit = np.array([width, height], np.float64)
    middle = np.where(visibility[..., None], tracks.astype(np.float64), 0) + 0.5
    if rule.moved:
        sides = np.minimum(sides, limit)
        middle = np.clip(middle, sides / 2, limit - sides / 2)
    low, high = (np.round(middle + sign * sides / 2) for sign in (-1, 1))
    low, high = np.clip(low, 0, limit), np.clip(np.maximum(high, low + 1), 0, limit)
    there = visibility & (high > low).all(axis=-1)
    boxes = np.concatenate([low, high], axis=-1)
    return np.where(there[..., None], boxes, 0).astype(np.int64)


def box_sizes(
    ids: Int[np.ndarray, "H W"], numbers: Int[np.ndarray, " N"]
) -> Float[np.ndarray, "N 2"]:
    """(height, width) px of the box around each object of a picture of ids; NaN where it has none.

    Args:
      ids: which object each pixel belongs to; 0 is none.
      numbers: the objects asked for; 0 has no size.
    """
    sizes = np.full((len(numbers), 2), np.nan)
    for n, number in enumerate(numbers):
        rows, columns = np.nonzero(ids == number)
        if number > 0 and len(rows):
            sizes[n] = np.ptp(rows) + 1, np.ptp(columns) + 1
    return sizes
