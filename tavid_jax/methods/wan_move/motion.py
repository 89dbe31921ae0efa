"""Which tracks a training example moves along, and how."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from jaxtyping import Int

from tavid_jax.data.clip import Clip, ClipError
from tavid_jax.tracks.latent_replacement import cell_sources, check_strategy, latent_cells
from tavid_jax.tracks.trajectories import Trajectories


@dataclasses.dataclass(frozen=True)
class Motion:
    """How tracks are drawn for an example.

    Attributes:
      dropout: share of the examples that move along nothing, so that plain image-to-video is kept.
      points: least and most of the tracks, of those seen in the first frame; how many is drawn
        evenly in its logarithm (the paper tells of random subsets, not of their sizes).
      strategy: see `tracks.latent_replacement.STRATEGIES`.

    Raises:
      ValueError: a value out of range.
    """

    dropout: float | int = 0.05
    points: tuple[int, int] = (1, 1024)
    strategy: str = "sample"

    def __post_init__(self):
        if not 0 <= self.dropout <= 1:
            raise ValueError(f"motion.dropout {self.dropout} must lie in [0, 1]")
        if len(self.points) != 2 or not 1 <= self.points[0] <= self.points[1]:
            raise ValueError(f"motion.points {self.points}: give the least and the most, from 1")
        check_strategy(self.strategy)

    def steering(self, clip: Clip, rng: np.random.Generator) -> Trajectories | None:
        """Some of a clip's tracks that are seen in its first frame; None where motion is dropped,
        or no track is seen there.

        Raises:
          ClipError: a clip without tracks.
        """
        if clip.tracks is None or clip.visibility is None:
            raise ClipError(f"clip {clip.id!r}: has no tracks to move along; track it first")
        dropped, share = rng.uniform() < self.dropout, rng.uniform()
        seen = clip.visibility if clip.valid is None else clip.visibility & clip.valid
        first = np.flatnonzero(seen[:, 0])
        if dropped or not len(first):
            return None
        least, most = (min(count, len(first)) for count in self.points)
        count = round(math.exp(math.log(least) + share * math.log(most / least)))
        chosen = np.sort(rng.permutation(first)[:count])
        return Trajectories(clip.tracks[chosen], seen[chosen], tuple(clip.size_hw))

    def sources(
        self, clip: Clip, grid_hw: tuple[int, int], rng: np.random.Generator
    ) -> Int[np.ndarray, "F h w"]:
        """Which cell of the image's latent each cell shows, see `cell_sources`; -1 everywhere where
        nothing moves.

        Raises:
          ClipError: see `steering`.
        """
        steering = self.steering(clip, rng)
        if steering is None:
            return np.full(((clip.num_frames - 1) // 4 + 1, *grid_hw), -1, np.int32)
        cells = latent_cells(
            steering.tracks, steering.visibility, steering.size_hw, grid_hw, self.strategy
        )
        return cell_sources(cells, grid_hw)
