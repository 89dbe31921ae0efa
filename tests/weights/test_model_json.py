"""config.json: all published classes, what disagrees, and what is not supported."""

import dataclasses
import json

import numpy as np
import pytest

from tavid_jax import weights
from tavid_jax.models.wan.config import WanConfig
from tavid_jax.weights.model_json import is_described


@pytest.fixture
def write(tmp_path):
    """Writes a config.json into a folder and gives the folder."""

    def make(content, name="model"):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        (folder / "config.json").write_text(json.dumps(content))
        return folder

    return make


def raises(words):
    return pytest.raises(weights.WeightsError, match=words)


def test_diffusers_own_config_is_understood(tmp_path, tiny, tiny_name, tiny_model):
    kind, config, _ = tiny(tiny_name)
    tiny_model(tiny_name).save_config(tmp_path)
    ours = weights.config_from_json(tmp_path / "config.json")
    if kind != "cogvideox":  # the file does not say how long a prompt is
        config = dataclasses.replace(config, text_length=512)
    assert ours == config


# Those whose publishers write a config.json; WHN's checkpoints have none.
DESCRIBED = [name for name, config in weights.PRESETS.items() if is_described(config)]


@pytest.mark.parametrize("preset", DESCRIBED)
def test_presets_are_recognised(write, preset):
    config = weights.PRESETS[preset]
    assert weights.config_from_json(write(weights.config_to_json(config))) == config
    if isinstance(config, WanConfig):
        # The original file does not tell an image branch from none: keys or the folder do.
        keys = [] if config.image_dim is None else ["img_emb.proj.1.weight"]
        folder = write(weights.config_to_json(config, "original"), "high_noise_model")
        assert weights.config_from_json(folder, keys) == config
        if "a14b" in preset:
            assert weights.config_from_json(folder) == config


def test_diffusers_builds_our_presets():
    """Our file, read by diffusers, gives the class's published parameters."""
    import diffusers
    import torch

    content = weights.config_to_json(weights.PRESETS["cogvideox-5b-i2v"])
    with torch.device("meta"):
        model = diffusers.CogVideoXTransformer3DModel.from_config(content)
    assert sum(p.numel() for p in model.parameters()) == 5_570_479_680


def test_the_original_file_as_published(write):
    """The fields that Wan2.1's repositories ship; everything else has the class's defaults."""
    content = {
        "_class_name": "WanModel",
        "_diffusers_version": "0.30.0",
        "dim": 1536,
        "eps": 1e-06,
        "ffn_dim": 8960,
        "freq_dim": 256,
        "in_dim": 16,
        "model_type": "t2v",
        "num_heads": 12,
        "num_layers": 30,
        "out_dim": 16,
        "text_len": 512,
    }
    assert weights.config_from_json(write(content)) == weights.PRESETS["wan2.1-t2v-1.3b"]
    nameless = {key: value for key, value in content.items() if key[0] != "_"}
    assert weights.config_from_json(write(nameless)) == weights.PRESETS["wan2.1-t2v-1.3b"]
    with raises("model_type 'vace' is not supported; known: t2v, ti2v, i2v, flf2v"):
        weights.config_from_json(write({**content, "model_type": "vace"}))


def test_what_is_not_supported_is_listed(write):
    content = weights.config_to_json(weights.PRESETS["cogvideox-5b"])
    odd = {**content, "norm_eps": 1e-6, "activation_fn": "geglu"}
    with raises("a model that this library does not have\noptions .2.:\n.*geglu.*\n.*norm_eps"):
        weights.config_from_json(write(odd))
    with raises("describes a UNet2DModel; known classes: CogVideoXTransformer3DModel"):
        weights.config_from_json(write({"_class_name": "UNet2DModel"}))
    wan = weights.config_to_json(weights.PRESETS["wan2.1-i2v-14b"])
    with raises("added_kv_proj_dim None with image_dim 1280"):
        weights.config_from_json(write({**wan, "added_kv_proj_dim": None}))
    folder = write({})
    (folder / "config.json").write_text("{")
    with raises("config.json: cannot be read as JSON"):
        weights.config_from_json(folder)


def test_disagreement_lists_field_theirs_and_ours(tmp_path, tiny, tiny_model):
    _, config, _ = tiny("5b-i2v")
    tiny_model("5b-i2v").save_pretrained(tmp_path)
    assert weights.identify(tmp_path, config=config).config == config
    other = dataclasses.replace(config, num_layers=7, sample_hw=(8, 6))
    with pytest.raises(weights.WeightsError) as caught:
        weights.identify(tmp_path, config=other)
    assert "num_layers: 2 in config.json, 7 here" in str(caught.value)
    assert "sample_hw: (4, 6) in config.json, (8, 6) here" in str(caught.value)
    with raises("num_layers: 2 in config.json, 7 here"):
        weights.load("cogvideox", tmp_path, other)
    with raises("no preset 'cogvideox-9b'; known: cogvideox-2b"):
        weights.identify(tmp_path, config="cogvideox-9b")
    with raises("is a checkpoint of kind cogvideox, not wan"):
        weights.identify(tmp_path, name="wan")
    with raises("needs a CogVideoXConfig, not a WanConfig"):
        weights.identify(tmp_path, config="wan2.1-t2v-14b")


def test_shapes_tell_the_preset_where_there_is_no_config(tmp_path, monkeypatch, tiny):
    _, config, state = tiny("flf2v")
    _, base, _ = tiny("i2v")
    from tavid_jax.weights import identified

    # The larger of two that fit: the first-and-last-frame model has all tensors of the other.
    monkeypatch.setattr(identified, "PRESETS", {"small": base, "large": config})
    from safetensors.numpy import save_file

    save_file(state, tmp_path / "model.safetensors")
    assert weights.identify(tmp_path / "model.safetensors").config == config
    state["proj_out.bias"] = np.zeros(1, np.float32)
    save_file(state, tmp_path / "model.safetensors")
    with raises("shapes are those of no published model; give a config"):
        weights.identify(tmp_path / "model.safetensors")
