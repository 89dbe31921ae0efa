"""UniPC of order 2 for flow matching: a predictor, corrected when the model is next asked.

The variant that Wan is sampled with (arXiv:2302.04867; B(h) = e^-h - 1, data prediction), with
lam = ln((1 - sigma) / sigma) and h its increase over a step. There e^-h = (1 - s) t / (s (1 - t))
from sigma s to sigma t, so the published factors t / s of the latent and -(1 - t) (e^-h - 1) of
the data add up to 1. A step is therefore written as what it adds to the latent, a share of the way
to the data: in float32 that rounds once per step, and needs no infinite lam at either end.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Float

from tavid_jax.diffusion.schedulers import sigmas as levels
from tavid_jax.diffusion.schedulers.sampler import Row, Sampler, at_least_float32

GRIDS = {"wan": levels.wan_levels, "diffusers": levels.diffusers_unipc_levels}


class UniPCState(NamedTuple):
    """Between two steps.

    Attributes:
      x: the predicted noisy latent: what the model reads.
      last: the corrected latent of the step before, from which x was predicted.
      x0: the data that the model saw in that step (zeros at first).
      x0_before: the same of one more step before.
    """

    x: Float[Array, "B *x"]
    last: Float[Array, "B *x"]
    x0: Float[Array, "B *x"]
    x0_before: Float[Array, "B *x"]


class UniPC(Sampler):
    """See above; the model is asked once per step, at the uncorrected latent."""

    def init(self, x: Float[Array, "B *x"]) -> UniPCState:
        x = at_least_float32(x)
        return UniPCState(x, last=x, x0=0 * x, x0_before=0 * x)

    def step(
        self,
        state: UniPCState,
        row: Row,
        output: Float[Array, "B *x"],
        noise: Float[Array, "B *x"] | None = None,
    ) -> UniPCState:
        x0 = self.x0_of(state.x, row, output)
        # The step that led here once more, now that the data at its end are known.
        change = row["rho_before"] * (state.x0_before - state.x0) + row["rho_new"] * (x0 - state.x0)
        x = state.last + row["redo"] * (state.x0 - state.last + change)
        ahead = x + row["go"] * (x0 - x + row["rho"] * (state.x0 - x0))
        return UniPCState(ahead, x, x0, state.x0)


def unipc(
    steps: int,
    *,
    shift: float | int | None = None,
    grid: str | None = None,
    sigmas: Sequence[float | int] | np.ndarray | None = None,
) -> UniPC:
    """Second order but for the first and the last step; deterministic.

    The model is told floor(1000 sigma), as both publishers do.

    Arguments and errors as `sigmas.flow_grid`; grids "wan" (the default) and "diffusers".
    """
    chosen = levels.flow_grid(GRIDS, steps, shift, grid, sigmas, floored=True)
    return UniPC(**chosen.fields(_coefficients(chosen.sigmas)))


def _coefficients(sigmas: Float[np.ndarray, " n_and_end"]) -> dict[str, Float[np.ndarray, " n"]]:
    """Columns of the table, finite also where sigma is 1 or 0.

    "go" is the share of the way to the data of the step that starts here, "redo" of the one that
    led here (0 in the first: nothing to correct). First order are the predictors of the first and
    the last step, and with them the corrector of the first.
    """
    with np.errstate(divide="ignore"):
        lam = np.log1p(-sigmas) - np.log(sigmas)
    go = 1 - sigmas[1:] / sigmas[:-1]
    table = {"go": go, "redo": np.append(0.0, go[:-1])}
    rho, rho_before, rho_new = np.zeros((3, len(go)))
    rho_new[1:2] = 0.5
    for i in range(1, len(go) - 1):
        h = lam[i + 1] - lam[i]
        # 0 after pure noise, from where lam is infinitely far.
        inverse_r = h / (lam[i - 1] - lam[i])
        rho[i] = inverse_r / 2
        rho_before[i + 1], rho_new[i + 1] = _corrector(h, inverse_r)
    return {**table, "rho": rho, "rho_before": rho_before, "rho_new": rho_new}


def _corrector(h: float, inverse_r: float) -> tuple[float, float]:
    """Weights of the data's differences (before - here) and (new - here), second order.

    They solve rho_1 + rho_2 = b1, r rho_1 + rho_2 = b2; the first comes back divided by r.
    """
    e = np.expm1(-h)
    if h < 0.1:  # the closed form loses digits
        psi = sum((-h) ** k / math.factorial(k + 2) for k in range(1, 12))
    else:
        psi = (e / -h - 1) / -h - 0.5
    b1, b2 = -h * (psi + 0.5) / e, 2 * psi / e
    rho_1 = (b1 - b2) * inverse_r / (inverse_r - 1)
    return rho_1 * inverse_r, b1 - rho_1
