"""What a forecast of tracks is told of video and caption, against diffusers and transformers."""

import numpy as np
import pytest
import torch

from tavid_jax.models.text.cleaning import clean
from tavid_jax.models.text.tokenizer import Tokenizer
from tavid_jax.pipelines.track_conditions import TEXT_LENGTH, open_conditions
from tavid_jax.weights.problems import WeightsError
from tests.pipelines import tiny

GRID = (3, 4)


def relative(found, want):
    return np.abs(found - want).max() / np.sqrt(np.mean(want**2))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wan")
    return folder, tiny.wan_folder(folder, 3)


@pytest.fixture(scope="module")
def conditions(model):
    return open_conditions(model[0], GRID, keep="device", strict=False)


def test_video_is_read_at_a_quarter_of_its_size(model, conditions):
    """Bilinear without antialiasing, the posterior's mean, in Wan's units, tokens row by row."""
    frames = np.random.default_rng(0).integers(0, 256, (5, 96, 128, 3), np.uint8)
    found = conditions.video(frames)
    vae = model[1]["vae"]
    with torch.no_grad():
        pixels = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 127.5 - 1
        small = torch.nn.functional.interpolate(
            pixels, scale_factor=0.25, mode="bilinear", align_corners=False, antialias=False
        )
        mean = vae.encode(small.permute(1, 0, 2, 3)[None]).latent_dist.mean[0]
    shift, spread = (
        torch.tensor(x).reshape(-1, 1, 1, 1)
        for x in (vae.config.latents_mean, vae.config.latents_std)
    )
    want = ((mean - shift) / spread).permute(1, 2, 3, 0).reshape(2, GRID[0] * GRID[1], -1).numpy()
    assert found.shape == want.shape and found.dtype == np.float32
    assert relative(found, want) < 1e-4


def test_a_caption_is_the_mean_over_its_words(model, conditions):
    captions = ["a red ball rolls left. The camera is static.", "", "a red ball " * 80, ""]
    found = conditions.text(captions)
    tokenizer = Tokenizer.open(model[0] / "tokenizer")
    for row, caption in zip(found, captions, strict=True):
        ids, mask = (
            torch.from_numpy(np.asarray(x)) for x in tokenizer(clean(caption), TEXT_LENGTH)
        )
        with torch.no_grad():
            out = model[1]["text_encoder"](ids.long(), attention_mask=mask.long())[0][0]
        want = out[mask[0].bool()].mean(0).numpy()
        assert relative(row, want) < 1e-4
    assert int(mask.sum()) == 1  # the empty caption is one end-of-text token
    assert conditions.text([]).shape == (0, tiny.TEXT_DIM)


def test_what_cannot_be_encoded_is_said(model, conditions, tmp_path):
    with pytest.raises(ValueError, match=r"6 frames of history: Wan.s autoencoder reads 4k \+ 1"):
        conditions.video(np.zeros((6, 96, 128, 3), np.uint8))
    with pytest.raises(WeightsError, match="is not the published model"):
        open_conditions(model[0], GRID)
    with pytest.raises(WeightsError, match="lacks parts of the model"):
        open_conditions(tmp_path, GRID)
