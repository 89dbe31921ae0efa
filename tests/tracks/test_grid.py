"""Query grids, their order, and cells against points and dense fields."""

import jax.numpy as jnp
import numpy as np
import pytest

from tavid_jax.tracks import grid, raster


def test_query_points_of_the_paper_and_of_the_demo():
    paper = grid.query_points((480, 832), 32)
    assert paper.shape == (390, 2) and paper.dtype == np.float32
    corners = [[0, 0], [32, 0], [800, 0], [0, 32], [800, 448]]
    np.testing.assert_array_equal(paper[[0, 1, 25, 26, 389]], corners)
    demo = grid.query_points((64, 64), 8, "center")
    np.testing.assert_array_equal(demo[[0, 9, 63]], [[4, 4], [12, 12], [60, 60]])
    assert grid.query_row_col(8, "center") == (4, 4) and grid.query_row_col(8) == (0, 0)


def test_pixel_index_is_row_times_width_plus_column():
    index = grid.pixel_index(grid.query_points((480, 832), 32), 832)
    frame = np.zeros(480 * 832)
    frame[index] = 1
    assert frame.reshape(480, 832)[::32, ::32].sum() == 390


def test_row_major_order_restores_any_order():
    query = grid.query_points((24, 40), 8, "center")
    shuffled = np.random.default_rng(0).permutation(len(query))
    order, grid_hw = grid.row_major_order(query[shuffled])
    assert grid_hw == (3, 5)
    np.testing.assert_array_equal(query[shuffled][order], query)


@pytest.mark.parametrize("spoil", ["missing", "double"])
def test_row_major_order_refuses_partial_grids(spoil):
    query = grid.query_points((24, 40), 8)
    query = query[:-1] if spoil == "missing" else np.concatenate([query[:-1], query[:1]])
    with pytest.raises(ValueError, match=r"query_xy: 1[45] points.*5 x and 3 y"):
        grid.row_major_order(query)


def test_errors_name_frame_and_origin():
    with pytest.raises(ValueError, match=r"60x64.*cells of 8 px"):
        grid.grid_shape((60, 64), 8)
    with pytest.raises(ValueError, match=r"'middle'.*topleft, center"):
        grid.query_points((64, 64), 8, "middle")
    with pytest.raises(ValueError, match=r"6 tracks.*2x4"):
        grid.to_cells(np.zeros((6, 3, 2)), (2, 4))


@pytest.mark.parametrize("xp", [np, jnp], ids=["numpy", "jax"])
def test_cells_and_points_are_inverse(xp):
    points = xp.arange(6 * 4 * 2).reshape(6, 4, 2)
    cells = grid.to_cells(points, (2, 3))
    assert cells.shape == (4, 2, 3, 2)
    np.testing.assert_array_equal(cells[1, 1, 2], points[5, 1])
    np.testing.assert_array_equal(grid.to_points(cells), points)
    np.testing.assert_array_equal(grid.to_cells(points[..., 0], (2, 3)), cells[..., 0])


@pytest.mark.parametrize("xp", [np, jnp], ids=["numpy", "jax"])
def test_raster_repeats_each_cell(xp):
    cells = xp.asarray(np.random.default_rng(0).normal(size=(2, 3, 4, 2)).astype(np.float32))
    dense = raster.rasterise(cells, 5)
    assert dense.shape == (2, 15, 20, 2)
    for v, u in ((0, 0), (4, 4), (5, 19), (14, 10)):
        np.testing.assert_array_equal(dense[1, v, u], cells[1, v // 5, u // 5])
    for row_col in ((0, 0), (2, 2), (4, 1)):
        np.testing.assert_array_equal(raster.read_cells(dense, 5, row_col), cells)
    mask = raster.rasterise_mask(cells[..., 0] > 0, 5)
    np.testing.assert_array_equal(mask, dense[..., 0] > 0)
    with pytest.raises(ValueError, match=r"\(5, 0\).*5x5"):
        raster.read_cells(dense, 5, (5, 0))


def test_read_cells_takes_row_then_column():
    dense = np.arange(16.0).reshape(4, 4)[..., None]
    np.testing.assert_array_equal(raster.read_cells(dense, 2, (0, 1))[..., 0], [[1, 3], [9, 11]])
