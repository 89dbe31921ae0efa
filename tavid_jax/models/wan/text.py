"""The padding of Wan's prompts, merged into one key."""

import math

import jax.numpy as jnp
from jaxtyping import Array, Float


def merge_padding(
    text: Float[Array, "B L E"], keep: int
) -> tuple[Float[Array, "B {keep+1} E"], Float[Array, "{keep+1}"]]:
    """(shorter text, bias of its keys) with the same cross-attention as the whole.

    Prompts end in zero vectors, which all become the same key and value: n of them weigh as much
    as one whose logit is larger by log(n).

    Args:
      text: padded features; every example has at most `keep` real tokens.
      keep: how many positions stay as they are.

    Returns:
      The first `keep` positions and one pad; the bias for `Wan.predict(text_bias=...)`.

    Raises:
      ValueError: `keep` that leaves no padding to merge.
    """
    merged = text.shape[1] - keep
    if keep < 0 or merged < 1:
        raise ValueError(f"merge_padding: keep={keep} of {text.shape[1]} text positions")
    bias = jnp.zeros((keep + 1,), jnp.float32).at[keep].set(math.log(merged))
    return text[:, : keep + 1], bias
