"""Rotary position embedding of tokens on a grid (RoPE, arXiv:2104.09864; one part per axis).

The head dim is cut into one part per grid axis. Each part turns its pairs of channels by
(position on that axis) * (frequency of the pair), so that products of queries and keys depend
on relative positions only.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

# Which channels form pair j of D: (2j, 2j+1), or (j, j + D/2).
Convention = Literal["interleaved", "half"]


class Rotary(NamedTuple):
    """Cosines and sines of the turning angles, each (N, D/2) float32: token by pair."""

    cos: Float[Array, "N P"]
    sin: Float[Array, "N P"]


def rotary_table(
    positions: Sequence[np.ndarray], dims: Sequence[int], theta: float | int = 10000.0
) -> Rotary:
    """Angles of all tokens of a grid, the first axis slowest: for (t, h, w), frame-major.

    Args:
      positions: per axis, the positions (n,) of its grid lines; need not be integers.
      dims: per axis, how many channels of the head it takes; even. Pair j of an axis of width
        m has frequency theta^(-2j/m). The axes follow one another along the head.
      theta: base of the frequencies.

    Returns:
      A table of prod(n) tokens and sum(dims)/2 pairs. Made in float64 and rounded once.
    """
    if len(positions) != len(dims):
        raise ValueError(f"{len(positions)} axes of positions but {len(dims)} dims: one per axis")
    odd = [dim for dim in dims if dim < 2 or dim % 2]
    if odd:
        raise ValueError(f"each axis turns pairs of channels: dims {tuple(dims)} hold {odd[0]}")
    # Small tables per axis, spread over the grid by the program: a table of all tokens would be
    # a constant of tens of megabytes in it.
    shape = tuple(len(line) for line in positions)
    cosines, sines = [], []
    for axis, (line, dim) in enumerate(zip(positions, dims, strict=True)):
        angles = np.asarray(line, np.float64)[:, None] * _frequencies(dim, theta)
        along = [1] * len(shape)
        along[axis] = -1
        angles = angles.reshape(*along, dim // 2)
        for parts, function in ((cosines, np.cos), (sines, np.sin)):
            part = function(angles).astype(np.float32)
            parts.append(jnp.broadcast_to(part, (*shape, dim // 2)))
    pairs = sum(dims) // 2
    return Rotary(*(jnp.concatenate(p, axis=-1).reshape(-1, pairs) for p in (cosines, sines)))


def pad_rotary(rotary: Rotary, length: int) -> Rotary:
    """The table of `length` tokens: those beyond the given ones are not turned (padding)."""
    tokens = rotary.cos.shape[0]
    if length < tokens:
        raise ValueError(f"a rotary table of {tokens} tokens cannot be padded to {length}")
    added = (length - tokens, rotary.cos.shape[1])
    return Rotary(
        jnp.concatenate([rotary.cos, jnp.ones(added, np.float32)]),
        jnp.concatenate([rotary.sin, jnp.zeros(added, np.float32)]),
    )


def rotate(
    x: Float[Array, "B S K D"] | Float[Array, "B K S D"],
    rotary: Rotary,
    convention: Convention = "interleaved",
    *,
    heads_first: bool = False,
) -> Float[Array, "B S K D"] | Float[Array, "B K S D"]:
    """Turns the channel pairs of queries or keys: (a, b) -> (a cos - b sin, a sin + b cos).

    Computed in float32, returned in x's dtype. The table has exactly one row per token; a
    sequence that ends in padding takes a table from `pad_rotary`.

    Args:
      x: tokens before heads, or, with `heads_first`, heads before tokens.
    """
    tokens, dim = x.shape[2 if heads_first else 1], x.shape[3]
    if rotary.cos.shape != (tokens, dim // 2):
        have = "x".join(str(n) for n in rotary.cos.shape)
        raise ValueError(
            f"rotary table is {have} (tokens x pairs), the sequence needs {tokens}x{dim // 2};"
            " pad_rotary lengthens a table by padding tokens"
        )
    cos, sin = (
        jnp.expand_dims(jnp.asarray(table, jnp.float32), 0 if heads_first else 1)
        for table in rotary
    )
    shape, axis = _pairs(dim, convention)
    # Cut and joined by reshape, split and stack: CPU and TPU compilers fuse these into one pass,
    # forwards and backwards. Strided slices, rolls and gathers cost either of them another.
    pairs = jnp.split(x.astype(jnp.float32).reshape(*x.shape[:-1], *shape), 2, axis=axis)
    a, b = (jnp.squeeze(part, axis=axis) for part in pairs)
    turned = jnp.stack([a * cos - b * sin, a * sin + b * cos], axis=axis)
    return turned.reshape(x.shape).astype(x.dtype)


def halved(params: Mapping[str, Any], heads: int) -> dict[str, Any]:
    """A projection (or norm) whose heads come out in the order of the "half" convention.

    The outputs of an "interleaved" head are reordered to (0, 2, 4, ..., 1, 3, 5, ...), in the
    weights: products of queries and keys that are both reordered stay what they were, and `rotate`
    works on two contiguous halves, which chips with wide registers do much better.

    Args:
      params: kernel, bias and low-rank terms of a projection, or scale and bias of a norm; the
        last axis of each is heads * head dim (of "a" it is the rank, and stays).
    """

    def order(x: Any) -> Any:
        pairs = x.reshape(*x.shape[:-1], heads, -1, 2)
        return jnp.swapaxes(pairs, -1, -2).reshape(x.shape)

    # A kernel in few bits is two arrays, values and scales, whose last axes are the outputs.
    out = {name: jax.tree.map(order, leaf) for name, leaf in params.items() if name != "lora"}
    if "lora" in params:
        out["lora"] = {
            stream: {name: {**term, "b": order(term["b"])} for name, term in terms.items()}
            for stream, terms in params["lora"].items()
        }
    return out


def heads_first(x: Float[Array, "B S D"], heads: int) -> Float[Array, "B K S d"]:
    """Tokens cut into heads, (B, K, S, D/K), as they lie in memory from here on.

    Norms and turns of narrow heads would otherwise lay them out anew several times, in float32:
    on TPUs a compiler is told to store 16-bit heads just so.
    """
    x = jnp.swapaxes(x.reshape(*x.shape[:2], heads, -1), 1, 2)
    return jax.lax.optimization_barrier(x) if x.dtype.itemsize == 2 else x


def _pairs(dim: int, convention: str) -> tuple[tuple[int, int], int]:
    """Shape of the head dim that has its pairs on an axis of their own, and that axis."""
    if convention == "interleaved":
        return (dim // 2, 2), -1
    if convention == "half":
        return (2, dim // 2), -2
    raise ValueError(f'convention is "interleaved" or "half", got {convention!r}')


def _frequencies(dim: int, theta: float | int) -> Float[np.ndarray, " P"]:
    """theta^(-2j/dim), j = 0 .. dim/2 - 1, in float64."""
    return float(theta) ** (-np.arange(0, dim, 2, dtype=np.float64) / dim)
