"""Fields a part at a time, for chips whose caches are small beside a field: CPUs, when sampling.

Attention along one axis never mixes the positions of the other. So a whole block (norms,
projections, attention, MLP) may walk over a few frames, or over a few tokens with all their
frames, after another: the same numbers, but what a block makes on its way stays in cache and takes
a part's memory instead of a field's. Accelerators want all at once, and so does training, where
the parts' gradients would have to be added up.

Who samples opens `at_once`; models only ask for `numbers_at_once`.
"""

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Float

# Numbers in a part of the field that a block reads, by platform; a platform that is not here takes
# all of them. On a CPU 3 MiB: the MLP's hidden units, four times as many, stay in cache, and the
# products of some 1000 tokens run at full speed.
NUMBERS = {"cpu": 3 * 2**18}
# The position axis of a (B, T, N, D) field that attention along the other one leaves alone.
_FREE = {"space": 1, "time": 2}

_AT_ONCE = jax.make_user_context(default_value=None)


def choose(mesh: Mesh) -> int | None:
    """Numbers in a part that suit the devices of a mesh; None: all at once."""
    return NUMBERS.get(mesh.devices.flat[0].platform) if mesh.size == 1 else None


@contextlib.contextmanager
def at_once(numbers: int | None) -> Iterator[None]:
    """Within it blocks are traced to walk over parts of about so many numbers; None: all."""
    with _AT_ONCE(numbers):
        yield


def numbers_at_once() -> int | None:
    """Numbers of its input that a block may hold at a time; None: all."""
    return _AT_ONCE.value


def over_sequences(
    block: Callable[[Array, Any], Array],
    x: Float[Array, "B T N D"],
    along: Any = None,
    *,
    axis: Literal["space", "time"],
) -> Float[Array, "B T N D"]:
    """block(x, along) for a block that mixes positions along `axis` only, in the place of x.

    Args:
      block: (part of x, part of along) -> an array of the first one's shape.
      along: pytree of arrays with one entry per sequence, on axis 1.
    """
    free = _FREE[axis]
    size = part_size(x.shape[free], x.size // x.shape[free])
    if size == x.shape[free]:
        return block(x, along)

    def step(index: Array, x: Array) -> Array:
        part = _part(x, index * size, size, free)
        own = jax.tree.map(lambda a: _part(a, index * size, size, 1), along)
        return jax.lax.dynamic_update_slice_in_dim(x, block(part, own), index * size, free)

    return jax.lax.fori_loop(0, x.shape[free] // size, step, x)


def over_tokens(
    function: Callable[[Array], Array], x: Float[Array, "B T N D"]
) -> Float[Array, "B L N E"]:
    """function(x) for a function of every token on its own, which may change frames and width."""
    size = part_size(x.shape[2], x.size // x.shape[2])
    if size == x.shape[2]:
        return function(x)
    starts = jnp.arange(0, x.shape[2], size)
    out = jax.lax.map(lambda start: function(_part(x, start, size, 2)), starts)
    out = jnp.moveaxis(out, 0, 2)
    return out.reshape(*out.shape[:2], x.shape[2], out.shape[-1])


_part = jax.lax.dynamic_slice_in_dim


def part_size(count: int, numbers: int) -> int:
    """How many of `count` things of so many numbers make a part: a divisor of it, at least 1."""
    most = _fitting(count, numbers)
    return next(size for size in range(most, 0, -1) if count % size == 0)


def over_samples(
    function: Callable[..., Array], *args: Float[Array, "B K ..."], width: int
) -> Float[Array, "B K ..."]:
    """`function` of all samples (axis 1 of its arguments and result), as many at a time as fit.

    Args:
      width: D of the fields (..., D) that `function` makes of the first argument's (..., C).
    """
    count = args[0].shape[1]
    size = _fitting(count, math.prod(args[0].shape[:-1]) // count * width)
    if size == count and (count > 1 or numbers_at_once() is None):
        return jax.vmap(function, in_axes=1, out_axes=1)(*args)
    moved = [jnp.moveaxis(a, 1, 0) for a in args]
    # One at a time has no batch axis: products keep their shapes.
    out = jax.lax.map(lambda own: function(*own), moved, batch_size=size if size > 1 else None)
    return jnp.moveaxis(out, 0, 1)


def by_example(
    function: Callable[[Array], Array], batch: Float[Array, "B ..."], numbers: int
) -> Float[Array, "B ..."]:
    """function(batch), in groups of examples where fields of so many numbers each do not fit."""
    size = part_size(len(batch), numbers)
    if size == len(batch):
        return function(batch)
    groups = batch.reshape(-1, size, *batch.shape[1:])
    out = jax.lax.map(function, groups)
    return out.reshape(len(batch), *out.shape[2:])


def _fitting(count: int, numbers: int) -> int:
    """How many of `count` things of so many numbers may be held at a time."""
    budget = numbers_at_once()
    return count if budget is None else max(1, min(count, budget // numbers))
