"""Fields a part at a time, for chips whose caches are small beside a field: CPUs, when sampling.

Attention along one axis never mixes the positions of the other. So a whole block (norms,
projections, attention, MLP) may walk over a few frames, or over a few tokens with all their
frames, after another: the same numbers, but what a block makes on its way stays in cache and takes
a part's memory instead of a field's. Accelerators want all at once, and so does training, where
the parts' gradients would have to be added up.

Who samples opens `at_once`; models only ask for `tokens_at_once`.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Float

# Tokens of a part by platform; all of them where it says nothing. On a CPU the hidden units of
# 1024 tokens (a few MiB) fit beside the weights, and products of so many rows run at full speed.
TOKENS = {"cpu": 1024}
# The position axis of a (B, T, N, D) field that attention along the other one leaves alone.
_FREE = {"space": 1, "time": 2}

_AT_ONCE = jax.make_user_context(default_value=None)


def choose(mesh: Mesh) -> int | None:
    """Tokens of a part that suit the devices of a mesh; None: all at once."""
    return TOKENS.get(mesh.devices.flat[0].platform) if mesh.size == 1 else None


@contextlib.contextmanager
def at_once(tokens: int | None) -> Iterator[None]:
    """Within it blocks are traced to walk over parts of about so many tokens; None: all."""
    with _AT_ONCE(tokens):
        yield


def tokens_at_once() -> int | None:
    """Tokens that a block may hold at a time; None: all."""
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
    size = part_size(x.shape[free], x.size // (x.shape[free] * x.shape[-1]))
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
    size = part_size(x.shape[2], x.shape[0] * x.shape[1])
    if size == x.shape[2]:
        return function(x)
    starts = jnp.arange(0, x.shape[2], size)
    out = jax.lax.map(lambda start: function(_part(x, start, size, 2)), starts)
    out = jnp.moveaxis(out, 0, 2)
    return out.reshape(*out.shape[:2], x.shape[2], out.shape[-1])


_part = jax.lax.dynamic_slice_in_dim


def part_size(sequences: int, length: int) -> int:
    """How many sequences of `length` tokens make a part: a divisor of their number, at least 1."""
    tokens = tokens_at_once()
    if tokens is None:
        return sequences
    most = max(1, min(sequences, tokens // length))
    return next(size for size in range(most, 0, -1) if sequences % size == 0)


def by_example(function: Callable[[Array], Array], batch: Array) -> Array:
    """function(batch), one example after another where fields are walked over in parts."""
    if tokens_at_once() is None or len(batch) == 1:
        return function(batch)
    return jax.lax.map(lambda example: function(example[None])[0], batch)


def over_samples(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` over axis 1 of its arguments and results: one after another where parts are
    walked over, otherwise batched."""
    if tokens_at_once() is None:
        return jax.vmap(function, in_axes=1, out_axes=1)

    def one_by_one(*args: Any) -> Any:
        moved = jax.tree.map(lambda a: jnp.moveaxis(a, 1, 0), args)
        out = jax.lax.map(lambda part: function(*part), moved)
        return jax.tree.map(lambda a: jnp.moveaxis(a, 0, 1), out)

    return one_by_one
