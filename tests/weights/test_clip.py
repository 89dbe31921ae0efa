"""CLIP's checkpoints: transformers' own keys and files, Wan's original one, exact both ways."""

import dataclasses
import json

import numpy as np
import pytest

from tavid_jax import weights
from tavid_jax.models.vision.config import CLIPConfig, CLIPTextConfig, CLIPVisionConfig
from tavid_jax.weights import identified, imported
from tavid_jax.weights.table import walk

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

VISION = CLIPVisionConfig(
    width=24, num_heads=3, num_layers=2, mlp_dim=40, image_size=28, patch_size=7, feature_dim=20
)
TEXT = CLIPTextConfig(
    width=32, num_heads=4, num_layers=3, mlp_dim=36, vocab_size=53, text_length=11, feature_dim=20
)
BOTH = CLIPConfig(VISION, TEXT)
PLAIN = dataclasses.replace(VISION, feature_dim=None)

# kind -> (transformers' class, our config).
CLASSES = {
    "clip": ("CLIPModel", BOTH),
    "clip_vision": ("CLIPVisionModelWithProjection", VISION),
    "clip_vision_bare": ("CLIPVisionModel", PLAIN),
}


def torch_model(kind: str, seed: int = 0):
    """transformers' model of our config.json, every tensor random."""
    name, config = CLASSES[kind]
    content = weights.config_to_json(config)
    assert content["architectures"] == [name]
    kinds = {"clip": transformers.CLIPConfig}
    described = kinds.get(kind, transformers.CLIPVisionConfig).from_dict(content)
    model = getattr(transformers, name)(described)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.copy_(torch.randn(tensor.shape, generator=generator))
    return model


def arrays(model) -> dict[str, np.ndarray]:
    return {key: np.asarray(value.numpy()) for key, value in model.state_dict().items()}


def original(state: dict[str, np.ndarray], config: CLIPVisionConfig) -> dict[str, np.ndarray]:
    """Wan's file of the same tower, and some of what else lies in it."""
    names = {
        "pre_layrnorm": "pre_norm",
        "post_layernorm": "post_norm",
        "layer_norm1": "norm1",
        "layer_norm2": "norm2",
        "self_attn.out_proj": "attn.proj",
        "mlp.fc1": "mlp.0",
        "mlp.fc2": "mlp.2",
        "encoder.layers": "transformer",
        "embeddings.patch_embedding": "patch_embedding",
    }
    state = {key.removeprefix("vision_model."): value for key, value in state.items()}
    file = {
        "visual.cls_embedding": state.pop("embeddings.class_embedding")[None, None],
        "visual.pos_embedding": state.pop("embeddings.position_embedding.weight")[None],
        "visual.head": state.pop("visual_projection.weight").T.copy(),
        "textual.token_embedding.weight": np.zeros((3, 2), np.float32),
        "log_scale": np.zeros((), np.float32),
    }
    for layer in range(config.num_layers):
        for leaf in ("weight", "bias"):
            at = f"encoder.layers.{layer}.self_attn"
            joined = np.concatenate([state.pop(f"{at}.{x}_proj.{leaf}") for x in "qkv"])
            file[f"visual.transformer.{layer}.attn.to_qkv.{leaf}"] = joined
    for key, value in state.items():
        for theirs, name in names.items():
            key = key.replace(theirs, name)
        file[f"visual.{key}"] = value
    return file


def assert_same(got, want):
    flat = dict(walk(got))
    assert flat.keys() == dict(walk(want)).keys()
    for path, leaf in walk(want):
        np.testing.assert_array_equal(np.asarray(flat[path]), np.asarray(leaf), err_msg=path)


@pytest.mark.parametrize("kind", CLASSES)
def test_round_trip_is_exact(kind):
    state, config = arrays(torch_model(kind)), CLASSES[kind][1]
    params = weights.port(kind, state, config)
    back = weights.export(kind, params, config)
    assert back.keys() == state.keys()
    for key, value in state.items():
        np.testing.assert_array_equal(back[key], value, err_msg=key, strict=True)


def test_original_file_is_the_same_tower():
    state = arrays(torch_model("clip_vision"))
    want = weights.port("clip_vision", state, VISION)
    file = original(state, VISION)
    params = weights.port("clip_vision_original", file, VISION)
    assert_same(params, want)
    back = weights.export("clip_vision_original", params, VISION)
    assert back.keys() == {key for key in file if key.startswith("visual.")}
    for key, value in back.items():
        np.testing.assert_array_equal(value, file[key], err_msg=key, strict=True)


def test_a_piece_of_another_size_is_refused():
    file = original(arrays(torch_model("clip_vision")), VISION)
    key = "visual.transformer.1.attn.to_qkv.weight"
    file[key] = file[key][:-1]
    with pytest.raises(weights.WeightsError, match=r"\(71, 24\), expected \(72, 24\)"):
        weights.port("clip_vision_original", file, VISION)
    del file[key]
    with pytest.raises(weights.WeightsError, match="missing keys") as caught:
        weights.port("clip_vision_original", file, VISION)
    assert str(caught.value).count(key) == 1


