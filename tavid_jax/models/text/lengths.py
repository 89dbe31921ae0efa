"""Short prompts in short programs: what a masked encoder need not compute."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

BUCKETS = (64, 128, 256, 512)


def bucket_length(mask: Bool[np.ndarray, "B L"], buckets: Sequence[int] = BUCKETS) -> int:
    """The smallest bucket that holds all real tokens of a batch, at most L.

    An encoder that is given the mask computes the same at real positions however much padding
    there is, so a few compiled programs serve prompts of any length. Without a mask (CogVideoX)
    padding takes part, and the length is part of the model.
    """
    real = int(mask.sum(axis=1).max(initial=0))
    return min([mask.shape[1], *(bucket for bucket in buckets if bucket >= real)])


def cut(
    ids: Int[np.ndarray, "B L"], mask: Bool[np.ndarray, "B L"], buckets: Sequence[int] = BUCKETS
) -> tuple[Int[np.ndarray, "B S"], Bool[np.ndarray, "B S"]]:
    """Ids and mask without the padding behind `bucket_length`."""
    length = bucket_length(mask, buckets)
    return ids[:, :length], mask[:, :length]


def zero_padded(
    features: Float[Array, "B S D"], mask: Bool[Array, "B S"] | Bool[np.ndarray, "B S"], length: int
) -> Float[Array, "B {length} D"]:
    """Features with zero vectors at padding, and behind it up to `length`: what Wan reads.

    Raises:
      ValueError: a length below that of the features.
    """
    missing = length - features.shape[1]
    if missing < 0:
        raise ValueError(f"{features.shape[1]} features cannot be padded to {length}")
    real = jnp.where(mask[..., None], features, 0)
    return jnp.pad(real, ((0, 0), (0, missing), (0, 0)))
