"""Checkpoint files: both formats, containers, wrappers, and files that are not usable."""

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from tavid_jax import weights
from tavid_jax.models.latte.visibility import VisibilityConfig
from tavid_jax.weights.files import unwrap
from tavid_jax.weights.source import CONTAINERS

NAME, CONFIG = "trajloom_visibility", VisibilityConfig(latent_channels=5, hidden=14, depth=4)


@pytest.fixture
def state(goldens):
    stored = goldens("trajloom_visibility_tiny")
    return {k[3:]: v for k, v in stored.items() if k.startswith("sd/")}


def assert_loaded(path, state):
    back = weights.export(NAME, weights.load(NAME, path, CONFIG), CONFIG)
    for key, value in state.items():
        np.testing.assert_array_equal(back[key], value)


def test_safetensors(tmp_path, state):
    save_file(state, tmp_path / "head.safetensors")
    assert_loaded(tmp_path / "head.safetensors", state)


@pytest.mark.parametrize("container", [None, "model", "predictor", "state_dict"])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.module."])
def test_torch_containers_and_wrappers(tmp_path, state, container, prefix):
    tensors = {prefix + key: torch.tensor(value) for key, value in state.items()}
    saved = {container: tensors, "step": 7, "cfg": {"depth": 4}} if container else tensors
    torch.save(saved, tmp_path / "head.pt")
    assert_loaded(tmp_path / "head.pt", state)


def test_the_kind_is_told_by_the_keys(tmp_path, state):
    torch.save({"predictor": {k: torch.tensor(v) for k, v in state.items()}}, tmp_path / "head.pt")
    found = weights.identify(tmp_path / "head.pt", config=CONFIG)
    assert (found.name, found.config, found.preset) == (NAME, CONFIG, None)
    with pytest.raises(weights.WeightsError, match="shapes are those of no published model"):
        weights.identify(tmp_path / "head.pt")


def test_where_the_kind_is_not_known_all_containers_are_looked_into():
    named = {name for kind in weights.CHECKPOINTS.values() for name in kind.containers}
    assert named == set(CONTAINERS)


def test_containers_are_tried_in_order(state):
    saved = {"model": {"b": np.zeros(1)}, "generator": {"a": np.zeros(1)}}
    assert list(unwrap(saved, ("generator", "model"))) == ["a"]


def test_bfloat16_is_widened_exactly(tmp_path, state):
    rounded = {key: torch.tensor(value).bfloat16() for key, value in state.items()}
    torch.save(rounded, tmp_path / "head.pt")
    assert_loaded(tmp_path / "head.pt", {k: v.float().numpy() for k, v in rounded.items()})
    from safetensors.torch import save_file as save_torch

    save_torch(rounded, tmp_path / "head.safetensors")
    assert_loaded(tmp_path / "head.safetensors", {k: v.float().numpy() for k, v in rounded.items()})


def test_unusable_files_are_named(tmp_path):
    with pytest.raises(weights.WeightsError, match="no checkpoint at .*gone.pt"):
        weights.load(NAME, tmp_path / "gone.pt", CONFIG)
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(weights.WeightsError, match="notes.txt: unknown kind of checkpoint"):
        weights.load(NAME, tmp_path / "notes.txt", CONFIG)
    for suffix in ("pt", "safetensors"):
        broken = tmp_path / f"broken.{suffix}"
        for content in (b"not a checkpoint", b"hello", b""):  # "h" asks the unpickler's memory
            broken.write_bytes(content)
            with pytest.raises(weights.WeightsError, match=f"broken.{suffix}"):
                weights.load(NAME, broken, CONFIG)
    torch.save({"step": 3}, tmp_path / "empty.pt")
    with pytest.raises(weights.WeightsError, match="empty.pt: no flat dict of tensors"):
        weights.load(NAME, tmp_path / "empty.pt", CONFIG)


def test_code_in_a_file_is_not_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    torch.save({"model": Trap()}, tmp_path / "trap.pt")
    with pytest.raises(weights.WeightsError, match="trap.pt: refused.*io.open.*run code"):
        weights.load(NAME, tmp_path / "trap.pt", CONFIG)
    assert not (tmp_path / "sprung").exists()
