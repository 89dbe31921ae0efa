"""Which trajectories of a clip a training example gets."""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Int

from tavid_jax.data.clip import Clip
from tavid_jax.pipelines.keeping import check_source, told
from tavid_jax.tracks.trajectories import Trajectories


@dataclasses.dataclass(frozen=True)
class Draw:
    """Draws trajectories with texts.

    Attributes:
      source: one of `keeping.SOURCES`.
      least, most: how many an example gets, drawn evenly (the paper: about 40 in the dense stage,
        at most 5 in the sparse one); fewer where a clip has fewer.
      each: whether every object gets one before any gets a second.

    Raises:
      ValueError: a value out of range, by name.
    """

    source: str = "points"
    least: int = 1
    most: int = 5
    each: bool = True

    def __post_init__(self):
        check_source(self.source)
        if not 0 <= self.least <= self.most:
            raise ValueError(
                f"trajectories.least {self.least} and most {self.most}: needs 0 <= least <= most"
            )

    def __call__(self, clip: Clip, rng: np.random.Generator) -> Trajectories:
        """Trajectories of a clip, each with a text, visible at some time.

        Raises:
          ClipError: a clip without tracks or local captions, or whose tracks are of no objects.
        """
        known = self.known(clip)
        return known.take(self.chosen(known, rng))

    def chosen(self, known: Trajectories, rng: np.random.Generator) -> Int[np.ndarray, " K"]:
        """Which of them an example gets."""
        count = int(rng.integers(self.least, self.most + 1))
        order = rng.permutation(known.num_points)
        if self.each and known.segment is not None:
            order = order[np.argsort(_repeats(known.segment[order]), kind="stable")]
        return order[:count]

    def known(self, clip: Clip) -> Trajectories:
        """All that could be drawn.

        Raises:
          ClipError: see `__call__`.
        """
        return told(clip, self.source)


def _repeats(objects: np.ndarray) -> np.ndarray:
    """How often each entry has come before."""
    seen: dict[int, int] = {}
    counts = []
    for number in objects.tolist():
        counts.append(seen.get(number, 0))
        seen[number] = counts[-1] + 1
    return np.array(counts, int)
