"""Buckets of distances, and the bias that is read from them."""

import jax.numpy as jnp
import numpy as np
import pytest

from tavid_jax.models.text.config import T5Config
from tavid_jax.models.text.positions import buckets_of_offsets, distance_bucket, position_bias

CONFIG = T5Config()
# Where each bucket begins: 32 buckets, distances up to 128.
STARTS = (*range(8), 8, 12, 16, 23, 32, 46, 64, 91)


def test_published_buckets():
    for distance in range(1000):
        want = max(i for i, start in enumerate(STARTS) if distance >= start)
        assert distance_bucket(distance, CONFIG) == want


def test_other_numbers_of_buckets():
    config = T5Config(num_buckets=8, max_distance=8)
    assert [distance_bucket(d, config) for d in range(10)] == [0, 1, 2, 2, 3, 3, 3, 3, 3, 3]


def test_keys_behind_the_query_have_the_second_half():
    buckets = buckets_of_offsets(200, CONFIG)
    assert buckets[0] == 0 and buckets[1] == 17 and buckets[-1] == 1
    assert buckets[150] == 31 and buckets[-150] == 15


@pytest.mark.parametrize("length", [1, 2, 3, 50, 130])
def test_bias_of_every_pair(length: int):
    table = np.random.default_rng(0).standard_normal((32, 3)).astype(np.float32)
    bias = np.asarray(position_bias(jnp.asarray(table), length, CONFIG))
    assert bias.shape == (3, length, length)
    for query in range(0, length, 7):
        for key in range(length):
            bucket = distance_bucket(abs(key - query), CONFIG) + 16 * (key > query)
            np.testing.assert_array_equal(bias[:, query, key], table[bucket])


def test_bad_buckets_are_refused():
    with pytest.raises(ValueError, match="num_buckets=7 must be even and at least 4"):
        T5Config(num_buckets=7)
    with pytest.raises(ValueError, match="max_distance=8 must be above a quarter of num_buckets"):
        T5Config(max_distance=8)
