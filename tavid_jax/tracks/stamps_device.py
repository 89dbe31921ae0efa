"""Stamps of points drawn on the accelerator: equal to `stamps`, bit for bit.

Pure functions of arrays with static shapes: they work inside jit, and under vmap over a batch.
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int32, UInt8

from tavid_jax.tracks import stamps
from tavid_jax.tracks.coordinates import AnyArray

_STATIC = ("size_hw", "stamp", "order")


@functools.partial(jax.jit, static_argnames=_STATIC)
def owners(
    tracks: Float[AnyArray, "N T 2"],
    visibility: Bool[AnyArray, "N T"],
    size_hw: tuple[int, int],
    stamp: stamps.Half,
    depth: Float[AnyArray, "N T"] | None = None,
    order: str = "released",
) -> Int32[jax.Array, "T H W"]:
    """Index of the point that each pixel shows, -1 where there is none. See `stamps.owners`."""
    xy = jnp.transpose(jnp.asarray(tracks, jnp.float32), (2, 1, 0))
    first, pixels, meets = stamps.boxes(xy, size_hw, stamp)
    seen = jnp.swapaxes(jnp.asarray(visibility), 0, 1) & meets
    key = stamps.sort_key(depth, order)
    count, frames = visibility.shape
    if key is None:
        points = jnp.tile(jnp.arange(count), (frames, 1))
    else:
        points = jnp.argsort(jnp.asarray(key, jnp.float32).T, axis=-1, stable=True)
    frame = functools.partial(_frame, size_hw=size_hw, stamp=stamp)
    rank = jax.vmap(frame)(seen, points, *first, *pixels)
    indices = jnp.pad(points.astype(jnp.int32), ((0, 0), (1, 0)), constant_values=-1)
    return jax.vmap(lambda table, at: table[at])(indices, rank)


@functools.partial(jax.jit, static_argnames=_STATIC)
def draw(
    tracks: Float[AnyArray, "N T 2"],
    visibility: Bool[AnyArray, "N T"],
    colours: UInt8[AnyArray, "N 3"] | UInt8[AnyArray, "N T 3"],
    size_hw: tuple[int, int],
    stamp: stamps.Half,
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


def _frame(seen, points, column, row, columns, rows, size_hw, stamp):
    """Rank, 1 .. N, of the last drawn point in each pixel of one frame; 0 where there is none.

    Each point's rank in the drawing order is noted at the corner of its stamp; the maximum over a
    window of the stamp's size is then what remains in a pixel. One round for each size of stamp.
    """
    (height, width), (pad_x, pad_y) = size_hw, stamps.padding(stamp)
    padded = (height + pad_y, width + pad_x)
    rank = jnp.zeros(len(points), jnp.int32).at[points].set(jnp.arange(1, len(points) + 1))
    shown = jnp.zeros(size_hw, jnp.int32)
    place = (row + pad_y) * padded[1] + column + pad_x
    for wide, high in stamps.sizes(stamp):
        at = jnp.where(seen & (columns == wide) & (rows == high), place, padded[0] * padded[1])
        board = jnp.zeros(padded[0] * padded[1], jnp.int32).at[at].max(rank, mode="drop")
        board = board.reshape(padded)[pad_y - high + 1 :, pad_x - wide + 1 :]
        for window in ((high, 1), (1, wide)):
            board = jax.lax.reduce_window(board, 0, jax.lax.max, window, (1, 1), "VALID")
        shown = jnp.maximum(shown, board)
    return shown
