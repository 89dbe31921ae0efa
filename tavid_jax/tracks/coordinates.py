"""Pixel and normalised coordinates, and what happens to them when frames are resized or cropped."""

from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Num, Shaped

AnyArray = jax.Array | np.ndarray


def namespace(*arrays: Any) -> ModuleType:
    """jax.numpy if any argument is a jax array (or tracer), else numpy."""
    return jnp if any(isinstance(array, jax.Array) for array in arrays) else np


def _float32(values: Any) -> AnyArray:
    return namespace(values).asarray(values, np.float32)


def _scale(size_hw: tuple[int, int]) -> np.ndarray:
    """(W, H) as float32, in the order of coordinates."""
    return np.asarray([size_hw[1], size_hw[0]], np.float32)


def normalise(xy: Num[AnyArray, "*n 2"], size_hw: tuple[int, int]) -> Float[AnyArray, "*n 2"]:
    """Pixels -> normalised: x_n = 2 x / W - 1, y_n = 2 y / H - 1 (TrajLoom's rule).

    Divides by W, not W - 1, and shifts by no half pixel: x = 0 -> -1, x = W -> +1.
    """
    return 2 * _float32(xy) / _scale(size_hw) - 1


def denormalise(xy: Float[AnyArray, "*n 2"], size_hw: tuple[int, int]) -> Float[AnyArray, "*n 2"]:
    """Normalised -> pixels, the inverse of `normalise`."""
    return (_float32(xy) + 1) / 2 * _scale(size_hw)


def resize(
    xy: Num[AnyArray, "*n 2"], from_hw: tuple[int, int], to_hw: tuple[int, int]
) -> Float[AnyArray, "*n 2"]:
    """Pixels of a frame of one size -> pixels of the same frame resized.

    Outer corners stay on outer corners, so with centres at integers
    x' = (x + 1/2) W'/W - 1/2, as image resizing (half-pixel centres) moves the picture.
    """
    return (_float32(xy) + 0.5) * (_scale(to_hw) / _scale(from_hw)) - 0.5


def crop(xy: Num[AnyArray, "*n 2"], top_left: tuple[int, int]) -> Float[AnyArray, "*n 2"]:
    """Pixels of a frame -> pixels of its crop that starts at (x, y) = top_left."""
    return _float32(xy) - np.asarray(top_left, np.float32)


def flip_horizontal(xy: Num[AnyArray, "*n 2"], width: int) -> Float[AnyArray, "*n 2"]:
    """Pixels of the mirrored frame: x -> W - 1 - x."""
    xy = _float32(xy)
    return namespace(xy).stack([width - 1 - xy[..., 0], xy[..., 1]], axis=-1)


def in_bounds(xy: Num[AnyArray, "*n 2"], size_hw: tuple[int, int]) -> Bool[AnyArray, "*n"]:
    """Whether a point is finite and 0 <= x <= W - 1, 0 <= y <= H - 1 (TrajLoom's rule)."""
    # A comparison with NaN is False, and infinities fail one side.
    return ((xy >= 0) & (xy <= _scale(size_hw) - 1)).all(axis=-1)


def clip_to_frame(
    xy: Num[AnyArray, "*n 2"], size_hw: tuple[int, int], margin: float = 1e-3
) -> Float[AnyArray, "*n 2"]:
    """Moves points into [0, W - 1 - margin] x [0, H - 1 - margin].

    The margin is the official post-processing's: a clipped point's right and lower neighbours for
    bilinear sampling exist. Test `in_bounds` before, for clipping hides who had left.
    """
    xy = _float32(xy)
    return namespace(xy).clip(xy, np.float32(0), (_scale(size_hw) - 1 - margin).astype(np.float32))


def sanitise(
    xy: Num[AnyArray, "*n 2"], visibility: Shaped[AnyArray, "*n"]
) -> tuple[Float[AnyArray, "*n 2"], Bool[AnyArray, "*n"]]:
    """NaN or infinite points become (0, 0) and invisible; others stay as they are."""
    xp = namespace(xy, visibility)
    xy = _float32(xy)
    finite = xp.isfinite(xy).all(axis=-1)
    return xp.where(finite[..., None], xy, np.float32(0)), xp.asarray(visibility, bool) & finite
