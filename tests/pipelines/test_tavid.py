"""TAViD from its two files equals diffusers' pipeline on the extended transformer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")
pytest.importorskip("peft")

import torch
from diffusers.models.autoencoders import vae as published_vae
from safetensors.numpy import load_file, save_file

from tavid_jax.pipelines import open_pipeline
from tavid_jax.pipelines.pipeline import POSTERIOR
from tavid_jax.pipelines.targets import Targets
from tavid_jax.weights import WeightsError
from tavid_jax.weights.patch_embed import COGVIDEOX_FILE
from tests.models.random_weights import relative_error
from tests.pipelines import tavid, tiny
from tests.pipelines.reference import cogvideox, noise_of, sample, wan
from tests.pipelines.tavid import ACTOR, FRAMES, IMAGE, MASK, OTHER, PROMPT, SIZE_HW
from tests.weights.adapters import FILE

SEED, SHAPE = 3, (3, 4, 6, 4)
OPTIONS = dict(size_hw=SIZE_HW, frames=FRAMES, seed=SEED, image=IMAGE)
PAIR = Targets(words=("red", "target"), objects=("actor", "target"), sentence="")


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    """(folder, the models of torch)."""
    folder = tmp_path_factory.mktemp("release")
    return folder, tavid.cogvideox_release(folder, 93)


@pytest.fixture(scope="module")
def pipeline(release):
    return tavid.opened(release[0])


@pytest.fixture
def drawn(monkeypatch):
    """diffusers draws from the picture's posterior what our job draws."""

    def draw(shape, **_):
        batch, channels, frames, height, width = shape
        key = jax.random.fold_in(jax.random.key(SEED), POSTERIOR)
        noise = jax.random.normal(key, (batch, frames, height, width, channels), jnp.float32)
        return torch.from_numpy(np.asarray(noise).transpose(0, 4, 1, 2, 3).copy())

    monkeypatch.setattr(published_vae, "randn_tensor", draw)


def theirs(pipeline, models, masks, prompt=PROMPT, **options):
    noise = noise_of(SHAPE, 8)
    with tavid.reading(models["transformer"], masks, stride=8, axis=2):
        return cogvideox(
            pipeline, models, noise, SIZE_HW, FRAMES, image=IMAGE, seed=SEED, prompt=prompt,
            **options,
        )  # fmt: skip


def ours(pipeline, mask, prompt=PROMPT, **options):
    return sample(pipeline, prompt, mask=mask, noise=noise_of(SHAPE, 8), **OPTIONS | options)


# ---- the release ----------------------------------------------------------------------------


@pytest.mark.parity
def test_as_released(release, pipeline, drawn):
    """The sampler that draws noise, dynamic guidance, the mask and the image's latent in both
    branches, adapters at scale 1."""
    got = ours(pipeline, MASK, sampler="dpm", dynamic="timestep", guidance=6.0)
    want = theirs(pipeline, release[1], [MASK], sampler="dpm", dynamic=True, guidance=6.0)
    got.assert_near(want)
    other = ours(pipeline, OTHER, sampler="dpm", dynamic="timestep", guidance=6.0)
    assert relative_error(other.latents, got.latents) > 0.01


@pytest.mark.parity
def test_another_scale_of_the_adapters(release, drawn):
    folder, models = release
    half = tavid.opened(folder, lora_scale=0.5)
    models["transformer"].set_adapters(["default"], weights=[0.5])
    try:
        want = theirs(half, models, [MASK], guidance=1.0)
    finally:
        models["transformer"].set_adapters(["default"], weights=[1.0])
    got = ours(half, MASK, guidance=1.0)
    got.assert_near(want)
    whole = ours(tavid.opened(folder), MASK, guidance=1.0)
    assert relative_error(whole.latents, got.latents) > 0.01


@pytest.mark.parity
def test_two_targets(tmp_path, drawn):
    models = tavid.cogvideox_release(tmp_path, 120, channels=2)
    pipeline = tavid.opened(tmp_path, targets=PAIR)
    got = ours(pipeline, [OTHER, MASK], ACTOR, guidance=1.0)
    got.assert_near(theirs(pipeline, models, [OTHER, MASK], ACTOR, guidance=1.0))
    turned = ours(pipeline, [MASK, OTHER], ACTOR, guidance=1.0)
    assert relative_error(turned.latents, got.latents) > 0.01


@pytest.mark.parity
def test_wan(tmp_path):
    """The mask stands beside the clean frame of the image."""
    size_hw, noise, models = (64, 96), noise_of((3, 4, 6, 6), 1), tavid.wan_release(tmp_path)
    image, mask = tavid.picture(size_hw, 3), tavid.mask_of(16, 48, 32, 96, size_hw=size_hw)
    pipeline = tavid.opened(tmp_path, tavid.WAN)
    options = dict(image=image, noise=noise, size_hw=size_hw, frames=FRAMES, grid="diffusers")
    got = sample(pipeline, PROMPT, mask=mask, shift=5.0, guidance=5.0, **options)
    with tavid.reading(models["transformer"], [mask], stride=16, axis=1):
        want = wan(
            pipeline, models, noise, size_hw, FRAMES, shift=5.0, images=[image], prompt=PROMPT
        )
    got.assert_near(want)
    other = sample(pipeline, PROMPT, mask=mask[::-1, ::-1].copy(), shift=5.0, **options)
    assert relative_error(other.latents, got.latents) > 0.01


