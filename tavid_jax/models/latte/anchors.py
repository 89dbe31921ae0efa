"""Grid anchors: the fixed position that each pixel's track is measured from.

A dense track field stores at pixel (row v, column u) where that pixel's track is at time t.
Its offset from the pixel's own centre is what the VAE sees ("grid-anchor offset encoding" of
TrajLoom). All values are normalised, x_n = 2x/W - 1 and y_n = 2y/H - 1, and float32.
"""

import numpy as np
from jaxtyping import Float


def pixel_anchors(size_hw: tuple[int, int]) -> Float[np.ndarray, "H W 2"]:
    """Normalised (x, y) of every pixel centre: (2(u + 1/2)/W - 1, 2(v + 1/2)/H - 1)."""
    height, width = size_hw
    # In float32 throughout: these are then the bits of the published buffer.
    x = 2.0 * (np.arange(width, dtype=np.float32) + 0.5) / width - 1.0
    y = 2.0 * (np.arange(height, dtype=np.float32) + 0.5) / height - 1.0
    return np.stack(np.meshgrid(x, y, indexing="xy"), axis=-1)


def cell_anchors(
    size_hw: tuple[int, int], patch: int, row_col: tuple[int, int]
) -> Float[np.ndarray, "gh gw 2"]:
    """The anchors of pixel (row, column) of every patch x patch cell."""
    row, column = row_col
    return pixel_anchors(size_hw)[row::patch, column::patch]


def anchors_within_cell(size_hw: tuple[int, int], patch: int) -> Float[np.ndarray, "p p 2"]:
    """Anchor of pixel (r, c) of a cell minus the anchor of its pixel (0, 0): (2c/W, 2r/H).

    The same for all cells, which is why patch embedding of a per-cell constant field folds.
    """
    height, width = size_hw
    columns, rows = np.meshgrid(np.arange(patch), np.arange(patch), indexing="xy")
    return np.stack([2.0 * columns / width, 2.0 * rows / height], axis=-1).astype(np.float32)


def cell_centres(size_hw: tuple[int, int], patch: int) -> Float[np.ndarray, "gh gw 2"]:
    """Normalised (x, y) of the centre of every cell: (2(j + 1/2)p/W - 1, 2(i + 1/2)p/H - 1)."""
    height, width = size_hw
    return pixel_anchors((height // patch, width // patch))
