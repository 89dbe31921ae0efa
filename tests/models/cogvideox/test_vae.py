"""The CogVideoX autoencoder against diffusers: moments, pixels, chunks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from tests.models.cogvideox.tiny_vae import Pair, first_channels, latents, video
from tests.models.random_weights import gradient_errors, gradients, relative_error, worst

pytestmark = pytest.mark.parity

TOLERANCE = 1e-5


def assert_encodes(pair: Pair, x: np.ndarray, chunk: int | None = None) -> None:
    got = pair.run("encode", x, chunk=chunk)
    for ours, theirs in zip((got.mean, got.logvar), pair.their_moments(x), strict=True):
        assert relative_error(ours, theirs) <= TOLERANCE


def assert_decodes(pair: Pair, z: np.ndarray, chunk: int | None = None) -> None:
    got = pair.run("decode", z, chunk=chunk)
    assert got.dtype == jnp.float32
    assert relative_error(got, pair.their_pixels(z)) <= TOLERANCE


@pytest.mark.parametrize("frames", [1, 4, 5, 8, 9, 17, 25])
def test_encode(pair, frames):
    assert_encodes(pair("one block"), video(frames, (16, 24)))


@pytest.mark.parametrize("frames", [1, 2, 3, 5, 7])
def test_decode(pair, frames):
    pair = pair("one block")
    assert_decodes(pair, latents(pair.config, frames, (2, 3)))


@pytest.mark.parametrize("name, seed", [("two blocks", 1), ("time by two", 2)])
def test_other_depths_widths_and_strides(pair, name, seed):
    pair = pair(name, seed)
    assert_encodes(pair, video(9, (12, 8), seed))
    assert_decodes(pair, latents(pair.config, 4, (2, 3)))


@pytest.mark.parametrize("frames, chunk", [(9, 4), (17, 16), (13, 13)])
def test_encode_in_other_chunks(pair, monkeypatch, frames, chunk):
    pair = pair("two blocks")
    monkeypatch.setattr(pair.theirs, "num_sample_frames_batch_size", chunk)
    assert_encodes(pair, video(frames, (12, 8)), chunk)


@pytest.mark.parametrize("frames, chunk", [(9, 4), (5, 5), (3, 8)])
def test_decode_in_other_chunks(pair, monkeypatch, frames, chunk):
    pair = pair("two blocks")
    monkeypatch.setattr(pair.theirs, "num_latent_frames_batch_size", chunk)
    assert_decodes(pair, latents(pair.config, frames, (2, 3)), chunk)


def test_chunks_change_the_numbers(pair):
    """So the tests above can tell which chunks were taken."""
    pair = pair("two levels")
    z = latents(pair.config, 5, (2, 3))
    assert relative_error(pair.run("decode", z, chunk=5), pair.run("decode", z)) > 1e-2
    x = video(17, (12, 8))
    whole = pair.run("encode", x, chunk=17).mean
    assert relative_error(whole, pair.run("encode", x).mean) > 1e-2


def test_sample_with_given_noise(pair):
    pair = pair("two blocks")
    x = video(5, (12, 8))
    mean, logvar = pair.their_moments(x)
    noise = np.random.default_rng(3).standard_normal(mean.shape).astype(np.float32)
    got = pair.run("encode", x).sample(jnp.asarray(noise))
    assert relative_error(got, mean + np.exp(0.5 * logvar) * noise) <= TOLERANCE


@pytest.mark.slow
def test_gradients(pair):
    """Of every parameter, through encoder and decoder, over several chunks."""
    pair = pair("two levels")
    x, target = video(17, (4, 6)), video(17, (4, 6), 1)

    def loss(params):
        posterior = pair.ours.apply({"params": params}, jnp.asarray(x), method="encode")
        pixels = pair.ours.apply({"params": params}, posterior.mode(), method="decode")
        return jnp.mean(jnp.square(pixels - target)) + jnp.mean(posterior.logvar)

    got = pair.exported(jax.jit(jax.grad(loss))(pair.params))
    pair.theirs.zero_grad()
    posterior = pair.theirs.encode(first_channels(x)).latent_dist
    pixels = pair.theirs.decode(posterior.mode()).sample
    (torch.mean((pixels - first_channels(target)) ** 2) + posterior.logvar.mean()).backward()
    errors = gradient_errors(got, gradients(pair.theirs))
    assert max(errors.values()) <= 1e-4, worst(errors)


@pytest.mark.slow
def test_half_precision_is_close(pair):
    pair = pair("two blocks")
    half = pair.ours.clone(dtype=jnp.bfloat16)
    variables = {"params": jax.tree.map(lambda a: a.astype(jnp.bfloat16), pair.params)}
    z = latents(pair.config, 5, (2, 3))
    got = jax.jit(lambda v, z: half.apply(v, z, method="decode"))(variables, z)
    want = pair.run("decode", z)
    assert got.dtype == jnp.float32
    error = np.sqrt(np.mean(np.square(got - want)) / np.mean(np.square(want)))
    assert 1e-4 < error < 0.05
    x = jnp.asarray(video(1, (4, 8)))
    posterior = jax.jit(lambda v: half.apply(v, x, method="encode"))(variables)
    assert posterior.mean.dtype == posterior.logvar.dtype == jnp.float32
