"""The cache gives the parts that attention would have had without it."""

import jax
import jax.numpy as jnp
import numpy as np

from tavid_jax.models.layers.attention import Part, Query, attention
from tavid_jax.models.layers.kv_cache import KVCache


def test_scan_over_a_cache_equals_layer_by_layer():
    keys = jax.random.split(jax.random.key(0), 3)
    k, v = (jax.random.normal(key, (3, 2, 6, 2, 8)) for key in keys[:2])
    cache = KVCache(k, v, length=4, split=True)
    q = jax.random.normal(keys[2], (2, 5, 2, 8))

    def step(x, layer):
        return attention([Query(x)], [cache.part(*layer)])[0], None

    got, _ = jax.lax.scan(step, q, (cache.k, cache.v))
    want = q
    for i in range(3):
        want = attention([Query(want)], [Part(k[i], v[i], length=4, split=True)])[0]
        assert cache.layer(i).length == 4 and cache.layer(i).split
        np.testing.assert_array_equal(cache.layer(jnp.array(i)).k, k[i])
    np.testing.assert_allclose(got, want, atol=1e-6)


def test_a_cache_is_a_pytree_with_fixed_length():
    cache = KVCache(jnp.zeros((1, 1, 2, 1, 4)), jnp.zeros((1, 1, 2, 1, 4)), length=1)
    shapes = jax.eval_shape(lambda c: c, cache)
    assert shapes.length == 1 and shapes.k.shape == (1, 1, 2, 1, 4)
    assert jax.tree.map(lambda _: None, cache).length == 1
