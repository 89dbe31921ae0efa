"""An autoencoder without parameters: its config.json is all of it."""

import json

import pytest

from tavid_jax import weights
from tavid_jax.models.layers.space_to_depth import SpaceToDepthConfig
from tavid_jax.models.wan.config import WanConfig
from tavid_jax.weights.opened import open_parameters


def test_it_is_opened_without_tensors(tmp_path):
    config = SpaceToDepthConfig(stride_t=2, stride_hw=4)
    content = weights.config_to_json(config)
    assert content == {"_class_name": "SpaceToDepth", "stride_hw": 4, "stride_t": 2}
    (tmp_path / "config.json").write_text(json.dumps(content))
    opened = open_parameters(tmp_path)
    assert opened.config == config and not opened.leaves and opened.nbytes == 0
    assert opened.preset is None
    before = opened.fingerprint()
    (tmp_path / "config.json").write_text(json.dumps(content | {"stride_t": 4}))
    assert open_parameters(tmp_path).fingerprint() != before


def test_all_others_need_their_tensors(tmp_path):
    content = weights.config_to_json(weights.PRESETS["wan2.1-t2v-1.3b"])
    (tmp_path / "config.json").write_text(json.dumps(content))
    with pytest.raises(weights.WeightsError, match="no checkpoint in"):
        open_parameters(tmp_path)


def test_a_prompt_length_that_is_not_the_published_one_is_told(tmp_path):
    """diffusers' config of Wan has no field for it; its models are always given 512 tokens."""
    config = WanConfig(num_heads=2, num_layers=1, text_length=12)
    content = weights.config_to_json(config)
    assert content["text_length"] == 12
    (tmp_path / "config.json").write_text(json.dumps(content))
    assert weights.config_from_json(tmp_path) == config
    assert "text_length" not in weights.config_to_json(WanConfig())
