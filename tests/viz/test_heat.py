"""Colours of maps: their ends, their cells, the outline of a mask."""

import numpy as np
import pytest

from tavid_jax.viz import heat


def test_colours_go_from_dark_blue_to_yellow():
    values = np.array([[0.0, 0.5, 1.0]])
    assert heat.colours(values).tolist() == [[[68, 1, 84], [33, 145, 140], [253, 231, 37]]]
    assert heat.colours(np.array([[-3.0, 7.0]])).tolist() == [[[68, 1, 84], [253, 231, 37]]]


def test_maps_are_scaled_to_their_own_ends():
    scaled = heat.scaled(np.array([[2e-5, 4e-5], [3e-5, 2e-5]], np.float32))
    np.testing.assert_allclose(scaled, [[0, 1], [0.5, 0]], atol=1e-5)
    np.testing.assert_array_equal(heat.scaled(np.full((2, 3), 7.0)), np.zeros((2, 3)))


def test_coarse_maps_keep_their_cells_and_fine_ones_become_smooth():
    coarse = heat.enlarged(np.eye(3), (30, 60))
    np.testing.assert_array_equal(coarse, np.eye(3).repeat(10, 0).repeat(20, 1))
    fine = heat.enlarged(np.eye(16), (160, 160))
    assert fine.shape == (160, 160) and len(np.unique(fine)) > 50


def test_the_frame_is_seen_where_the_map_is_low():
    frame = np.zeros((8, 8, 3), np.uint8)
    frame[:, 4:] = 255
    low = heat.over(frame, np.zeros((2, 2))).astype(int)
    assert (low[:, 4:].sum(-1) > low[:, :4].sum(-1) + 150).all()
    high = heat.over(frame, np.ones((2, 2))).astype(int)
    assert (high.sum(-1) > low.sum(-1)).all()  # what shines is the map
    assert np.abs(high[:, 4:] - high[:, :4]).max() < 20


def test_an_outline_lies_around_the_mask():
    picture, mask = np.zeros((10, 10, 3), np.uint8), np.zeros((10, 10))
    mask[3:6, 4:7] = 1
    edge = (heat.outlined(picture, mask) != 0).any(-1)
    wanted = np.zeros((10, 10), bool)
    wanted[2:7, 3:8] = True
    wanted[3:6, 4:7] = False
    np.testing.assert_array_equal(edge, wanted)
    assert not picture.any()


@pytest.mark.parametrize(
    ("height", "size"), [(24, (120, 240)), (50, (150, 300)), (480, (120, 240))]
)
def test_small_frames_are_enlarged_without_blur_and_large_ones_shrunk(height, size):
    frame = np.zeros((height, 2 * height, 3), np.uint8)
    frame[:, height:] = 255
    brought = heat.brought(frame, 120)
    assert brought.shape == (*size, 3)
    if height < 120:
        assert set(np.unique(brought)) == {0, 255}
    mask = heat.mask_brought((frame[..., 0] > 0).astype(float), size)
    np.testing.assert_array_equal(mask, brought[..., 0] > 127)
