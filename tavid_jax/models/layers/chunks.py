"""A long sequence of frames in chunks that hand an explicit carry on."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Shaped

# (chunk, carry of the chunk before or None) -> (its result, its carry)
Step = Callable[[Array, Any], tuple[Array, Any]]


def in_chunks(
    step: Step, x: Shaped[Array, "B T *s"], first: int, size: int
) -> Shaped[Array, "B R *r"]:
    """step on the first chunk, then on all others by one scan; results joined along time.

    Args:
      step: compiled twice: for the first chunk, without a carry, and for the others. Carries have
        one structure and one set of shapes.
      x: frames along axis 1.
      first: length of the first chunk, at most T.
      size: of every other one.

    Raises:
      ValueError: chunks that do not add up to T.
    """
    frames = x.shape[1]
    count, rest = divmod(frames - first, size)
    if not 1 <= first <= frames or rest:
        raise ValueError(f"{frames} frames are not one chunk of {first} and others of {size}")
    y, carry = step(x[:, :first], None)
    if not count:
        return y
    others = x[:, first:].reshape(x.shape[0], count, size, *x.shape[2:])

    def body(carry: Any, chunk: Array) -> tuple[Any, Array]:
        out, carry = step(chunk, carry)
        return carry, out

    _, outs = jax.lax.scan(body, carry, jnp.moveaxis(others, 1, 0))
    outs = jnp.moveaxis(outs, 0, 1)
    return jnp.concatenate([y, outs.reshape(outs.shape[0], -1, *outs.shape[3:])], axis=1)
