"""Rotary positions of Wan's token grid."""

import numpy as np
import pytest

from tavid_jax.models.wan.positions import axis_dims, rotary_for


@pytest.mark.parametrize(
    "head_dim, dims", [(128, (44, 42, 42)), (16, (8, 4, 4)), (12, (4, 4, 4)), (22, (10, 6, 6))]
)
def test_axis_dims(head_dim, dims):
    assert axis_dims(head_dim) == dims


def test_axes_have_their_own_frequencies_and_order():
    table = rotary_for((3, 4, 5), 16)
    angles = np.arctan2(table.sin, table.cos)
    token = (2 * 4 + 3) * 5 + 1  # frame 2, row 3, column 1
    want = [2.0, 0.2, 0.02, 0.002, 3.0, 0.03, 1.0, 0.01]
    np.testing.assert_allclose(angles[token], want, rtol=1e-5)


def test_theta_is_used():
    np.testing.assert_allclose(
        rotary_for((2, 1, 1), 12, theta=100.0).cos[1], np.cos([1, 0.1, 0, 0, 0, 0]), atol=1e-6
    )


def test_too_long_an_axis_is_refused():
    assert rotary_for((1, 8, 3), 16, max_positions=8).cos.shape == (24, 8)
    with pytest.raises(ValueError, match="2x9x3 is longer than 8 positions"):
        rotary_for((2, 9, 3), 16, max_positions=8)
    with pytest.raises(ValueError, match="longer than 1024"):
        rotary_for((1025, 1, 1), 16)


@pytest.mark.parity
@pytest.mark.parametrize(
    "grid, head_dim, theta",
    [((3, 2, 5), 16, 10000.0), ((1, 7, 2), 128, 10000.0), ((5, 3, 3), 22, 500.0)],
)
def test_equals_diffusers(grid, head_dim, theta):
    module = pytest.importorskip("diffusers.models.transformers.transformer_wan")
    import torch

    f, h, w = grid
    published = module.WanRotaryPosEmbed(head_dim, (1, 2, 2), 32, theta)
    tables = published(torch.zeros(1, 1, f, 2 * h, 2 * w))
    for got, want in zip(rotary_for(grid, head_dim, theta), tables, strict=True):
        want = want[0, :, 0].numpy()
        np.testing.assert_allclose(np.repeat(got, 2, axis=-1), want, atol=1e-7)
