"""What a map of attention and a mask have in common."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

# What `measures` tells of a map.
IOU, INSIDE, OUTSIDE = MEASURES = ("iou", "inside", "outside")


def measures(
    maps: Float[Array, "*B N"], aim: Float[Array, "*B N"]
) -> dict[str, Float[Array, "*B"]]:
    """Of maps and the masks that they should be, values in [0, 1]: "iou" (see `overlap`), and the
    mean of the map "inside" and "outside" of the mask."""
    inside = (maps * aim).sum(-1) / jnp.maximum(aim.sum(-1), 1e-6)
    outside = (maps * (1 - aim)).sum(-1) / jnp.maximum((1 - aim).sum(-1), 1e-6)
    return {IOU: overlap(maps, aim), INSIDE: inside, OUTSIDE: outside}


def overlap(maps: Float[Array, "*B N"], aim: Float[Array, "*B N"]) -> Float[Array, "*B"]:
    """Intersection over union of a mask and as many of a map's highest tokens as it has.

    A token is in the mask if half of it is; where none is, the fullest one stands for it.
    """
    wanted = _wanted(aim)
    order = jnp.argsort(jnp.argsort(-maps, axis=-1), axis=-1)  # 0 for the highest
    found = order < wanted.sum(-1, keepdims=True)
    both, either = (wanted & found).sum(-1), (wanted | found).sum(-1)
    return both / jnp.maximum(either, 1)


def chance(aim: Float[np.ndarray, " N"]) -> float:
    """The `overlap` of a mask that a map which knows nothing of it may hope for: that of the
    expected number of hits."""
    count = int(_wanted(jnp.asarray(aim)).sum())
    return count / (2 * aim.size - count)


def _wanted(aim: Array) -> Array:
    return aim >= jnp.minimum(0.5, aim.max(-1, keepdims=True))
