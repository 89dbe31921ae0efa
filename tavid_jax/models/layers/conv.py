"""Convolutions over space and time, channels last."""

import math
from collections.abc import Sequence

import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Float, PRNGKeyArray

from tavid_jax.models.layers import conv_cpu
from tavid_jax.models.layers.conv_cpu import NAMES
from tavid_jax.models.layers.linear import Params, dense, uniform_fan_in
from tavid_jax.parallel.sharding import auto_axes, target_platform

# Zeros (before, after) along each spatial axis.
Padding = Sequence[tuple[int, int]]


def init_conv(key: PRNGKeyArray, taps: Sequence[int], n_in: int, n_out: int) -> Params:
    """Kernel (*taps, n_in, n_out) and bias (n_out,), as PyTorch initialises them."""
    return uniform_fan_in(key, (*taps, n_in, n_out), fan_in=math.prod(taps) * n_in)


def conv(
    params: Params,
    x: Float[Array, "B *S I"],
    dtype: DTypeLike,
    *,
    strides: int | Sequence[int] = 1,
    padding: Padding | None = None,
) -> Float[Array, "B *R O"]:
    """Convolution (cross-correlation, as everywhere in this field) in two or three dimensions.

    Args:
      params: kernel (*taps, I, O) and bias (O,).
      x: features; as many axes between batch and channels as the kernel has taps.
      dtype: of the product.
      strides: one for all axes, or one per axis.
      padding: zeros per axis; None for none.
    """
    kernel = dense(params["kernel"], dtype)
    x = x.astype(dtype)
    axes = kernel.ndim - 2
    strides = (strides,) * axes if isinstance(strides, int) else tuple(strides)
    padding = ((0, 0),) * axes if padding is None else tuple((i, j) for i, j in padding)
    if _by_blocks(x):
        y = conv_cpu.convolve(x, kernel, strides, padding)
    else:
        y = lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=NAMES[axes])
    return y + params["bias"].astype(dtype)


def _by_blocks(x: Array) -> bool:
    """Whether x is convolved by our own program: on CPUs, in float32, not divided by a mesh."""
    alone = max(auto_axes().values(), default=1) == 1
    return alone and x.dtype == jnp.float32 and target_platform() == "cpu"


def causal_conv(
    params: Params,
    x: Float[Array, "B T H W I"],
    past: Float[Array, "B P H W I"],
    dtype: DTypeLike,
) -> tuple[Float[Array, "B T H W O"], Float[Array, "B P H W I"]]:
    """Convolution over (time, rows, columns) that looks back in time only.

    Args:
      params: kernel (P + 1, KH, KW, I, O), odd KH and KW, and bias (O,).
      x: frames.
      past: the P frames before them: of the chunk before, or what the model puts in front.
      dtype: of the product.

    Returns:
      As many frames as x, zeros padded in space; the last P frames, the past of the next chunk.
    """
    taps, rows, columns = params["kernel"].shape[:3]
    joined = jnp.concatenate([past.astype(x.dtype), x], axis=1)
    padding = ((0, 0), (rows // 2, rows // 2), (columns // 2, columns // 2))
    return conv(params, joined, dtype, padding=padding), joined[:, joined.shape[1] - (taps - 1) :]
