"""Keys and values of the texts that a location-aware cross-attention reads.

G scales a text's features f before keys and values are projected: k = RMS(G p + b) gamma with
p = W_k f, and v = G W_v f + b_v. RMS needs mean((G p + b)^2) = G^2 a + 2 G c + e, so that one p,
and the numbers a and c per key, serve every G.
"""

from collections.abc import Mapping
from typing import Any

import flax.struct
import jax.numpy as jnp
from einops import rearrange
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from tavid_jax.models.layers.linear import project
from tavid_jax.models.layers.located.params import without_bias
from tavid_jax.models.layers.located.types import Laca
from tavid_jax.models.layers.norms import rms_norm
from tavid_jax.models.layers.streams import TEXT

# Bias of a key that nobody may see.
HIDDEN = -1e9


@flax.struct.dataclass
class Keys:
    """Of one block; in a cache, of all that have one, with a leading axis over them.

    Attributes:
      prompt_k, prompt_v: of the prompt, (B, P, K, d); None where nobody reads it.
      k: of the trajectories' texts, (B, N, L, K, d); of Gaussian "input", gamma p.
      v: their values at G = 1, (B, N, L, K, d).
      a, c: means over the width of p^2 and p b, (B, N, L) float32; None but for "input".
    """

    prompt_k: Any
    prompt_v: Any
    k: Any
    v: Any
    a: Any
    c: Any


def text_keys(
    weights: Mapping[str, Any],
    laca: Laca,
    prompt: Float[Array, "b P D"] | None,
    local: Float[Array, "b N L D"],
    *,
    heads: int,
    epsilon: float,
    dtype: DTypeLike,
) -> Keys:
    """Keys and values of one block.

    Args:
      weights: from `params.whole`.
      laca: see there.
      prompt: embedded; not read where `laca.outside` is "skip".
      local: embedded texts of the trajectories.
      heads, epsilon, dtype: of attention.
    """

    def apart(x: Array) -> Array:
        return rearrange(x, "... (k d) -> ... k d", k=heads)

    def normed(x: Array) -> Array:
        y = rms_norm(project(weights["k"], x, dtype, TEXT), weights["k_norm"]["scale"], epsilon)
        return apart(y.astype(dtype))

    def values(x: Array) -> Array:
        return apart(project(weights["v"], x, dtype, TEXT))

    prompt_k = prompt_v = a = c = None
    if laca.outside == "prompt":
        prompt_k, prompt_v = normed(prompt), values(prompt)
    if laca.gaussian == "input":
        p = project(without_bias(weights["k"]), local, dtype, TEXT).astype(jnp.float32)
        bias = weights["k"]["bias"].astype(jnp.float32)
        a, c = jnp.mean(jnp.square(p), axis=-1), jnp.mean(p * bias, axis=-1)
        k = apart((p * weights["k_norm"]["scale"]).astype(dtype))
    else:
        k = normed(local)
    return Keys(prompt_k=prompt_k, prompt_v=prompt_v, k=k, v=values(local), a=a, c=c)


def key_bias(
    lengths: Int[Array, "b N"], positions: int, text_length: int, mask_pads: bool
) -> Float[Array, "b N L"]:
    """Added to the logits of the local texts' keys.

    Text i has lengths[i] real keys and one of a pad, which stands for all up to `text_length`, as
    the published model has them: n equal keys weigh as one whose logit is larger by log(n). What
    is behind it is hidden; with `mask_pads` the pad is, too, unless the text is empty.
    """
    place = jnp.arange(positions)
    length = lengths[..., None]
    pads = jnp.where(mask_pads & (length > 0), 0, text_length - length)
    pad = jnp.where(pads > 0, jnp.log(jnp.maximum(pads, 1).astype(jnp.float32)), HIDDEN)
    return jnp.where(place < length, 0.0, jnp.where(place == length, pad, HIDDEN))
