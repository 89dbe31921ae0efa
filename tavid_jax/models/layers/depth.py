"""Depth: identical blocks stacked on one leading axis, walked by a scan or by a loop."""

from collections.abc import Callable
from typing import Any

import jax
from jaxtyping import PRNGKeyArray

# "none", or "full": keep only the input of each layer for the backward pass.
Remat = str


def init_stack(init_block: Callable[[PRNGKeyArray], Any], key: PRNGKeyArray, depth: int):
    """Parameters of `depth` blocks, every leaf with a leading depth axis."""
    return jax.vmap(init_block)(jax.random.split(key, depth))


def stack_depth(stack: Any) -> int:
    """How many blocks a stack holds."""
    return jax.tree.leaves(stack)[0].shape[0]


def take_blocks(stack: Any, start: int, stop: int) -> Any:
    """Blocks start..stop-1 of a stack."""
    return jax.tree.map(lambda a: a[start:stop], stack)


def take_block(stack: Any, index: int) -> Any:
    """One block of a stack, without the depth axis."""
    return jax.tree.map(lambda a: a[index], stack)


def as_pairs(stack: Any) -> Any:
    """(2n, ...) -> (n, 2, ...): two successive blocks become one step of a scan."""
    return jax.tree.map(lambda a: a.reshape(a.shape[0] // 2, 2, *a.shape[1:]), stack)


def walk_depth(
    body: Callable[[Any, Any], Any], x: Any, layers: Any, *, scan: bool, remat: Remat
) -> Any:
    """x <- body(x, layer) for every layer (leaves of `layers` have a leading depth axis).

    scan: one compiled body for all layers; otherwise unrolled. remat "full" keeps only the
    input of each layer for the backward pass.
    """
    depth = stack_depth(layers)
    scan = scan and depth > 1  # a loop of one would only cost
    body = remat_body(body, remat, in_scan=scan)
    if scan:
        return jax.lax.scan(lambda carry, layer: (body(carry, layer), None), x, layers)[0]
    for index in range(depth):
        x = body(x, take_block(layers, index))
    return x


def remat_body(body: Callable, remat: Remat, *, in_scan: bool) -> Callable:
    """`body` under the chosen rematerialisation.

    Inside a scan the loop itself keeps XLA from undoing the recomputation; in a Python loop
    only prevent_cse does.
    """
    if remat == "none":
        return body
    if remat == "full":
        return jax.checkpoint(body, prevent_cse=not in_scan)
    raise ValueError(f'remat is "none" or "full", got {remat!r}')
