"""Noise levels of flow matching: x = (1 - sigma) x0 + sigma eps, sigma from 1 (noise) to 0 (data).

A shift s moves evenly spaced levels towards noise: S(sigma) = s sigma / (1 + (s - 1) sigma).
Published grids differ in their ends, and are stored in float32. That rounding is part of them: the
first sigma is within 1e-6 to 1e-3 of 1, so it shows in the third digit of 1 - sigma.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from tavid_jax.diffusion.schedulers.sampler import check_steps

NUM_STEPS = 1000
WAN_SHIFT = 5.0

# (steps, shift) -> levels without the final 0
Levels = Callable[[int, float | int], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Sigmas:
    """A grid of n steps.

    Attributes:
      sigmas: (n + 1,) strictly decreasing to a final 0.
      timesteps: 1000 sigma as the model is told it.
    """

    sigmas: Float[np.ndarray, " n_and_end"]
    timesteps: Float[np.ndarray, " n"]

    def fields(self, columns: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """Fields of a `Sampler` with these columns; x0 = x - sigma v."""
        x0 = {"x_to_x0": np.ones(len(self.timesteps)), "v_to_x0": -self.sigmas[:-1]}
        return {
            "timesteps": self.timesteps,
            "alphas": 1 - self.sigmas,
            "sigmas": self.sigmas,
            "table": {**columns, **x0},
        }


def shifted(sigmas: Float[np.ndarray, " n"], shift: float | int) -> Float[np.ndarray, " n"]:
    """S(sigma)."""
    return shift * sigmas / (1 + (shift - 1) * sigmas)


def wan_levels(steps: int, shift: float | int) -> Float[np.ndarray, " n"]:
    """Wan's own: evenly from 0.999 towards 0, shifted."""
    first = np.float64(np.float32(1 - 1 / NUM_STEPS))
    return shifted(np.linspace(first, 0, steps + 1)[:-1], shift)


def diffusers_unipc_levels(steps: int, shift: float | int) -> Float[np.ndarray, " n"]:
    """UniPC's in diffusers: evenly from 1 towards 0.001, shifted, the first kept off 1."""
    levels = shifted(np.linspace(1, 1 / NUM_STEPS, steps + 1)[:-1], shift)
    levels[0] = 1 - 1e-6
    return levels


def diffusers_euler_levels(steps: int, shift: float | int) -> Float[np.ndarray, " n"]:
    """Euler's in diffusers: evenly from 1 to S(0.001), then shifted (that end so twice)."""
    end = shifted(np.array([1 / NUM_STEPS], np.float32), shift)[0]
    return shifted(np.linspace(1, np.float64(end), steps), shift)


def plain_levels(steps: int, shift: float | int) -> Float[np.ndarray, " n"]:
    """Evenly from 1 towards 0, shifted."""
    return shifted(np.linspace(1, 0, steps + 1)[:-1], shift)


def check_shift(shift: float | int) -> None:
    """Refuses a shift that is not positive."""
    if not 0 < shift < np.inf:
        raise ValueError(f"shift={shift}: must be positive")


def published(levels: Levels, steps: int, shift: float | int, floored: bool) -> Sigmas:
    """One of the grids above, rounded as its publisher stores it.

    Args:
      levels: the grid.
      steps: n, at least 1.
      shift: s > 0; 1 shifts nothing.
      floored: tell the model whole timesteps, the solver keeps the exact sigma (both UniPC); else
        1000 sigma in float32.

    Raises:
      ValueError: a number of steps or a shift that cannot be, or so many steps that float32 does
        not tell neighbours apart.
    """
    check_steps(steps)
    check_shift(shift)
    exact = levels(steps, shift)
    stored = exact.astype(np.float32)
    timesteps = np.floor(NUM_STEPS * exact) if floored else NUM_STEPS * stored
    return Sigmas(checked(stored), timesteps.astype(np.float64))


def given(sigmas: Sequence[float | int] | np.ndarray, steps: int, floored: bool) -> Sigmas:
    """A grid of one's own, already shifted; see `checked`.

    Raises:
      ValueError: also when it has not `steps` levels before its end.
    """
    sigmas = checked(np.asarray(sigmas, np.float64))
    if len(sigmas) - 1 != steps:
        raise ValueError(f"steps={steps} but sigmas has {len(sigmas) - 1} levels above 0")
    timesteps = NUM_STEPS * sigmas[:-1]
    return Sigmas(sigmas, np.floor(timesteps) if floored else timesteps)


def checked(sigmas: np.ndarray) -> Float[np.ndarray, " n_and_end"]:
    """Levels in float64 with a final 0, which is appended unless there.

    Raises:
      ValueError: unless they are a list of numbers in [0, 1] that strictly decreases from above 0.
    """
    sigmas = np.asarray(sigmas, np.float64)
    if sigmas.ndim != 1 or not len(sigmas):
        raise ValueError(f"sigmas must be a list of levels, got shape {sigmas.shape}")
    for i, sigma in enumerate(sigmas):
        if not 0 <= sigma <= 1:
            raise ValueError(f"sigmas[{i}] = {sigma}: noise levels lie within [0, 1]")
        if i and sigma >= sigmas[i - 1]:
            before = f"sigmas[{i - 1}] = {sigmas[i - 1]}"
            raise ValueError(f"sigmas[{i}] = {sigma} is not below {before}: levels must decrease")
    if sigmas[0] == 0:
        raise ValueError("sigmas[0] = 0.0: the first level must be above 0")
    return sigmas if sigmas[-1] == 0 else np.append(sigmas, 0.0)


def flow_grid(
    grids: Mapping[str, Levels],
    steps: int,
    shift: float | int | None,
    grid: str | None,
    sigmas: Sequence[float | int] | np.ndarray | None,
    floored: bool,
) -> Sigmas:
    """The grid that a sampler's options ask for.

    Args:
      grids: those the sampler has, by name; the first is the default.
      steps: n, at least 1.
      shift: s > 0; None is Wan's 5 (3 suits its image-to-video model at 480p).
      grid: name of a grid.
      sigmas: levels of one's own instead of `grid` and `shift`; a final 0 is appended.
      floored: see `published`.

    Raises:
      ValueError: options that contradict each other or that there are not; see `checked`.
    """
    if sigmas is not None:
        if grid is not None or shift is not None:
            raise ValueError("sigmas are taken as they are: leave out grid and shift, or sigmas")
        return given(sigmas, steps, floored)
    grid = next(iter(grids)) if grid is None else grid
    if grid not in grids:
        raise ValueError(f"no grid of sigmas {grid!r}: use one of {', '.join(grids)}")
    return published(grids[grid], steps, WAN_SHIFT if shift is None else shift, floored)
