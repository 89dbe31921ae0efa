"""Tracks asked for elsewhere: exact where the motion allows it, honest where it does not."""

import numpy as np
import pytest

from tavid_jax.data.regrid import ask_at, infer_grid, interpolate_grid, requery_nearest
from tavid_jax.tracks.grid import grid_shape, query_points


def query_grid(size_hw, stride, origin):
    return query_points(size_hw, stride, origin), grid_shape(size_hw, stride)


def affine_tracks(xy, num_frames=5):
    """Tracks of a rotating, growing, drifting plane."""
    matrix = np.array([[0.02, -0.05], [0.05, 0.02]])
    times = np.arange(num_frames)[None, :, None]
    return (xy[:, None] + times * (xy @ matrix.T + [1.0, -2.0])[:, None]).astype(np.float32)


def test_interpolation_is_exact_for_affine_motion():
    grid_xy, grid_hw = query_grid((64, 96), 16, "topleft")
    tracks = affine_tracks(grid_xy)
    query = np.random.default_rng(0).uniform([0, 0], [80, 48], (50, 2)).astype(np.float32)
    got, seen = interpolate_grid(tracks, np.ones(tracks.shape[:2], bool), grid_hw, query)
    np.testing.assert_allclose(got, affine_tracks(query), atol=1e-3)
    assert seen.all()


def test_interpolated_points_need_all_their_neighbours():
    grid_xy, grid_hw = query_grid((32, 48), 16, "topleft")
    visibility = np.ones((6, 3), bool)
    visibility[1, 2] = False
    query = np.array([[16, 0], [16.0, 16], [8, 4], [32, 0]], np.float32)
    _, seen = interpolate_grid(affine_tracks(grid_xy, 3), visibility, grid_hw, query)
    assert seen.tolist() == [[True, True, False], [True] * 3, [True, True, False], [True] * 3]


def test_beyond_the_grid_the_edge_moves_along():
    grid_xy, grid_hw = query_grid((32, 48), 16, "topleft")
    tracks = affine_tracks(grid_xy)
    query = np.array([[47.0, 0.0]], np.float32)
    got, _ = interpolate_grid(tracks, np.ones((6, 5), bool), grid_hw, query)
    np.testing.assert_allclose(got[0] - query, tracks[2] - grid_xy[2], atol=1e-5)


def test_an_irregular_start_is_refused():
    tracks = affine_tracks(np.random.default_rng(0).uniform(0, 48, (6, 2)))
    with pytest.raises(ValueError, match="regular row-major grid"):
        interpolate_grid(tracks, np.ones((6, 5), bool), (2, 3), tracks[:, 0])


def test_nearest_track_lends_its_motion():
    tracks = affine_tracks(np.array([[0.0, 0.0], [20.0, 0.0], [40.0, 0.0]]))
    visibility = np.ones((3, 5), bool)
    visibility[1, 3:] = False
    visibility[2, 0] = False  # not there in frame 0: cannot be asked
    query = np.array([[2.0, 1.0], [19.0, 0.0], [40.0, 0.0]], np.float32)
    got, seen = requery_nearest(tracks, visibility, query, radius=5)
    np.testing.assert_allclose(got[:2] - query[:2, None], tracks[:2] - tracks[:2, :1], atol=1e-5)
    assert seen.tolist() == [[True] * 5, [True, True, True, False, False], [False] * 5]
    assert (got[2] == query[2]).all()
    np.testing.assert_array_equal(got[:, 0], query)


def test_nothing_visible_in_frame_0():
    got, seen = requery_nearest(
        np.zeros((2, 3, 2), np.float32), np.zeros((2, 3), bool), np.ones((4, 2), np.float32), 9
    )
    assert not seen.any() and (got == 1).all()


@pytest.mark.parametrize("size, stride", [((32, 48), 16), ((64, 64), 8), ((16, 48), 16)])
def test_grids_are_recognised(size, stride):
    grid_xy, grid_hw = query_grid(size, stride, "center")
    assert infer_grid(grid_xy) == grid_hw
    assert infer_grid(grid_xy * np.float32([0.37, 1.9]) - 11) == grid_hw
    bent = grid_xy.copy()
    bent[1] += [3, 2]
    assert infer_grid(bent) is None


def test_ask_at_chooses_by_where_tracks_start():
    grid_xy, _ = query_grid((64, 64), 8, "center")
    visibility = np.ones((64, 5), bool)
    tracks = affine_tracks(grid_xy)
    assert ask_at(tracks, visibility, grid_xy, 8)[0] is tracks
    coarse, _ = query_grid((64, 64), 16, "topleft")
    got, _ = ask_at(affine_tracks(coarse), np.ones((16, 5), bool), grid_xy, 8)
    inner = (grid_xy <= 48).all(axis=1)
    np.testing.assert_allclose(got[inner], tracks[inner], atol=1e-3)
    late = affine_tracks(grid_xy, 8)[:, 3:]
    got, seen = ask_at(late, visibility, grid_xy, 8)
    np.testing.assert_array_equal(got[:, 0], grid_xy)
    assert seen.mean() > 0.8
