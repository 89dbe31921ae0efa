"""The loss on held-out clips while a stage trains: same loss, fixed clips, fixed randomness."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

import jax
from jax.sharding import Mesh

from tavid_jax.engine import trees
from tavid_jax.engine.method import Arrays, Method, Params
from tavid_jax.parallel import processes
from tavid_jax.parallel.mesh import to_global


class Validation:
    """Mean loss over the first full batches of a data set; changes no state, draws fixed keys.

    Args:
      every: how many steps lie between two validations.
      batches: the held-out data, in a fixed order; at most `count` of them are read, once, and
        kept on the host.
      encode: whether they are clips (to be encoded) or cached encoded examples.

    Raises ValueError when there is not one full batch.
    """

    def __init__(
        self,
        method: Method,
        mesh: Mesh,
        batches: Iterable[Any],
        *,
        every: int,
        count: int,
        batch_size: int,
        rng: jax.Array,
        encode: bool,
    ):
        self.every = every
        full = (b for b in batches if len(b.ids) * processes.count() == batch_size)
        arrays = [batch.arrays for batch in itertools.islice(full, count)]
        # The last batch may be full for some of several processes only.
        self._batches = arrays[: min(processes.exchange(len(arrays)))]
        if not self._batches:
            raise ValueError(f"the validation data have less than one batch of {batch_size}")
        self._keys = [
            jax.random.split(jax.random.fold_in(rng, i), (2, batch_size))
            for i in range(len(self._batches))
        ]
        self._mesh = mesh

        def ratio(params: Params, batch: Arrays, keys: jax.Array, step: jax.Array):
            if encode:
                batch = method.encode(params, batch, keys[0])
            return method.loss(params, batch, keys[1], step)[0]

        self._ratio = jax.jit(ratio)

    def __call__(self, weights: Params, frozen: Params, step: jax.Array) -> float:
        """The loss of these weights; `step` is for losses that depend on it. Waits for it."""
        params = trees.merge(frozen, weights)
        pairs = [
            self._ratio(params, to_global(arrays, self._mesh), keys, step)
            for arrays, keys in zip(self._batches, self._keys, strict=True)
        ]
        total, weight = (sum(values) for values in zip(*jax.device_get(pairs), strict=True))
        return float(total) / max(float(weight), 1e-8)
