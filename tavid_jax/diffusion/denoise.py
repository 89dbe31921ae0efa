"""From noise to data: a sampler's steps as one compiled scan."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from tavid_jax.diffusion.paths import per_clip_normal
from tavid_jax.diffusion.schedulers.sampler import Row, Sampler

# (x: B ..., timestep: scalar, row) -> the model's output, shape of x, guidance done
Predict = Callable[[Array, Array, Row], Array]


def denoise(
    predict: Predict,
    sampler: Sampler,
    begin: Any,
    *,
    guidance: Float[np.ndarray, "n *scales"] | None = None,
    noise: Key[Array, " B"] | Float[Array, "n B *x"] | None = None,
    start: int = 0,
    stop: int | None = None,
    project: Callable[[Array], Array] | None = None,
) -> Any:
    """Runs steps [start:stop]. Call it inside jit: the model is traced once.

    Two experts one after the other (Wan 2.2 A14B), or guidance for a part of the schedule only, are
    two calls: the second continues from the state that the first returned.

    Args:
      predict: (x, timestep, row) -> output. What does not change over the steps (weights, texts)
        belongs into its closure; it reads latents in float32 and casts them itself. Besides the
        sampler's columns the row holds "index" and, if given, "guidance".
      sampler: its tables become constants of the program.
      begin: noise (B, ...) of N(0, 1), or where start > 0 the state that the steps before left.
      guidance: (n,) or (n, scales), one row per step of the whole schedule, made on the host.
      noise: for stochastic samplers: one key per clip (folded with the index of the step, so a
        clip's noise depends neither on its batch nor on segments) or replayed noise of the whole
        schedule. Others do not read it.
      start, stop: the segment; None is the end.
      project: put upon x before the first step and after each, to hold what is known (such as a
        clean first latent frame). The sampler's memory of earlier steps is not touched: all
        samplers work element by element, so held elements never reach the others.

    Returns:
      The state after the segment. After the last step its field `x` is the data.

    Raises:
      ValueError: a segment outside of the schedule; a later segment without a state; guidance or
        noise that does not fit the schedule; a stochastic sampler without noise.
    """
    stop = sampler.steps if stop is None else stop
    if not 0 <= start <= stop <= sampler.steps:
        raise ValueError(f"steps [{start}:{stop}] are not within the schedule's {sampler.steps}")
    state = _state(sampler, begin, start)
    if project is not None:
        state = state._replace(x=project(state.x))
    if start == stop:
        return state
    rows: dict[str, Any] = sampler.rows(start, stop, state.x.dtype)
    if guidance is not None:
        _check_length("guidance", guidance.shape, (sampler.steps,))
        rows["guidance"] = jnp.asarray(guidance[start:stop], state.x.dtype)
    keys, replayed = _noise(sampler, noise, state.x.shape)
    if replayed is not None:
        replayed = replayed[start:stop]

    def step(state, this):
        row, noise = this
        output = predict(state.x, row["timestep"], row)
        if keys is not None:
            noise = per_clip_normal(fold_in_each(keys, row["index"]), shape)
        state = sampler.step(state, row, output, noise)
        return (state if project is None else state._replace(x=project(state.x))), None

    fold_in_each = jax.vmap(jax.random.fold_in, (0, None))
    shape = state.x.shape[1:]
    return jax.lax.scan(step, state, (rows, replayed))[0]


def _state(sampler: Sampler, begin: Any, start: int) -> Any:
    """The state to begin with."""
    if not isinstance(begin, jax.Array | np.ndarray):
        return begin
    if start > 0:
        raise ValueError(f"start={start}: needs the state that steps [0:{start}] returned, not x")
    return sampler.init(jnp.asarray(begin))


def _noise(
    sampler: Sampler, noise: Array | None, shape: tuple[int, ...]
) -> tuple[Array | None, Array | None]:
    """(keys, replayed): at most one of them is there."""
    if not sampler.needs_noise:
        return None, None
    if noise is None:
        raise ValueError(f"{sampler} is stochastic: noise must be one key per clip, or an array")
    if jnp.issubdtype(noise.dtype, jax.dtypes.prng_key):
        _check_length("keys of the noise", noise.shape, shape[:1])
        return noise, None
    _check_length("replayed noise", noise.shape, (sampler.steps, *shape))
    return None, noise


def _check_length(what: str, shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    if shape[: len(expected)] != expected:
        raise ValueError(f"{what}: shape {shape} must begin with {expected}")