def test_untrained_additions_are_the_stock_model(tmp_path):
    """Channels of zeros and adapters without effect, whatever the mask."""
    tiny.cogvideox_folder(tmp_path / "base", 90, transformer=tavid.TRANSFORMER)
    tavid.cogvideox_release(tmp_path / "trained")
    stock = load_file(tmp_path / "base" / "transformer" / "diffusion_pytorch_model.safetensors")
    weight = stock["patch_embed.proj.weight"]
    wide = np.concatenate([weight, np.zeros((len(weight), 1, 2, 2), np.float32)], 1)
    conv = {
        "weight": torch.from_numpy(wide),
        "bias": torch.from_numpy(stock["patch_embed.proj.bias"]),
    }
    torch.save(conv, tmp_path / COGVIDEOX_FILE)
    adapters = load_file(tmp_path / "trained" / FILE)
    save_file({k: v * ("lora_A" in k) for k, v in adapters.items()}, tmp_path / FILE)
    want = ours(open_pipeline(tavid.COGVIDEOX, tmp_path / "base", strict=False), None)
    for mask in (MASK, OTHER):
        got = ours(tavid.opened(tmp_path), mask)
        assert relative_error(got.latents, want.latents) <= 1e-6
        assert relative_error(got.pixels, want.pixels) <= 1e-6


# ---- what does not fit ----------------------------------------------------------------------


def test_files_and_targets_that_do_not_fit(release, tmp_path):
    folder, _ = release
    with pytest.raises(ValueError, match=r"has 1 mask channel, targets\.words \('red', 'target'\)"):
        tavid.opened(folder, targets=PAIR)
    tavid.cogvideox_release(tmp_path, 120, channels=2)
    with pytest.raises(ValueError, match="has 2 mask channels: give the trigger word of each"):
        tavid.opened(tmp_path)
    with pytest.raises(WeightsError, match="no patch projection in .*: expected patch_embed"):
        tavid.opened(folder, patch_embed=folder / "base")
    with pytest.raises(ValueError, match=r"lora_scale 0\.5: there are no adapters to scale"):
        tavid.opened(folder, lora=None, lora_scale=0.5)
    with pytest.raises(WeightsError, match="scale 'half' is neither a number nor 'auto'"):
        tavid.opened(folder, lora_scale="half")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"mask": None}, r"has 1 target \(target\): give one mask for each, not 0"),
        ({"mask": [MASK, OTHER]}, "give one mask for each, not 2"),
        ({"prompt": "rests on the blue"}, "lacks the word 'target'.*put it before the noun"),
        ({"prompt": "a cat washes itself on the target"}, "the word 'target' is cut off"),
        ({"mask": np.zeros(SIZE_HW)}, "mask 1 is empty: no pixel of it is white"),
        ({"mask": np.ones(SIZE_HW)}, "mask 1 covers everything"),
        ({"mask": np.ones((40, 40))[:, :30] * np.eye(40)[:, :30]}, "the aspect ratios differ"),
        ({"mask": "gone.png"}, "gone.png: cannot be read as a mask"),
        ({"mask": np.full(SIZE_HW, 2.0)}, r"has values outside of \[0, 1\]"),
        ({"mask": np.full(SIZE_HW, 2)}, "give .H, W. of bool, of uint8"),
        ({"mask": 3}, "mask 3: give a file"),
        ({"image": None}, "mask without image: give the first frame"),
        ({"modulation": "much"}, "modulation 'much': give a number of logits"),
        ({"modulation": 1.0, "mask": None}, "modulation leads attention to a mask: give one"),
    ],
)
def test_bad_jobs(pipeline, fields, message):
    given = OPTIONS | {"prompt": PROMPT, "mask": MASK} | fields
    with pytest.raises(ValueError, match=message):
        pipeline.sample(given.pop("prompt"), **given)


def test_a_model_without_masks_says_how_to_get_one(release):
    stock = open_pipeline(tavid.COGVIDEOX, release[0] / "base", strict=False)
    with pytest.raises(ValueError, match="reads no mask: it was not trained with targets"):
        stock.sample(PROMPT, mask=MASK, **OPTIONS)


def test_a_mask_may_have_another_resolution(pipeline):
    options = OPTIONS | dict(steps=1, guidance=1.0)
    large = pipeline.sample(PROMPT, mask=np.kron(MASK, np.ones((3, 3), np.uint8)), **options)
    np.testing.assert_array_equal(
        large.latents, pipeline.sample(PROMPT, mask=MASK, **options).latents
    )


def test_provenance_names_what_was_added(release, pipeline):
    options = OPTIONS | dict(steps=1, guidance=1.0)
    first, half = (
        opened.sample(PROMPT, mask=MASK, **options).provenance
        for opened in (pipeline, tavid.opened(release[0], lora_scale=0.5))
    )
    assert {"lora", "patch_embed"} < set(first["weights"]) and len(first["masks"]) == 1
    assert first["weights"]["patch_embed"] == half["weights"]["patch_embed"]
    assert first["weights"]["lora"] != half["weights"]["lora"]
    assert first["config"] != half["config"] and first["targets"]["words"] == ("target",)
