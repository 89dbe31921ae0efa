"""Bytes that a function needs besides its arguments, estimated from its jaxpr: nothing compiles.

The model: operations run in the order in which they are written, and an array is there from the one
that makes it to the last that reads it. Elementwise work and reductions are done where they are
read (fused), if only one operation reads their result or it is larger than what it is made of.
A loop holds what it carries, all that it stacks, and one round of its body with that round's
slices. A chip's share of an array is for the caller to say.

Compilers reorder and fuse better or worse than that: compare with compiled programs before you
trust it (launch/README.md does).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.extend.core import Jaxpr, JaxprEqn, Literal, Var, jaxprs_in_params
from jax.interpreters import partial_eval

#: (shape, dtype) -> bytes of an array on one chip
SizeOf = Callable[[tuple[int, ...], Any], float | int]

#: What is never done where it is read.
_MADE = (
    "all_gather", "all_to_all", "argsort", "concatenate", "cond", "conv_general_dilated",
    "custom_call", "dot_general", "dot_product_attention", "dynamic_update_slice", "ffi_call",
    "gather", "pallas_call", "ppermute", "psum", "ragged_dot", "scan", "scatter", "shard_map",
    "sort", "top_k", "while",
)  # fmt: skip
#: Loops and branches: what they hold is looked at on its own.
_LOOPS = ("cond", "scan", "while")


def peak_bytes(fn: Callable[..., Any], *args: Any, size_of: SizeOf, replaced: Any = ()) -> float:
    """The most bytes beside its arguments that a call needs at any time.

    Args:
      fn: any traceable function.
      *args: arrays or `jax.ShapeDtypeStruct`s, in any pytrees.
      size_of: see `SizeOf`.
      replaced: those of the arguments whose memory results of the same shapes take over (donated).
    """
    jaxpr = jax.make_jaxpr(fn)(*args).jaxpr
    needed, _ = partial_eval.dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars), instantiate=True)
    free = [(x.shape, x.dtype) for x in jax.tree.leaves(replaced)]
    return _Region(_inlined(needed), needed.outvars, size_of, free).peak()


def _inlined(jaxpr: Jaxpr) -> list[JaxprEqn]:
    """The equations, those of called functions in the place of the call."""
    names: dict[Var, Any] = {}
    return list(_inline(jaxpr, names))


def _inline(jaxpr: Jaxpr, names: dict[Var, Any]) -> Any:
    for eqn in jaxpr.eqns:
        invars = [v if isinstance(v, Literal) else names.get(v, v) for v in eqn.invars]
        inner = _called(eqn)
        if inner is None:
            yield eqn.replace(invars=invars)
            continue
        # Each call has its own variables: the same function may be called twice.
        inner = _fresh(inner)
        names.update(zip(inner.invars, invars, strict=True))
        yield from _inline(inner, names)
        for outer, result in zip(eqn.outvars, inner.outvars, strict=True):
            if isinstance(outer, Var):
                names[outer] = result if isinstance(result, Literal) else names.get(result, result)


def _called(eqn: JaxprEqn) -> Jaxpr | None:
    """The function that an equation does nothing but call."""
    if eqn.primitive.name.startswith(_MADE):
        return None
    inner = list(jaxprs_in_params(eqn.params))
    same = len(inner) == 1 and len(inner[0].invars) == len(eqn.invars)
    return inner[0] if same and len(inner[0].outvars) == len(eqn.outvars) else None


def _fresh(jaxpr: Jaxpr) -> Jaxpr:
    """The same function with variables of its own."""
    new: dict[Var, Var] = {}

    def rename(v: Any) -> Any:
        if isinstance(v, Literal):
            return v
        return new.setdefault(v, Var(v.aval))

    eqns = [
        eqn.replace(invars=list(map(rename, eqn.invars)), outvars=list(map(rename, eqn.outvars)))
        for eqn in jaxpr.eqns
    ]
    ends = [list(map(rename, part)) for part in (jaxpr.constvars, jaxpr.invars, jaxpr.outvars)]
    return jaxpr.replace(constvars=ends[0], invars=ends[1], outvars=ends[2], eqns=eqns)


class _Region:
    """Straight-line equations: what is made, where it is read last, how much that is at most."""

    def __init__(self, eqns: Sequence[JaxprEqn], outvars: Sequence[Any], size_of: SizeOf, free=()):
        self.eqns, self.size_of = eqns, size_of
        self.readers: dict[Any, list[int]] = {}
        for index, eqn in enumerate(eqns):
            for v in {v for v in eqn.invars if not isinstance(v, Literal)}:
                self.readers.setdefault(v, []).append(index)
        self.outputs = {v for v in outvars if not isinstance(v, Literal)}
        self.free = self._taken_over(outvars, list(free))
        # Variable -> the arrays in memory that it is made of.
        self.roots: dict[Any, frozenset[Any]] = {}
        self.last: dict[Any, int] = {}

    def _taken_over(self, outvars: Sequence[Any], free: list[tuple]) -> set[Any]:
        found = set()
        for v in outvars:
            kind = (v.aval.shape, v.aval.dtype)
            if not isinstance(v, Literal) and kind in free:
                free.remove(kind)
                found.add(v)
        return found

    def bytes_of(self, v: Any) -> float:
        aval = v.aval
        if v in self.free or not hasattr(aval, "shape"):
            return 0.0
        return float(self.size_of(tuple(aval.shape), aval.dtype))

    def _is_made(self, eqn: JaxprEqn, v: Any) -> bool:
        """Whether a result lies in memory, rather than being computed where it is read."""
        if eqn.primitive.name.startswith(_MADE) or v in self.outputs:
            return True
        readers = self.readers.get(v, [])
        if any(self.eqns[i].primitive.name.startswith(_MADE) for i in readers):
            return True
        sources = sum(map(self.bytes_of, self._sources(eqn)))
        return len(readers) > 1 and self.bytes_of(v) <= sources

    def _sources(self, eqn: JaxprEqn) -> frozenset[Any]:
        there = [self.roots.get(v, frozenset()) for v in eqn.invars if not isinstance(v, Literal)]
        return frozenset().union(*there)

    def peak(self) -> float:
        made: list[list[Any]] = []
        for index, eqn in enumerate(self.eqns):
            sources = self._sources(eqn)
            for root in sources:
                self.last[root] = index
            own = []
            for v in eqn.outvars:
                if not isinstance(v, Var):
                    continue
                if self._is_made(eqn, v):
                    own.append(v)
                    self.roots[v] = frozenset([v])
                    self.last[v] = len(self.eqns) if v in self.outputs else index
                else:
                    self.roots[v] = sources
            made.append(own)
        for v in self.outputs:  # and what an output that is no array of its own is made of
            for root in self.roots.get(v, ()):
                self.last[root] = len(self.eqns)
        ends: dict[int, list[Any]] = {}
        for v, index in self.last.items():
            ends.setdefault(index, []).append(v)
        held = most = 0.0
        for index, eqn in enumerate(self.eqns):
            own = sum(map(self.bytes_of, made[index]), 0.0)
            most = max(most, held + own + _within(eqn, self.size_of))
            held += own - sum(map(self.bytes_of, ends.get(index, [])), 0.0)
        return most


def _within(eqn: JaxprEqn, size_of: SizeOf) -> float:
    """What a loop or branch holds besides its results."""
    if eqn.primitive.name not in _LOOPS:
        return 0.0
    return max((_body(eqn, inner, size_of) for inner in jaxprs_in_params(eqn.params)), default=0.0)


def _body(eqn: JaxprEqn, inner: Jaxpr, size_of: SizeOf) -> float:
    region = _Region(_inlined(inner), inner.outvars, size_of)
    slices = 0.0
    if eqn.primitive.name == "scan":
        # One round's slices of what the scan walks over; weights are gathered for it.
        first = eqn.params["num_consts"] + eqn.params["num_carry"]
        slices = 0.0 + sum(
            math.prod(v.aval.shape) * v.aval.dtype.itemsize if _is_plain(v.aval.dtype) else 0.0
            for v in inner.invars[first:]
        )
    return region.peak() + slices


def _is_plain(dtype: Any) -> bool:
    return not jax.dtypes.issubdtype(dtype, jax.dtypes.extended)
