"""Checkpoints of DINO's ViT and of OWL-ViT: published files and folders, exact both ways."""

import dataclasses
import json

import numpy as np
import pytest

from tavid_jax import weights
from tavid_jax.models.vision.config import (
    CLIPTextConfig,
    CLIPVisionConfig,
    OwlViTConfig,
    ViTConfig,
)
from tavid_jax.weights import identified
from tavid_jax.weights.table import walk

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

VIT = ViTConfig(width=24, num_heads=3, num_layers=2, mlp_dim=40, image_size=28, patch_size=7)
OWLVIT = OwlViTConfig(
    CLIPVisionConfig(
        width=32, num_heads=4, num_layers=2, mlp_dim=44, image_size=28, patch_size=7, feature_dim=24
    ),
    CLIPTextConfig(
        width=24, num_heads=3, num_layers=1, mlp_dim=36, vocab_size=53, text_length=9,
        feature_dim=24,
    ),
)  # fmt: skip
DINOV2 = dataclasses.replace(VIT, mlp_dim=96, layer_scale=True)
CONFIGS = {"vit": VIT, "dinov2": DINOV2, "owlvit": OWLVIT}


def torch_model(kind: str, seed: int = 0):
    """transformers' model of our config.json, every tensor random."""
    content = weights.config_to_json(CONFIGS[kind])
    if kind == "vit":
        config = transformers.ViTConfig.from_dict(content)
        model = transformers.ViTModel(config, add_pooling_layer=False)
    elif kind == "dinov2":
        model = transformers.Dinov2Model(transformers.Dinov2Config.from_dict(content))
    else:
        content["text_config"] |= {"bos_token_id": 1, "eos_token_id": 2}
        model = transformers.OwlViTForObjectDetection(transformers.OwlViTConfig.from_dict(content))
    assert content["architectures"] == [type(model).__name__]
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.copy_(torch.randn(tensor.shape, generator=generator))
    return model


@pytest.fixture(scope="module", params=CONFIGS)
def published(request, tmp_path_factory):
    """(kind, folder as transformers writes it)."""
    folder = tmp_path_factory.mktemp(request.param)
    torch_model(request.param).save_pretrained(folder)
    return request.param, folder


def test_published_folder_is_identified_and_round_trips(published):
    kind, folder = published
    found = weights.identify(folder)
    assert (found.name, found.config) == (kind, CONFIGS[kind])
    params = weights.load(None, folder)
    back = weights.export(kind, params, CONFIGS[kind])
    tensors = weights.open_source(folder).tensors
    assert back.keys() == tensors.keys() - {"embeddings.mask_token"}  # of DINOv2's training
    for key, value in back.items():
        np.testing.assert_array_equal(value, tensors[key].read(), err_msg=key, strict=True)


def test_an_imported_folder_knows_its_config(published, tmp_path):
    kind, folder = published
    weights.import_checkpoint(folder, tmp_path / "imported")
    opened = weights.open_parameters(tmp_path / "imported")
    assert (opened.name, opened.config) == (kind, CONFIGS[kind])


def test_a_pooler_is_ignored():
    state = _vit_state()
    want = dict(walk(weights.port("vit", state, VIT)))
    state["pooler.dense.weight"] = np.ones((24, 24), np.float32)
    assert dict(walk(weights.port("vit", state, VIT))).keys() == want.keys()


def _vit_state() -> dict[str, np.ndarray]:
    """Tensors as they lie in a published file."""
    rng = np.random.default_rng(0)
    shapes = {path: leaf.shape for path, leaf in walk(weights.CHECKPOINTS["vit"].shapes(VIT))}
    rows = weights.CHECKPOINTS["vit"].table(VIT).rows
    return {
        key: rng.standard_normal(row.source_shape(shapes[row.path])).astype(np.float32)
        for row in rows
        for key in row.keys()
    }


def original(state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same model as DINO's authors store it."""
    state = dict(state)
    names = {
        "embeddings.cls_token": "cls_token",
        "embeddings.position_embeddings": "pos_embed",
        "embeddings.patch_embeddings.projection": "patch_embed.proj",
        "encoder.layer": "blocks",
        "attention.output.dense": "attn.proj",
        "intermediate.dense": "mlp.fc1",
        "output.dense": "mlp.fc2",
        "layernorm_before": "norm1",
        "layernorm_after": "norm2",
        "layernorm": "norm",
    }
    file = {}
    for layer in range(VIT.num_layers):
        for leaf in ("weight", "bias"):
            at = f"encoder.layer.{layer}.attention.attention"
            parts = [state.pop(f"{at}.{name}.{leaf}") for name in ("query", "key", "value")]
            file[f"blocks.{layer}.attn.qkv.{leaf}"] = np.concatenate(parts)
    for key, value in state.items():
        for theirs, name in names.items():
            key = key.replace(theirs, name)
        file[key] = value
    return file


def test_original_file_is_the_same_model(tmp_path, monkeypatch):
    state = _vit_state()
    want = dict(walk(weights.port("vit", state, VIT)))
    file = original(state)
    monkeypatch.setattr(identified, "PRESETS", {"tiny": VIT})
    path = tmp_path / "dino_vitbase16_pretrain.pth"
    torch.save({key: torch.from_numpy(value.copy()) for key, value in file.items()}, path)
    found = weights.identify(path)
    assert (found.name, found.config) == ("vit_original", VIT)
    got = dict(walk(weights.load(None, path)))
    assert got.keys() == want.keys()
    for key, value in want.items():
        np.testing.assert_array_equal(got[key], value, err_msg=key)
    back = weights.export("vit_original", weights.port("vit_original", file, VIT), VIT)
    assert back.keys() == file.keys()
    for key, value in file.items():
        np.testing.assert_array_equal(back[key], value, err_msg=key, strict=True)


def test_full_size_keys_and_shapes():
    """Nothing is allocated."""
    for preset, kind in (("owlvit-base-patch32", "owlvit"), ("owlvit-base-patch16", "owlvit")):
        config = weights.PRESETS[preset]
        with torch.device("meta"):
            content = weights.config_to_json(config)
            described = transformers.OwlViTConfig.from_dict(content)
            model = transformers.OwlViTForObjectDetection(described)
        want = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
        entry = weights.CHECKPOINTS[kind]
        shapes = {path: leaf.shape for path, leaf in walk(entry.shapes(config))}
        got = {
            key: row.source_shape(shapes[row.path])
            for row in entry.table(config).rows
            for key in row.keys()
        }
        assert got == want


def test_options_of_other_models_are_refused(tmp_path):
    content = weights.config_to_json(VIT) | {"qkv_bias": False}
    (tmp_path / "config.json").write_text(json.dumps(content))
    with pytest.raises(weights.WeightsError, match="qkv_bias: False, supported is True"):
        weights.config_from_json(tmp_path)
    content = weights.config_to_json(OWLVIT)
    content["text_config"]["hidden_act"] = "relu"
    (tmp_path / "config.json").write_text(json.dumps(content))
    with pytest.raises(weights.WeightsError, match="hidden_act 'relu' is not supported"):
        weights.config_from_json(tmp_path)
