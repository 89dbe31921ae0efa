"""A published model's weights under the paths of a method, checked before anything is read."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ml_collections import ConfigDict

from tavid_jax.methods.finetune.pretrained import pretrained_backbone, pretrained_parts
from tavid_jax.models.text.tokenizer import CAPTIONS
from tavid_jax.models.wan.config import PRESETS as WAN
from tavid_jax.pipelines.backbones import WanBackbone
from tavid_jax.pipelines.pretrained import locate
from tavid_jax.pipelines.saving import save_pipeline
from tavid_jax.weights import load, open_parameters
from tavid_jax.weights.table import walk

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

from tests.pipelines import tiny  # noqa: E402
from tests.pipelines import trained as small  # noqa: E402


@pytest.fixture(scope="module")
def wan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wan")
    tiny.wan_folder(folder)
    return folder


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pair")
    tiny.wan_folder(folder, experts=True)
    return folder


@dataclasses.dataclass(frozen=True)
class _Module:
    config: Any


def backbone_of(folder: Path, **changes: Any) -> WanBackbone:
    """Of the folder's sizes; the functions read nothing else of it."""
    config = dataclasses.replace(open_parameters(folder).config, **changes)
    made = object.__new__(WanBackbone)
    object.__setattr__(made, "model", _Module(config))
    return made


def model(backbone: str = "wan2.1-t2v-1.3b", expert: str = "") -> ConfigDict:
    return ConfigDict(dict(backbone=backbone, expert=expert))


def assert_holds(leaves: dict, node: str, params: dict[str, Any]) -> None:
    flat = {f"{node}/{path}": np.asarray(leaf) for path, leaf in walk(params)}
    assert leaves.keys() == flat.keys()
    for path, value in flat.items():
        assert leaves[path].shape == value.shape
        np.testing.assert_array_equal(leaves[path].read(), value, err_msg=path)


@pytest.mark.parametrize("inside", ["", "transformer"])
def test_the_transformer_of_a_folder(wan: Path, inside: str):
    found = pretrained_backbone(str(wan / inside), model(), backbone_of(wan))
    assert_holds(dict(found.leaves), "backbone", load("wan_diffusers", wan))
    assert found.sources == {"backbone": open_parameters(wan).fingerprint()}


def test_one_of_two_experts(pair: Path):
    both = load("wan_experts_diffusers", pair)
    marks = set()
    for expert in ("high_noise", "low_noise"):
        found = pretrained_backbone(str(pair), model(expert=expert), backbone_of(pair))
        assert_holds(dict(found.leaves), "backbone", both[expert])
        marks |= set(found.sources.values())
    assert len(marks) == 2
    with pytest.raises(ValueError, match="holds two experts: set model.expert to high_noise or"):
        pretrained_backbone(str(pair), model(), backbone_of(pair))


def test_encoders(wan: Path):
    parts = {
        "autoencoder": open_parameters(wan / "vae").config,
        "text_encoder": open_parameters(wan / "text_encoder").config,
    }
    found = pretrained_parts(str(wan), parts)
    for node, folder in (("autoencoder", "vae"), ("text_encoder", "text_encoder")):
        mine = {path: leaf for path, leaf in found.leaves.items() if path.startswith(f"{node}/")}
        assert_holds(mine, node, load(None, wan / folder))
        assert found.sources[node] == open_parameters(wan / folder).fingerprint()
    assert len(found.leaves) == sum(
        len(list(walk(load(None, wan / f)))) for f in ("vae", "text_encoder")
    )


def test_a_model_that_was_trained_here(tmp_path: Path):
    parts = small.parts_of("wan")
    save_pipeline(tmp_path / "base", small.CARDS["wan"], parts, tokenizer=CAPTIONS)
    base = str(tmp_path / "base")
    found = pretrained_backbone(base, model(), backbone_of(tmp_path / "base" / "transformer"))
    assert_holds(dict(found.leaves), "backbone", parts["transformer"].params)
    found = pretrained_parts(base, {"text_encoder": parts["text_encoder"].config})
    assert_holds(dict(found.leaves), "text_encoder", parts["text_encoder"].params)
    assert locate(base, ["tokenizer"]) == {"tokenizer": f"{base}/tokenizer"}


def test_nothing_comes_from_no_checkpoint(wan: Path):
    assert not pretrained_backbone("", model(), backbone_of(wan)).leaves
    assert not pretrained_parts("", {"autoencoder": None}).leaves


def test_channels_that_no_file_has_are_left_to_init(wan: Path):
    found = pretrained_backbone(str(wan), model(), backbone_of(wan, extra_channels=2))
    assert found.leaves


def test_what_does_not_fit_is_one_sentence(wan: Path, pair: Path, tmp_path: Path):
    cases = [
        (
            (wan, model(), backbone_of(wan, num_layers=3, ffn_dim=64)),
            r"has other sizes than the config \(ffn_dim: 48 in the checkpoint, 64 here; "
            r"num_layers: 2 in the checkpoint, 3 here\); set config.model.changes, or name another",
        ),
        (
            (wan, model(expert="low_noise"), backbone_of(wan)),
            "model.expert low_noise: .* holds one transformer; leave model.expert empty",
        ),
        (
            (pair, model(expert="first"), backbone_of(wan)),
            "model.expert 'first' is none of high_noise, low_noise",
        ),
        ((tmp_path / "no", model(), backbone_of(wan)), "is not there: give the folder of a model"),
        ((tmp_path, model(), backbone_of(wan)), "no checkpoint in .*: expected"),
    ]
    for (folder, options, backbone), message in cases:
        with pytest.raises(ValueError, match=message) as refused:
            pretrained_backbone(str(folder), options, backbone)
        assert "\n" not in str(refused.value)


def test_another_published_model_is_named(wan: Path, monkeypatch: pytest.MonkeyPatch):
    from tavid_jax.methods.finetune import pretrained

    opened = dataclasses.replace(
        open_parameters(wan), config=WAN["wan2.1-t2v-14b"], preset="wan2.1-t2v-14b"
    )
    monkeypatch.setattr(pretrained, "open_trained", lambda *_: {"transformer": opened})
    with pytest.raises(ValueError) as refused:
        pretrained_backbone("models/mine", model(), backbone_of(wan))
    assert str(refused.value) == (
        "config.checkpoint models/mine is wan2.1-t2v-14b, model.backbone is wan2.1-t2v-1.3b: set "
        "model.backbone to wan2.1-t2v-14b, or name another checkpoint"
    )


def test_another_family_is_named(wan: Path, tmp_path: Path):
    tiny.cogvideox_folder(tmp_path)
    with pytest.raises(ValueError, match="it holds a CogVideoX, not a Wan; set model.backbone"):
        pretrained_backbone(str(tmp_path), model(), backbone_of(wan))
    parts = {"autoencoder": open_parameters(tmp_path / "vae").config}
    with pytest.raises(ValueError, match="vae: it holds a WanVAE, not a CogVideoXVAE"):
        pretrained_parts(str(wan), parts)
    smaller = dataclasses.replace(open_parameters(wan / "vae").config, encoder_dim=16)
    with pytest.raises(ValueError, match="its vae has other sizes .*set config.autoencoder"):
        pretrained_parts(str(wan), {"autoencoder": smaller})
