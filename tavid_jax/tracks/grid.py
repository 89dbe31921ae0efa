"""The grid of query points: N = gh * gw cells of `stride` pixels, row-major, n = i * gw + j."""

import numpy as np
from jaxtyping import Float, Int, Num, Shaped

from tavid_jax.tracks.coordinates import AnyArray

ORIGINS = ("topleft", "center")


def grid_shape(size_hw: tuple[int, int], stride: int) -> tuple[int, int]:
    """(gh, gw), the numbers of cells.

    Raises:
      ValueError: a frame that does not divide into cells.
    """
    height, width = size_hw
    if stride < 1 or height % stride or width % stride:
        raise ValueError(
            f"frame {height}x{width} does not divide into cells of {stride} px: "
            f"resize it to multiples of {stride}"
        )
    return height // stride, width // stride


def query_row_col(stride: int, origin: str = "topleft") -> tuple[int, int]:
    """Row and column, inside each cell, of the pixel whose track stands for the cell.

    Args:
      stride: side of a cell in pixels.
      origin: "topleft" (0, 0) as TrajLoom, or "center" (stride // 2, stride // 2), which keeps the
        first row and column of tracks inside the frame under a small pan.

    Raises:
      ValueError: unknown origin.
    """
    if origin not in ORIGINS:
        raise ValueError(f"no query origin {origin!r}: use one of {', '.join(ORIGINS)}")
    shift = stride // 2 if origin == "center" else 0
    return shift, shift


def query_points(
    size_hw: tuple[int, int], stride: int, origin: str = "topleft"
) -> Float[np.ndarray, "N 2"]:
    """Query points (x, y) in pixels, row-major, x fastest.

    Raises:
      ValueError: see `grid_shape` and `query_row_col`.
    """
    gh, gw = grid_shape(size_hw, stride)
    row, col = query_row_col(stride, origin)
    i, j = np.divmod(np.arange(gh * gw), gw)
    return np.stack([stride * j + col, stride * i + row], axis=-1).astype(np.float32)


def pixel_index(query_xy: Num[np.ndarray, "N 2"], width: int) -> Int[np.ndarray, " N"]:
    """Position y * W + x of each query point in a flattened frame (rounded to pixels)."""
    x, y = np.rint(np.asarray(query_xy, np.float64)).astype(np.int64).T
    return y * width + x


def row_major_order(
    query_xy: Num[np.ndarray, "N 2"],
) -> tuple[Int[np.ndarray, " N"], tuple[int, int]]:
    """Finds the grid behind query points in any order.

    Returns:
      (order, (gh, gw)): tracks[order] is row-major, x fastest.

    Raises:
      ValueError: the points are not the full product of their x and y values.
    """
    query_xy = np.asarray(query_xy)
    xs, ys = np.unique(query_xy[:, 0]), np.unique(query_xy[:, 1])
    gh, gw = len(ys), len(xs)
    place = np.searchsorted(ys, query_xy[:, 1]) * gw + np.searchsorted(xs, query_xy[:, 0])
    order = np.argsort(place, kind="stable")
    if len(place) != gh * gw or np.any(place[order] != np.arange(gh * gw)):
        raise ValueError(
            f"query_xy: {len(query_xy)} points are not a full grid of their {gw} x and {gh} y "
            "values: give one point per cell"
        )
    return order, (gh, gw)


def to_cells(
    points: Shaped[AnyArray, "N T *c"], grid_hw: tuple[int, int]
) -> Shaped[AnyArray, "T gh gw *c"]:
    """Row-major points (N, T, ...) -> cells (T, gh, gw, ...).

    Raises:
      ValueError: N is not gh * gw.
    """
    gh, gw = grid_hw
    if points.shape[0] != gh * gw:
        raise ValueError(f"{points.shape[0]} tracks do not fill a grid of {gh}x{gw} cells")
    return points.swapaxes(0, 1).reshape(points.shape[1], gh, gw, *points.shape[2:])


def to_points(cells: Shaped[AnyArray, "T gh gw *c"]) -> Shaped[AnyArray, "N T *c"]:
    """Cells (T, gh, gw, ...) -> row-major points (N, T, ...), the inverse of `to_cells`."""
    frames, gh, gw = cells.shape[:3]
    return cells.reshape(frames, gh * gw, *cells.shape[3:]).swapaxes(0, 1)
