"""The three TrajLoom checkpoints: exact round trips, and errors that list everything."""

import json

import numpy as np
import pytest

from tavid_jax import weights
from tavid_jax.models.latte.flow import TrackFlowConfig
from tavid_jax.models.latte.vae import TrackVAEConfig
from tavid_jax.models.latte.visibility import VisibilityConfig
from tavid_jax.weights.table import walk

CONFIGS = {
    "trajloom_vae": TrackVAEConfig(
        size_hw=(24, 40),
        patch=8,
        num_frames=13,
        latent_channels=3,
        hidden=24,
        heads=3,
        mlp_ratio=3.0,
        encoder_depth=6,
        decoder_depth=2,
        pos_embed_dim=10,
    ),
    "trajloom_flow": TrackFlowConfig(
        size_hw=(48, 80),
        patch=16,
        num_frames=13,
        latent_channels=5,
        hidden=24,
        heads=4,
        depth=6,
        video_channels=6,
        text_dim=14,
    ),
    "trajloom_visibility": VisibilityConfig(latent_channels=5, hidden=14, depth=4),
}
FILES = {
    "trajloom_vae": "trajloom_vae_tiny",
    "trajloom_flow": "trajloom_generator_tiny",
    "trajloom_visibility": "trajloom_visibility_tiny",
}


@pytest.fixture
def checkpoint(goldens):
    def load(name):
        stored = goldens(FILES[name])
        assert json.loads(str(stored["config"]))
        return {k[3:]: v for k, v in stored.items() if k.startswith("sd/")}

    return load


@pytest.mark.parametrize("name", CONFIGS)
def test_round_trip_is_exact(name, checkpoint):
    state = checkpoint(name)
    params = weights.port(name, state, CONFIGS[name])
    back = weights.export(name, params, CONFIGS[name])
    assert set(back) == set(state)
    for key, value in state.items():
        assert back[key].shape == value.shape, key
        np.testing.assert_array_equal(back[key], value, err_msg=key)
    again = dict(walk(weights.port(name, back, CONFIGS[name])))
    for path, leaf in walk(params):
        np.testing.assert_array_equal(again[path], leaf)


def test_released_sizes_of_the_tables():
    """Tensors and parameters; the anchors are a buffer beside them, 107,794,848 elements in all."""
    counts = {"trajloom_vae": (438, 106_996_128), "trajloom_flow": (284, 244_461_354)}
    counts["trajloom_visibility"] = (10, 38_209)
    defaults = (TrackVAEConfig(), TrackFlowConfig(), VisibilityConfig())
    for (name, (tensors, parameters)), config in zip(counts.items(), defaults, strict=True):
        kind = weights.CHECKPOINTS[name]
        table = kind.table(config)
        keys = [key for row in table.rows for key in row.keys()]
        buffers = [derived.value().size for derived in table.derived]
        assert len(keys) == len(set(keys)) and len(keys) + len(buffers) == tensors
        sizes = {path: int(np.prod(leaf.shape)) for path, leaf in walk(kind.shapes(config))}
        assert set(sizes) == {row.path for row in table.rows}
        assert sum(sizes.values()) == parameters
        assert sum(buffers) == (798_720 if name == "trajloom_vae" else 0)


def test_transposed_convolution_reverses_the_taps(checkpoint):
    state = checkpoint("trajloom_vae")
    params = weights.port("trajloom_vae", state, CONFIGS["trajloom_vae"])
    torch_weight = state["temp_expander.deconv.weight"]  # (in, out, k)
    np.testing.assert_array_equal(params["temp_expander"]["kernel"][1, 2, 3], torch_weight[2, 3, 5])


def test_all_mismatches_are_listed_in_one_error(checkpoint):
    state = checkpoint("trajloom_vae")
    del state["to_latents.bias"]
    state["surprise.weight"] = np.zeros(3, np.float32)
    state["final_layer.weight"] = np.zeros((4, 24), np.float32)
    state["encoder_blocks.5.attn.qkv.bias"] = np.zeros((1,), np.float32)
    with pytest.raises(weights.WeightsError) as caught:
        weights.port("trajloom_vae", state, CONFIGS["trajloom_vae"])
    for words in (
        "missing keys (1):\n  to_latents.bias",
        "unknown keys (1):\n  surprise.weight",
        "final_layer.weight: (4, 24), expected (128, 24)",
        "encoder_blocks.5.attn.qkv.bias: (1,), expected (72,)",
    ):
        assert words in str(caught.value)


def test_config_of_another_depth_is_refused(checkpoint):
    config = TrackVAEConfig(**{**vars(CONFIGS["trajloom_vae"]), "encoder_depth": 4})
    with pytest.raises(weights.WeightsError, match="encoder_depth: 6 in the file, 4 in the config"):
        weights.port("trajloom_vae", checkpoint("trajloom_vae"), config)


def test_anchor_buffer_is_checked_or_may_be_absent(checkpoint):
    config, state = CONFIGS["trajloom_vae"], checkpoint("trajloom_vae")
    wrong = {**state, "offset_anchor_grid": state["offset_anchor_grid"] + 0.01}
    with pytest.raises(weights.WeightsError, match="offset_anchor_grid: differs by up to 0.01"):
        weights.port("trajloom_vae", wrong, config)
    del state["offset_anchor_grid"]
    weights.port("trajloom_vae", state, config)
    absolute = TrackVAEConfig(**{**vars(config), "use_offsets": False})
    assert "offset_anchor_grid" not in weights.export(
        "trajloom_vae", weights.port("trajloom_vae", state, absolute), absolute
    )


def test_inert_scalars_of_a_condition_that_is_off_are_ignored(checkpoint):
    state = checkpoint("trajloom_flow")
    config = TrackFlowConfig(**{**vars(CONFIGS["trajloom_flow"]), "track_fusion": "none"})
    params = weights.port("trajloom_flow", state, config)
    assert "track_fusion_scale" not in params
    config = TrackFlowConfig(**{**vars(CONFIGS["trajloom_flow"]), "use_text_cond": False})
    with pytest.raises(weights.WeightsError, match="use_text_cond: True in the file, False in"):
        weights.port("trajloom_flow", state, config)


def test_export_names_missing_and_unknown_parameters(checkpoint):
    name = "trajloom_visibility"
    params = weights.port(name, checkpoint(name), CONFIGS[name])
    params["extra"] = params.pop("out")
    with pytest.raises(weights.WeightsError) as caught:
        weights.export(name, params, CONFIGS[name])
    assert "missing parameters (2):\n  out/bias (nearest: extra/bias)\n  out/kernel" in str(
        caught.value
    )
    assert "unknown parameters (2)" in str(caught.value)


def test_place_decides_where_each_parameter_goes(checkpoint):
    seen = {}

    def place(path, array):
        seen[path] = array.dtype
        return array.astype(np.float16)

    name = "trajloom_visibility"
    params = weights.port(name, checkpoint(name), CONFIGS[name], place)
    assert params["temporal_net"]["kernel"].dtype == np.float16
    assert set(seen.values()) == {np.dtype(np.float32)} and "temporal_net/kernel" in seen


def test_unknown_name():
    with pytest.raises(weights.WeightsError, match="known: .*trajloom_vae"):
        weights.port("trajloom_gan", {}, None)
