"""Fields of motion between grids of points: WHN's own and that of the clip it is asked about."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from tavid_jax.methods.whn.examples import Window
from tavid_jax.tracks.coordinates import resize


def read_field(
    field: Float[np.ndarray, "*k gh gw 2"], window: Window, places: Float[np.ndarray, "N 2"]
) -> Float[np.ndarray, "*k N 2"]:
    """Values of a field on the window's grid of points at any places, bilinear.

    Beyond the outermost points the nearest value on the edge is taken.

    Args:
      places: (x, y) pixels of the window's size.
    """
    rows, columns = window.grid_hw
    first = window.start[0, 0]
    at = (np.asarray(places, np.float64) - first) / window.stride
    at = np.clip(at, 0.0, np.array([columns - 1, rows - 1]))
    low = np.minimum(np.floor(at).astype(int), np.maximum([columns - 2, rows - 2], 0))
    share = (at - low).astype(np.float32)
    high = np.minimum(low + 1, [columns - 1, rows - 1])
    (x0, y0), (x1, y1) = low.T, high.T
    right, down = share[:, :1], share[:, 1:]
    top = field[..., y0, x0, :] * (1 - right) + field[..., y0, x1, :] * right
    bottom = field[..., y1, x0, :] * (1 - right) + field[..., y1, x1, :] * right
    return top * (1 - down) + bottom * down


def resize_motion(
    motion: Float[np.ndarray, "*k 2"], from_hw: tuple[int, int], to_hw: tuple[int, int]
) -> Float[np.ndarray, "*k 2"]:
    """Differences of pixels of a frame -> of the same frame resized (squashed)."""
    (h, w), (height, width) = from_hw, to_hw
    return (motion * np.array([width / w, height / h])).astype(np.float32)


def places_in(
    points: Float[np.ndarray, "N 2"], size_hw: tuple[int, int], window: Window
) -> Float[np.ndarray, "N 2"]:
    """Pixels of a frame of some size -> of the window's."""
    return np.asarray(resize(points, size_hw, window.size_hw))
