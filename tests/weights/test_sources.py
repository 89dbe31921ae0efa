"""Where checkpoints are found: folders, shards, pairs, the hub; and what is refused, and how."""

import json
import re
import shutil
import sys

import ml_dtypes
import numpy as np
import pytest
import torch
from safetensors.numpy import save_file as save_numpy
from safetensors.torch import save_file as save_torch

from tavid_jax import weights
from tavid_jax.weights.files import read_file
from tavid_jax.weights.safetensors import read_metadata, write_safetensors


@pytest.fixture
def folder(tmp_path, tiny_model):
    """A diffusers pipeline folder: the transformer in shards, beside other models."""
    pipeline = tmp_path / "pipeline"
    tiny_model("t2v").save_pretrained(pipeline / "transformer", max_shard_size="40KB")
    (pipeline / "vae").mkdir()
    save_numpy({"x": np.zeros(2)}, pipeline / "vae" / "diffusion_pytorch_model.safetensors")
    return pipeline


def assert_tensors(source, state):
    assert set(source.tensors) == set(state)
    for key, value in state.items():
        np.testing.assert_array_equal(source.tensors[key].read(), value, err_msg=key)


def raises(words):
    return pytest.raises(weights.WeightsError, match=words)


def test_a_pipeline_its_transformer_or_the_index(folder, tiny):
    _, config, state = tiny("t2v")
    index = "diffusion_pytorch_model.safetensors.index.json"
    for where in (folder, folder / "transformer", folder / "transformer" / index):
        found = weights.identify(where)
        assert_tensors(found.source, state)
        assert len(found.source.files) > 1
        assert (found.name, found.config, found.preset) == (
            "wan_diffusers",
            weights.config_from_json(folder / "transformer"),
            None,
        )


def test_one_file_with_a_wrapper_and_no_config(tmp_path, tiny):
    _, config, state = tiny("t2v")
    path = tmp_path / "repackaged.safetensors"
    save_numpy({f"model.diffusion_model.{key}": value for key, value in state.items()}, path)
    assert weights.identify(path, config=config).name == "wan_diffusers"
    with raises("no config.json, and its shapes are those of no published model"):
        weights.identify(path)


def test_shards_without_an_index(folder, tiny):
    (folder / "transformer" / "diffusion_pytorch_model.safetensors.index.json").unlink()
    assert_tensors(weights.open_source(folder), tiny("t2v")[2])
    gone = sorted((folder / "transformer").glob("*.safetensors"))[1]
    gone.unlink()
    with raises(f"is not complete.*\nmissing shards.*\n  {gone.name}"):
        weights.open_source(folder)


def test_two_experts_in_either_layout(tmp_path, tiny_model, tiny):
    _, config, _ = tiny("t2v")
    for name, seed in (("transformer", 1), ("transformer_2", 2)):
        tiny_model("t2v", seed).save_pretrained(tmp_path / "pair" / name)
    found = weights.identify(tmp_path / "pair")
    assert found.name == "wan_experts_diffusers"
    weights.export_checkpoint(tmp_path / "pair", tmp_path / "original", naming="original")
    assert sorted(p.name for p in (tmp_path / "original").iterdir()) == [
        "high_noise_model",
        "low_noise_model",
    ]
    again = weights.identify(tmp_path / "original").plan()
    for path, leaf in found.plan().items():
        np.testing.assert_array_equal(again[path].read(), leaf.read(), err_msg=path)
    record = weights.import_checkpoint(tmp_path / "pair", tmp_path / "imported")
    assert [file["name"] for file in record["files"]] == [
        "transformer/diffusion_pytorch_model.safetensors",
        "transformer_2/diffusion_pytorch_model.safetensors",
    ]
    one = weights.identify(tmp_path / "pair" / "transformer_2")
    assert one.name == "wan_diffusers"
    low = found.plan()["low_noise/out_proj/bias"].read()
    np.testing.assert_array_equal(one.plan()["out_proj/bias"].read(), low)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float8_e4m3fn", "float8_e5m2"])
@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
def test_stored_dtypes_are_read_exactly(tmp_path, dtype, suffix):
    tensor = torch.randn(3, 5).to(getattr(torch, dtype))
    path = tmp_path / f"x.{suffix}"
    (save_torch if suffix == "safetensors" else torch.save)({"x": tensor}, path)
    array = read_file(path)["x"].read()
    assert str(array.dtype) == dtype
    np.testing.assert_array_equal(array.astype(np.float32), tensor.float().numpy())


@pytest.mark.parametrize("dtype", ["f32", "bf16", "f16", "keep"])
def test_dtype_is_chosen_on_the_way(tiny, dtype):
    kind, config, state = tiny("t2v")
    state = {k: v.astype(ml_dtypes.bfloat16) for k, v in state.items()}
    state["blocks.1.ffn.net.2.bias"] = state["blocks.1.ffn.net.2.bias"].astype(np.float32)
    params = weights.port(kind, state, config, dtype=dtype)
    leaves = params["out_proj"]["kernel"], params["blocks"]["mlp"]["fc2"]["bias"]
    # A stack of tensors of two dtypes is kept as float32.
    kept = {"f32": "float32", "bf16": "bfloat16", "f16": "float16", "keep": "bfloat16 float32"}
    assert {str(leaf.dtype) for leaf in leaves} == set(kept[dtype].split())
    with raises("no dtype 'int4'; known: keep, bf16"):
        weights.port(kind, state, config, dtype="int4")


