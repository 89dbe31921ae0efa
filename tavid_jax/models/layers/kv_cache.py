"""Keys and values of one stream for all layers: what a backbone takes and gives instead of tokens.

A stream whose keys do not depend on the others (the condition of a clip, its text) walks the
blocks once; every later call reads its cache.
"""

from typing import Any

import flax.struct
import jax

from tavid_jax.models.layers.attention.types import Part


@flax.struct.dataclass
class KVCache:
    """Keys and values of all layers, as attention takes them: post-norm and post-rotary.

    Channels of a turned head are in halves (`rotary.halved`), not in the published order.

    In a scan over depth, scan over `(cache.k, cache.v)` and make each layer's part by
    `cache.part(k, v)`.

    Attributes:
      k, v: (L, B, S, K, D), layers stacked.
      length: how many tokens are real; the rest, at the end, is padding. None: all.
      split: the tokens lie over the mesh axis `context`.
    """

    # Any: as a pytree it may also hold shapes, shardings or None.
    k: Any
    v: Any
    length: int | None = flax.struct.field(pytree_node=False, default=None)
    split: bool = flax.struct.field(pytree_node=False, default=False)

    def part(self, layer_k: jax.Array, layer_v: jax.Array) -> Part:
        """Keys and values (B, S, K, D) of one layer with this cache's length and place."""
        return Part(layer_k, layer_v, length=self.length, split=self.split)

    def layer(self, index: int | jax.Array) -> Part:
        """The part of layer `index` (may be traced), outside of a scan."""
        take = jax.lax.dynamic_index_in_dim
        return self.part(take(self.k, index, keepdims=False), take(self.v, index, keepdims=False))
