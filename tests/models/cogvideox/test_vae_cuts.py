"""Which videos the CogVideoX autoencoder takes, how they are cut, and what comes out."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tavid_jax.models.cogvideox.vae.autoencoder import CogVideoXVAE, param_shapes
from tavid_jax.models.cogvideox.vae.config import VAE_PRESETS, CogVideoXVAEConfig, default_tiles
from tavid_jax.models.cogvideox.vae.layers import stretch, upsample
from tavid_jax.models.layers.tiling import Tiles
from tests.models.cogvideox.tiny_vae import CONFIGS

VAE = CogVideoXVAE(CONFIGS["two blocks"])
HALVES = CogVideoXVAE(CONFIGS["time by two"])


@pytest.mark.parametrize(
    "frames, cut",
    [
        (1, (1, 8)),
        (4, (4, 8)),
        (9, (9, 8)),
        (12, (12, 8)),
        (16, (8, 8)),
        (49, (9, 8)),
        (81, (9, 8)),
    ],
)
def test_pixel_chunks(frames, cut):
    assert VAE.encode_cut(frames, None) == cut


@pytest.mark.parametrize("frames, cut", [(1, (1, 2)), (2, (2, 2)), (4, (2, 2)), (13, (3, 2))])
def test_latent_chunks(frames, cut):
    assert VAE.decode_cut(frames, None) == cut


def test_chosen_chunks():
    assert VAE.encode_cut(49, 16) == (17, 16)
    assert VAE.encode_cut(49, 49) == (49, 49)
    assert VAE.encode_cut(13, 9) == (13, 9)  # one chunk: nothing follows it
    assert VAE.decode_cut(13, 4) == (5, 4)
    assert VAE.decode_cut(13, 100) == (13, 100)


def shape_of(vae: CogVideoXVAE, method: str, shape: tuple[int, ...], **options):
    variables = {"params": param_shapes(vae.config)}
    x = jax.ShapeDtypeStruct(shape, jnp.float32)

    def run(variables, x):
        out = vae.apply(variables, x, method=method, **options)
        return out.mean if method == "encode" else out

    return jax.eval_shape(run, variables, x).shape


@pytest.mark.parametrize("frames, latent", [(1, 1), (5, 2), (8, 2), (9, 3), (16, 4), (25, 7)])
def test_frames_of_a_latent(frames, latent):
    assert shape_of(VAE, "encode", (1, frames, 8, 12, 3)) == (1, latent, 2, 3, 5)


@pytest.mark.parametrize("latent, frames", [(1, 1), (2, 8), (3, 9), (4, 16), (7, 25)])
def test_frames_of_a_video(latent, frames):
    assert shape_of(VAE, "decode", (1, latent, 2, 3, 5)) == (1, frames, 8, 12, 3)


@pytest.mark.slow
def test_published_model_at_its_own_size():
    config = VAE_PRESETS["cogvideox-5b-vae"]
    vae, tiles = CogVideoXVAE(config, dtype=jnp.bfloat16), default_tiles(config)
    assert shape_of(vae, "encode", (1, 49, 480, 720, 3)) == (1, 13, 60, 90, 16)
    assert shape_of(vae, "decode", (1, 13, 60, 90, 16), tiles=tiles) == (1, 49, 480, 720, 3)
    leaves = jax.tree.leaves(param_shapes(config))
    assert sum(leaf.size for leaf in leaves) == 215_583_907


@pytest.mark.parametrize(
    "name, scale, image",
    [
        ("cogvideox-2b-vae", 1.15258426, 1.15258426),
        ("cogvideox-5b-vae", 0.7, 0.7),
        ("cogvideox1.5-vae", 0.7, 1 / 0.7),
    ],
)
def test_scales_of_latents(name, scale, image):
    vae = CogVideoXVAE(VAE_PRESETS[name])
    z = jax.random.normal(jax.random.key(0), (1, 2, 3, 4, 16))
    np.testing.assert_allclose(vae.normalise(z), z * scale, rtol=1e-6)
    np.testing.assert_allclose(vae.denormalise(vae.normalise(z)), z, rtol=1e-6)
    assert vae.config.image_scale == image


def test_an_odd_number_of_frames_begins_with_one_alone():
    z = jnp.arange(3.0).reshape(1, 3, 1, 1, 1)
    assert stretch(z, 9, 1).ravel().tolist() == [0, 1, 1, 1, 1, 2, 2, 2, 2]
    assert stretch(z[:, 1:], 8, 1).ravel().tolist() == [1, 1, 1, 1, 2, 2, 2, 2]
    assert stretch(z[:, :1], 1, 2).shape == (1, 1, 2, 2, 1)
    kernel = jnp.zeros((3, 3, 1, 1)).at[1, 1].set(1.0)
    same = {"kernel": kernel, "bias": jnp.zeros((1,))}
    assert upsample(same, z, True, jnp.float32)[0, :, 0, 0, 0].tolist() == [0, 1, 1, 2, 2]


@pytest.mark.parametrize(
    "vae, frames, chunk, sentence",
    [
        (VAE, 2, None, "2 frames cannot be encoded: use 1,"),
        (VAE, 3, None, "3 frames cannot be encoded: use 4,"),
        (VAE, 50, None, "50 frames cannot be encoded: use 49,"),
        (VAE, 51, None, "51 frames cannot be encoded: use 52,"),
        (VAE, 0, None, "0 frames cannot be encoded: use 1,"),
        (VAE, 49, 6, "49 frames in chunks of 6: .*use 8, or 49"),
        (VAE, 49, 0, "chunks of 0 frames"),
        (HALVES, 49, 3, "49 frames in chunks of 3: .*multiple of 2: use 4, or 49"),
    ],
)
def test_frames_that_cannot_be_encoded(vae, frames, chunk, sentence):
    with pytest.raises(ValueError, match=sentence):
        vae.encode_cut(frames, chunk)


@pytest.mark.parametrize(
    "frames, chunk, sentence",
    [
        (13, 3, "13 latent frames in chunks of 3: .*use 4, or 13"),
        (13, 1, "13 latent frames in chunks of 1: .*use 2, or 13"),
        (13, -2, "chunks of -2 latent frames"),
        (0, None, "without frames"),
    ],
)
def test_latents_that_cannot_be_decoded(frames, chunk, sentence):
    with pytest.raises(ValueError, match=sentence):
        VAE.decode_cut(frames, chunk)


@pytest.mark.parametrize(
    "method, shape, options, sentence",
    [
        ("encode", (1, 5, 10, 12, 3), {}, "height 10 is not a multiple of 4"),
        ("encode", (1, 5, 8, 12, 4), {}, r"4 channels.*columns, 3\)"),
        ("encode", (1, 6, 8, 12, 3), {}, "use 5"),
        ("decode", (1, 2, 3, 4, 4), {}, r"4 channels.*columns, 5\)"),
        ("decode", (1, 2, 3, 4, 5), {"tiles": Tiles((6, 8), (4, 4))}, r"size \(6, 8\)"),
    ],
)
def test_other_bad_input(method, shape, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        shape_of(VAE, method, shape, **options)


@pytest.mark.parametrize(
    "changes, sentence",
    [
        ({"groups": 5}, "groups=5 does not divide the width 128"),
        ({"stride_t": 3}, "stride_t=3 is not a power of two up to 8"),
        ({"stride_t": 16}, "stride_t=16 is not"),
    ],
)
def test_bad_configs(changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        dataclasses.replace(CogVideoXVAEConfig(), **changes)


def test_parameters_start_as_their_shapes_say():
    shapes = param_shapes(VAE.config)
    x = jnp.zeros((1, 1, 4, 4, 3))
    key = jax.random.key(0)
    made = jax.eval_shape(lambda: VAE.init(key, x, method="encode")["params"])
    assert jax.tree.map(lambda a: a.shape, made) == jax.tree.map(lambda a: a.shape, shapes)
