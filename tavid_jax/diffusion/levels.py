"""Which noise levels are trained: densities over t, the share of noise, 0 (data) to 1 (noise).

They are those of Stable Diffusion 3 (arXiv:2403.03206), each as the inverse of its distribution
function, so that one uniform number makes a level. Mind the direction in other trainers: those
that look a draw up in a sampler's list of timesteps, which begins at noise, train at 1 - t. Their
positive mean of the logit-normal is less noise; here it is more, as in the paper.
"""

from __future__ import annotations

import abc
import dataclasses
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

# The least part of a density that levels may cut out: float32 still has 1000 numbers there.
LEAST_SHARE = 1e-4
# Beyond these the mode density's map folds back.
MODE_SCALES = (-1.0, 2.0 / (math.pi - 2.0))


class Density(abc.ABC):
    """How often each level is trained."""

    @abc.abstractmethod
    def quantile(self, u: Float[Array, "*B"]) -> Float[Array, "*B"]:
        """The level below which a share u of the draws lies."""

    @abc.abstractmethod
    def share(self, level: float | int) -> float:
        """The share of the draws that lies below a level: the inverse."""


@dataclasses.dataclass(frozen=True)
class Uniform(Density):
    """All levels alike."""

    def quantile(self, u: Float[Array, "*B"]) -> Float[Array, "*B"]:
        return u

    def share(self, level: float | int) -> float:
        return float(level)


@dataclasses.dataclass(frozen=True)
class LogitNormal(Density):
    """t = sigmoid(mean + std n), n normal: the middle more often.

    Attributes:
      mean: above 0 prefers noise.
      std: above 0.

    Raises:
      ValueError: a width that is not positive.
    """

    mean: float | int = 0.0
    std: float | int = 1.0

    def __post_init__(self):
        if not self.std > 0:
            raise ValueError(f"model.logit_std {self.std} must be above 0")

    def quantile(self, u: Float[Array, "*B"]) -> Float[Array, "*B"]:
        return jax.nn.sigmoid(self.mean + self.std * jax.scipy.special.ndtri(u))

    def share(self, level: float | int) -> float:
        if not 0 < level < 1:
            return float(level)
        normal = (math.log(level / (1 - level)) - self.mean) / self.std
        return 0.5 * math.erfc(-normal / math.sqrt(2))


@dataclasses.dataclass(frozen=True)
class Mode(Density):
    """t = u - scale (sin^2(pi u / 2) - u): the middle more often (scale above 0), or the ends.

    Attributes:
      scale: -1 to 2 / (pi - 2) = 1.75; 0 is uniform.

    Raises:
      ValueError: a scale outside of that.
    """

    scale: float | int = 1.29

    def __post_init__(self):
        low, high = MODE_SCALES
        if not low <= self.scale <= high:
            raise ValueError(f"model.mode_scale {self.scale} must lie in {low} .. {high:.2f}")

    def quantile(self, u: Float[Array, "*B"]) -> Float[Array, "*B"]:
        return u - self.scale * (jnp.sin(0.5 * jnp.pi * u) ** 2 - u)

    def share(self, level: float | int) -> float:
        if not 0 < level < 1:
            return float(level)
        # No closed form: halve the interval until float64 has no number between its ends.
        low, high = 0.0, 1.0
        for _ in range(60):
            middle = 0.5 * (low + high)
            found = middle - self.scale * (math.sin(0.5 * math.pi * middle) ** 2 - middle)
            low, high = (middle, high) if found < level else (low, middle)
        return high


@dataclasses.dataclass(frozen=True)
class CosMap(Density):
    """Density 2 / (pi (1 - 2t + 2t^2)): on the straight path what a cosine schedule trains."""

    def quantile(self, u: Float[Array, "*B"]) -> Float[Array, "*B"]:
        sine, cosine = jnp.sin(0.5 * jnp.pi * u), jnp.cos(0.5 * jnp.pi * u)
        return sine / (sine + cosine)

    def share(self, level: float | int) -> float:
        return math.atan2(level, 1 - level) / (0.5 * math.pi)


NAMES = ("uniform", "logit_normal", "mode", "cosmap")


def make_density(
    name: str,
    logit_mean: float | int = 0.0,
    logit_std: float | int = 1.0,
    mode_scale: float | int = 1.29,
) -> Density:
    """A density by name; each reads its own numbers.

    Raises:
      ValueError: an unknown name, or a number that its density refuses.
    """
    made = {
        "uniform": Uniform,
        "logit_normal": lambda: LogitNormal(logit_mean, logit_std),
        "mode": lambda: Mode(mode_scale),
        "cosmap": CosMap,
    }
    if name not in made:
        raise ValueError(f"model.timesteps {name!r} is none of {', '.join(NAMES)}")
    return made[name]()


def check_range(density: Density, low: float | int, high: float | int) -> None:
    """Refuses a range of levels in which a density has next to nothing.

    Raises:
      ValueError: its share is below `LEAST_SHARE`.
    """
    share = density.share(high) - density.share(low)
    if share < LEAST_SHARE:
        raise ValueError(
            f"model.levels: only a share of {share:.1e} of what {density} draws lies between "
            f"{low:.4g} and {high:.4g} (before the shift): draw other timesteps"
        )


def draw(
    keys: Key[Array, " B"],
    density: Density,
    low: float | int = 0.0,
    high: float | int = 1.0,
    stratified: bool = False,
) -> Float[Array, " B"]:
    """One level per example, low <= t <= high, in the proportions that the density has there.

    Args:
      keys: one per example.
      density: over all levels.
      low: the lowest level that is drawn; see `check_range`.
      high: the highest.
      stratified: the levels of these examples are spread as evenly as the density allows, so that
        the loss of a batch varies less. Each still has the density: see `strata`.
    """
    start, stop = density.share(low), density.share(high)
    u = strata(keys) if stratified else jax.vmap(_uniform)(keys)
    return jnp.clip(density.quantile(start + (stop - start) * u), low, high)


def strata(keys: Key[Array, " B"]) -> Float[Array, " B"]:
    """Numbers in [0, 1], one in each of B equal parts.

    The parts are dealt round by position among the keys, beginning at a part that the first
    example's key draws; the place within its part is drawn by each example's own key. So every
    single number is uniform, wherever its example always stands. The keys are those of a whole
    (micro-)batch over all devices: the numbers do not depend on how it is split over them.
    """
    own, shared = jnp.moveaxis(jax.vmap(jax.random.split)(keys), 1, 0)
    count = len(keys)
    first = jax.random.randint(shared[0], (), 0, count)
    return ((jnp.arange(count) + first) % count + jax.vmap(_uniform)(own)) / count


def _uniform(key: Key[Array, ""]) -> Float[Array, ""]:
    return jax.random.uniform(key, (), jnp.float32)
