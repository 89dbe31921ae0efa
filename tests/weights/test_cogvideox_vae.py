"""Checkpoints of the CogVideoX autoencoders: there and back, config.json, what is not supported."""

import dataclasses
import json

import diffusers
import numpy as np
import pytest
import torch

from tavid_jax import weights
from tavid_jax.models.cogvideox.vae.config import VAE_PRESETS, CogVideoXVAEConfig
from tavid_jax.weights.table import walk

TINY = CogVideoXVAEConfig((6, 4, 8), 2, 5, groups=2, sample_hw=(48, 40), scaling_factor=0.9)


@pytest.fixture
def published(tmp_path):
    """A tiny model, as diffusers saves it."""
    content = weights.config_to_json(TINY)
    model = diffusers.AutoencoderKLCogVideoX.from_config(content)
    model.save_pretrained(tmp_path / "vae")
    return model, tmp_path / "vae"


def test_there_and_back(published, tmp_path):
    model, folder = published
    found = weights.identify(folder)
    assert (found.name, found.config, found.preset) == ("cogvideox_vae", TINY, None)
    params = weights.load(None, folder)
    weights.save("cogvideox_vae", params, TINY, tmp_path / "ours")
    again = diffusers.AutoencoderKLCogVideoX.from_pretrained(tmp_path / "ours")
    want = model.state_dict()
    assert want.keys() == again.state_dict().keys()
    assert all(torch.equal(want[key], tensor) for key, tensor in again.state_dict().items())
    assert again.config.scaling_factor == 0.9 and again.config.sample_width == 40


@pytest.mark.parametrize("name", VAE_PRESETS)
def test_published_models_are_those_of_diffusers(name):
    config = VAE_PRESETS[name]
    with torch.device("meta"):
        theirs = diffusers.AutoencoderKLCogVideoX.from_config(weights.config_to_json(config))
    kind = weights.CHECKPOINTS["cogvideox_vae"]
    shapes = {path: leaf.shape for path, leaf in walk(kind.shapes(config))}
    rows = kind.table(config).rows
    assert {row.path for row in rows} == set(shapes)
    ours = {row.source: row.source_shape(shapes[row.path]) for row in rows}
    assert ours == {key: tuple(value.shape) for key, value in theirs.state_dict().items()}
    assert len(ours) == 436
    assert sum(int(np.prod(shape)) for shape in shapes.values()) == 215_583_907


def test_without_a_config_the_scale_of_latents_is_not_guessed(published, monkeypatch):
    """The published models differ in nothing that a tensor shows."""
    _, folder = published
    (folder / "config.json").unlink()
    other = dataclasses.replace(TINY, scaling_factor=0.7)
    monkeypatch.setitem(weights.PRESETS, "tiny-vae", TINY)
    assert weights.identify(folder).config == TINY
    monkeypatch.setitem(weights.PRESETS, "other-vae", other)
    with pytest.raises(weights.WeightsError, match="give one of tiny-vae, other-vae as the config"):
        weights.identify(folder)
    assert weights.identify(folder, config="other-vae").config == other


@pytest.mark.parametrize(
    "change, words",
    [
        ({"norm_eps": 1e-5}, "norm_eps: 1e-05, supported is 1e-06"),
        ({"use_quant_conv": True}, "use_quant_conv: True, supported is False"),
        ({"down_block_types": ["CogVideoXDownBlock3D"]}, "down_block_types is"),
        ({"latents_mean": [0.1]}, r"latents_mean: \[0.1\], supported is None"),
    ],
)
def test_what_is_not_supported(tmp_path, change, words):
    content = weights.config_to_json(TINY) | change
    (tmp_path / "config.json").write_text(json.dumps(content))
    with pytest.raises(weights.WeightsError, match=words):
        weights.config_from_json(tmp_path)


def test_what_a_config_does_not_say(tmp_path):
    """Old files leave out what they had no name for."""
    (tmp_path / "config.json").write_text(json.dumps({"_class_name": "AutoencoderKLCogVideoX"}))
    assert weights.config_from_json(tmp_path) == VAE_PRESETS["cogvideox-2b-vae"]
    other = dataclasses.replace(TINY, invert_scale_latents=True)
    (tmp_path / "config.json").write_text(json.dumps(weights.config_to_json(other)))
    assert weights.config_from_json(tmp_path) == other
