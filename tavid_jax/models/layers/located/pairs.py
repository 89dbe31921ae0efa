"""Which device answers which (token, trajectory) pairs, and how they are laid out for it.

Sorted by token, the pairs of a device that holds a range of the tokens stand together: it takes
its own, and no token travels. Sorted by trajectory into tiles of rows, each of one trajectory
alone, they meet that text's keys in plain matrix products, whatever its number of pairs.
"""

import math
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from tavid_jax.models.layers.located.devices import per_device
from tavid_jax.models.layers.located.types import LocalTexts
from tavid_jax.parallel.sharding import context_ways, padded_tokens

TILE = 64  # rows


@flax.struct.dataclass
class Route:
    """The same for all blocks. R rows, one per pair, and M tiles of `TILE`, of every device.

    Attributes:
      token: where among the device's tokens the pair's lies, (B, R); behind the last if unused.
      write: the same for the first pair of each token, otherwise behind the last: where the
        token's result goes; no place twice.
      first: row of the first pair of the same token.
      share: weight of the pair in its token's output; 0 if unused.
      gauss: G of the pair; 1 if unused.
      owner: its trajectory.
      tile: which row of the tiles it is, (B, R); behind the last if unused.
      row: which pair each row of the tiles is, (B, M TILE); behind the last if none.
      text: trajectory of each tile, (B, M).
    """

    token: Any
    write: Any
    first: Any
    share: Any
    gauss: Any
    owner: Any
    tile: Any
    row: Any
    text: Any


# Places of a route's arrays on the mesh.
PLACES = Route(*["batch tokens"] * 9)


def route(texts: LocalTexts, grid: tuple[int, int, int]) -> Route:
    """How the pairs of a batch are answered, on the active mesh.

    Args:
      texts: (B, S) pairs, and N texts.
      grid: (F, h, w) of the tokens. If F divides S, no frame has more than S / F pairs.
    """
    batch, pairs = texts.token.shape
    count = texts.lengths.shape[1]
    tokens, ways = math.prod(grid), context_ways()
    held = padded_tokens(tokens) // ways
    rows = _most(pairs, grid, held) if ways > 1 else pairs

    def body(token, owner, gauss, share):
        start = jax.lax.axis_index("context") * held if ways > 1 else 0

        def one(token, owner, gauss, share):
            own = _own((token, owner, gauss, share), start, rows)
            return _laid_out(*own, start, held, tokens, count)

        return jax.vmap(one)(token, owner, gauss, share)

    given = (texts.token, texts.owner, texts.gauss, texts.share)
    places = ("batch -",) * len(given)
    return per_device(body, batch, 1, places, PLACES)(*given)


def _most(pairs: int, grid: tuple[int, int, int], held: int) -> int:
    """The most pairs that successive tokens, `held` of them, can have."""
    frames, rows, cols = grid
    if pairs % frames:
        return pairs
    touched = -(-held // (rows * cols)) + 1
    return min(pairs, touched * (pairs // frames))


def _own(pairs: tuple[Array, ...], start: int | Array, rows: int) -> tuple[Array, ...]:
    """So many pairs from the first on whose token is at least `start`."""
    if rows == pairs[0].shape[0]:
        return pairs
    begin = jnp.searchsorted(pairs[0], start)
    return tuple(jax.lax.dynamic_slice_in_dim(x, begin, rows) for x in pairs)


def _laid_out(
    token: Int[Array, " R"],
    owner: Int[Array, " R"],
    gauss: Float[Array, " R"],
    share: Float[Array, " R"],
    start: int | Array,
    held: int,
    tokens: int,
    count: int,
) -> Route:
    """The route of one example on one device."""
    rows = token.shape[0]
    index = jnp.arange(rows)
    used = (token < tokens) & (token >= start) & (token < start + held) & (share > 0)
    token = jnp.where(used, token - start, held)
    begins = jnp.concatenate([jnp.ones((1,), bool), token[1:] != token[:-1]])
    first = jax.lax.cummax(jnp.where(begins, index, 0))
    tile, text, tiles = _tiles(jnp.where(used, owner, count), count)
    row = jnp.full((tiles * TILE,), rows).at[tile].set(index, mode="drop")
    return Route(
        token=token,
        write=jnp.where(used & begins, token, held + index),
        first=first,
        share=jnp.where(used, share, 0),
        gauss=jnp.where(used, gauss, 1),
        owner=owner,
        tile=tile,
        row=row,
        text=text,
    )


def _tiles(owner: Int[Array, " R"], count: int) -> tuple[Array, Array, int]:
    """(row of the tiles of each pair, trajectory of each tile, number of tiles).

    Args:
      owner: `count` where the pair is unused.
    """
    tiles = owner.shape[0] // TILE + count  # each trajectory leaves at most one unfilled
    mine = owner[:, None] == jnp.arange(count)
    before = jnp.cumsum(mine, axis=0) - mine
    rank = jnp.sum(jnp.where(mine, before, 0), axis=1)
    needed = -(-jnp.sum(mine, axis=0) // TILE)
    ends = jnp.cumsum(needed)
    start = jnp.append((ends - needed) * TILE, tiles * TILE)
    text = jnp.minimum(jnp.searchsorted(ends, jnp.arange(tiles), side="right"), count - 1)
    tile = jnp.where(owner < count, start[owner] + rank, tiles * TILE)
    return tile, text, tiles
