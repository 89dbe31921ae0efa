"""From source to data along a learned velocity, as one compiled call."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from tavid_jax.diffusion.times import EPS, clamp

# (z: B ..., t: B) -> velocity of the shape of z
Velocity = Callable[[Array, Array], Array]

# Explicit Runge-Kutta methods in which each stage uses only the slope of the one before:
# (time of the stage, weight of the previous slope, weight in the result), in units of the step.
STAGES = {
    "euler": ((0.0, 0.0, 1.0),),
    "heun": ((0.0, 0.0, 0.5), (1.0, 1.0, 0.5)),
    "rk4": ((0.0, 0.0, 1 / 6), (0.5, 0.5, 1 / 3), (0.5, 0.5, 1 / 3), (1.0, 1.0, 1 / 6)),
}
METHODS = (*STAGES, "dopri5")


def integrate(
    velocity: Velocity,
    z0: Float[Array, "B *z"],
    *,
    method: str = "euler",
    steps: int = 10,
    rtol: float = 1e-5,
    atol: float = 1e-5,
    first: Float[Array, "B *slot"] | None = None,
    t_eps: float = EPS,
) -> Float[Array, "B *z"]:
    """Solves dz/dt = velocity(z, t) from t = 0 to t = 1.

    Args:
      velocity: (z, t) -> slope; z in float32 (a model casts to its own type), t one time per clip
        in [t_eps, 1 - t_eps]. What does not depend on z or t belongs into its closure.
      z0: state at t = 0.
      method: "euler", "heun", "rk4" (fixed steps) or "dopri5" (adaptive).
      steps: number of fixed steps; not read by dopri5.
      rtol, atol: tolerances of dopri5 (TrajLoom's 1e-5).
      first: state to hold in slot [:, 0] (the history's last latent, of shape B N C): it is set
        in the start, in every input and in the result, and its velocity is zero. Only sensible
        when the forecast's first frame is the history's last one.
      t_eps: distance of the model's times from 0 and 1.

    Returns:
      State at t = 1, float32.

    Raises:
      ValueError: unknown method or fewer than one step.
    """
    if method not in METHODS:
        raise ValueError(f"no solver {method!r}: use one of {', '.join(METHODS)}")
    if method == "dopri5":
        return dopri5(velocity, z0, rtol=rtol, atol=atol, first=first, t_eps=t_eps)[0]
    if steps < 1:
        raise ValueError(f"solver {method} with steps={steps}: at least one is needed")
    return _fixed_steps(velocity, z0, STAGES[method], steps, first, t_eps)


def evaluations(method: str, steps: int) -> int:
    """Calls of the velocity that a fixed-step method makes."""
    return len(STAGES[method]) * steps


def _prepare(velocity: Velocity, z0: Array, first: Array | None, t_eps: float):
    """The start in float32, and slope(z, scalar t) with clamped time and the held slot."""
    z0 = z0.astype(jnp.float32)
    if first is not None:
        z0 = z0.at[:, 0].set(first.astype(jnp.float32))

    def slope(z, t):
        times = jnp.full(z.shape[:1], clamp(jnp.asarray(t, jnp.float32), t_eps))
        v = velocity(z, times).astype(jnp.float32)
        return v if first is None else v.at[:, 0].set(0.0)

    return z0, slope


def _fixed_steps(velocity, z0, stages, steps, first, t_eps):
    """One scan over all stages of all steps, so that the model is traced and compiled once."""
    z0, slope = _prepare(velocity, z0, first, t_eps)
    h = 1.0 / steps
    offset, previous, share = (np.tile(column, steps) for column in zip(*stages, strict=True))
    times = (np.repeat(np.arange(steps), len(stages)) + offset) * h
    is_last = np.tile(np.arange(len(stages)) == len(stages) - 1, steps)
    table = (
        jnp.asarray(times, jnp.float32),
        jnp.asarray(h * previous, jnp.float32),
        jnp.asarray(h * share, jnp.float32),
        jnp.asarray(is_last),
    )

    def stage(carry, row):
        z, k, increment = carry
        t, back, forward, last = row
        k = slope(z + back * k, t)
        increment = increment + forward * k
        z = jnp.where(last, z + increment, z)
        increment = jnp.where(last, 0.0, increment)
        return (z, k, increment), None

    zero = jnp.zeros_like(z0)
    (z, _, _), _ = jax.lax.scan(stage, (z0, zero, zero), table)
    return z


def dopri5(
    velocity: Velocity,
    z0: Float[Array, "B *z"],
    *,
    rtol: float = 1e-5,
    atol: float = 1e-5,
    first: Float[Array, "B *slot"] | None = None,
    t_eps: float = EPS,
    max_steps: int = 4096,
) -> tuple[Float[Array, "B *z"], Int[Array, ""]]:
    """Adaptive Dormand-Prince 5(4) with one step size for the whole batch, as torchdiffeq has it.

    The error norm is the RMS over the whole state; equal to torchdiffeq at tolerance, not step
    for step. Arguments as `integrate`; max_steps bounds accepted and rejected steps together.

    Returns:
      The state at t = 1, and the number of steps tried (6 evaluations each, one more at start).
    """
    import diffrax  # slow to import, and needed here alone

    z0, slope = _prepare(velocity, z0, first, t_eps)
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(lambda t, z, args: slope(z, t)),
        diffrax.Dopri5(),
        t0=0.0,
        t1=1.0,
        dt0=None,
        y0=z0,
        stepsize_controller=diffrax.PIDController(rtol=rtol, atol=atol),
        max_steps=max_steps,
    )
    return solution.ys[0], jnp.asarray(solution.stats["num_steps"])
