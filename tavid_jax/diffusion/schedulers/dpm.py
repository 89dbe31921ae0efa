"""CogVideoX's DPM: the stochastic two-step solver SDE-DPM-Solver++(2M) (arXiv:2211.01095).

From level a to level p (squared signal), with lam = ln(a / (1 - a)) / 2 and h = lam_p - lam_a:
x <- sqrt((1-p)/(1-a)) e^-h x + sqrt(p) (1 - e^-2h) D + sqrt(1-p) sqrt(1 - e^-2h) z, where D is x0
carried on along its last change. At both ends lam is infinite; written with
e^-2h = a (1-p) / ((1-a) p), the coefficients need no lam and are finite everywhere.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Float

from tavid_jax.diffusion.schedulers.sampler import Row, Sampler, at_least_float32
from tavid_jax.diffusion.schedulers.trailing import Levels, trailing_levels


class DPMState(NamedTuple):
    """The noisy latent, and the data that the model saw one step earlier (zeros at first)."""

    x: Float[Array, "B *x"]
    x0: Float[Array, "B *x"]


class DPM(Sampler):
    """x <- c_x x + c_x0 ((1 + k) x0 - k x0_before) + c_noise z."""

    needs_noise = True

    def init(self, x: Float[Array, "B *x"]) -> DPMState:
        x = at_least_float32(x)
        return DPMState(x, x0=0 * x)

    def step(
        self,
        state: DPMState,
        row: Row,
        output: Float[Array, "B *x"],
        noise: Float[Array, "B *x"] | None = None,
    ) -> DPMState:
        if noise is None:
            raise ValueError("sampler dpm is stochastic: give every step its noise")
        x0 = self.x0_of(state.x, row, output)
        ahead = row["k_here"] * x0 - row["k"] * state.x0
        x = row["x"] * state.x + row["x0"] * ahead + row["noise"] * noise.astype(x0.dtype)
        return DPMState(x, x0)


def dpm(steps: int, *, snr_shift: float | int = 1.0, previous: str = "published") -> DPM:
    """Noise is drawn anew in every step but the last; from the third step on second order.

    A reference that replays its noise: diffusers draws two tensors in second-order steps and uses
    the second.

    Arguments and errors as `trailing.trailing_levels`.
    """
    levels = trailing_levels(steps, snr_shift, previous)
    a, p = levels.signal, levels.landing
    drop = (p - a) / ((1 - a) * p)  # 1 - e^-2h
    k = _extrapolation(levels)
    columns = {
        "x": (1 - p) / (1 - a) * np.sqrt(a / p),
        "x0": np.sqrt(p) * drop,
        "noise": np.sqrt((1 - p) * drop),
        "k": k,
        "k_here": 1 + k,
    }
    return DPM(**levels.fields(columns))


def _extrapolation(levels: Levels) -> Float[np.ndarray, " n"]:
    """k = h / (2 (lam_t - lam of the timestep before)).

    0, which is first order, in the first step (nothing before), in the second (lam before it is
    minus infinity) and where a step lands on clean data (h is infinite; the published rule).
    """
    k = np.zeros_like(levels.signal)
    second_order = np.flatnonzero(levels.landing < 1)
    i = second_order[second_order >= 2]
    here, before, landing = (
        np.log(a / (1 - a)) for a in (levels.signal[i], levels.signal[i - 1], levels.landing[i])
    )
    k[i] = 0.5 * (landing - here) / (here - before)
    return k
