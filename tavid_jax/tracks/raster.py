"""Dense fields: every pixel of a cell carries its cell's value (TrajLoom, sec. 3.1).

Models run on cells; dense fields serve the dense path, which exists for tests and for comparison.
"""

from jaxtyping import Shaped

from tavid_jax.tracks.coordinates import AnyArray, namespace


def rasterise(cells: Shaped[AnyArray, "*b gh gw c"], stride: int) -> Shaped[AnyArray, "*b H W c"]:
    """Cells -> dense field by nearest repetition, H = gh * stride, W = gw * stride."""
    xp = namespace(cells)
    return xp.repeat(xp.repeat(cells, stride, axis=-3), stride, axis=-2)


def rasterise_mask(cells: Shaped[AnyArray, "*b gh gw"], stride: int) -> Shaped[AnyArray, "*b H W"]:
    """As `rasterise`, for fields without channels (visibility)."""
    return rasterise(cells[..., None], stride)[..., 0]


def read_cells(
    dense: Shaped[AnyArray, "*b H W c"], stride: int, row_col: tuple[int, int] = (0, 0)
) -> Shaped[AnyArray, "*b gh gw c"]:
    """Dense field -> the values at one pixel (row, column) of each cell.

    Raises:
      ValueError: a pixel outside the cell.
    """
    row, col = row_col
    if not (0 <= row < stride and 0 <= col < stride):
        raise ValueError(f"pixel {row_col} lies outside a cell of {stride}x{stride}")
    return dense[..., row::stride, col::stride, :]
