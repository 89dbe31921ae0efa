"""What Wan's autoencoders refuse, and how they say so; chunks and sizes of what they take."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import pytest

from tavid_jax.models.layers.tiling import Tiles
from tavid_jax.models.wan.vae.autoencoder import WanVAE, param_shapes
from tavid_jax.models.wan.vae.config import VAE_PRESETS, WanVAEConfig

WAN21, WAN22 = (WanVAE(VAE_PRESETS[name]) for name in ("wan2.1-vae", "wan2.2-vae"))


def encode(model: WanVAE, *shape: int, **options):
    """Shapes only: what is refused is refused before anything is computed."""
    return call(model, WanVAE.encode, shape, options)


def decode(model: WanVAE, *shape: int, **options):
    return call(model, WanVAE.decode, shape, options)


def call(model, method, shape, options):
    def run(params, x):
        return model.apply({"params": params}, x, method=method, **options)

    x = jax.ShapeDtypeStruct(shape, jnp.float32)
    return jax.eval_shape(run, param_shapes(model.config), x)


@pytest.mark.parametrize(
    ("frames", "nearest"), [(2, 1), (3, 1), (4, 5), (10, 9), (11, 9), (12, 13), (80, 81), (82, 81)]
)
def test_frames(frames, nearest):
    words = rf"{frames} frames are not 1 . a multiple of 4: use {nearest}\n"
    with pytest.raises(ValueError, match=words):
        encode(WAN21, 1, frames, 16, 16, 3)
    with pytest.raises(ValueError, match=words):
        encode(WAN21, 1, frames, 16, 16, 3, tiles=Tiles((8, 8), (8, 8)))


def test_sizes():
    with pytest.raises(ValueError, match="height 482 is not a multiple of 8: use 480"):
        encode(WAN21, 1, 1, 482, 832, 3)
    with pytest.raises(ValueError, match="width 840 is not a multiple of 16: use 832"):
        encode(WAN22, 1, 1, 480, 840, 3)
    with pytest.raises(ValueError, match="width 840 is not a multiple of 16: use 832"):
        encode(WAN22, 1, 1, 480, 840, 3, tiles=Tiles((256, 256), (192, 192)))


@pytest.mark.parametrize(("run", "shape"), [(encode, (32, 32, 3)), (decode, (2, 2, 48))])
def test_tiles(run, shape):
    size, stride = Tiles((24, 32), (16, 16)), Tiles((32, 32), (16, 8))
    with pytest.raises(ValueError, match=r"tiles' size \(24, 32\) .* multiple of 16 pixels"):
        run(WAN22, 1, 1, *shape, tiles=size)
    with pytest.raises(ValueError, match=r"tiles' stride \(16, 8\) .* multiple of 16 pixels"):
        run(WAN22, 1, 1, *shape, tiles=stride)


def test_channels():
    with pytest.raises(ValueError, match=r"the video has shape \(1, 1, 16, 16, 4\), so 4 channels"):
        encode(WAN21, 1, 1, 16, 16, 4)
    with pytest.raises(ValueError, match=r"latent .* 16 channels: .* takes \(batch, .*, 48\)"):
        decode(WAN22, 1, 1, 2, 2, 16)


def test_chunks():
    with pytest.raises(ValueError, match="chunks of 6 frames: use a multiple of 4, such as 8"):
        encode(WAN21, 1, 9, 16, 16, 3, chunk=6)
    with pytest.raises(ValueError, match="chunks of 0 frames: use a multiple of 4, such as 4"):
        encode(WAN21, 1, 9, 16, 16, 3, chunk=0)
    with pytest.raises(ValueError, match="chunks of 0 latent frames: use at least 1"):
        decode(WAN21, 1, 9, 2, 2, 16, chunk=0)


@pytest.mark.parametrize(
    ("chunk", "cut"),
    [(None, (1, 4)), (4, (1, 4)), (8, (5, 8)), (12, (1, 12)), (13, (13, 13)), (99, (13, 99))],
)
def test_a_video_is_cut_as_said(chunk, cut):
    assert WAN21.encode_cut(13, chunk) == cut
    first, size = WAN21.decode_cut(4, chunk and -(-chunk // 4))
    assert first + (4 - first) // size * size == 4


def test_configs():
    with pytest.raises(ValueError, match="16 values of latent_mean for 4 latent channels"):
        WanVAEConfig(latent_channels=4)
    with pytest.raises(ValueError, match="3 values of time_strided for 3 multipliers"):
        WanVAEConfig(multipliers=(1, 2, 4))
    with pytest.raises(ValueError, match="encoder's stage from 160 to 1120 channels needs 160 . 8"):
        dataclasses.replace(WAN22.config, multipliers=(1, 7, 4, 4))


@pytest.mark.parametrize(
    ("model", "count", "tensors"), [(WAN21, 126_892_531, 194), (WAN22, 704_688_668, 196)]
)
def test_published_parameters(model, count, tensors):
    leaves = jax.tree.leaves(param_shapes(model.config))
    assert (sum(math.prod(leaf.shape) for leaf in leaves), len(leaves)) == (count, tensors)
    assert (model.config.stride_t, model.config.stride_hw) in ((4, 8), (4, 16))