def test_files_that_we_write_are_read_by_others(tmp_path):
    arrays = {
        "a": np.arange(6, dtype=np.float32).reshape(2, 3).astype(ml_dtypes.bfloat16),
        "b": np.array(3.0),
        "none": np.zeros((0, 4), np.float16),
    }
    path = tmp_path / "ours.safetensors"
    write_safetensors(path, arrays, {"note": "made here"})
    from safetensors.torch import load_file

    theirs = load_file(path)
    assert theirs["a"].dtype == torch.bfloat16 and theirs["none"].shape == (0, 4)
    np.testing.assert_array_equal(theirs["a"].float().numpy(), arrays["a"].astype(np.float32))
    assert read_metadata(path)["note"] == "made here"
    for key, value in arrays.items():
        np.testing.assert_array_equal(read_file(path)[key].read(), value, strict=True)


# ---- what cannot be used ----


def test_cut_off_files_name_both_sizes(tmp_path, tiny):
    path = tmp_path / "model.safetensors"
    save_numpy(tiny("t2v")[2], path)
    data = path.read_bytes()
    path.write_bytes(data[:-1000])
    with raises(f"{path} is cut off: {len(data) - 1000} bytes, its header announces {len(data)};"):
        weights.open_source(path)
    path.write_bytes(data[:500])
    with raises("is cut off: 500 bytes, its header announces at least"):
        weights.open_source(path)
    path.write_bytes(data + b"junk")
    with raises(f"is damaged: {len(data) + 4} bytes, its header announces {len(data)};"):
        weights.open_source(path)


@pytest.mark.parametrize(
    "header",
    [
        b'{"x": 3}',
        b'{"x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}',
        b'{"x": {"dtype": "F32", "shape": [2]}}',
        b"[1]",
        b"{{",
    ],
)
def test_damaged_headers(tmp_path, header):
    path = tmp_path / "model.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"\0" * 8)
    with raises(f"{path}: damaged safetensors header"):
        weights.open_source(path)


def test_index_and_shards_that_disagree(folder):
    index = folder / "transformer" / "diffusion_pytorch_model.safetensors.index.json"
    content = json.loads(index.read_text())
    shards = sorted((folder / "transformer").glob("*.safetensors"))
    other = {key: shards[0].name for key in content["weight_map"]}
    index.write_text(json.dumps({"weight_map": other}))
    with raises("disagrees with the shards.*\n.*does not hold"):
        weights.open_source(folder)
    index.write_text(json.dumps({"weight_map": {"x": "../outside.safetensors"}}))
    with raises("shards outside the folder"):
        weights.open_source(folder)
    index.write_text("{}")
    with raises("not an index of shards"):
        weights.open_source(folder)
    index.write_text(json.dumps(content))
    shards[2].unlink()
    with raises(f"missing shards.*\n  {shards[2].name}"):
        weights.open_source(folder)


def test_folders_without_a_checkpoint(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    with raises("no checkpoint in .*empty: expected .*found nothing"):
        weights.open_source(tmp_path / "empty")
    shutil.copytree(folder / "vae", tmp_path / "two")
    save_numpy({"x": np.zeros(2)}, tmp_path / "two" / "other.safetensors")
    with raises("holds several checkpoints .*other.safetensors.*; name one"):
        weights.open_source(tmp_path / "two")
    with raises("is none of the known checkpoints .*its first keys are x"):
        weights.identify(folder / "vae")


def test_pickles_with_objects_are_refused_in_folders_too(tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    (tmp_path / "model").mkdir()
    torch.save({"w": Trap()}, tmp_path / "model" / "pytorch_model.bin")
    with raises("refused, because it is not readable as tensors only: .*io.open"):
        weights.identify(tmp_path / "model")
    assert not (tmp_path / "sprung").exists()


def test_all_mismatches_are_listed_folded_and_with_the_nearest_name(tiny):
    kind, config, state = tiny("t2v")
    for layer in range(2):
        state[f"blocks.{layer}.attn1.to_quality.weight"] = state.pop(
            f"blocks.{layer}.attn1.to_q.weight"
        )
        state[f"blocks.{layer}.attn1.to_k.bias"] = np.zeros(3, np.float32)
    del state["proj_out.bias"]
    with pytest.raises(weights.WeightsError) as caught:
        weights.port(kind, state, config)
    for words in (
        "missing keys (2):\n  proj_out.bias",
        "blocks.{0-1}.attn1.to_q.weight (nearest: blocks.0.attn1.to_quality.weight)",
        "blocks.{0-1}.attn1.to_quality.weight (nearest: blocks.0.attn1.to_q.weight)",
        "blocks.{0-1}.attn1.to_k.bias: (3,), expected (32,) for blocks/attn/k/bias",
    ):
        assert words in str(caught.value)


def test_square_matrices_do_not_hide_a_file_of_another_naming(tiny):
    kind, config, state = tiny("t2v")
    with raises(r"missing keys.*\n(.*\n)*unknown keys"):
        weights.port("wan", state, config)


# ---- the hub ----


def test_hub_downloads_the_transformer_only(folder, monkeypatch):
    import huggingface_hub

    asked = {}

    def snapshot(repo, **options):
        asked.update(repo=repo, **options)
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    assert weights.identify("hf:owner/name@v1").name == "wan_diffusers"
    assert (asked["repo"], asked["revision"]) == ("owner/name", "v1")
    assert "text_encoder*/*" in asked["ignore_patterns"]
    weights.identify("hf:owner/name/transformer")
    assert asked["revision"] is None and "transformer/*.safetensors" in asked["allow_patterns"]


def test_hub_failures_are_one_clear_error(monkeypatch):
    import huggingface_hub

    def offline(repo, **options):
        raise ConnectionError("no route to host")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    with raises("hf:a/b cannot be downloaded .*no route to host.*download the folder elsewhere"):
        weights.open_source("hf:a/b")
    with raises(re.escape("expected hf:owner/name[@revision][/subfolder]")):
        weights.open_source("hf:a")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with raises("needs huggingface_hub"):
        weights.open_source("hf:a/b")
