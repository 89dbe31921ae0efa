"""The CogVideoX autoencoder in tiles against diffusers' `enable_tiling`."""

import pytest

from tavid_jax.models.cogvideox.vae.config import VAE_PRESETS, default_tiles
from tavid_jax.models.layers.tiling import Tiles
from tests.models.cogvideox.tiny_vae import CONFIGS, latents, video
from tests.models.random_weights import relative_error

# Tiles, and the share of a tile that overlaps; a share of a latent tile is a whole number.
WIDE = Tiles((8, 8), (6, 4)), (0.25, 0.5)
FLAT = Tiles((4, 12), (2, 10)), (0.5, 1 / 6)


def enable(pair, monkeypatch, tiles: Tiles | None = None, shares=(None, None)) -> None:
    """Tiling in diffusers, for one test."""
    for name in vars(pair.theirs):
        if "tile" in name or "tiling" in name:
            monkeypatch.setattr(pair.theirs, name, getattr(pair.theirs, name))
    pair.theirs.enable_tiling(*((None, None) if tiles is None else tiles.size_hw), *shares)


@pytest.mark.parity
@pytest.mark.parametrize("size, tiles", [((14, 10), WIDE), ((8, 18), WIDE), ((10, 22), FLAT)])
def test_decode(pair, monkeypatch, size, tiles):
    pair = pair("two levels")
    enable(pair, monkeypatch, *tiles)
    z = latents(pair.config, 2, (size[0] // 2, size[1] // 2))
    got, want = pair.run("decode", z, tiles=tiles[0]), pair.their_pixels(z)
    assert relative_error(got, want) <= 1e-5


@pytest.mark.parity
@pytest.mark.parametrize("size, tiles", [((14, 10), WIDE), ((18, 6), WIDE), ((10, 22), FLAT)])
def test_encode(pair, monkeypatch, size, tiles):
    pair = pair("two levels")
    enable(pair, monkeypatch, *tiles)
    x = video(5, size)
    got, want = pair.run("encode", x, tiles=tiles[0]), pair.their_moments(x)
    assert relative_error(got.mean, want[0]) <= 1e-5
    assert relative_error(got.logvar, want[1]) <= 1e-5


@pytest.mark.parity
@pytest.mark.slow
def test_default_tiles_in_several_chunks(pair, monkeypatch):
    pair = pair("two levels")
    enable(pair, monkeypatch)
    tiles = default_tiles(pair.config)
    z = latents(pair.config, 5, (8, 9))
    assert relative_error(pair.run("decode", z, tiles=tiles), pair.their_pixels(z)) <= 1e-5
    x = video(17, (16, 18))
    mean = pair.run("encode", x, tiles=tiles).mean
    assert relative_error(mean, pair.their_moments(x)[0]) <= 1e-5


def test_seams_change_the_numbers(pair):
    pair = pair("two levels")
    z = latents(pair.config, 2, (7, 5))
    got = pair.run("decode", z, tiles=WIDE[0])
    assert relative_error(got, pair.run("decode", z)) > 1e-2


@pytest.mark.parametrize("name", VAE_PRESETS)
def test_published_tiles(name):
    assert default_tiles(VAE_PRESETS[name]) == Tiles((240, 360), (200, 288))


@pytest.mark.parametrize("config", CONFIGS.values())
def test_default_tiles_fit_the_latents(config):
    tiles = default_tiles(config)
    assert tiles.down(config.stride_hw).size_hw == tiles.size_hw
