"""Convolutions of pictures whose rows lie on several devices.

The compiler can divide a convolution by itself, but its result is wrong, without a word, for some
layouts of kernel and rows (XLA's SPMD partitioner on CPU, jax 0.10: kernels split along the
channels that are summed over; gradients of kernels where only rows are split). So the work of a
device is written out here: its examples, its rows, a few rows of its neighbours, and all of the
parameters, however these are stored.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Shaped

from tavid_jax.models.layers.attention.sharded import map_devices
from tavid_jax.models.layers.conv import causal_conv, conv
from tavid_jax.models.layers.linear import Params
from tavid_jax.parallel.sharding import auto_axes, partition

CONTEXT = "context"
_ROWS = 2  # axis of (B, T, H, W, C)


def spread_causal_conv(
    params: Params,
    x: Float[Array, "B T H W I"],
    past: Float[Array, "B P H W I"],
    dtype: DTypeLike,
) -> tuple[Float[Array, "B T H W O"], Float[Array, "B P H W I"]]:
    """`conv.causal_conv`, its work divided over the active mesh."""
    margin = params["kernel"].shape[1] // 2

    def one_share(
        params: Params, x: Array, past: Array, missing: tuple[int, int]
    ) -> tuple[Array, Array]:
        y, past = causal_conv(params, x, past, dtype)
        if missing == (margin, margin):  # zeros, which the convolution has thought there
            return y, past
        own = slice(margin, y.shape[_ROWS] - margin)  # behind neighbours' rows are theirs
        return y[:, :, own], past[:, :, own]

    return by_rows(one_share, params, x, past, above=margin, below=margin)


def spread_frame_conv(
    params: Params, x: Float[Array, "B T H W I"], dtype: DTypeLike, *, before: int, stride: int = 1
) -> Float[Array, "B T h w O"]:
    """A 3x3 convolution of each frame, its work divided over the active mesh.

    Args:
      params: kernel (3, 3, I, O) and bias (O,).
      x: frames.
      dtype: of the product.
      before: rows and columns of zeros in front of the picture; one is behind it.
      stride: along rows and columns.
    """

    def one_share(params: Params, x: Array, missing: tuple[int, int]) -> Array:
        frames = x.reshape(-1, *x.shape[2:])
        y = conv(params, frames, dtype, strides=stride, padding=(missing, (before, 1)))
        return y.reshape(*x.shape[:2], *y.shape[1:])

    return by_rows(one_share, params, x, above=before, below=1, step=stride)


def by_rows(
    fn: Callable[..., Any],
    params: Any,
    *pictures: Shaped[Array, "B T H W C"] | Shaped[Array, "B P H W C"],
    above: int = 0,
    below: int = 0,
    step: int = 1,
) -> Any:
    """fn(params, *pictures, missing) with examples and rows divided over the active mesh.

    Args:
      fn: returns arrays (B, ., rows, ., .). `missing` = (above, below) says how many rows of zeros
        it has to think around each picture; (0, 0) where the rows have been put there.
      params: every device gets all of them.
      *pictures: with the same number of rows.
      above, below: how many further rows fn looks at.
      step: rows per row of the result, where that is a whole number; no device splits a step.
    """
    if max(auto_axes().values(), default=1) == 1:
        return fn(params, *pictures, (above, below))
    place = partition(pictures[0].shape, "batch", None, "rows", None, None)
    ways = auto_axes()[CONTEXT] if place[_ROWS] else 1
    if ways == 1 or pictures[0].shape[_ROWS] // ways % step:
        place, ways = PartitionSpec(place[0]), 1

    def body(params: Any, *shares: Array) -> Any:
        if ways == 1:
            return fn(params, *shares, (above, below))
        return fn(params, *(_with_neighbours(x, above, below, ways) for x in shares), (0, 0))

    everywhere = jax.tree.map(lambda _: PartitionSpec(), params)
    return map_devices(body, (everywhere, *len(pictures) * (place,)), place)(params, *pictures)


def _with_neighbours(x: Array, above: int, below: int, ways: int) -> Array:
    """A device's rows between those of its neighbours; zeros beyond the picture."""
    rows = x.shape[_ROWS]
    parts = [x]
    if above:
        last = jax.lax.slice_in_dim(x, rows - above, rows, axis=_ROWS)
        down = [(i, i + 1) for i in range(ways - 1)]
        parts.insert(0, jax.lax.ppermute(last, CONTEXT, down))
    if below:
        first = jax.lax.slice_in_dim(x, 0, below, axis=_ROWS)
        up = [(i + 1, i) for i in range(ways - 1)]
        parts.append(jax.lax.ppermute(first, CONTEXT, up))
    return jnp.concatenate(parts, axis=_ROWS)
