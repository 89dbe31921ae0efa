"""Both generations of Wan's autoencoder equal diffusers', in one piece, in chunks and in tiles."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_weights import gradient_errors, gradients, relative_error, worst
from wan_vae_reference import (
    CONFIGS,
    channels_first,
    decode,
    encode,
    latent,
    ported,
    torch_decode,
    torch_encode,
    torch_model,
    video,
)

from tavid_jax import weights
from tavid_jax.models.layers.tiling import Tiles
from tavid_jax.models.wan.vae.autoencoder import WanVAE
from tavid_jax.models.wan.vae.config import VAE_PRESETS, default_tiles
from tavid_jax.models.wan.vae.layers import channel_norm

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

TOLERANCE = 1e-5
SMALL = ("2.1, other widths", "2.2, other widths")
# (config, seed, frames, height and width, latent frames per chunk). Thirteen frames are four
# latent ones, or seven; odd seeds have small activations.
CASES = [
    ("2.1", 1, 9, (24, 40), None),
    ("2.1, other widths", 0, 1, (32, 16), None),
    ("2.1, other widths", 2, 13, (24, 16), 2),
    ("2.1, other widths", 1, 5, (16, 32), 9),
    ("2.2", 1, 9, (32, 48), None),
    ("2.2, other widths", 0, 1, (16, 48), None),
    ("2.2, other widths", 2, 13, (48, 32), 2),
    ("2.2, other widths", 1, 5, (32, 16), 9),
]


@pytest.mark.parity
@pytest.mark.parametrize(("name", "seed", "frames", "size_hw", "chunk"), CASES)
def test_values(name, seed, frames, size_hw, chunk):
    config = CONFIGS[name]
    published = torch_model(config, seed)
    model, params = WanVAE(config), ported(published, config)
    x = video(frames, size_hw, batch=1 + seed % 2)
    got = encode(model, params, x, None if chunk is None else chunk * config.stride_t)
    for ours, theirs in zip(got, torch_encode(published, x), strict=True):
        assert relative_error(ours, theirs) <= TOLERANCE
    z = latent(config, got[0].shape[1], size_hw, batch=x.shape[0])
    pixels = decode(model, params, z, chunk)
    assert pixels.shape == x.shape and pixels.dtype == jnp.float32
    assert relative_error(pixels, torch_decode(published, z)) <= TOLERANCE


@pytest.mark.parity
def test_pixels_are_clamped():
    config = CONFIGS["2.2, other widths"]
    published = torch_model(config)
    with torch.no_grad():
        published.decoder.conv_out.weight *= 20
    z = latent(config, 1, (16, 48))
    pixels = decode(WanVAE(config), ported(published, config), z)
    assert relative_error(pixels, torch_decode(published, z)) <= TOLERANCE
    assert 0.05 < jnp.mean(jnp.abs(pixels) == 1) < 0.9


@pytest.mark.parity
@pytest.mark.parametrize("name", [pytest.param(SMALL[0], marks=pytest.mark.slow), SMALL[1]])
def test_tiles(name):
    """Whole tiles, smaller ones, and some smaller than the overlap; Wan 2.2 has all doubled."""
    config = CONFIGS[name]
    size_hw, *tiles = (
        tuple(config.patch * n for n in pair) for pair in ((56, 40), (32, 32), (24, 16))
    )
    tiles = Tiles(*tiles)
    published = torch_model(config)
    model, params = WanVAE(config), ported(published, config)
    x, z = video(5, size_hw), latent(config, 2, size_hw)
    published.enable_tiling(*(n // config.patch for n in (*tiles.size_hw, *tiles.stride_hw)))
    got = encode(model, params, x, chunk=5, tiles=tiles)  # diffusers counts patches here
    for ours, theirs in zip(got, torch_encode(published, x), strict=True):
        assert relative_error(ours, theirs) <= TOLERANCE
    published.enable_tiling(*tiles.size_hw, *tiles.stride_hw)
    pixels = decode(model, params, z, chunk=2, tiles=tiles)
    assert relative_error(pixels, torch_decode(published, z)) <= TOLERANCE
    assert (
        relative_error(pixels, decode(model, params, z, chunk=2)) > 1e-2
    )  # tiles are not the whole


@pytest.mark.parity
@pytest.mark.slow
def test_gradients():
    """Of both moments and the pixels, by the video, the latent and every parameter."""
    config = CONFIGS["2.2, other widths"]
    published = torch_model(config)
    model, params = WanVAE(config), ported(published, config)
    x, z = video(5, (16, 32)), latent(config, 2, (16, 32))
    rng = np.random.default_rng(0)
    weight_z = rng.standard_normal((2, *z.shape)).astype(np.float32)
    weight_x = rng.standard_normal(x.shape).astype(np.float32)

    def loss(params, x, z):
        moments = encode(model, params, x)
        ours = sum(jnp.mean(w * m) for w, m in zip(weight_z, moments, strict=True))
        return ours + jnp.mean(weight_x * decode(model, params, z))

    slopes, slope_x, slope_z = jax.jit(jax.grad(loss, argnums=(0, 1, 2)))(params, x, z)

    published.double()  # its own rounding would be half of the difference
    tx, tz = (torch.from_numpy(channels_first(a)).double().requires_grad_() for a in (x, z))
    posterior = published.encode(tx).latent_dist
    moments = (posterior.mean, posterior.logvar)
    theirs = sum(
        (torch.from_numpy(channels_first(w)) * m).mean()
        for w, m in zip(weight_z, moments, strict=True)
    )
    pixels = published.decode(tz).sample
    (theirs + (torch.from_numpy(channels_first(weight_x)) * pixels).mean()).backward()
    want = {**gradients(published), "video": tx.grad.numpy(), "latent": tz.grad.numpy()}
    got = weights.export("wan_vae_diffusers", slopes, config)
    got |= {"video": channels_first(slope_x), "latent": channels_first(slope_z)}
    errors = gradient_errors(got, want)
    assert max(errors.values()) <= 1e-4, worst(errors)


def test_bfloat16():
    config = CONFIGS["2.2, other widths"]
    params = ported(torch_model(config), config)
    x, z = video(5, (32, 16)), latent(config, 2, (32, 16))
    full, half = WanVAE(config), WanVAE(config, dtype=jnp.bfloat16)
    stored = jax.tree.map(lambda a: a.astype(jnp.bfloat16), params)
    pairs = [
        (decode(half, stored, z, chunk=2), decode(full, params, z, chunk=2)),
        (encode(half, stored, x, chunk=5)[0], encode(full, params, x, chunk=5)[0]),
    ]
    for low, want in pairs:
        assert low.dtype == want.dtype == jnp.float32
        assert 1e-4 < jnp.sqrt(jnp.mean((low - want) ** 2) / jnp.mean(want**2)) < 0.05


def test_norm_of_zeros():
    """Values and gradients are finite."""
    params = {"scale": jnp.ones(3)}

    def total(x):
        return channel_norm(params, x, jnp.float32).sum()

    value, slope = jax.value_and_grad(total)(jnp.zeros((2, 3)))
    assert value == 0 and bool(jnp.isfinite(slope).all())


def test_latents_are_normalised_per_channel():
    config = CONFIGS["2.2"]
    model, z = WanVAE(config), jnp.asarray(latent(config, 2, (32, 48)))
    want = (z - np.array(config.latent_mean)) / np.array(config.latent_std)
    np.testing.assert_allclose(model.normalise(z), want, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(model.denormalise(model.normalise(z)), z, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("preset", "grid", "channels"), [("wan2.1-vae", (60, 104), 16), ("wan2.2-vae", (30, 52), 48)]
)
def test_full_size(preset, grid, channels):
    """81 frames of 480 x 832; nothing is computed."""
    config = VAE_PRESETS[preset]
    model = WanVAE(config, dtype=jnp.bfloat16)
    x = jax.ShapeDtypeStruct((1, 81, 480, 832, 3), jnp.float32)
    key = jax.random.key(0)

    def there_and_back(key, x):
        posterior, params = model.init_with_output(key, x, method=WanVAE.encode)
        return posterior.mean, model.apply(params, posterior.mean, method=WanVAE.decode)

    z, pixels = jax.eval_shape(there_and_back, key, x)
    assert z.shape == (1, 21, *grid, channels)
    assert pixels.shape == x.shape
    default_tiles(config).down(config.stride_hw)  # fit
