"""Blocks of a (time, token) field that attend over space and over time in turns."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from tavid_jax.models.layers.depth import (
    Remat,
    as_pairs,
    remat_body,
    stack_depth,
    take_block,
    take_blocks,
    walk_depth,
)

# (one layer of the stack, x, "space" or "time") -> x
AxialBlock = Callable[[Any, Array, str], Array]


def walk_axial(
    block: AxialBlock,
    stack: Any,
    x: Float[Array, "B T N D"],
    *,
    dtype: DTypeLike,
    scan: bool,
    remat: Remat,
    after_first: Float[Array, "T 1 D"] | None = None,
) -> Float[Array, "B T N D"]:
    """A stack of blocks: space, time, space, ...

    The scanned unit is a (space, time) pair; a stack of odd length ends with a space block.

    Args:
      block: one block along one axis.
      stack: its parameters, and whatever else it reads, with a leading depth axis on every leaf.
      after_first: added to x right after the first block.
    """

    def pair(x, layer):
        two, is_first = layer
        x = block(take_block(two, 0), x, "space")
        if after_first is not None:
            x = x + is_first.astype(dtype) * after_first.astype(dtype)
        return block(take_block(two, 1), x, "time")

    depth = stack_depth(stack)
    pairs = depth // 2
    if pairs:
        # An even stack is taken whole: a slice of it would be a copy.
        even = take_blocks(stack, 0, 2 * pairs) if depth % 2 else stack
        x = walk_depth(pair, x, (as_pairs(even), jnp.arange(pairs) == 0), scan=scan, remat=remat)
    if depth % 2:
        last = remat_body(lambda x, layer: block(layer, x, "space"), remat, in_scan=False)
        x = last(x, take_block(stack, depth - 1))
        if depth == 1 and after_first is not None:
            x = x + after_first.astype(dtype)
    return x
