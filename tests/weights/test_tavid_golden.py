"""A whole denoising of the released TAViD code, from the two files that it loads."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from tavid_jax import weights
from tavid_jax.diffusion.denoise import denoise
from tavid_jax.diffusion.guidance import cfg, constant, dynamic_cfg
from tavid_jax.diffusion.schedulers.registry import make_sampler
from tavid_jax.models.cogvideox.config import CogVideoXConfig
from tavid_jax.models.cogvideox.transformer import CogVideoX
from tavid_jax.weights.torch_zip import write_torch_zip
from tests.models.random_weights import relative_error

pytestmark = pytest.mark.parity
TOLERANCE = 2e-4
STRIDE = 8


@pytest.fixture(scope="module")
def golden(goldens):
    return goldens("tavid_pipeline_latent_tiny")


def part(golden, prefix):
    return {k.removeprefix(prefix): v for k, v in golden.items() if k.startswith(prefix)}


def channels_last(x):
    """(..., F, C, H, W) -> (..., F, H, W, C)."""
    return np.moveaxis(x, -3, -1)


def config_of(golden):
    stated = json.loads(str(golden["config"]))["transformer"]
    return CogVideoXConfig(
        num_heads=stated["num_attention_heads"],
        head_dim=stated["attention_head_dim"],
        num_layers=stated["num_layers"],
        in_channels=stated["in_channels"],
        out_channels=stated["out_channels"],
        time_embed_dim=stated["time_embed_dim"],
        text_dim=stated["text_embed_dim"],
        text_length=stated["max_text_seq_length"],
        sample_hw=(stated["sample_height"], stated["sample_width"]),
        sample_frames=stated["sample_frames"],
        learned_positions=True,
        extra_channels=1,
    )


@pytest.fixture(scope="module")
def model(golden, tmp_path_factory):
    """(model, its parameters) as loaded from a base and the two files."""
    folder, config = tmp_path_factory.mktemp("released"), config_of(golden)
    save_file(part(golden, "sd_lora/"), folder / "pytorch_lora_weights.safetensors")
    write_torch_zip(folder / "patch_embed_conv2d.pth", part(golden, "sd_conv/"))
    adapters, rules = weights.load_lora(folder, "cogvideox", config)
    assert [(rule.path, rule.rank, rule.scale) for rule in rules] == [
        ("blocks/attn/(k|o|q|v)", 3, 1.0)
    ]
    params = weights.port("cogvideox", part(golden, "sd/"), config)
    params |= weights.load_patch_embed(folder, config) | {"lora": adapters}
    return CogVideoX(config, lora=rules), params


def mask_latents(golden):
    """(1, F, H, W, 1): the corner of each cell in the first frame, nothing behind it."""
    mask = golden["in/mask"].astype(np.float32) / 255
    first = mask[::STRIDE, ::STRIDE]
    return np.concatenate([first[None], np.zeros((3, *first.shape), np.float32)])[None, ..., None]


@pytest.fixture(scope="module")
def predict(golden, model):
    """A function (x, timestep, image of the first frame) -> predictions [without, with text]."""
    transformer, params = model
    text = np.concatenate([golden["in/negative_prompt_embeds"], golden["in/prompt_embeds"]])
    mask = mask_latents(golden)

    @jax.jit
    def run(x, timestep, image):
        image = jnp.pad(channels_last(image), ((0, 0), (0, 3), (0, 0), (0, 0), (0, 0)))
        given = jnp.repeat(jnp.concatenate([x, image], -1), 2, 0)
        return transformer.apply(
            {"params": params},
            given,
            jnp.full(2, timestep),
            jnp.asarray(text),
            extra=jnp.repeat(mask, 2, 0),
        )

    return run


def test_mask_latents_timesteps_and_guidance(golden):
    np.testing.assert_array_equal(mask_latents(golden), channels_last(golden["out/mask_latents"]))
    assert set(np.unique(golden["in/mask"])) == {0, 128, 255}
    call = json.loads(str(golden["config"]))["call"]
    steps = make_sampler("dpm", call["num_inference_steps"], family="cogvideox").timesteps
    np.testing.assert_array_equal(steps, golden["out/timesteps"])
    np.testing.assert_array_equal(
        make_sampler("dpm", 5, family="cogvideox").timesteps, golden["out/n5/timesteps"]
    )
    np.testing.assert_allclose(
        dynamic_cfg(call["guidance_scale"], steps), golden["out/guidance"], rtol=1e-9, atol=0
    )


def test_every_step(golden, predict):
    sampler = make_sampler("dpm", 6, family="cogvideox")
    scales = dynamic_cfg(5.0, sampler.timesteps)
    noise = channels_last(golden["in/dpm_noise"])
    state = sampler.init(jnp.asarray(channels_last(golden["in/initial_noise"])))
    for i in range(sampler.steps):
        row = sampler.row(i)
        without, given = jnp.split(predict(state.x, row["timestep"], golden["in/image_latents"]), 2)
        for got, name in ((without, "noise_pred_uncond"), (given, "noise_pred_text")):
            error = relative_error(got[0], channels_last(golden[f"out/{name}"][i]))
            assert error < TOLERANCE, (name, i, error)
        state = sampler.step(state, row, cfg(without, given, scales[i]), jnp.asarray(noise[i]))
        error = relative_error(state.x[0], channels_last(golden["out/latents"][i]))
        assert error < TOLERANCE, (i, error)


@pytest.mark.parametrize("steps", [6, 5])
def test_denoise(golden, predict, steps):
    """One scan; five steps end on clean data with constant guidance, six do not."""
    at = "" if steps == 6 else "n5/"
    sampler = make_sampler("dpm", steps, family="cogvideox")
    scales = dynamic_cfg(5.0, sampler.timesteps) if steps == 6 else constant(5.0, steps)
    image = golden[f"in/{at}image_latents"]

    def guided(x, timestep, row):
        without, given = jnp.split(predict(x, timestep, image), 2)
        return cfg(without, given, row["guidance"])

    noise = jnp.asarray(channels_last(golden[f"in/{at}dpm_noise"]))
    begin = jnp.asarray(channels_last(golden[f"in/{at}initial_noise"]))
    last = jax.jit(lambda x, n: denoise(guided, sampler, x, guidance=scales, noise=n).x)(
        begin, noise
    )
    assert relative_error(last[0], channels_last(golden[f"out/{at}latents"][-1])) < TOLERANCE


def test_the_mask_and_the_scale_of_the_adapters_count(golden, model, predict):
    """What is compared above would show a wrong scale or a mask that is not read."""
    transformer, params = model
    row = make_sampler("dpm", 6, family="cogvideox").row(0)
    x = jnp.asarray(channels_last(golden["in/initial_noise"]))
    image = jnp.pad(channels_last(golden["in/image_latents"]), ((0, 0), (0, 3), *3 * ((0, 0),)))
    want = channels_last(golden["out/noise_pred_text"][0])

    def error(params, mask):
        got = jax.jit(transformer.apply)(
            {"params": params},
            jnp.concatenate([x, image], -1),
            row["timestep"][None],
            jnp.asarray(golden["in/prompt_embeds"]),
            extra=jnp.asarray(mask),
        )
        return relative_error(got[0], want)

    mask = mask_latents(golden)
    halved = params | {"lora": jax.tree.map(lambda leaf: leaf / 2**0.5, params["lora"])}
    assert error(params, mask) < TOLERANCE
    assert error(params, 0 * mask) > 50 * TOLERANCE
    assert error(halved, mask) > 50 * TOLERANCE
