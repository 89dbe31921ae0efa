"""What we write is what diffusers reads; differences between checkpoints."""

import json

import numpy as np
import pytest

from tavid_jax import weights
from tavid_jax.weights.compared import Difference, compare
from tavid_jax.weights.table import walk


@pytest.fixture
def published(tmp_path, tiny_model):
    def write(name, seed=0, where="published"):
        tiny_model(name, seed).save_pretrained(tmp_path / where)
        return tmp_path / where

    return write


def raises(words):
    return pytest.raises(weights.WeightsError, match=words)


@pytest.mark.parametrize("name", ["1.5-i2v", "flf2v"])
def test_diffusers_loads_what_we_export(tmp_path, published, tiny, name):
    """Through the imported folder, in shards: same values, and the same class and config."""
    import diffusers

    source = published(name)
    weights.import_checkpoint(source, tmp_path / "imported")
    files = weights.export_checkpoint(
        tmp_path / "imported", tmp_path / "exported", shard_bytes=60_000
    )
    shards = [file for file in files if file.suffix == ".safetensors"]
    assert len(shards) > 1 and all(file.stat().st_size < 70_000 for file in shards)
    family = getattr(diffusers, json.loads((source / "config.json").read_text())["_class_name"])
    model = family.from_pretrained(tmp_path / "exported")
    state = tiny(name)[2]
    theirs = {key: value.float().numpy() for key, value in model.state_dict().items()}
    assert theirs.keys() == state.keys()
    for key, value in state.items():
        np.testing.assert_array_equal(theirs[key], value, err_msg=key)


def test_parameters_in_memory_are_saved_and_loaded(tmp_path, tiny):
    kind, config, state = tiny("t2v")
    params = weights.port(kind, state, config)
    weights.save("wan", params, config, tmp_path / "model", dtype="bf16")
    found = weights.identify(tmp_path / "model")
    assert found.name == "wan"
    again = dict(walk(weights.load("wan", tmp_path / "model", config, dtype="keep")))
    for path, leaf in walk(params):
        assert str(again[path].dtype) == "bfloat16"
        np.testing.assert_array_equal(again[path], leaf.astype("bfloat16"))


def test_what_cannot_be_exported(tmp_path, published, tiny):
    kind, config, state = tiny("2b")
    params = weights.port(kind, state, config)
    del params["out_proj"]["bias"]
    with raises("missing parameters .1.:\n  out_proj/bias"):
        weights.save(kind, params, config, tmp_path / "model")
    with raises("kind cogvideox has no original naming"):
        weights.export_checkpoint(published("2b"), tmp_path / "model", naming="original")
    with raises("published exists already"):
        weights.export_checkpoint(tmp_path / "published", tmp_path / "published")
    assert not (tmp_path / "model").exists()


def test_diff_across_namings_and_forms(tmp_path, published):
    source = published("t2v")
    weights.export_checkpoint(source, tmp_path / "original", naming="original")
    weights.import_checkpoint(source, tmp_path / "imported")
    for other in ("original", "imported"):
        found = list(compare(source, tmp_path / other))
        assert found and not [f for f in found if isinstance(f, Difference)]


def test_diff_measures_values(tmp_path, published, tiny):
    kind, config, state = tiny("t2v")
    source = published("t2v")
    params = weights.port(kind, state, config)
    bias = params["out_proj"]["bias"]
    params["out_proj"]["bias"] = bias.at[1].add(0.5)
    params["text_embed"]["fc1"]["bias"] = params["text_embed"]["fc1"]["bias"].at[0].set(np.nan)
    weights.save(kind, params, config, tmp_path / "other")
    found = {f.path: f for f in compare(source, tmp_path / "other") if isinstance(f, Difference)}
    assert set(found) == {"out_proj/bias", "text_embed/fc1/bias"}
    rms = float(np.sqrt(np.mean(np.square(bias))))
    np.testing.assert_allclose(found["out_proj/bias"].largest, 0.5, rtol=1e-5)
    np.testing.assert_allclose(found["out_proj/bias"].relative, 0.5 / rms, rtol=1e-5)
    assert np.isnan(found["text_embed/fc1/bias"].largest)
    assert len([f for f in compare(source, tmp_path / "other", 1e3) if f == "out_proj/bias"]) == 1


def test_diff_of_other_models(published):
    """Sizes and branches differ: parameters of one only, and other shapes."""
    found = [f for f in compare(published("i2v", where="a"), published("flf2v", where="b"))]
    assert Difference("image_embed/pos_embed", "only in the second") in found
    different = [f for f in compare(published("2b", where="c"), published("5b-i2v", where="d"))]
    shapes = [f for f in different if isinstance(f, Difference) and f.what == "shape"]
    assert shapes == [Difference("patch_embed/kernel", "shape", "(16, 32) and (32, 32)")]


def test_diff_of_unknown_files_is_by_key(tmp_path):
    from safetensors.numpy import save_file

    save_file({"x": np.zeros(3), "y": np.ones(2)}, tmp_path / "a.safetensors")
    save_file({"x": np.zeros(3), "z": np.ones(2)}, tmp_path / "b.safetensors")
    found = list(compare(tmp_path / "a.safetensors", tmp_path / "b.safetensors"))
    assert found == [
        "x",
        Difference("y", "only in the first"),
        Difference("z", "only in the second"),
    ]
