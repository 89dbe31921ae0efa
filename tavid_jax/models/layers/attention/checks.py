"""What attention refuses, in one sentence each."""

from collections.abc import Sequence

import jax

from tavid_jax.models.layers.attention.local import Biases
from tavid_jax.models.layers.attention.types import Part, Query
from tavid_jax.parallel.sharding import context_ways, padded_tokens


def check(queries: Sequence[Query], parts: Sequence[Part], biases: Biases) -> None:
    """Raises ValueError where shapes do not belong together or the mesh cannot split them."""
    if not queries or not parts:
        missing = "queries" if not queries else "parts"
        raise ValueError(f"attention: the list of {missing} is empty: give at least one")
    named = [(f"queries[{i}].q", query.q) for i, query in enumerate(queries)]
    named += [(f"parts[{i}].{n}", x) for i, p in enumerate(parts) for n, x in _arrays(p)]
    for name, x in named:
        if len(x.shape) != 4:
            raise ValueError(f"attention: {name} has shape {x.shape}: give (B, tokens, heads, D)")
    for name, x in named[1:]:
        _same(named[0], (name, x))
    for i, part in enumerate(parts):
        _check_part(f"parts[{i}]", part)
    if not sum(part.real for part in parts):
        raise ValueError("attention: no part has a real key: set a length above 0")
    for index, bias in biases.items():
        _check_bias(index, bias, queries, parts)
    for i, query in enumerate(queries):
        if query.split:
            _check_split(f"queries[{i}].q", query.q.shape[1])


def _arrays(part: Part) -> tuple[tuple[str, jax.Array], ...]:
    return ("k", part.k), ("v", part.v)


def _same(first: tuple[str, jax.Array], second: tuple[str, jax.Array]) -> None:
    (name, x), (other, y) = first, second
    mends = {
        "batch": "repeat the smaller one",
        "heads": "repeat the key heads until they are equal",
        "head dim": "project both to one width",
    }
    for axis, label in ((0, "batch"), (2, "heads"), (3, "head dim")):
        if x.shape[axis] != y.shape[axis]:
            raise ValueError(
                f"attention: {other} has {label} {y.shape[axis]} but {name} has {x.shape[axis]}: "
                f"{mends[label]}"
            )


def _check_part(name: str, part: Part) -> None:
    if part.k.shape != part.v.shape:
        raise ValueError(
            f"attention: {name}.k has shape {part.k.shape} but its v {part.v.shape}: "
            "keys and values come in pairs"
        )
    if not 0 <= part.real <= part.k.shape[1]:
        raise ValueError(
            f"attention: {name}.length is {part.length} but there are {part.k.shape[1]} keys: "
            f"set it to 0 to {part.k.shape[1]}"
        )
    if part.split:
        _check_split(f"{name}.k", part.k.shape[1])


def _check_bias(index, bias, queries, parts) -> None:
    if index[0] not in range(len(queries)) or index[1] not in range(len(parts)):
        raise ValueError(
            f"attention: biases[{index}] but there are {len(queries)} queries and {len(parts)} "
            "parts: the key is (query index, part index)"
        )
    q, k = queries[index[0]].q, parts[index[1]].k
    full = (q.shape[0], q.shape[2], q.shape[1], k.shape[1])
    fits = len(bias.shape) == 4 and all(
        size in (1, whole) for size, whole in zip(bias.shape, full, strict=True)
    )
    if not fits:
        raise ValueError(
            f"attention: biases[{index}] has shape {bias.shape}: give (batch, heads, queries, "
            f"keys) = {full}, where each may be 1"
        )


def _check_split(name: str, tokens: int) -> None:
    ways = context_ways()
    if tokens % ways:
        others = [str(n) for n in range(2, 2 * ways + 1) if tokens % n == 0]
        mesh = f", or set the mesh axis context to {' or '.join(others)}" if others else ""
        raise ValueError(
            f"attention: {name} with {tokens} tokens cannot be split over context={ways}: pad it "
            f"to padded_tokens({tokens}) = {padded_tokens(tokens)} and give its real length{mesh}"
        )
