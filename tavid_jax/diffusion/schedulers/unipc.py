"""UniPC of order 2 for flow matching: a predictor, corrected when the model is next asked.

The variant that Wan is sampled with (arXiv:2302.04867; B(h) = e^h - 1 and data prediction). With
lam = ln((1 - sigma) / sigma) everything that a step does is linear in latents, and all factors
depend on the grid of sigmas alone. So they are made here, once, and the corrector's part that is
known before the model is asked is carried as one latent, `base`.
"""

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
      base: the corrected one, but for the share of the data that the model will see in x.
      x0: the data that it saw one step earlier (zeros at first).
    """

    x: Float[Array, "B *x"]
    base: Float[Array, "B *x"]
    x0: Float[Array, "B *x"]


class UniPC(Sampler):
    """See above; the model is asked once per step, at the uncorrected latent."""

    def init(self, x: Float[Array, "B *x"]) -> UniPCState:
        x = at_least_float32(x)
        return UniPCState(x, base=x, x0=0 * x)

    def step(
        self,
        state: UniPCState,
        row: Row,
        output: Float[Array, "B *x"],
        noise: Float[Array, "B *x"] | None = None,
    ) -> UniPCState:
        x0 = self.x0_of(state.x, row, output)
        corrected = state.base + row["correct"] * x0

        def combined(name: str):
            return (
                row[f"{name}_x"] * corrected
                + row[f"{name}_x0"] * x0
                + row[f"{name}_before"] * state.x0
            )

        return UniPCState(combined("predict"), combined("base"), x0)


def unipc(
    steps: int,
    *,
    shift: float | int | None = None,
    grid: str | None = None,
    sigmas: Sequence[float] | np.ndarray | None = None,
) -> UniPC:
    """Second order but for the first and the last step; deterministic.

    The model is told floor(1000 sigma), as both publishers do.

    Arguments and errors as `sigmas.flow_grid`; grids "wan" (the default) and "diffusers".
    """
    chosen = levels.flow_grid(GRIDS, steps, shift, grid, sigmas, floored=True)
    return UniPC(**chosen.fields(_coefficients(chosen.sigmas)))


def _coefficients(sigmas: Float[np.ndarray, " n_and_end"]) -> dict[str, Float[np.ndarray, " n"]]:
    """Factors of every step, finite also where sigma is 1 or 0 (lam is infinite)."""
    with np.errstate(divide="ignore"):
        lam = np.log1p(-sigmas) - np.log(sigmas)
    steps = len(sigmas) - 1
    names = [f"{a}_{b}" for a in ("predict", "base") for b in ("x", "x0", "before")]
    table = {name: np.zeros(steps) for name in ("correct", *names)}
    for i in range(steps - 1):
        # To sigma: the share of x, h, and K, the share of the data if they never changed.
        x_share = sigmas[i + 1] / sigmas[i]
        h = lam[i + 1] - lam[i]
        data = -(1 - sigmas[i + 1]) * np.expm1(-h)
        # 1 / r, 0 for a first-order step: also after pure noise, from where lam is infinitely far.
        inverse_r = h / (lam[i - 1] - lam[i]) if i else 0.0
        rho_before, rho_new = _corrector(h, inverse_r) if i else (0.0, 0.5)
        table["predict_x"][i] = table["base_x"][i] = x_share
        table["predict_before"][i] = data * inverse_r / 2
        table["predict_x0"][i] = data * (1 - inverse_r / 2)
        table["base_before"][i] = data * rho_before
        table["base_x0"][i] = data * (1 - rho_before - rho_new)
        table["correct"][i + 1] = data * rho_new
    # The last step ends on the data.
    table["predict_x0"][-1] = 1.0
    return table


def _corrector(h: float, inverse_r: float) -> tuple[float, float]:
    """Weights of the data's differences (before - here) and (new - here), second order.

    They solve rho_1 + rho_2 = b1, r rho_1 + rho_2 = b2; the first comes back divided by r.
    """
    e = np.expm1(-h)
    phi = e / -h - 1
    b1, b2 = phi / e, 2 * (phi / -h - 0.5) / e
    rho_1 = (b1 - b2) * inverse_r / (inverse_r - 1)
    return rho_1 * inverse_r, b1 - rho_1
