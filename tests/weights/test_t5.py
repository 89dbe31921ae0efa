"""Files of T5 and umT5: transformers' and the original, config.json, what else they may hold."""

import dataclasses
import json

import numpy as np
import pytest

from tavid_jax import weights
from tavid_jax.models.text.config import T5Config
from tavid_jax.weights.table import walk

T5 = T5Config(vocab_size=23, dim=12, num_heads=2, head_dim=5, ffn_dim=16, num_layers=2)
UMT5 = dataclasses.replace(T5, shared_bias=False)
CONFIGS = {"t5": T5, "umt5_transformers": UMT5, "umt5": UMT5}


def random_state(kind: str) -> dict[str, np.ndarray]:
    """A file's tensors."""
    rng = np.random.default_rng(0)
    entry, config = weights.CHECKPOINTS[kind], CONFIGS[kind]
    shapes = {path: leaf.shape for path, leaf in walk(entry.shapes(config))}
    return {
        key: rng.standard_normal(row.source_shape(shapes[row.path])).astype(np.float32)
        for row in entry.table(config).rows
        for key in row.keys()
    }


def raises(words: str):
    return pytest.raises(weights.WeightsError, match=words)


@pytest.fixture(params=["t5", "umt5_transformers"])
def published(request, tmp_path):
    """(kind, transformers' model, folder where it was saved)."""
    transformers = pytest.importorskip("transformers")
    kind, config = request.param, CONFIGS[request.param]
    described, family = {
        "t5": (transformers.T5Config, transformers.T5EncoderModel),
        "umt5_transformers": (transformers.UMT5Config, transformers.UMT5EncoderModel),
    }[kind]
    content = weights.config_to_json(config)
    model = family(described(**{k: v for k, v in content.items() if k != "architectures"}))
    model.save_pretrained(tmp_path)
    return kind, model, tmp_path


@pytest.mark.parametrize("kind", CONFIGS)
def test_round_trip_is_exact(kind: str):
    state = random_state(kind)
    params = weights.port(kind, state, CONFIGS[kind])
    back = weights.export(kind, params, CONFIGS[kind])
    assert set(back) == set(state)
    for key, value in state.items():
        np.testing.assert_array_equal(back[key], value, err_msg=key, strict=True)


@pytest.mark.parametrize("kind", CONFIGS)
def test_keys_tell_the_kind(tmp_path, kind: str):
    from safetensors.numpy import save_file

    save_file(random_state(kind), tmp_path / "model.safetensors")
    found = weights.identify(tmp_path / "model.safetensors", config=CONFIGS[kind])
    assert found.name == kind and found.preset is None
    with raises("shapes are those of no published model; give a config"):
        weights.identify(tmp_path / "model.safetensors")


def test_the_two_namings_of_umt5_are_one_model():
    state = random_state("umt5_transformers")
    params = weights.port("umt5_transformers", state, UMT5)
    original = weights.export("umt5", params, UMT5)
    assert original["blocks.1.ffn.gate.0.weight"].shape == (16, 12)
    np.testing.assert_array_equal(
        original["blocks.1.pos_embedding.embedding.weight"],
        state["encoder.block.1.layer.0.SelfAttention.relative_attention_bias.weight"],
    )
    again = dict(walk(weights.port("umt5", original, UMT5)))
    for path, leaf in walk(params):
        np.testing.assert_array_equal(again[path], leaf)


def test_a_saved_model_is_read_and_written(published, tmp_path):
    kind, model, folder = published
    found = weights.identify(folder)
    assert (found.name, found.config) == (kind, CONFIGS[kind])
    params = weights.load(None, folder)
    weights.save(kind, params, found.config, tmp_path / "ours")
    again = weights.identify(tmp_path / "ours")
    assert (again.name, again.config) == (kind, CONFIGS[kind])
    state = {key: tensor.numpy() for key, tensor in model.state_dict().items()}
    back = weights.export(kind, params, found.config)
    assert set(state) - set(back) == {"encoder.embed_tokens.weight"}
    assert all(np.array_equal(back[key], state[key]) for key in back)


def test_transformers_reads_what_we_wrote(published, tmp_path):
    kind, model, folder = published
    content = weights.config_to_json(CONFIGS[kind])
    (folder / "config.json").write_text(json.dumps(content))
    again = type(model).from_pretrained(folder)
    assert again.config.model_type == content["model_type"] == kind.split("_")[0]
    assert again.encoder.block[1].layer[1].DenseReluDense.wi_0.weight.shape == (16, 12)


def test_of_a_whole_model_the_encoder_is_read(tmp_path):
    """google's own files hold a decoder too."""
    state = random_state("t5")
    params = weights.port("t5", state, T5)
    state["encoder.embed_tokens.weight"] = state["shared.weight"]
    state["decoder.embed_tokens.weight"] = state["shared.weight"]
    state["decoder.block.0.layer.1.EncDecAttention.q.weight"] = np.ones((10, 12), np.float32)
    state["lm_head.weight"] = state["shared.weight"]
    for path, leaf in walk(weights.port("t5", state, T5)):
        np.testing.assert_array_equal(dict(walk(params))[path], leaf)
    state["encoder.extra"] = np.ones(1, np.float32)
    with raises("encoder.extra"):
        weights.port("t5", state, T5)
    content = weights.config_to_json(T5) | {"architectures": ["T5ForConditionalGeneration"]}
    (tmp_path / "config.json").write_text(json.dumps(content))
    assert weights.config_from_json(tmp_path) == T5


@pytest.mark.parametrize("config", [T5, UMT5], ids=["t5", "umt5"])
def test_config_there_and_back(tmp_path, config):
    (tmp_path / "config.json").write_text(json.dumps(weights.config_to_json(config)))
    assert weights.config_from_json(tmp_path) == config


def test_what_is_not_supported(tmp_path):
    content = weights.config_to_json(T5)
    (tmp_path / "config.json").write_text(json.dumps(content | {"feed_forward_proj": "relu"}))
    with raises("feed_forward_proj: 'relu', supported is 'gated-gelu'"):
        weights.config_from_json(tmp_path)
    del content["feed_forward_proj"]
    (tmp_path / "config.json").write_text(json.dumps(content))
    with raises("describes the first T5, whose MLP has no gate; supported is T5 v1.1"):
        weights.config_from_json(tmp_path)


def test_the_original_file_lies_beside_the_config_of_another_model(tmp_path):
    """Wan's folders: config.json is that of the video model."""
    from safetensors.numpy import save_file

    (tmp_path / "config.json").write_text(
        json.dumps(weights.config_to_json(weights.PRESETS["wan2.1-t2v-1.3b"], "original"))
    )
    file = tmp_path / "models_t5_umt5-xxl-enc-bf16.safetensors"
    save_file(random_state("umt5"), file)
    assert weights.identify(file, config=UMT5).name == "umt5"
    with raises("shapes are those of no published model; give a config"):
        weights.identify(file)
