"""T5's relative positions: a learned bias per head and bucket of distances (arXiv:1910.10683)."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from tavid_jax.models.text.config import T5Config


def distance_bucket(distance: int, config: T5Config) -> int:
    """Bucket of a distance >= 0 within its direction.

    The first half of the buckets hold one distance each, the others grow geometrically up to
    `max_distance`; the last takes all beyond. In 32 buckets up to 128 the grown ones begin at
    8, 12, 16, 23, 32, 46, 64 and 91. Whole numbers decide: a rounded logarithm would put a
    distance that lies on a border (16, 32, 64) to either side.
    """
    half = config.num_buckets // 2
    single = half // 2
    if distance < single:
        return distance
    grown = half - single
    # step <= grown * log(distance / single) / log(max_distance / single)
    steps = (
        step
        for step in range(1, grown)
        if distance**grown * single**step >= config.max_distance**step * single**grown
    )
    return single + max(steps, default=0)


def buckets_of_offsets(length: int, config: T5Config) -> Int[np.ndarray, " {2*length}"]:
    """Bucket of each offset key - query, stored at index offset mod 2 length.

    Keys behind the query have the second half of the buckets. The offset -length, which does not
    occur, is there to make the period even.
    """
    near = [distance_bucket(d, config) for d in range(length + 1)]
    behind = [0] + [config.num_buckets // 2 + bucket for bucket in near[1:length]]
    return np.array(behind + near[length:0:-1], np.int32)


def position_bias(
    table: Float[Array, "buckets K"], length: int, config: T5Config
) -> Float[Array, "K {length} {length}"]:
    """Bias of every (query, key), float32.

    It is constant along diagonals. Row i is the periodic sequence of `buckets_of_offsets` shifted
    by i: repeating that sequence of 2L and cutting it into rows of 2L - 1 shifts each row by one
    more, without looking anything up; the backward pass is a sum, not a scatter.
    """
    row = table.astype(jnp.float32).T[:, buckets_of_offsets(length, config)]
    heads, period = row.shape
    repeated = jnp.broadcast_to(row[:, None], (heads, length, period)).reshape(heads, -1)
    shifted = repeated[:, : length * (period - 1)].reshape(heads, length, period - 1)
    return shifted[:, :, :length]
