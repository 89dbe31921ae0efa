"""Blocks of a (time, token) field that attend over space and over time in turns."""

from collections.abc import Callable, Sequence
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
    names: Sequence[str] = (),
    after_first: Float[Array, "T 1 D"] | None = None,
    span: range | None = None,
    by_number: bool = False,
) -> Float[Array, "B T N D"]:
    """A stack of blocks: space, time, space, ...

    The scanned unit is a (space, time) pair; an odd number of blocks ends with a space block.

    Args:
      block: one block along one axis.
      stack: its parameters, and whatever else it reads, with a leading depth axis on every leaf.
      remat: see `depth.Remat`. "full": of every pair only its input is kept. Keeping that of every
        block takes more memory on a TPU, not less.
      names: that the blocks give to activations, see `depth.walk_depth`.
      after_first: added to x between the first two blocks; as published, not where there is one.
      span: numbers of the blocks; None is all of them.
      by_number: pick blocks from the stack one by one instead of cutting the span from it: the
        stack's part is not copied then, but its gradient would be added up as a whole.
    """
    span = range(stack_depth(stack)) if span is None else span
    two_of, layers = _pairs(stack, span, by_number)

    def pair(x, layer):
        own, is_first = layer
        first, second = two_of(own)
        x = block(first, x, "space")
        if after_first is not None:
            x = x + is_first.astype(dtype) * after_first.astype(dtype)
        return block(second, x, "time")

    pairs = len(span) // 2
    if pairs:
        x = walk_depth(
            pair, x, (layers, jnp.arange(pairs) == 0), scan=scan, remat=remat, names=names
        )
    if len(span) % 2:
        alone = "full" if remat.startswith("groups=") else remat
        last = remat_body(lambda x, layer: block(layer, x, "space"), alone, in_scan=False)
        x = last(x, take_block(stack, span[-1]))
    return x


def _pairs(
    stack: Any, span: range, by_number: bool
) -> tuple[Callable[[Any], tuple[Any, Any]], Any]:
    """(from a layer of the scan to its two blocks, the layers)."""
    pairs = len(span) // 2
    if by_number:
        numbers = span.start + 2 * jnp.arange(pairs)
        return lambda i: (take_block(stack, i), take_block(stack, i + 1)), numbers
    # An even stack is taken whole: a slice of it would be a copy.
    whole = len(span) == stack_depth(stack) == 2 * pairs
    even = stack if whole else take_blocks(stack, span.start, span.start + 2 * pairs)
    return lambda layer: (take_block(layer, 0), take_block(layer, 1)), as_pairs(even)
