"""Which implementation runs: what each of them needs, and what `auto` takes."""

import functools

import jax.numpy as jnp
from absl import logging
from jax.typing import DTypeLike

from tavid_jax.models.layers.attention import splash
from tavid_jax.parallel.sharding import target_chip, target_platform

IMPLEMENTATIONS = ("auto", "xla", "chunked", "cudnn", "splash")
# Up to so many bytes of float32 scores on one device the plain implementation is taken: it
# compiles fastest. Above, on a CPU too, the chunked one is faster forward and backward, because
# its scores stay in cache.
SMALL_SCORES = {"cpu": 2**22, "gpu": 2**25, "tpu": 2**25}
CUDNN_LARGEST_HEAD = 128  # 256 from Hopper on, but not in the backward pass of all versions


def choose(
    implementation: str, *, dtype: DTypeLike, head_dim: int, score_bytes: int, biased: bool
) -> str:
    """The implementation that runs.

    Args:
      implementation: one of `IMPLEMENTATIONS`.
      dtype, head_dim: of queries and keys.
      score_bytes: of the whole score tensor of one device in float32.
      biased: whether any score has a bias.

    Raises:
      ValueError: an unknown name, or an implementation that cannot run here.
    """
    if implementation not in IMPLEMENTATIONS:
        raise ValueError(
            f"attention: no implementation {implementation!r}; use {', '.join(IMPLEMENTATIONS)}"
        )
    platform = target_platform()
    if implementation != "auto":
        reason = obstacle(implementation, platform, dtype, head_dim, biased)
        if reason:
            raise ValueError(
                f"attention: {implementation} {reason}; use "
                f"{_automatic(platform, dtype, head_dim, score_bytes, biased)} or auto"
            )
        return implementation
    chosen = _automatic(platform, dtype, head_dim, score_bytes, biased)
    small = score_bytes <= SMALL_SCORES.get(platform, 0)
    _announce(platform, "small" if small else "large", biased, jnp.dtype(dtype).name, chosen)
    return chosen


def obstacle(
    implementation: str, platform: str, dtype: DTypeLike, head_dim: int, biased: bool
) -> str:
    """Why an implementation cannot run, as the rest of a sentence; "" if it can."""
    if implementation == "cudnn":
        if platform in ("gpu", "cuda") and target_chip().startswith("AMD"):
            return f"needs an NVIDIA GPU, not an {target_chip()}"
        if platform not in ("gpu", "cuda"):
            return f"needs an NVIDIA GPU, not a {platform}"
        if jnp.dtype(dtype) not in (jnp.dtype(jnp.bfloat16), jnp.dtype(jnp.float16)):
            return f"takes bfloat16 or float16, not {jnp.dtype(dtype).name}"
        if head_dim > CUDNN_LARGEST_HEAD or head_dim % 8:
            return f"needs a head dim of at most 128 that 8 divides, not {head_dim}"
    if implementation == "splash":
        if platform != "tpu" and not splash.interpreting():
            return f"needs a TPU, not a {platform}"
        if biased:
            return "takes no biases"
        if head_dim not in splash.HEAD_DIMS and not splash.interpreting():
            return f"needs a head dim of {' or '.join(map(str, splash.HEAD_DIMS))}, not {head_dim}"
    return ""


def _automatic(
    platform: str, dtype: DTypeLike, head_dim: int, score_bytes: int, biased: bool
) -> str:
    if score_bytes <= SMALL_SCORES.get(platform, 0):
        return "xla"
    fast = {"tpu": "splash", "gpu": "cudnn", "cuda": "cudnn"}.get(platform)
    if fast and not biased and not obstacle(fast, platform, dtype, head_dim, biased):
        return fast
    return "chunked"


@functools.cache
def _announce(platform: str, size: str, biased: bool, dtype: str, chosen: str) -> None:
    """Says once per kind of call what `auto` took."""
    logging.info(
        "attention: %s on %s for %s score tensors%s in %s",
        chosen,
        platform,
        size,
        " with a bias" if biased else "",
        dtype,
    )
