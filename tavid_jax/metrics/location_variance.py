"""How much of the variance of tracks is explained by where in the frame they start.

TrajLoom equation 18 and appendix B.1: of absolute coordinates nearly all of it, which a model would
spend its capacity on; of offsets from an anchor in the track's cell little.

    R = Var_g(mu_g) / (Var_g(mu_g) + Mean_g(sigma2_g))

for each axis, with mu_g and sigma2_g the mean and the variance over visible times at cell g. The
equation has no index of clips. [ours] Pooled: mu_g and sigma2_g are over all visible places of a
cell in all clips, so that R is the share between cells of the total variance, and mu_g can be drawn
as one map. Beside it R of each clip alone, over its own times, as its mean over clips: it takes
the motion of one clip for a matter of place, so it is usually larger.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float

from tavid_jax.metrics import result

Anchor = Literal["none", "cell", "pixel"]
ANCHORS: tuple[Anchor, ...] = ("none", "cell", "pixel")


@dataclasses.dataclass(frozen=True, eq=False)
class LocationVariance:
    """Of one set of clips and one anchor; axes are (x, y), lengths are pixels.

    Attributes:
      explained: R in percent, clips pooled; NaN where nothing varies.
      per_clip: mean of each clip's own R in percent.
      between: Var_g(mu_g), px^2.
      within: Mean_g(sigma2_g), px^2.
      mean: mu_g on the grid; NaN where no track of that cell is ever visible.
      variance: sigma2_g on the grid.
      clips: their number.
      anchor: what coordinates are measured from.
    """

    explained: Float[np.ndarray, " 2"]
    per_clip: Float[np.ndarray, " 2"]
    between: Float[np.ndarray, " 2"]
    within: Float[np.ndarray, " 2"]
    mean: Float[np.ndarray, "gh gw 2"]
    variance: Float[np.ndarray, "gh gw 2"]
    clips: int
    anchor: Anchor

    def record(self, **settings) -> dict:
        """As plain Python, with what it depends on."""
        values = {
            f"{name}_{axis}": getattr(self, name)[k]
            for name in ("explained", "per_clip", "between", "within")
            for k, axis in enumerate("xy")
        }
        grid = list(self.mean.shape[:2])
        return result.record(values, n=self.clips, anchor=self.anchor, grid=grid, **settings)


class Sums:
    """Counts, sums and squares of every cell, one clip after another."""

    def __init__(self, size_hw: tuple[int, int], grid_hw: tuple[int, int]):
        """Of clips whose tracks are a row-major grid of that many cells in a frame of that size.

        Raises:
          ValueError: cells that are not square.
        """
        (height, width), (rows, columns) = size_hw, grid_hw
        if height * columns != width * rows:
            raise ValueError(
                f"a grid of {rows}x{columns} cells in {height}x{width} px has no square cells"
            )
        self.size_hw, self.grid_hw, self.cell = size_hw, grid_hw, width / columns
        y, x = np.divmod(np.arange(rows * columns), columns)
        # Pixel centres lie at integers: a cell covers [j s - 1/2, (j + 1) s - 1/2).
        self.centres = (np.stack([x, y], axis=-1) + 0.5) * self.cell - 0.5
        self._moments = np.zeros((3, rows * columns, 2))
        self._between: list[np.ndarray] = []
        self._within: list[np.ndarray] = []

    def add(self, tracks: Float[np.ndarray, "N T 2"], visibility: Bool[np.ndarray, "N T"]) -> None:
        """One clip; places that are not finite count as invisible.

        Raises:
          ValueError: another number of tracks than cells.
        """
        if len(tracks) != len(self.centres):
            rows, columns = self.grid_hw
            raise ValueError(f"{len(tracks)} tracks do not fill a grid of {rows}x{columns} cells")
        seen = (visibility & np.isfinite(tracks).all(axis=-1))[..., None]
        # Moments about the cell's centre: small numbers lose no digits.
        off = np.where(seen, tracks.astype(np.float64) - self.centres[:, None], 0)
        count = np.broadcast_to(seen.sum(axis=1), (len(tracks), 2))
        moments = np.stack([count, off.sum(axis=1), (off**2).sum(axis=1)])
        self._moments += moments
        if seen.any():
            parts = [self._parts(moments, anchor) for anchor in ANCHORS]
            self._between.append(np.stack([between for between, *_ in parts]))
            self._within.append(np.stack([within for _, within, *_ in parts]))

    def result(self, anchor: Anchor) -> LocationVariance:
        """What all clips so far give.

        Args:
          anchor: "none", absolute coordinates; "cell", offsets from the cell's centre, as the
            paper's analysis; "pixel", offsets of the dense field from every pixel's own centre, as
            TrajLoom's code encodes: a cell of side s then holds a ramp, whose variance
            (s^2 - 1) / 12 is between pixels.

        Raises:
          ValueError: no such anchor, or no visible track.
        """
        if anchor not in ANCHORS:
            raise ValueError(f"no anchor {anchor!r}: use one of {', '.join(ANCHORS)}")
        if not self._between:
            raise ValueError("no track is visible in any clip")
        between, within, mean, variance = self._parts(self._moments, anchor)
        which = ANCHORS.index(anchor)
        single = [
            _share(b[which], w[which]) for b, w in zip(self._between, self._within, strict=True)
        ]
        return LocationVariance(
            explained=_share(between, within),
            per_clip=np.array([result.finite_mean(axis) for axis in np.stack(single, axis=1)]),
            between=between,
            within=within,
            mean=mean.reshape(*self.grid_hw, 2),
            variance=variance.reshape(*self.grid_hw, 2),
            clips=len(self._between),
            anchor=anchor,
        )

    def _parts(self, moments: Float[np.ndarray, "3 N 2"], anchor: Anchor):
        """(between (2,), within (2,), mu (N, 2), sigma2 (N, 2)); NaN where nothing was seen."""
        count, total, square = moments
        off, second = result.ratio(total, count), result.ratio(square, count)
        variance = np.maximum(second - off**2, 0)
        mean = off + self.centres if anchor == "none" else off
        between, within = np.nanvar(mean, axis=0), np.nanmean(variance, axis=0)
        ramp = (self.cell**2 - 1) / 12 if anchor == "pixel" else 0.0
        return between + ramp, within, mean, variance


def explained_variance(
    clips: Iterable[tuple[Float[np.ndarray, "N T 2"], Bool[np.ndarray, "N T"]]],
    size_hw: tuple[int, int],
    grid_hw: tuple[int, int],
    anchor: Anchor = "cell",
) -> LocationVariance:
    """R of a set of clips, each (tracks (N, T, 2) px, visibility (N, T)); see `Sums`.

    Raises:
      ValueError: see `Sums`.
    """
    sums = Sums(size_hw, grid_hw)
    for tracks, visibility in clips:
        sums.add(tracks, visibility)
    return sums.result(anchor)


def _share(between: Float[np.ndarray, " 2"], within: Float[np.ndarray, " 2"]) -> np.ndarray:
    return 100 * result.ratio(between, between + within)
