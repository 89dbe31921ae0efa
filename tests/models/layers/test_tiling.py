"""Tiles of large pictures: nothing is lost or moved, and seams are blended as stated."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tavid_jax.models.layers.tiling import Tiles, tiled


def picture(size_hw: tuple[int, int], seed: int = 0) -> jax.Array:
    return jax.random.normal(jax.random.key(seed), (2, 3, *size_hw, 2))


def shrink(x: jax.Array) -> jax.Array:
    return x[:, :, ::4, ::4]


def enlarge(x: jax.Array) -> jax.Array:
    return jnp.repeat(jnp.repeat(x, 4, axis=2), 4, axis=3)


def shrunk_uneven(x: jax.Array) -> jax.Array:
    """A map that sees where its tile's corner lies: neighbours disagree."""
    x = shrink(x)
    rows = jnp.arange(x.shape[2])[:, None, None]
    return jnp.tanh(x) + jnp.mean(x, axis=(2, 3), keepdims=True) + 0.1 * rows


SIZES = [(24, 40), (28, 44), (36, 16), (16, 60), (68, 52)]
TILES = [Tiles((16, 20), (12, 16)), Tiles((16, 24), (8, 12)), Tiles((20, 16), (4, 16))]


# Sizes and tiles in pairs: each meets an axis with one tile, with smaller tiles at the edge, and
# with a last tile inside the overlap.
CASES = list(zip(SIZES, TILES * 2, strict=False))


@pytest.mark.parametrize(("size", "tiles"), CASES)
def test_a_map_without_seams_is_reproduced_exactly(size, tiles):
    x = picture(size)
    run = jax.jit(tiled, static_argnums=(0, 2))
    np.testing.assert_array_equal(run(shrink, x, tiles.down(4)), shrink(x))
    latents = shrink(x)
    np.testing.assert_array_equal(run(enlarge, latents, tiles.up(4)), enlarge(latents))


def restated(fn, x, size, stride, kept, blend):
    """Tiles and blends in numpy, entry by entry, each tile changed in place."""
    rows = []
    for top in range(0, x.shape[2], stride[0]):
        part = x[:, :, top : top + size[0]]
        cuts = [part[:, :, :, left : left + size[1]] for left in range(0, x.shape[3], stride[1])]
        rows.append([np.array(fn(jnp.asarray(cut)), np.float64) for cut in cuts])
    for i, row in enumerate(rows):
        for j, tile in enumerate(row):
            if i:
                above = rows[i - 1][j]
                extent = min(blend[0], above.shape[2], tile.shape[2])
                for k in range(extent):
                    share = k / extent
                    tile[:, :, k] = above[:, :, k - extent] * (1 - share) + tile[:, :, k] * share
            if j:
                left = row[j - 1]
                extent = min(blend[1], left.shape[3], tile.shape[3])
                for k in range(extent):
                    share = k / extent
                    tile[:, :, :, k] = (
                        left[:, :, :, k - extent] * (1 - share) + tile[:, :, :, k] * share
                    )
    strips = [[tile[:, :, : kept[0], : kept[1]] for tile in row] for row in rows]
    return np.concatenate([np.concatenate(strip, axis=3) for strip in strips], axis=2)


@pytest.mark.parametrize(("size", "tiles"), CASES)
def test_seams_are_blended_with_the_blended_neighbours(size, tiles):
    x = picture(size, seed=1)
    got = jax.jit(lambda x: tiled(shrunk_uneven, x, tiles.down(4)))(x)
    overlap = [(a - b) // 4 for a, b in zip(tiles.size_hw, tiles.stride_hw, strict=True)]
    kept = [length // 4 for length in tiles.stride_hw]
    want = restated(
        jax.jit(shrunk_uneven), np.asarray(x), tiles.size_hw, tiles.stride_hw, kept, overlap
    )
    np.testing.assert_allclose(got, want, atol=1e-5)
    assert np.abs(want - np.asarray(shrunk_uneven(x))).max() > 0.1  # seams are there to blend


def test_published_sizes():
    """The tiles of CogVideoX at 480 x 720: 40 x 72 pixels, 5 x 9 latent positions of blend."""
    tiles = Tiles((240, 360), (200, 288))
    down, up = tiles.down(8), tiles.up(8)
    assert (down.kept_hw, down.blend_hw) == ((25, 36), (5, 9))
    assert (up.size_hw, up.stride_hw) == ((30, 45), (25, 36))
    assert (up.kept_hw, up.blend_hw) == ((200, 288), (40, 72))


def test_a_picture_of_one_tile_is_not_cut():
    seen = []

    def fn(x):
        seen.append(x.shape[2:4])
        return x

    tiled(fn, picture((16, 20)), TILES[0].down(4))
    assert seen == [(16, 20)]


def test_tiles_of_one_size_are_traced_once():
    seen = []

    def fn(x):
        seen.append(x.shape[2:4])
        return enlarge(x)

    jax.eval_shape(lambda x: tiled(fn, x, Tiles((240, 360), (200, 288)).up(4)), picture((120, 180)))
    assert sorted(seen) == [(20, 36), (20, 90), (60, 36), (60, 90)]


def test_gradients_and_half_precision():
    x, cut = picture((28, 44)), TILES[0].down(4)
    grad = jax.jit(jax.grad(lambda x: tiled(shrink, x, cut).sum()))(x)
    np.testing.assert_allclose(grad, jax.grad(lambda x: shrink(x).sum())(x), atol=1e-6)
    assert tiled(shrink, x.astype(jnp.bfloat16), cut).dtype == jnp.bfloat16


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Tiles((16, 16), (20, 16)), "height 16 every 20"),
        (lambda: Tiles((16, 16), (16, 0)), "width 16 every 0"),
        (lambda: Tiles((18, 16), (16, 16)).down(8), r"size \(18, 16\).*use \(16, 16\)"),
        (lambda: Tiles((16, 16), (16, 12)).up(8), r"stride \(16, 12\).*use \(16, 16\)"),
    ],
)
def test_errors(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make()
