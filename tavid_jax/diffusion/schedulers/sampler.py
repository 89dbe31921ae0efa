"""What every sampler is: tables made on the host in float64, and a step that reads one row."""

import abc
import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, DTypeLike, Float

# One step's coefficients by name: scalars of the state's type.
Row = dict[str, Array]


class State(NamedTuple):
    """What a one-step method carries; others carry more, and always a field `x`.

    Attributes:
      x: the noisy latent, float32.
    """

    x: Float[Array, "B *x"]


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Sampler(abc.ABC):
    """A reverse process of n steps. Hashable and equal by value, so it may be a static argument.

    Noisy latents are x = alpha x0 + sigma eps. All arrays are float64, finite and read-only; jitted
    programs hold them as small constants.

    Attributes:
      timesteps: (n,) what the model is told before each step, 0 to 1000.
      alphas: (n + 1,) share of the data before each step, and after the last one.
      sigmas: (n + 1,) share of the noise, alike.
      table: columns (n,) of coefficients. All samplers have "x_to_x0" and "v_to_x0" (`x0_of`).
    """

    timesteps: Float[np.ndarray, " n"]
    alphas: Float[np.ndarray, " n_and_end"]
    sigmas: Float[np.ndarray, " n_and_end"]
    table: Mapping[str, Float[np.ndarray, " n"]]

    # Whether `step` needs standard normal noise.
    needs_noise: ClassVar[bool] = False

    def __post_init__(self):
        """Makes the arrays float64 and read-only; refuses what must not reach a traced program."""
        for name in ("timesteps", "alphas", "sigmas"):
            object.__setattr__(self, name, _constant(name, getattr(self, name)))
        table = {name: _constant(name, column) for name, column in sorted(self.table.items())}
        object.__setattr__(self, "table", table)

    @property
    def steps(self) -> int:
        """n, how often the model is asked."""
        return len(self.timesteps)

    @functools.cached_property
    def _value(self) -> tuple[Any, ...]:
        arrays = (self.timesteps, self.alphas, self.sigmas, *self.table.values())
        return type(self), tuple(self.table), tuple(array.tobytes() for array in arrays)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sampler) and self._value == other._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(steps={self.steps})"

    def rows(self, start: int = 0, stop: int | None = None, dtype: DTypeLike = jnp.float32) -> Row:
        """Rows [start:stop] of the table, each column an array.

        "timestep" and "index" come along; the index (int32) counts from the first step of all.
        """
        columns = {**self.table, "timestep": self.timesteps}
        rows = {name: jnp.asarray(column[start:stop], dtype) for name, column in columns.items()}
        return {**rows, "index": jnp.arange(self.steps, dtype=jnp.int32)[start:stop]}

    def row(self, index: int, dtype: DTypeLike = jnp.float32) -> Row:
        """One row, 0 <= index < n, for loops in Python."""
        return {name: column[0] for name, column in self.rows(index, index + 1, dtype).items()}

    def x0_of(
        self, x: Float[Array, "B *x"], row: Row, output: Float[Array, "B *x"]
    ) -> Float[Array, "B *x"]:
        """The data that the model sees in x: for the steps, and for previews."""
        return row["x_to_x0"] * x + row["v_to_x0"] * output.astype(x.dtype)

    @abc.abstractmethod
    def init(self, x: Float[Array, "B *x"]) -> Any:
        """The state before step 0 of pure noise x ~ N(0, 1)."""

    @abc.abstractmethod
    def step(
        self,
        state: Any,
        row: Row,
        output: Float[Array, "B *x"],
        noise: Float[Array, "B *x"] | None = None,
    ) -> Any:
        """The next state.

        Args:
          state: from `init` or the step before.
          row: this step's coefficients.
          output: what the model predicted from (state.x, row["timestep"]), guidance done.
          noise: N(0, 1), read only if `needs_noise`.
        """


def at_least_float32(x: Float[Array, "*x"]) -> Float[Array, "*x"]:
    """Latents as samplers keep them: half precision would lose the small steps' increments."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def check_steps(steps: int, most: int | None = None) -> None:
    """Refuses a number of steps below one or above `most`."""
    if steps < 1 or (most is not None and steps > most):
        limit = "at least 1" if most is None else f"1 to {most}"
        raise ValueError(f"steps={steps}: a sampler takes {limit}")


def _constant(name: str, values: np.ndarray) -> np.ndarray:
    """A read-only float64 copy."""
    values = np.array(values, np.float64)
    if not np.isfinite(values).all():
        index = int(np.argmin(np.isfinite(values)))
        raise ValueError(f"sampler table {name}[{index}] = {values[index]}: must be finite")
    values.setflags(write=False)
    return values
