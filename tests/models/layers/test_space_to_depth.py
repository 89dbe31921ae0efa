"""Pixels as latents: exact both ways, the first frame alone in its group."""

import jax.numpy as jnp
import numpy as np
import pytest

from tavid_jax.models.layers.space_to_depth import SpaceToDepth, SpaceToDepthConfig

CONFIGS = [SpaceToDepthConfig(), SpaceToDepthConfig(3, 4), SpaceToDepthConfig(1, 1)]


def video_of(config: SpaceToDepthConfig, groups: int = 2) -> np.ndarray:
    side = config.stride_hw
    shape = (2, 1 + groups * config.stride_t, 3 * side, 2 * side, 3)
    return np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)


def encode(config, video, **how):
    module = SpaceToDepth(config)
    return module.apply({}, jnp.asarray(video), method=SpaceToDepth.encode, **how)


def decode(config, latents, **how):
    return SpaceToDepth(config).apply({}, latents, method=SpaceToDepth.decode, **how)


@pytest.mark.parametrize("config", CONFIGS)
def test_both_ways_are_exact(config):
    video = video_of(config)
    latents = encode(config, video).mode()
    assert latents.shape == (2, 3, 3, 2, config.latent_channels)
    np.testing.assert_allclose(decode(config, latents), video, atol=1e-7)


def test_a_position_holds_its_pixels():
    config = SpaceToDepthConfig(stride_t=2, stride_hw=2)
    video = video_of(config, groups=1)
    latents = np.asarray(encode(config, video).mode()).reshape(2, 2, 3, 2, 2, 2, 2, 3)
    # (batch, group, row, column, frame in it, row in it, column in it, colour)
    np.testing.assert_array_equal(latents[:, 1, 2, 1, 0, 1, 0], video[:, 1, 5, 2])
    np.testing.assert_array_equal(latents[:, 0, 0, 1, 0, 0, 1], video[:, 0, 0, 3])
    np.testing.assert_array_equal(latents[:, 0, :, :, 1], latents[:, 0, :, :, 0])


def test_the_first_frame_is_the_mean_of_its_copies():
    config = SpaceToDepthConfig(stride_t=4, stride_hw=1)
    latents = np.random.default_rng(1).standard_normal((1, 2, 2, 2, 12)).astype(np.float32)
    copies = latents[:, 0].reshape(1, 2, 2, 4, 3)
    decoded = decode(config, jnp.asarray(latents))
    np.testing.assert_allclose(decoded[:, 0], copies.mean(3), rtol=1e-6, atol=1e-7)


def test_chunks_are_the_whole():
    config = SpaceToDepthConfig(2, 2)
    video = video_of(config, groups=4)
    latents = encode(config, video).mode()
    np.testing.assert_array_equal(encode(config, video, chunk=4).mode(), latents)
    np.testing.assert_array_equal(decode(config, latents, chunk=2), decode(config, latents))


def test_the_posterior_has_no_spread():
    config = CONFIGS[0]
    posterior = encode(config, video_of(config))
    noise = jnp.ones_like(posterior.mean)
    np.testing.assert_allclose(posterior.sample(noise), posterior.mode(), atol=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: SpaceToDepthConfig(stride_t=0), "stride_t 0 must be at least 1"),
        (
            lambda: encode(CONFIGS[0], np.zeros((1, 8, 4, 4, 3), np.float32)),
            r"8 frames are not 1 \+ a multiple of 4: use 5",
        ),
        (
            lambda: encode(CONFIGS[0], np.zeros((1, 9, 4, 4, 3), np.float32), chunk=3),
            "chunk 3: give a multiple of 4 that divides 8 frames",
        ),
        (
            lambda: encode(CONFIGS[0], np.zeros((1, 9, 4, 5, 3), np.float32)),
            "width 5 is not a multiple of 2",
        ),
        (
            lambda: decode(CONFIGS[0], jnp.zeros((1, 4, 2, 2, 48)), chunk=2),
            "chunk 2 does not divide 3 latent frames",
        ),
        (
            lambda: decode(CONFIGS[0], jnp.zeros((1, 3, 2, 2, 16))),
            "so 16 channels: the autoencoder takes .* 48",
        ),
    ],
)
def test_what_does_not_fit_is_told(call, message: str):
    with pytest.raises(ValueError, match=message):
        call()
