"""The fixed video feature: orthonormal, per cell, causal in time."""

import numpy as np
import pytest

from tavid_jax.methods.trajloom import cell_features


def video(frames=5, height=16, width=24, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (frames, height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(("patch", "channels"), [(4, 48), (8, 8), (2, 5)])
def test_basis_is_orthonormal(patch, channels):
    basis = cell_features._basis(patch, channels)
    assert basis.shape == (3 * patch**2, channels)
    wide = basis.astype(np.float64)
    np.testing.assert_allclose(wide.T @ wide, np.eye(channels), atol=1e-6)


def test_all_channels_keep_everything():
    frames = video(frames=1)
    z = cell_features.video_features(frames, 4, 48)
    pixels = frames[0] / 127.5 - 1
    # One token is one 4x4 cell: its energy is that of its pixels.
    cell = pixels[4:8, 8:12]
    token = 1 * 6 + 2
    np.testing.assert_allclose((z[0, token] ** 2).sum(), (cell**2).sum() / 16, rtol=1e-5)
    back = cell_features._basis(4, 48) @ z[0, token] * 4
    np.testing.assert_allclose(back.reshape(4, 4, 3), cell, atol=1e-5)


def test_first_channel_is_brightness_of_the_cell():
    frames = video(frames=5)
    z = cell_features.video_features(frames, 8, 3)
    assert z.shape == (2, 2 * 3, 3) and z.dtype == np.float32
    pixels = frames[0] / 127.5 - 1
    means = pixels.reshape(2, 8, 3, 8, 3).mean((1, 3, 4)).ravel()
    np.testing.assert_allclose(z[0, :, 0], means * np.sqrt(3), atol=1e-5)


def test_later_frames_are_means_of_four():
    frames = video(frames=9)
    z = cell_features.video_features(frames, 8, 6)
    assert len(z) == 3
    for j in (1, 2):
        block = frames[4 * j - 3 : 4 * j + 1]
        alone = np.stack([cell_features.video_features(f[None], 8, 6)[0] for f in block])
        np.testing.assert_allclose(z[j], alone.mean(0), atol=1e-5)


def test_time_is_causal():
    frames = video(frames=9)
    changed = frames.copy()
    changed[5:] = 0  # the last block: frames 5..8
    before, after = (cell_features.video_features(x, 8, 6) for x in (frames, changed))
    np.testing.assert_array_equal(before[:2], after[:2])
    assert np.abs(before[2] - after[2]).max() > 0.1


@pytest.mark.parametrize("shape", [(6, 16, 24), (5, 15, 24), (5, 16, 20)])
def test_sizes_that_do_not_divide(shape):
    with pytest.raises(ValueError, match=rf"{shape[0]} frames of {shape[1]}x{shape[2]}.*4k\+1"):
        cell_features.video_features(video(*shape), 8, 4)


def test_too_many_channels():
    with pytest.raises(ValueError, match="49 channels of a 4x4 cell: at most 48"):
        cell_features.video_features(video(), 4, 49)
