"""Positions of CogVideoX's token grid, and the token embedding they are added to."""

import jax.numpy as jnp
import numpy as np
import pytest

from tavid_jax.models.cogvideox.positions import (
    axis_dims,
    crop_positions,
    crop_region,
    rotary_for,
    sincos_table,
)
from tavid_jax.models.layers.patches import patchify

BASE = (30, 45)
REGIONS = {
    (30, 45): ((0, 0), (30, 45)),
    (20, 45): ((5, 0), (25, 45)),
    (30, 40): ((0, 2), (30, 42)),  # half of 5 rounds to 2
    (48, 85): ((2, 0), (27, 45)),  # half of 5 rounds to 2
    (45, 30): ((0, 12), (30, 32)),  # half of 25 rounds to 12
}


@pytest.mark.parametrize("grid_hw", REGIONS)
def test_crop_region(grid_hw):
    assert crop_region(grid_hw, BASE) == REGIONS[grid_hw]


def test_crop_positions_at_the_base_grid_are_integers():
    rows, columns = crop_positions(BASE, BASE)
    np.testing.assert_allclose(rows, np.arange(30), atol=1e-12)
    np.testing.assert_allclose(columns, np.arange(45), atol=1e-12)


def test_crop_positions_scale_the_end_with_its_offset():
    rows, columns = crop_positions((20, 45), BASE)
    assert (rows[0], rows[-1], len(rows)) == (5, 25 * 19 / 20, 20)  # not 5 + 20 * 19 / 20
    np.testing.assert_allclose(np.diff(rows), 18.75 / 19)
    np.testing.assert_allclose(columns, np.arange(45), atol=1e-12)


@pytest.mark.parametrize("placement", ["crop", "slice"])
def test_rotary_axes(placement):
    """At the base grid both placements count tokens: time, row, column along the head."""
    table = rotary_for((3, 30, 45), 64, BASE, placement)
    assert table.cos.shape == (3 * 30 * 45, 32)
    token = (2 * 30 + 29) * 45 + 44
    for pair, angle in {0: 2, 1: 2 * 10000 ** (-2 / 16), 8: 29, 20: 44}.items():
        np.testing.assert_allclose(table.cos[token, pair], np.cos(angle), atol=1e-6)
        np.testing.assert_allclose(table.sin[token, pair], np.sin(angle), atol=1e-6)


def test_sincos_channels():
    table = sincos_table((2, 3, 4), 16, spatial_scale=2.0, temporal_scale=4.0, text_length=5)
    assert table.shape == (5 + 24, 16) and table.dtype == np.float32
    assert not table[:5].any()
    token = 5 + (1 * 3 + 2) * 4 + 3  # frame 1, row 2, column 3
    angles = [[0.25, 0.0025], [1.5, 1.5 * 1e4 ** (-1 / 3), 1.5 * 1e4 ** (-2 / 3)]]
    angles.append([1.0, 1e4 ** (-1 / 3), 1e4 ** (-2 / 3)])
    want = np.concatenate([np.concatenate([np.sin(a), np.cos(a)]) for a in angles])
    np.testing.assert_allclose(table[token], want, atol=1e-6)


def test_refusals():
    with pytest.raises(ValueError, match="divides by 16, got 24"):
        axis_dims(24)
    with pytest.raises(ValueError, match="divides by 16, got 40"):
        sincos_table((1, 2, 2), 40)
    with pytest.raises(ValueError, match="10x11 exceeds the largest one, 10x10"):
        rotary_for((1, 10, 11), 16, (10, 10), "slice")


# --- parity -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def published():
    return pytest.importorskip("diffusers.models.embeddings")


@pytest.mark.parity
@pytest.mark.parametrize("grid_hw", [*REGIONS, (2, 3), (7, 5)])
def test_crop_equals_diffusers(published, grid_hw):
    pipeline = pytest.importorskip("diffusers.pipelines.cogvideo.pipeline_cogvideox_image2video")
    region = pipeline.get_resize_crop_region_for_grid(grid_hw, BASE[1], BASE[0])
    assert crop_region(grid_hw, BASE) == region
    want = published.get_3d_rotary_pos_embed(64, region, grid_hw, 3)
    _assert_same_angles(rotary_for((3, *grid_hw), 64, BASE), want)


@pytest.mark.parity
@pytest.mark.parametrize("grid, head_dim", [((2, 2, 3), 16), ((5, 10, 7), 64)])
def test_slice_equals_diffusers(published, grid, head_dim):
    want = published.get_3d_rotary_pos_embed(
        head_dim, None, grid[1:], grid[0], grid_type="slice", max_size=(10, 12)
    )
    _assert_same_angles(rotary_for(grid, head_dim, (10, 12), "slice"), want)


def _assert_same_angles(got, want):
    for mine, theirs in zip(got, want, strict=True):
        # Theirs are made in float32, where an angle of 45 is known to 4e-6.
        np.testing.assert_allclose(np.repeat(mine, 2, axis=-1), theirs.numpy(), atol=4e-6)


@pytest.mark.parity
@pytest.mark.parametrize(
    "grid, dim, scales", [((3, 2, 5), 48, (1.875, 1.0)), ((1, 7, 4), 16, (1.5, 3.0))]
)
def test_sincos_equals_diffusers(published, grid, dim, scales):
    f, h, w = grid
    want = published.get_3d_sincos_pos_embed(dim, (w, h), f, *scales, output_type="pt")
    got = sincos_table(grid, dim, *scales)
    np.testing.assert_allclose(got, want.flatten(0, 1).numpy(), atol=1e-7)


MODES = {
    "none": dict(use_positional_embeddings=False, use_learned_positional_embeddings=False),
    "sincos": dict(use_learned_positional_embeddings=False),
    "learned": dict(),
    "patches_in_time": dict(
        patch_size_t=2, use_positional_embeddings=False, use_learned_positional_embeddings=False
    ),
}
TEXT, LATENT, WIDTH = 5, (4, 4, 6), 32


@pytest.mark.parity
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("mode", MODES)
def test_token_embedding_equals_diffusers(published, relative_error, mode, seed):
    import torch

    torch.manual_seed(seed)
    module = published.CogVideoXPatchEmbed(
        in_channels=3, embed_dim=WIDTH, text_embed_dim=7, sample_height=4, sample_width=6,
        sample_frames=13, max_text_seq_length=TEXT, **MODES[mode],
    )  # fmt: skip
    table = _table_of(mode, module)
    text, video = torch.randn(2, TEXT, 7), torch.randn(2, LATENT[0], 3, *LATENT[1:])
    with torch.no_grad():
        want = module(text, video)

    patch = (MODES[mode].get("patch_size_t", 1), 2, 2)
    kernel = module.proj.weight.detach().reshape(WIDTH, 3, *patch)  # channel slowest
    kernel = kernel.permute(2, 3, 4, 1, 0).reshape(-1, WIDTH).numpy()
    tokens = patchify(jnp.asarray(video.permute(0, 1, 3, 4, 2).numpy()), patch)
    tokens = tokens @ kernel + module.proj.bias.detach().numpy()
    rows = module.text_proj(text).detach().numpy()
    assert relative_error(np.concatenate([rows, tokens], axis=1) + table, want) < 1e-5


def _table_of(mode, module):
    """What the model adds to its tokens; the learned table gets values of its own."""
    import torch

    if mode == "learned":
        module.pos_embedding.add_(torch.randn_like(module.pos_embedding))
        return module.pos_embedding.numpy()
    if mode == "sincos":
        return sincos_table((LATENT[0], 2, 3), WIDTH, text_length=TEXT)
    return 0.0
