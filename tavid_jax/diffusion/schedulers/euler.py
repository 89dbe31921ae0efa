"""Flow-matching Euler: along the predicted velocity from one sigma to the next."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Array, Float

from tavid_jax.diffusion.schedulers import sigmas as levels
from tavid_jax.diffusion.schedulers.sampler import Row, Sampler, State, at_least_float32

GRIDS = {"plain": levels.plain_levels, "diffusers": levels.diffusers_euler_levels}


class Euler(Sampler):
    """x <- x + (sigma after - sigma) v."""

    def init(self, x: Float[Array, "B *x"]) -> State:
        return State(at_least_float32(x))

    def step(
        self,
        state: State,
        row: Row,
        output: Float[Array, "B *x"],
        noise: Float[Array, "B *x"] | None = None,
    ) -> State:
        return State(state.x + row["change"] * output.astype(state.x.dtype))


def euler(
    steps: int,
    *,
    shift: float | int | None = None,
    grid: str | None = None,
    sigmas: Sequence[float | int] | np.ndarray | None = None,
) -> Euler:
    """First order; the model is told 1000 sigma, unrounded.

    Arguments and errors as `sigmas.flow_grid`; grids "plain" (the default) and "diffusers".
    """
    chosen = levels.flow_grid(GRIDS, steps, shift, grid, sigmas, floored=False)
    return Euler(**chosen.fields({"change": np.diff(chosen.sigmas)}))
