"""The VAE's losses over every pixel of a field, a frame at a time.

A field of 81 frames of 480x832 is 259 MB, and its errors, differences and gradients are several of
them: more than a small chip has for one window. Only the decoder's tokens are kept; a frame's
pixels are made, measured and forgotten, and made again for the gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from tavid_jax.diffusion import losses
from tavid_jax.engine.method import Ratio

# Sums over a clip and what divides them, (B,) each, by term.
Sums = dict[str, tuple[Float[Array, " B"], Float[Array, " B"]]]


def dense_terms(
    field_of: Callable[[Array], Array],
    tokens: Float[Array, "B T *N D"],
    target: Float[Array, "B T gh gw 2"],
    mask: Float[Array, "B T gh gw"],
    clip_weight: Float[Array, " B"],
    *,
    stride: int,
    penalty: str,
    velocity: bool,
    hops: Sequence[tuple[int, float]],
) -> dict[str, Ratio]:
    """Equal to `losses.reconstruction`, `velocity` and `neighbours` of the whole fields.

    Args:
      field_of: tokens (B, 1, ...) of a frame -> normalised coordinates (B, 1, H, W, 2).
      tokens: of the decoder's last block.
      target, mask: of cells of `stride` pixels; every pixel has its cell's.
      clip_weight: see `losses.over_clips`.
      penalty: of velocity and neighbours, see `losses.rho`.
      velocity: whether that term is wanted.
      hops: distances (in pixels) and weights of neighbours; () leaves the term out.

    Returns:
      "reconstruction", "velocity", "neighbour" as (sum, weight), and "vepe_px", the mean distance
      in pixels over all of them.
    """
    size_hw = (stride * target.shape[2], stride * target.shape[3])

    def measure(before: tuple[Array, Array], now: tuple[Array, Array, Array]):
        token, aim, seen = now
        seen = _enlarged(seen[..., None], stride)[..., 0]
        error = field_of(token[:, None])[:, 0].astype(jnp.float32) - _enlarged(aim, stride)
        sums: Sums = {
            "reconstruction": (_total(seen * losses.rho(error).sum(-1)), 2 * _total(seen)),
            "vepe_px": _distance(error, seen, size_hw),
        }
        if velocity:
            old, was_seen = before
            both = seen * was_seen
            step = losses.rho(error - old, penalty).mean(-1)
            sums["velocity"] = (_total(both * step), _total(both))
        if hops:
            sums["neighbour"] = _neighbours(error, seen, penalty, hops)
        return (error, seen), sums

    start = jnp.zeros((len(target), *size_hw, 2)), jnp.zeros((len(target), *size_hw))
    by_frame = tuple(jnp.moveaxis(x, 1, 0) for x in (tokens, target, mask))
    _, frames = jax.lax.scan(jax.checkpoint(measure), start, by_frame)
    sums = {name: tuple(part.sum(0) for part in parts) for name, parts in frames.items()}
    total, count = sums.pop("vepe_px")
    terms = {
        name: losses.over_clips(value / jnp.maximum(weight, 1), clip_weight)
        for name, (value, weight) in sums.items()
    }
    return terms | {"vepe_px": (total.sum(), count.sum())}


def _enlarged(x: Float[Array, "B gh gw C"], stride: int) -> Float[Array, "B H W C"]:
    return jnp.repeat(jnp.repeat(x, stride, axis=1), stride, axis=2)


def _total(x: Float[Array, "B H W"]) -> Float[Array, " B"]:
    return x.sum(axis=(1, 2))


def _distance(
    error: Float[Array, "B H W 2"], seen: Float[Array, "B H W"], size_hw: tuple[int, int]
) -> tuple[Float[Array, " B"], Float[Array, " B"]]:
    """In pixels. For people: no gradient goes through its root at zero."""
    height, width = size_hw
    apart = jax.lax.stop_gradient(error) * jnp.array([width / 2, height / 2])
    return _total(jnp.linalg.norm(apart, axis=-1) * seen), _total(seen)


def _neighbours(
    error: Float[Array, "B H W 2"],
    seen: Float[Array, "B H W"],
    penalty: str,
    hops: Sequence[tuple[int, float]],
) -> tuple[Float[Array, " B"], Float[Array, " B"]]:
    """Errors of differences between pixels so far apart in a frame, both ways."""
    total = count = jnp.zeros(len(error))
    for distance, weight in hops:
        for axis in (1, 2):
            size = error.shape[axis]
            if distance >= size:
                continue

            def ends(x: Array, axis: int = axis, size: int = size, far: int = distance):
                near = jax.lax.slice_in_dim(x, 0, size - far, axis=axis)
                return near, jax.lax.slice_in_dim(x, far, size, axis=axis)

            (one, other), (seen_one, seen_other) = ends(error), ends(seen)
            both = weight * seen_one * seen_other
            total += _total(both * losses.rho(other - one, penalty).mean(-1))
            count += _total(both)
    return total, count