@pytest.mark.parametrize("kind", CLASSES)
def test_published_folder_is_identified(kind, tmp_path):
    model, config = torch_model(kind), CLASSES[kind][1]
    model.save_pretrained(tmp_path)
    found = weights.identify(tmp_path)
    assert (found.name, found.config) == (kind, config)
    assert_same(weights.load(None, tmp_path), weights.port(kind, arrays(model), config))


@pytest.mark.parametrize("kind", CLASSES)
def test_older_files_hold_positions_too(kind):
    state, config = arrays(torch_model(kind)), CLASSES[kind][1]
    at = "" if kind == "clip_vision_bare" else "vision_model."
    older = {**state, f"{at}embeddings.position_ids": np.arange(17)[None]}
    assert_same(weights.port(kind, older, config), weights.port(kind, state, config))


def test_original_file_is_identified_by_its_shapes(tmp_path, monkeypatch):
    file = original(arrays(torch_model("clip_vision")), VISION)
    monkeypatch.setattr(identified, "PRESETS", {"plain": PLAIN, "tiny": VISION})
    path = tmp_path / "models_clip_open-clip.pth"
    torch.save({key: torch.from_numpy(value.copy()) for key, value in file.items()}, path)
    found = weights.identify(path)
    assert (found.name, found.config) == ("clip_vision_original", VISION)


def test_keys_tell_whether_there_is_a_projection(tmp_path):
    """A config.json of the whole class beside the tower of a smaller one, and the reverse."""
    content = weights.config_to_json(VISION)
    (tmp_path / "config.json").write_text(json.dumps(content))
    assert weights.config_from_json(tmp_path) == VISION
    assert weights.config_from_json(tmp_path, ["embeddings.class_embedding"]) == PLAIN
    content["architectures"] = ["CLIPVisionModel"]
    (tmp_path / "config.json").write_text(json.dumps(content))
    assert weights.config_from_json(tmp_path) == PLAIN
    assert weights.config_from_json(tmp_path, ["visual_projection.weight"]) == VISION


@pytest.mark.parametrize("end_id", [None, 7])
def test_end_token_and_second_copies_in_config(tmp_path, end_id):
    config = dataclasses.replace(BOTH, text=dataclasses.replace(TEXT, end_id=end_id))
    content = weights.config_to_json(config)
    (tmp_path / "config.json").write_text(json.dumps(content))
    assert weights.config_from_json(tmp_path) == config
    content["text_config_dict"] = {"num_hidden_layers": 5}
    content["vision_config_dict"] = None
    (tmp_path / "config.json").write_text(json.dumps(content))
    assert weights.config_from_json(tmp_path).text.num_layers == 5


@pytest.mark.parametrize("kind", CLASSES)
def test_other_activations_are_refused(tmp_path, kind):
    content = weights.config_to_json(CLASSES[kind][1])
    (content["text_config"] if kind == "clip" else content)["hidden_act"] = "relu"
    (tmp_path / "config.json").write_text(json.dumps(content))
    with pytest.raises(weights.WeightsError, match="hidden_act 'relu' is not supported"):
        weights.config_from_json(tmp_path)


def test_an_imported_model_knows_both_towers(tmp_path):
    model = torch_model("clip")
    model.save_pretrained(tmp_path / "published")
    record = weights.import_checkpoint(tmp_path / "published", tmp_path / "imported")
    assert imported.recorded_config(json.loads(json.dumps(record))) == BOTH
    assert_same(weights.restore(tmp_path / "imported"), weights.port("clip", arrays(model), BOTH))


@pytest.mark.parametrize("preset", ["clip-vit-h-14", "clip-vit-b-32", "clip-vit-l-14"])
def test_full_size_keys_and_shapes(preset):
    """Nothing is allocated."""
    config = weights.PRESETS[preset]
    with torch.device("meta"):
        content = weights.config_to_json(config)
        model = transformers.CLIPModel(transformers.CLIPConfig.from_dict(content))
    want = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
    entry = weights.CHECKPOINTS["clip"]
    shapes = {path: leaf.shape for path, leaf in walk(entry.shapes(config))}
    got = {
        key: row.source_shape(shapes[row.path])
        for row in entry.table(config).rows
        for key in row.keys()
    }
    assert got == want


def test_wan_reads_the_tower_of_h14():
    """The sizes of its file: fused projections, 257 positions, a head as a plain matrix."""
    entry, config = weights.CHECKPOINTS["clip_vision_original"], CLIPVisionConfig()
    shapes = {path: leaf.shape for path, leaf in walk(entry.shapes(config))}
    rows = {key: row for row in entry.table(config).rows for key in row.keys()}
    sizes = {key: row.source_shape(shapes[row.path]) for key, row in rows.items()}
    assert sizes["visual.transformer.31.attn.to_qkv.weight"] == (3840, 1280)
    assert sizes["visual.transformer.0.mlp.0.weight"] == (5120, 1280)
    assert sizes["visual.pos_embedding"] == (1, 257, 1280)
    assert sizes["visual.cls_embedding"] == (1, 1, 1280)
    assert sizes["visual.patch_embedding.weight"] == (1280, 3, 14, 14)
    assert sizes["visual.head"] == (1280, 1024)
    assert len(sizes) == 8 + 32 * 12
