"""CogVideoX's pipelines from a picture equal diffusers', from prompts and pictures to pixels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")

import torch
from diffusers.models.autoencoders import vae as published_vae
from diffusers.pipelines.cogvideo import pipeline_cogvideox_image2video as published

from tavid_jax.pipelines import open_pipeline
from tavid_jax.pipelines.pipeline import POSTERIOR
from tests.pipelines import tiny
from tests.pipelines.reference import cogvideox, noise_of, picture, sample

pytestmark = pytest.mark.parity
SIZE_HW, FRAMES, SEED = (32, 48), 9, 3
LEARNED = dict(in_channels=8, use_learned_positional_embeddings=True)
LATER = dict(
    in_channels=8, patch_size_t=2, patch_bias=False, ofs_embed_dim=8, sample_height=8,
    sample_width=12,
)  # fmt: skip


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    folder = tmp_path_factory.mktemp("learned") / "model"
    models = tiny.cogvideox_folder(folder, 90, transformer=LEARNED)
    return open_pipeline("cogvideox-5b-i2v", folder, strict=False), models


@pytest.fixture
def likeliest(monkeypatch):
    """diffusers takes the mode of the picture's posterior."""
    monkeypatch.setattr(published, "retrieve_latents", lambda found, _: found.latent_dist.mode())


@pytest.fixture
def drawn(monkeypatch):
    """diffusers draws from the picture's posterior what our job draws."""

    def draw(shape, **_):
        batch, channels, frames, height, width = shape
        key = jax.random.fold_in(jax.random.key(SEED), POSTERIOR)
        noise = jax.random.normal(key, (batch, frames, height, width, channels), jnp.float32)
        return torch.from_numpy(np.asarray(noise).transpose(0, 4, 1, 2, 3).copy())

    monkeypatch.setattr(published_vae, "randn_tensor", draw)


def both(pipeline, models, shape=(3, 4, 6, 4), guidance=6.0, **options):
    noise, image = noise_of(shape, 8), picture(SIZE_HW, 5)
    got = sample(
        pipeline, image=image, noise=noise, size_hw=SIZE_HW, frames=FRAMES, guidance=guidance,
        seed=SEED, **options,
    )  # fmt: skip
    want = cogvideox(pipeline, models, noise, SIZE_HW, FRAMES, guidance, image=image)
    return got, want


def test_5b_by_the_mode(learned, likeliest):
    got, want = both(*learned, posterior="mode")
    got.assert_near(want)


def test_5b_by_a_draw(learned, drawn):
    got, want = both(*learned, guidance=1.0)
    got.assert_near(want)


def test_1_5(tmp_path, likeliest):
    """The picture stands beside the first of the frames that are added, and is divided by the
    scaling factor."""
    models = tiny.cogvideox_folder(
        tmp_path / "model", 100, transformer=LATER, invert_scale_latents=True
    )
    pipeline = open_pipeline("cogvideox1.5-5b-i2v", tmp_path / "model", strict=False)
    got, want = both(pipeline, models, (4, 4, 6, 4), posterior="mode")
    got.assert_near(want)
