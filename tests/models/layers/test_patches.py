"""Patches: token and feature order, exact inverses, strided convolutions, refusals."""

import jax.numpy as jnp
import numpy as np
import pytest
import torch

from tavid_jax.models.layers.patches import patch_grid, patchify, unpatchify

CASES = [  # (frames, height, width), patch
    ((3, 4, 6), (1, 2, 2)),
    ((4, 6, 4), (2, 2, 2)),
    ((2, 9, 4), (1, 3, 2)),
    ((6, 2, 5), (3, 1, 5)),
    ((2, 3, 5), (1, 1, 1)),
]


@pytest.mark.parametrize("size, patch", CASES)
def test_every_feature_is_where_it_belongs(size, patch):
    x = np.arange(2 * np.prod(size) * 3).reshape(2, *size, 3)
    grid = patch_grid(size, patch)
    tokens = np.asarray(patchify(jnp.asarray(x), patch))
    assert tokens.shape == (2, np.prod(grid), np.prod(patch) * 3)
    for n, cell in enumerate(np.ndindex(*grid)):
        f, h, w = (slice(i * p, (i + 1) * p) for i, p in zip(cell, patch, strict=True))
        np.testing.assert_array_equal(tokens[:, n], x[:, f, h, w].reshape(2, -1))


@pytest.mark.parametrize("size, patch", CASES)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.bool_])
def test_unpatchify_inverts(rng, size, patch, dtype):
    x = jnp.asarray(rng.standard_normal((2, *size, 5)) > 0).astype(dtype)
    grid = patch_grid(size, patch)
    tokens = patchify(x, patch)
    assert tokens.dtype == dtype
    np.testing.assert_array_equal(unpatchify(tokens, grid, patch), x)
    np.testing.assert_array_equal(patchify(unpatchify(tokens, grid, patch), patch), tokens)


@pytest.mark.parity
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("size, patch", CASES)
def test_dense_on_patches_is_a_strided_convolution(size, patch, seed, relative_error):
    torch.manual_seed(seed)
    conv = torch.nn.Conv3d(3, 7, patch, stride=patch)
    x = torch.randn(2, 3, *size)
    want = conv(x).detach().flatten(2).transpose(1, 2)
    kernel = conv.weight.detach().permute(2, 3, 4, 1, 0).reshape(-1, 7).numpy()
    tokens = patchify(jnp.asarray(x.permute(0, 2, 3, 4, 1).numpy()), patch)
    assert relative_error(tokens @ kernel + conv.bias.detach().numpy(), want) < 1e-5


def test_refusals():
    x = jnp.zeros((1, 3, 5, 6, 2))
    wrong = "2x2x2 do not fit: frames 3 is not a multiple of 2, height 5 is not a multiple of 2$"
    with pytest.raises(ValueError, match=wrong):
        patchify(x, (2, 2, 2))
    with pytest.raises(ValueError, match="width 6 is not a multiple of 4"):
        patchify(x, (1, 1, 4))
    with pytest.raises(ValueError, match="grid 3x2x2 holds 12 tokens, got 10"):
        unpatchify(jnp.zeros((1, 10, 8)), (3, 2, 2), (1, 2, 2))
    with pytest.raises(ValueError, match="token width 6 is not a multiple of 4"):
        unpatchify(jnp.zeros((1, 12, 6)), (3, 2, 2), (1, 2, 2))
