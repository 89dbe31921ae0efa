"""Which control a training example gets: dense, sparse in space or time, or unaligned.

The paper anneals: dense control with colours first, then without, then sparse, then unaligned.
That is four stages of one run, each with a `Mixture`; or one stage with a `Schedule` of mixtures.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tavid_jax.pipelines.follow import Follow

DENSE, SPATIAL, TEMPORAL, UNALIGNED = TASKS = ("dense", "spatial", "temporal", "unaligned")


class Drawn(NamedTuple):
    """What one example is to be controlled by.

    Attributes:
      task: one of `TASKS`.
      follow: how its tracks become condition videos.
      dropped: whether they are left out, so that the model learns to do without.
    """

    task: str
    follow: Follow
    dropped: bool


@dataclasses.dataclass(frozen=True)
class Mixture:
    """Shares of tasks and what is drawn for each; the defaults are those of the released code.

    Attributes:
      dense, spatial, temporal, unaligned: weights of the tasks.
      colour: share of examples that keep the points' colours (1 - p_c); unaligned ones never do.
      regions: share of spatially sparse examples that keep whole segments instead of any points.
      points: least and greatest share of the points that are kept, drawn evenly on a logarithmic
        scale.
      areas: shares of the frame that kept segments may fill, one is drawn.
      frames: shares of the frames that are kept, one is drawn; 0 is the first and last alone.
      random_frames: share of temporally sparse examples whose frames are random, not evenly spaced.
      scale: least and greatest factor of an unaligned object's extent.
      dropout: share of examples without condition.

    Raises:
      ValueError: a value out of range, by name.
    """

    dense: float | int = 1.0
    spatial: float | int = 0.0
    temporal: float | int = 0.0
    unaligned: float | int = 0.0
    colour: float | int = 0.5
    regions: float | int = 0.5
    points: tuple[float | int, float | int] = (1e-3, 1e-1)
    areas: tuple[float | int, ...] = (0.3, 0.2, 0.1)
    frames: tuple[float | int, ...] = (0.2, 0.1, 0.1, 0.0, 0.0)
    random_frames: float | int = 0.0
    scale: tuple[float | int, float | int] = (0.3, 1.8)
    dropout: float | int = 0.0

    def __post_init__(self):
        weights = self.weights
        if min(weights) < 0 or not sum(weights):
            named = ", ".join(f"{n}={w:g}" for n, w in zip(TASKS, weights, strict=True))
            raise ValueError(f"control: weights {named} must not be negative, and not all zero")
        for name in ("colour", "regions", "random_frames", "dropout"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"control.{name} {getattr(self, name)} must lie in [0, 1]")
        for name, most in (("points", 1.0), ("scale", np.inf)):
            least, greatest = getattr(self, name)
            if not 0 < least <= greatest <= most:
                raise ValueError(
                    f"control.{name} {getattr(self, name)}: give two numbers above 0, the smaller "
                    f"first{', up to 1' if most == 1 else ''}"
                )
        for name in ("areas", "frames"):
            values = getattr(self, name)
            if not values or min(values) < 0 or max(values) > 1:
                raise ValueError(f"control.{name} {values}: give shares from 0 to 1")

    @property
    def weights(self) -> tuple[float | int, ...]:
        """Of the tasks, in the order of `TASKS`."""
        return tuple(getattr(self, name) for name in TASKS)

    def draw(self, rng: np.random.Generator, base: Follow, has_segments: bool) -> Drawn:
        """The control of one example.

        Args:
          rng: of the example.
          base: what is the same for all examples: codes, stamps, order.
          has_segments: whether whole segments can be kept.
        """
        shares = np.asarray(self.weights, np.float64)
        task = TASKS[rng.choice(len(TASKS), p=shares / shares.sum())]
        changes = {"seed": int(rng.integers(2**31))}
        if base.colour != "none" and (task == UNALIGNED or rng.random() >= self.colour):
            changes["colour"] = "none"
        if task == SPATIAL:
            changes |= self._sparse(rng, base.choose, has_segments)
        elif task == TEMPORAL:
            changes["keep_frames"] = float(rng.choice(self.frames))
            changes["random_frames"] = bool(rng.random() < self.random_frames)
        elif task == UNALIGNED:
            changes |= {"unaligned": "scale", "scale": float(rng.uniform(*self.scale))}
        dropped = bool(rng.random() < self.dropout)
        return Drawn(task, dataclasses.replace(base, **changes), dropped)

    def _sparse(self, rng: np.random.Generator, choose: str, has_segments: bool) -> dict:
        if has_segments and rng.random() < self.regions:
            return {"choose": "region", "keep_points": float(rng.choice(self.areas))}
        share = 10 ** rng.uniform(*np.log10(self.points))
        return {"choose": choose, "keep_points": float(share)}


@dataclasses.dataclass(frozen=True)
class Schedule:
    """Mixtures along a training; between two of them the weights and shares change linearly.

    Attributes:
      mixtures: at least one.
      steps: at which each of them is reached, ascending; before the first and behind the last one
        nothing changes.

    Raises:
      ValueError: other numbers of them, or steps that do not ascend.
    """

    mixtures: Sequence[Mixture]
    steps: Sequence[float | int] = (0,)

    def __post_init__(self):
        if not self.mixtures or len(self.mixtures) != len(self.steps):
            raise ValueError(
                f"control.schedule: {len(self.mixtures)} mixtures at {len(self.steps)} steps: give "
                "a step for each"
            )
        if any(b <= a for a, b in zip(self.steps[:-1], self.steps[1:], strict=True)):
            raise ValueError(f"control.schedule: steps {tuple(self.steps)} must ascend")

    @property
    def changes(self) -> bool:
        """Whether the step matters."""
        return len(self.mixtures) > 1

    def at(self, step: int) -> Mixture:
        """The mixture of a step."""
        after = int(np.searchsorted(self.steps, step, side="right"))
        if after in (0, len(self.steps)):
            return self.mixtures[min(after, len(self.steps) - 1)]
        first, second = self.mixtures[after - 1], self.mixtures[after]
        start, stop = self.steps[after - 1], self.steps[after]
        share = (step - start) / (stop - start)
        # Weights count as shares, so that mixtures of other sums are not preferred.
        one, two = (dict(zip(TASKS, _shares(m), strict=True)) for m in (first, second))
        mixed = {name: (1 - share) * one[name] + share * two[name] for name in TASKS}
        for name in ("colour", "regions", "random_frames", "dropout"):
            a, b = getattr(first, name), getattr(second, name)
            mixed[name] = (1 - share) * a + share * b
        return dataclasses.replace(first, **mixed)


def _shares(mixture: Mixture) -> np.ndarray:
    weights = np.asarray(mixture.weights, np.float64)
    return weights / weights.sum()
