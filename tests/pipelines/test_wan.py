"""Wan 2.1's pipelines equal diffusers', from prompts and pictures to pixels."""

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")

import torch
from safetensors.numpy import save_file

from tavid_jax.pipelines import Job, open_pipeline
from tests.models.random_weights import relative_error
from tests.pipelines import tiny
from tests.pipelines.reference import PROMPT, noise_of, picture, sample, wan

pytestmark = pytest.mark.parity
SIZE_HW, FRAMES = (32, 48), 9
NOISE = noise_of((3, 4, 6, 4))
# Noisy latent, mask, and the given frames' latent; CLIP's tokens are 20 wide.
IMAGES = dict(in_channels=12, image_dim=20, added_kv_proj_dim=32)
OURS = dict(noise=NOISE, size_hw=SIZE_HW, frames=FRAMES, grid="diffusers")


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    folder = tmp_path_factory.mktemp("text") / "model"
    models = tiny.wan_folder(folder, 10)
    return open_pipeline("wan2.1-t2v-1.3b", folder, strict=False), models


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    folder = tmp_path_factory.mktemp("image") / "model"
    models = tiny.wan_folder(folder, 20, transformer=IMAGES, clip=True)
    return open_pipeline("wan2.1-i2v-14b", folder, strict=False), models


@pytest.mark.parametrize(
    ("sampler", "guidance", "shift"),
    [("unipc", 5.0, 3.0), ("unipc", 1.0, 8.0), ("euler", 6.0, 5.0)],
)
def test_text_to_video(text, sampler, guidance, shift):
    got = sample(text[0], sampler=sampler, guidance=guidance, shift=shift, **OURS)
    want = wan(*text, NOISE, SIZE_HW, FRAMES, guidance, shift, sampler)
    got.assert_near(want)


@pytest.mark.parametrize("prompt", ["", "  A red\n&amp;amp; ＢＬＵＥ ball " + "rolls " * 80])
def test_prompts_of_any_length_and_writing(text, prompt):
    """An empty one, and one that needs cleaning and a longer program of the text encoder."""
    got = sample(text[0], prompt, guidance=5.0, shift=3.0, **OURS)
    want = wan(*text, NOISE, SIZE_HW, FRAMES, prompt=prompt)
    got.assert_near(want)


@pytest.mark.parametrize(("guidance", "both"), [(5.0, False), (1.0, True)])
def test_image_to_video(image, guidance, both):
    """The model that reads CLIP's tokens; with a last image too it reads twice as many."""
    first, last = picture(SIZE_HW, 1), picture(SIZE_HW, 2)
    given = dict(image=first) | (dict(last_image=last) if both else {})
    got = sample(image[0], guidance=guidance, shift=3.0, **given, **OURS)
    want = wan(*image, NOISE, SIZE_HW, FRAMES, guidance, images=list(given.values()))
    got.assert_near(want)


def test_one_and_two_images_side_by_side(image):
    """Jobs that share no shapes share no batch; those that do are not mixed up."""
    options = {key: x for key, x in OURS.items() if key != "noise"} | dict(guidance=1.0, steps=6)
    first, last = picture(SIZE_HW, 1), picture(SIZE_HW, 2)
    one, other = (
        Job(PROMPT, image=x, noise=NOISE, options=options, name=name)
        for x, name in ((first, "one"), (last, "other"))
    )
    both = Job(PROMPT, image=first, last_image=last, noise=NOISE, options=options, name="both")
    together = list(image[0].run([one, both, other], batch_size=2))
    assert [video.name for video in together] == ["one", "both", "other"]
    for job, video in zip((one, both, other), together, strict=True):
        alone = next(image[0].run([job]))
        assert relative_error(video.latents, alone.latents) < 1e-5
    assert relative_error(together[0].latents, together[2].latents) > 0.1


def test_adapters(tmp_path):
    """Low-rank adapters beside the weights equal the same adapters merged into diffusers'."""
    models = tiny.wan_folder(tmp_path / "model", 35)
    rng, adapters = np.random.default_rng(36), {}
    for place in ("attn1.to_q", "attn2.to_out.0", "ffn.net.0.proj"):
        linear = models["transformer"].get_submodule(f"blocks.1.{place}")
        rows, columns = linear.weight.shape
        down, up = rng.standard_normal((3, columns)), rng.standard_normal((rows, 3))
        for name, matrix in (("A", down), ("B", up)):
            key = f"transformer.blocks.1.{place}.lora_{name}.weight"
            adapters[key] = (0.2 * matrix).astype(np.float32)
        with torch.no_grad():
            linear.weight += torch.from_numpy((0.04 * up @ down).astype(np.float32))
    save_file(adapters, tmp_path / "lora.safetensors")
    pipeline = open_pipeline(
        "wan2.1-t2v-1.3b", tmp_path / "model", lora=tmp_path / "lora.safetensors", strict=False
    )
    got = sample(pipeline, guidance=1.0, shift=3.0, **OURS)
    got.assert_near(wan(pipeline, models, NOISE, SIZE_HW, FRAMES, 1.0))


def test_first_and_last_frame(tmp_path):
    """The model with a table of positions for the tokens of two pictures."""
    transformer = IMAGES | dict(pos_embed_seq_len=10)
    models = tiny.wan_folder(tmp_path / "model", 30, transformer=transformer, clip=True)
    pipeline = open_pipeline("wan2.1-flf2v-14b", tmp_path / "model", strict=False)
    images = [picture(SIZE_HW, 1), picture(SIZE_HW, 2)]
    got = sample(pipeline, image=images[0], last_image=images[1], guidance=5.0, shift=16.0, **OURS)
    want = wan(pipeline, models, NOISE, SIZE_HW, FRAMES, 5.0, 16.0, images=images)
    got.assert_near(want)
