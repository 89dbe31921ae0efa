"""Stamps of points drawn on the accelerator: equal to `stamps`, bit for bit.

Pure functions of arrays with static shapes: they work inside jit, and under vmap over a batch.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int32, UInt8

from tavid_jax.tracks import stamps
from tavid_jax.tracks.coordinates import AnyArray

_STATIC = ("size_hw", "stamp", "order")


@functools.partial(jax.jit, static_argnames=_STATIC)
def owners(
    tracks: Float[AnyArray, "N T 2"],
    visibility: Bool[AnyArray, "N T"],
    size_hw: tuple[int, int],
    stamp: tuple[float, float],
    depth: Float[AnyArray, "N T"] | None = None,
    order: str = "released",
) -> Int32[jax.Array, "T H W"]:
    """Index of the point that each pixel shows, -1 where there is none. See `stamps.owners`."""
    tracks = jnp.asarray(tracks, jnp.float32)
    corner, size = stamps.boxes(tracks, stamp)
    seen = visibility & stamps.meets(corner, size, size_hw)
    key = stamps.sort_key(depth, order)
    count, frames = visibility.shape
    if key is None:
        points = jnp.tile(jnp.arange(count), (frames, 1))
    else:
        points = jnp.argsort(jnp.asarray(key, jnp.float32).T, axis=-1, stable=True)
    frame = functools.partial(_frame, size_hw=size_hw, stamp=stamp)
    swap = functools.partial(jnp.swapaxes, axis1=0, axis2=1)
    rank = jax.vmap(frame)(swap(corner), swap(size), swap(seen), points)
    indices = jnp.pad(points.astype(jnp.int32), ((0, 0), (1, 0)), constant_values=-1)
    return jax.vmap(lambda table, at: table[at])(indices, rank)


@functools.partial(jax.jit, static_argnames=_STATIC)
def draw(
    tracks: Float[AnyArray, "N T 2"],
    visibility: Bool[AnyArray, "N T"],
    colours: UInt8[AnyArray, "N 3"] | UInt8[AnyArray, "N T 3"],
    size_hw: tuple[int, int],
    stamp: tuple[float, float],
    depth: Float[AnyArray, "N T"] | None = None,
    order: str = "released",
) -> UInt8[jax.Array, "T H W 3"]:
    """The video of stamps on black. See `stamps.draw`."""
    owner = owners(tracks, visibility, size_hw, stamp, depth, order)
    colours = jnp.asarray(colours)
    if colours.ndim == 2:
        colours = jnp.broadcast_to(colours[:, None], (*visibility.shape, 3))
    # Black for owner -1 stands in front, so that indices shift by one.
    table = jnp.pad(jnp.swapaxes(colours, 0, 1), ((0, 0), (1, 0), (0, 0)))
    return jax.vmap(lambda colour, at: colour[at + 1])(table, owner)


def _frame(corner, size, seen, points, size_hw, stamp):
    """Rank, 1 .. N, of the last drawn point in each pixel of one frame; 0 where there is none."""
    (height, width), (pad_x, pad_y) = size_hw, stamps.padding(stamp)
    shape = (height + pad_y, width + pad_x)
    rank = jnp.zeros(len(points), jnp.int32).at[points].set(jnp.arange(1, len(points) + 1))
    place = (corner[:, 1] + pad_y) * shape[1] + corner[:, 0] + pad_x
    shown = jnp.zeros(size_hw, jnp.int32)
    for columns, rows in stamps.sizes(stamp):
        mine = seen & (size == np.array([columns, rows])).all(-1)
        board = jnp.zeros(shape[0] * shape[1], jnp.int32)
        board = board.at[jnp.where(mine, place, board.size)].max(rank, mode="drop").reshape(shape)
        board = board[pad_y - rows + 1 :, pad_x - columns + 1 :]
        for window in ((rows, 1), (1, columns)):
            board = jax.lax.reduce_window(board, 0, jax.lax.max, window, (1, 1), "VALID")
        shown = jnp.maximum(shown, board)
    return shown
