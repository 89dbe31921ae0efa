"""CogVideoX's noise levels: 1000 discrete steps that end in pure noise, walked from the last one.

The step that a sampler of n steps makes from t leads, as published, to t - floor(1000 / n), which
is the next timestep of its own list only where n divides 1000. Elsewhere the list's gaps are wider
by one now and then: the model is told a little less noise than the latent has. `previous="next"`
leads to the list's next timestep instead.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from tavid_jax.diffusion.schedulers.sampler import check_steps
from tavid_jax.diffusion.vprediction import NUM_STEPS, zero_snr_alphas

PREVIOUS = ("published", "next")


@dataclasses.dataclass(frozen=True)
class Levels:
    """Where each step starts and where it lands.

    Attributes:
      timesteps: t, strictly decreasing from 999.
      signal: a_t = alpha^2 where each step starts; the first is exactly 0.
      landing: a where it lands, in (0, 1]; 1 is clean data.
    """

    timesteps: Int[np.ndarray, " n"]
    signal: Float[np.ndarray, " n"]
    landing: Float[np.ndarray, " n"]

    def fields(self, columns: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """Fields of a `Sampler` with these columns; x0 = alpha x - sigma v."""
        signal = np.append(self.signal, self.landing[-1])
        alphas, sigmas = np.sqrt(signal), np.sqrt(1 - signal)
        table = {**columns, "x_to_x0": alphas[:-1], "v_to_x0": -sigmas[:-1]}
        timesteps = self.timesteps.astype(np.float64)
        return {"timesteps": timesteps, "alphas": alphas, "sigmas": sigmas, "table": table}


def trailing_timesteps(steps: int) -> Int[np.ndarray, " n"]:
    """round(1000, 1000 - 1000/n, ...) - 1: n = 50 gives 999, 979, ..., 19.

    Rounded as published, from the floating-point range; only its surplus element, which it has for
    some n (61, 103, ...) and which would name timestep -1, is left out.

    Raises:
      ValueError: fewer than 1 or more than 1000 steps.
    """
    check_steps(steps, most=NUM_STEPS)
    return np.round(np.arange(NUM_STEPS, 0, -NUM_STEPS / steps)[:steps]).astype(np.int64) - 1


def trailing_levels(
    steps: int, snr_shift: float | int = 1.0, previous: str = "published"
) -> Levels:
    """The levels of n steps.

    Args:
      steps: n, 1 to 1000.
      snr_shift: 3 for CogVideoX-2B, 1 for the others.
      previous: "published" or "next", see above.

    Raises:
      ValueError: a number of steps, a shift or a rule that there is not.
    """
    if previous not in PREVIOUS:
        raise ValueError(f"previous={previous!r}: use one of {', '.join(PREVIOUS)}")
    if not 0 < snr_shift < np.inf:
        raise ValueError(f"snr_shift={snr_shift}: must be positive")
    timesteps = trailing_timesteps(steps)
    if previous == "published":
        targets = timesteps - NUM_STEPS // steps
    else:
        targets = np.append(timesteps[1:], -1)
    table = zero_snr_alphas(snr_shift)
    landing = np.where(targets >= 0, table[np.maximum(targets, 0)], 1.0)
    return Levels(timesteps, table[timesteps], landing)
