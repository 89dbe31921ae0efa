"""Doing something on every device with its own examples, tokens and heads."""

import math
from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import PartitionSpec

from tavid_jax.models.layers.attention.sharded import map_devices
from tavid_jax.parallel.sharding import auto_axes, context_ways, partition


def per_device(
    body: Callable[..., Any], batch: int, heads: int, places: Any, results: Any
) -> Callable[..., Any]:
    """`body` on every device of the active mesh, directly where there is only one.

    Args:
      body: takes and gives one device's share.
      batch, heads: how many examples and heads the whole arrays have.
      places: names of the axes of the arguments, such as "batch tokens - heads": one name, or "-"
        for whole, for each dimension; trees of them.
      results: the same of what body returns.
    """
    if math.prod(auto_axes().values()) == 1:
        return body
    axes = {
        "batch": partition((batch,), "batch")[0],
        "tokens": partition((context_ways(),), "tokens")[0],
        "heads": partition((heads,), "heads")[0],
        "-": None,
    }

    def spec(names: str) -> PartitionSpec:
        return PartitionSpec(*(axes[name] for name in names.split()))

    return map_devices(body, jax.tree.map(spec, places), jax.tree.map(spec, results))
