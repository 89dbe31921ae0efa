"""Latent visibility against loops over blocks and patches."""

import jax.numpy as jnp
import numpy as np
import pytest

from tavid_jax.tracks import raster, visibility

BOTH = pytest.mark.parametrize("xp", [np, jnp], ids=["numpy", "jax"])


def _visible(frames=17, seed=0):
    return np.random.default_rng(seed).random((2, frames, 3, 4)) < 0.2


def _by_loops(visible):
    frames = visible.shape[1]
    length = (frames - 1) // 4 + 1
    out = np.zeros((2, length, 12), bool)
    for j in range(length):
        for t in range(4 * j, min(4 * j + 4, frames)):
            out[:, j] |= visible[:, t].reshape(2, 12)
    return out


@BOTH
@pytest.mark.parametrize("frames", [1, 5, 17, 81])
def test_pool_cells(xp, frames):
    visible = _visible(frames)
    np.testing.assert_array_equal(visibility.pool_cells(xp.asarray(visible)), _by_loops(visible))


def test_last_block_is_the_last_frame_alone():
    visible = np.zeros((17, 1), bool)
    visible[16] = True
    np.testing.assert_array_equal(visibility.pool_time(visible)[:, 0], [0, 0, 0, 0, 1])
    visible[16], visible[15] = False, True
    np.testing.assert_array_equal(visibility.pool_time(visible)[:, 0], [0, 0, 0, 1, 0])


@BOTH
def test_dense_masks_pool_to_the_same_tokens(xp):
    visible = _visible()
    dense = raster.rasterise_mask(xp.asarray(visible), 8)
    np.testing.assert_array_equal(visibility.pool_dense(dense, 8), _by_loops(visible))


def test_one_visible_pixel_makes_its_patch_visible():
    dense = np.zeros((1, 5, 16, 24), bool)
    dense[0, 2, 9, 23] = True
    pooled = visibility.pool_dense(dense, 8)
    np.testing.assert_array_equal(np.argwhere(pooled), [[0, 0, 5]])


@BOTH
def test_expand_repeats_and_cuts(xp):
    latent = xp.asarray(np.arange(10.0).reshape(1, 5, 2))
    frames = visibility.expand_time(latent, 17)
    assert frames.shape == (1, 17, 2)
    for t in range(17):
        np.testing.assert_array_equal(frames[:, t], latent[:, t // 4])


def test_threshold_is_strict():
    out = visibility.from_probability(np.array([[0.5, 0.5001], [0.4, 0.9]]), 5)
    np.testing.assert_array_equal(out, [[0, 1]] * 4 + [[0, 1]])
    assert out.dtype == bool


def test_errors_name_frames_and_patches():
    with pytest.raises(ValueError, match=r"16 frames.*13 or 17"):
        visibility.pool_time(np.zeros((16, 2), bool))
    with pytest.raises(ValueError, match=r"4 latent steps.*17 frames.*5"):
        visibility.expand_time(np.zeros((4, 2)), 17)
    with pytest.raises(ValueError, match=r"12x24.*8 px"):
        visibility.pool_dense(np.zeros((5, 12, 24), bool), 8)
