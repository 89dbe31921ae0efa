"""WHN's denoiser and track VAE: equality with stored outputs of the original networks, any number
of frames, and what they refuse."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tavid_jax import weights
from tavid_jax.models.layers.embeddings import sin_cos_table
from tavid_jax.models.whn.config import (
    SIZES,
    WHN_PRESETS,
    WHN_VAE_PRESETS,
    WhnConfig,
    WhnVAEConfig,
    whn_config,
)
from tavid_jax.models.whn.denoiser import WhnDenoiser
from tavid_jax.models.whn.vae import WhnVAE

# Relative to the rms of the stored array. Float32 noise is 1e-6, a wrong norm epsilon 1e-4.
TOLERANCE = 1e-5
SMALL = dict(num_frames=3, hidden=16, heads=2, frame_dim=12, fourier_dim=8)
TRACKS = dict(channels=2, patch=2, raw=True, depth=2)
CONFIGS = {
    "latte_latent": WhnConfig(grid_hw=(4, 4), depth=4, frame_grid_hw=(2, 2), **SMALL),
    "latte_raw_text": WhnConfig(
        grid_hw=(4, 4), frame_grid_hw=(2, 2), text_dim=6, **TRACKS, **SMALL
    ),
    "latte_rect": WhnConfig(grid_hw=(4, 6), frame_grid_hw=(2, 3), **TRACKS, **SMALL),
}
VAE = WhnVAEConfig(
    grid_hw=(4, 4), latent_channels=3, encoder_depth=2, decoder_depth=2, frame_grid_hw=(2, 2),
    **SMALL,
)  # fmt: skip


@functools.partial(jax.jit, static_argnames=("model", "method"))
def apply(model, params, *args, method=None):
    return model.apply({"params": params}, *args, method=method)


@pytest.fixture(scope="module")
def denoiser(goldens):
    """name -> (config, parameters, inputs, stored output), channels last."""

    @functools.cache
    def load(name: str):
        stored, config = goldens(f"whn_{name}_tiny"), CONFIGS[name]
        state = {k[3:]: v for k, v in stored.items() if k.startswith("sd/")}
        params = weights.port("whn", state, config)
        text = (stored["text_embeds"],) if config.text_dim else ()
        x, y = (np.moveaxis(stored[name], 2, -1) for name in "xy")
        return config, params, tuple(map(jnp.asarray, (x, stored["t"], stored["f"], *text))), y

    return load


@functools.partial(jax.jit, static_argnames="model")
def apply_in_two(model, params, x, t, *told):
    """Keys and values of the context kept, then the velocity."""
    context = model.apply({"params": params}, *told, method="context")
    assert context.tokens is None and context.keys_values[0].shape[0] == model.config.depth
    return model.apply({"params": params}, x, t, context, method="velocity")


@pytest.mark.parity
@pytest.mark.parametrize(
    ("name", "run", "scan"),
    [
        ("latte_latent", apply, True),
        ("latte_latent", apply_in_two, True),
        ("latte_raw_text", apply_in_two, False),
        ("latte_rect", apply, False),
    ],
    ids=["latents", "latents, kept context", "tracks with text", "rectangle"],
)
def test_denoiser_equals_the_original(denoiser, relative_error, name, run, scan):
    config, params, given, stored = denoiser(name)
    assert relative_error(run(WhnDenoiser(config, scan=scan), params, *given), stored) < TOLERANCE


@pytest.mark.parity
def test_vae_equals_the_original(goldens, relative_error):
    stored = goldens("whn_vae_tiny")
    state = {k[3:]: v for k, v in stored.items() if k.startswith("sd/")}
    params, model = weights.port("whn_vae", state, VAE), WhnVAE(VAE)
    posterior = apply(model, params, np.moveaxis(stored["x"], 2, -1), stored["f"], method="encode")
    assert relative_error(posterior.mean, stored["mean"]) < TOLERANCE
    assert relative_error(posterior.std, stored["std"]) < TOLERANCE
    decoded = apply(model, params, posterior.mean, stored["f"], method="decode")
    assert relative_error(np.moveaxis(decoded, -1, 2), stored["recon_from_mean"]) < TOLERANCE


def test_more_frames_continue_the_table_of_times(denoiser, relative_error):
    """What a model with a longer table of the same sinusoid says."""
    config, params, (_, t, frame), _ = denoiser("latte_latent")
    rng = np.random.default_rng(0)
    longer = {**params, "temp_embed": jnp.asarray(sin_cos_table(np.arange(7.0), config.hidden))}
    x = rng.standard_normal((2, 7, 4, 4, 8)).astype(np.float32)
    got = apply(WhnDenoiser(config), params, x, t, frame)
    trained = WhnDenoiser(dataclasses.replace(config, num_frames=7))
    assert relative_error(got, apply(trained, longer, x, t, frame)) < 1e-6


@pytest.mark.slow
def test_gradients_are_those_of_the_unrolled_walk(denoiser, relative_error):
    config, params, given, _ = denoiser("latte_latent")

    def loss(params, **options):
        model = WhnDenoiser(config, **options)
        return jnp.sum(jnp.square(model.apply({"params": params}, *given)))

    rolled, plain = (
        jax.jit(jax.grad(functools.partial(loss, **options)))(params)
        for options in (dict(scan=True, remat="full"), dict(scan=False))
    )
    for name in ("frame_proj", "time_mlp", "x_embedder", "blocks"):
        for one, other in zip(*map(jax.tree.leaves, (rolled[name], plain[name])), strict=True):
            # Biases of keys cancel in the softmax: noise on both sides.
            if np.abs(other).max() > 1e-2:
                assert relative_error(one, other) < 1e-4, name


def count(tree, without=()) -> int:
    leaves = {k: v for k, v in tree.items() if k not in without}
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(leaves))


def test_published_sizes():
    """The published counts of denoisers are without tables, that of the VAE is with them."""
    tables = ("pos_embed", "temp_embed", "frame_embed")
    shapes = weights.CHECKPOINTS["whn"].shapes
    assert count(shapes(WHN_PRESETS["whn-kubric-l"]), tables) == 219_628_040
    assert count(shapes(WHN_PRESETS["whn-kubric-b"]), tables) == 41_505_032
    vae = weights.CHECKPOINTS["whn_vae"].shapes(WHN_VAE_PRESETS["whn-vae-kubric"])
    assert count(vae) == 57_796_504
    assert count(vae, tables) - vae["x_encoder"]["w"].size == 57_590_552  # what is trained
    assert SIZES["b"] == SIZES["s"] and whn_config("kubric", "xs").hidden == 192


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: whn_config("kinetics", "l"), "no data set 'kinetics'; there are kubric, libero"),
        (lambda: whn_config("kubric", "xxl"), "no size 'xxl'; there are l, b, s, xs"),
        (lambda: WhnConfig(grid_hw=(5, 4), patch=2), "rows 5 is not divisible by patch 2"),
        (lambda: WhnConfig(heads=5), "hidden 768 is not divisible by heads 5"),
        (lambda: WhnConfig(raw=True), "raw needs channels=2"),
        (lambda: WhnVAEConfig(encoder_depth=0), "WhnVAEConfig.encoder_depth must be a positive"),
    ],
)
def test_odd_sizes_are_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_odd_inputs_are_refused(denoiser):
    config, params, (x, t, frame, text), _ = denoiser("latte_raw_text")
    model = WhnDenoiser(config)

    def run(*given):
        return jax.eval_shape(lambda *a: model.apply({"params": params}, *a), *given)

    with pytest.raises(ValueError, match="text is missing, config.text_dim is 6"):
        run(x, t, frame)
    with pytest.raises(ValueError, match=r"frame must have shape \(any, 4, 12\)"):
        run(x, t, frame[:, :3], text)
    with pytest.raises(ValueError, match=r"x must have shape \(any, any, 4, 4, 2\)"):
        run(x[:, :, :2], t, frame, text)
    model = WhnDenoiser(CONFIGS["latte_rect"])
    with pytest.raises(ValueError, match="text is given, config.text_dim is 0"):
        jax.eval_shape(
            lambda: model.init(jax.random.key(0), jnp.zeros((1, 3, 4, 6, 2)), t[:1],
                               jnp.zeros((1, 6, 12)), text[:1])
        )  # fmt: skip
