"""CogVideoX's DDIM: deterministic, first order, v-prediction (arXiv:2010.02502, 2305.08891)."""

import numpy as np
from jaxtyping import Array, Float

from tavid_jax.diffusion.schedulers.sampler import Row, Sampler, State, at_least_float32
from tavid_jax.diffusion.schedulers.trailing import trailing_levels


class DDIM(Sampler):
    """x <- c_x x + c_x0 x0."""

    def init(self, x: Float[Array, "B *x"]) -> State:
        return State(at_least_float32(x))

    def step(
        self,
        state: State,
        row: Row,
        output: Float[Array, "B *x"],
        noise: Float[Array, "B *x"] | None = None,
    ) -> State:
        x0 = self.x0_of(state.x, row, output)
        return State(row["x"] * state.x + row["x0"] * x0)


def ddim(steps: int, *, snr_shift: float | int = 1.0, previous: str = "published") -> DDIM:
    """The noise that x holds stays what it is, scaled to the level where the step lands.

    Arguments and errors as `trailing.trailing_levels`.
    """
    levels = trailing_levels(steps, snr_shift, previous)
    a, p = levels.signal, levels.landing
    scale = np.sqrt((1 - p) / (1 - a))
    return DDIM(**levels.fields({"x": scale, "x0": np.sqrt(p) - np.sqrt(a) * scale}))
