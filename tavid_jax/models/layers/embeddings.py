"""Sinusoidal and Fourier embeddings. Two conventions live side by side; the names tell them."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int


def sin_cos_table(positions: Float[np.ndarray, " P"], dim: int) -> Float[np.ndarray, "P dim"]:
    """[sin(q w_k), cos(q w_k)] with w_k = 10000^(-k / (dim/2)), sine block first; float32.

    Computed in float64 and rounded once, as the fixed tables of published checkpoints are.
    """
    half = dim // 2
    frequencies = 10000.0 ** (-np.arange(half, dtype=np.float64) / half)
    angles = np.asarray(positions, np.float64)[:, None] * frequencies
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=-1).astype(np.float32)


def sin_cos_grid(grid_hw: tuple[int, int], dim: int) -> Float[np.ndarray, "N dim"]:
    """2-D table of a row-major grid: first half encodes the column, second half the row."""
    gh, gw = grid_hw
    columns = sin_cos_table(np.arange(gw, dtype=np.float64), dim // 2)
    rows = sin_cos_table(np.arange(gh, dtype=np.float64), dim // 2)
    table = np.concatenate(
        [
            np.broadcast_to(columns[None], (gh, gw, dim // 2)),
            np.broadcast_to(rows[:, None], (gh, gw, dim // 2)),
        ],
        axis=-1,
    )
    return table.reshape(gh * gw, dim)


def cos_sin_embedding(positions: Float[Array, "*P"], dim: int) -> Float[Array, "*P dim"]:
    """[cos(q f_k), sin(q f_k)] with f_k = 10000^(-k / (dim/2)), cosine block first; float32.

    Serves flow time (raw, in [0, 1]) and frame indices alike.
    """
    half = dim // 2
    frequencies = jnp.exp(-np.log(10000.0) * jnp.arange(half, dtype=jnp.float32) / half)
    angles = positions.astype(jnp.float32)[..., None] * frequencies
    return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=-1)


def timestep_embedding(
    timesteps: Float[Array, "*P"] | Int[Array, "*P"], dim: int
) -> Float[Array, "*P dim"]:
    """[cos(t w_i), sin(t w_i)] with w_i = 10000^(-i / (dim/2)), cosine block first; float32.

    For timesteps up to 1000, where one unit in the last place of w_i moves the result by 1e-4:
    the frequencies are rounded where published transformers round them (see `_frequencies32`),
    so that both see the same angles, up to the last bit of their exponential. `dim` is even.
    """
    if dim < 2 or dim % 2:
        raise ValueError(f"a timestep embedding has an even width, got {dim}")
    angles = timesteps.astype(jnp.float32)[..., None] * _frequencies32(dim // 2)
    return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=-1)


def _frequencies32(half: int) -> Float[np.ndarray, " half"]:
    """exp(-ln(10000) i / half), i = 0 .. half - 1, with the exponent rounded to float32.

    Numpy, not traced: neither the compiler nor the chip's exponential may change it.
    """
    exponents = np.float32(-np.log(10000.0)) * np.arange(half, dtype=np.float32)
    exponents = exponents / np.float32(half)
    return np.exp(exponents.astype(np.float64)).astype(np.float32)


def fourier_features(
    points: Float[Array, "*P 2"], directions: Float[Array, "F 2"]
) -> Float[Array, "*P {2*directions.shape[0]}"]:
    """[cos(p . w), sin(p . w)] / sqrt(2F) for points (x, y) and F fixed directions; float32."""
    projected = jnp.matmul(
        points.astype(jnp.float32), directions.astype(jnp.float32).T, precision="highest"
    )
    features = jnp.concatenate([jnp.cos(projected), jnp.sin(projected)], axis=-1)
    return features * (features.shape[-1] ** -0.5)
