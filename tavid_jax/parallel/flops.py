"""Floating-point operations of a function, counted from its jaxpr: nothing runs or compiles.

What is counted is the matrix work, two operations per multiply-add of products and convolutions;
everything else in these models is a per cent of it. Recomputation (remat) counts, because it is
done; what no result depends on does not, because compilers drop it.
"""

from __future__ import annotations

import collections
import dataclasses
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import jax
from jax.extend.core import Jaxpr, JaxprEqn, Literal, jaxprs_in_params
from jax.interpreters import partial_eval

#: The entry of a tally that is the operations; its other entries are names of primitives.
_FLOPS = "flops"
#: Primitives that do matrix work which their parameters do not tell.
_OPAQUE = ("custom_call", "dot_product_attention", "ffi_call", "pallas_call", "ragged_dot")

#: The scope of a loop of unknown length: how many rounds it takes in how many of its calls.
_ROUNDS = re.compile(r"rounds_(\d+)_of_(\d+)")
#: The scope of a branch that is taken in some rounds of a loop.
_TAKEN = re.compile(r"taken_(\d+)_of_(\d+)")

# How often what has been met: only ever added and multiplied by integers.
Tally = collections.Counter


@dataclasses.dataclass(frozen=True)
class Count:
    """Operations of one call of a function.

    Attributes:
      flops: two per multiply-add; of the whole arrays, however they are split over devices.
      unknown: primitive -> number of places where the work could not be told and is missing:
        kernels, and `while` loops of unknown length (their body is counted once).
    """

    flops: int
    unknown: Mapping[str, int]


def count(fn: Callable[..., Any], *args: Any) -> Count:
    """Counts the operations of `fn(*args)`.

    Scans count their body times their length, as do `while` loops that count up to a constant;
    of the branches of a `cond` the dearest one counts, or, in a scope named "taken_7_of_42", this
    share of it. A `while` loop of unknown length counts as often as its scope says, such as
    "rounds_14_of_42". The padding of a convolution counts as data, the zeros that a strided one's
    gradient inserts do not.

    Args:
      fn: any traceable function; may be jitted.
      *args: arrays or `jax.ShapeDtypeStruct`s, in any pytrees.
    """
    jaxpr = jax.make_jaxpr(fn)(*args).jaxpr
    needed, _ = partial_eval.dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))
    tally = _walk(needed)
    unknown = {name: places for name, places in sorted(tally.items()) if name != _FLOPS}
    return Count(flops=tally[_FLOPS], unknown=unknown)


def _walk(jaxpr: Jaxpr) -> Tally:
    total: Tally = Tally()
    for eqn in jaxpr.eqns:
        total += _RULES.get(eqn.primitive.name, _descend)(eqn)
    return total


def _times(tally: Tally, factor: int) -> Tally:
    return Tally({name: value * factor for name, value in tally.items()})


def _descend(eqn: JaxprEqn) -> Tally:
    """Any other primitive does what the functions it holds do: jit, remat, custom gradients."""
    if eqn.primitive.name.startswith(_OPAQUE):
        return Tally({eqn.primitive.name: 1})
    return sum((_walk(inner) for inner in jaxprs_in_params(eqn.params)), Tally())


def _dot_general(eqn: JaxprEqn) -> Tally:
    (contracted, _), _ = eqn.params["dimension_numbers"]
    depth = math.prod(eqn.invars[0].aval.shape[d] for d in contracted)
    return Tally({_FLOPS: 2 * math.prod(eqn.outvars[0].aval.shape) * depth})


def _conv_general_dilated(eqn: JaxprEqn) -> Tally:
    out_features, *_ = eqn.params["dimension_numbers"].rhs_spec
    kernel = eqn.invars[1].aval.shape
    per_output = math.prod(kernel) // kernel[out_features]
    inserted = math.prod(eqn.params["lhs_dilation"])
    return Tally({_FLOPS: 2 * math.prod(eqn.outvars[0].aval.shape) * per_output // inserted})


def _scan(eqn: JaxprEqn) -> Tally:
    return _times(_descend(eqn), eqn.params["length"])


def _cond(eqn: JaxprEqn) -> Tally:
    branches = [_walk(branch.jaxpr) for branch in eqn.params["branches"]]
    tally = max(branches, key=lambda branch: branch[_FLOPS])
    share = _TAKEN.search(str(eqn.source_info.name_stack))
    if share is None:
        return tally
    taken, rounds = map(int, share.groups())
    return Tally({**tally, _FLOPS: tally[_FLOPS] * taken // rounds})


def _shard_map(eqn: JaxprEqn) -> Tally:
    """The body is one device's share, done by every device along the axes that it divides."""
    sizes = eqn.params["mesh"].shape
    return _times(_descend(eqn), math.prod(sizes[a] for a in eqn.params["newly_manual_axes"]))


def _while(eqn: JaxprEqn) -> Tally:
    body = _walk(eqn.params["body_jaxpr"].jaxpr)
    share = _ROUNDS.search(str(eqn.source_info.name_stack))
    if share is not None:
        rounds, loops = map(int, share.groups())
        return Tally({**body, _FLOPS: body[_FLOPS] * rounds // loops})
    trips = _trips(eqn)
    if trips is None:
        return body + Tally({eqn.primitive.name: 1}) if body[_FLOPS] else body
    return _times(body, trips)


def _trips(eqn: JaxprEqn) -> int | None:
    """Rounds of a loop `while i < constant: i += constant`; None for any other loop."""
    condition, body = eqn.params["cond_jaxpr"].jaxpr, eqn.params["body_jaxpr"].jaxpr
    if [e.primitive.name for e in condition.eqns] != ["lt"]:
        return None
    counter, limit = condition.eqns[0].invars
    if isinstance(counter, Literal) or not isinstance(limit, Literal):
        return None
    # Operands are the constants of the condition, those of the body, and what is carried.
    consts = eqn.params["cond_nconsts"]
    carried = condition.invars.index(counter) - consts
    start = eqn.invars[consts + eqn.params["body_nconsts"] + carried]
    before = body.invars[eqn.params["body_nconsts"] + carried]
    step = next((e for e in body.eqns if e.outvars[0] is body.outvars[carried]), None)
    if not isinstance(start, Literal) or step is None or step.primitive.name != "add":
        return None
    if step.invars[0] is not before or not isinstance(step.invars[1], Literal):
        return None
    if carried < 0 or step.invars[1].val <= 0:
        return None
    return max(0, math.ceil((limit.val - start.val) / step.invars[1].val))


_RULES: dict[str, Callable[[JaxprEqn], Tally]] = {
    "cond": _cond,
    "conv_general_dilated": _conv_general_dilated,
    "dot_general": _dot_general,
    "scan": _scan,
    "shard_map": _shard_map,
    "while": _while,
}
