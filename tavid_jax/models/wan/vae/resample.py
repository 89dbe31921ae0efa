"""Changes of resolution: layers, shortcuts around them without parameters, pixels to channels."""

import jax.numpy as jnp
from jax import random
from jax.typing import DTypeLike
from jaxtyping import Array, Float, PRNGKeyArray

from tavid_jax.models.layers.conv import conv, init_conv
from tavid_jax.models.layers.linear import Params
from tavid_jax.models.layers.rows import by_rows, spread_frame_conv
from tavid_jax.models.wan.vae.config import Stage
from tavid_jax.models.wan.vae.layers import Past, conv3d, no_frames

_TIME = (3, 1, 1)  # taps of a convolution over time alone


def init_down(key: PRNGKeyArray, stage: Stage) -> Params:
    """Parameters of `down`: over space and, where time is halved, over time."""
    return _init(key, stage, time_out=stage.dim_out)


def init_up(key: PRNGKeyArray, stage: Stage) -> Params:
    """Parameters of `up`."""
    return _init(key, stage, time_out=2 * stage.dim)


def _init(key: PRNGKeyArray, stage: Stage, time_out: int) -> Params:
    in_space, in_time = random.split(key)
    params = {"conv": init_conv(in_space, (3, 3), stage.dim, stage.dim_out)}
    if stage.factor_t == 1:
        return params
    return {**params, "time_conv": init_conv(in_time, _TIME, stage.dim, time_out)}


def down(
    params: Params, x: Float[Array, "B T H W I"], past: Past, dtype: DTypeLike
) -> tuple[Float[Array, "B F h w O"], Past]:
    """Halves rows and columns, then time if there are parameters for it. Keeps the last frame.

    The first frame of a video passes the convolution over time by: 1 + 2m frames become 1 + m.
    """
    x = spread_frame_conv(params["conv"], x, dtype, before=0, stride=2)
    if "time_conv" not in params:
        return x, {}
    last = x[:, -1:]
    if past is not None:
        seen = jnp.concatenate([past, x], axis=1)
        return _halve_frames(params["time_conv"], seen, dtype), last
    if x.shape[1] == 1:
        return x, last
    rest = _halve_frames(params["time_conv"], x, dtype)
    return jnp.concatenate([x[:, :1], rest], axis=1), last


def _halve_frames(
    params: Params, x: Float[Array, "B T H W I"], dtype: DTypeLike
) -> Float[Array, "B F H W O"]:
    """1 + 2m frames to m."""

    def one_share(params: Params, x: Array, missing: tuple[int, int]) -> Array:
        del missing  # it looks at no other rows
        return conv(params, x, dtype, strides=(2, 1, 1))

    return by_rows(one_share, params, x)


def up(
    params: Params, x: Float[Array, "B F h w I"], past: Past, dtype: DTypeLike
) -> tuple[Float[Array, "B T H W O"], Past]:
    """Doubles time if there are parameters for it, then rows and columns."""
    kept = {}
    if "time_conv" in params:
        x, kept = _double_frames(params["time_conv"], x, past, dtype)
    x = jnp.repeat(jnp.repeat(x, 2, axis=2), 2, axis=3)
    return spread_frame_conv(params["conv"], x, dtype, before=1), kept


def _double_frames(
    params: Params, x: Float[Array, "B F H W C"], past: Past, dtype: DTypeLike
) -> tuple[Float[Array, "B T H W C"], Past]:
    """Two frames of every one but the first of a video, which nothing after it sees.

    1 + m frames become 1 + 2m.
    """
    first = x[:, :0]
    if past is None:
        first, x, past = x[:, :1], x[:, 1:], no_frames(x, _TIME[0] - 1)
    if x.shape[1] == 0:
        return first, past
    y, past = conv3d(params, x, past, dtype)
    b, frames, h, w, c = x.shape
    pairs = jnp.moveaxis(y.reshape(b, frames, h, w, 2, c), 4, 2)
    return jnp.concatenate([first, pairs.reshape(b, 2 * frames, h, w, c)], axis=1), past


def average_down(x: Float[Array, "B T H W I"], stage: Stage) -> Float[Array, "B F h w O"]:
    """The encoder's shortcut: blocks of space and time go to the channels, groups are averaged.

    Zero frames in front fill the first block; they are averaged like any other.
    """
    ft, fs = stage.factor_t, stage.factor_hw
    x = jnp.pad(x, ((0, 0), (-x.shape[1] % ft, 0), (0, 0), (0, 0), (0, 0)))
    b, t, h, w, c = x.shape
    blocks = x.reshape(b, t // ft, ft, h // fs, fs, w // fs, fs, c)
    channels = blocks.transpose(0, 1, 3, 5, 7, 2, 4, 6)
    groups = channels.reshape(b, t // ft, h // fs, w // fs, stage.dim, -1)
    return jnp.mean(groups, axis=-1)


def duplicate_up(
    x: Float[Array, "B F h w I"], stage: Stage, first: bool
) -> Float[Array, "B T H W O"]:
    """The decoder's shortcut: channels are repeated and spread over blocks of space and time.

    Args:
      x: frames.
      stage: around which the shortcut leads.
      first: whether a video starts here; its first frame becomes one, not `factor_t`.
    """
    ft, fs = stage.factor_t, stage.factor_hw
    b, f, h, w, c = x.shape
    x = jnp.repeat(x, stage.dim * stage.volume // c, axis=-1)
    blocks = x.reshape(b, f, h, w, stage.dim, ft, fs, fs).transpose(0, 1, 5, 2, 6, 3, 7, 4)
    frames = blocks.reshape(b, f * ft, h * fs, w * fs, stage.dim)
    return frames[:, ft - 1 :] if first else frames


def to_patches(x: Float[Array, "B T H W C"], patch: int) -> Float[Array, "B T h w P"]:
    """Squares of pixels into the channels, ordered (channel, column, row)."""
    b, t, h, w, c = x.shape
    squares = x.reshape(b, t, h // patch, patch, w // patch, patch, c)
    return squares.transpose(0, 1, 2, 4, 6, 5, 3).reshape(b, t, h // patch, w // patch, -1)


def from_patches(x: Float[Array, "B T h w P"], patch: int) -> Float[Array, "B T H W C"]:
    """The inverse of `to_patches`."""
    b, t, h, w, _ = x.shape
    squares = x.reshape(b, t, h, w, -1, patch, patch).transpose(0, 1, 2, 6, 3, 5, 4)
    return squares.reshape(b, t, h * patch, w * patch, -1)
