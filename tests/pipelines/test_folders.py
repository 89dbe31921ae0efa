"""The original layout, imported parts and the hub open as diffusers' folder does, to the bit."""

import shutil

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")

import jax
import torch

from tavid_jax import weights
from tavid_jax.pipelines import folder as layout
from tavid_jax.pipelines import open_pipeline
from tavid_jax.weights import model_json, wan
from tests.pipelines import tiny
from tests.pipelines.reference import NEGATIVE, PROMPT, picture

MODEL = "wan2.1-i2v-14b"
CLIP = "models_clip_open-clip-xlm-roberta-large-vit-huge-14.pth"
# Part -> (kind of checkpoint, file) of the original repository.
ORIGINAL = {
    "vae": ("wan_vae", "Wan2.1_VAE.pth"),
    "text_encoder": ("umt5", "models_t5_umt5-xxl-enc-bf16.pth"),
    "image_encoder": ("clip_vision_original", CLIP),
}
OPTIONS = dict(
    size_hw=(32, 48), frames=5, steps=2, guidance=4.0, negative_prompt=NEGATIVE, seed=1,
    image=picture((40, 40), 6),
)  # fmt: skip


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    folder = tmp_path_factory.mktemp("layouts") / "diffusers"
    transformer = dict(in_channels=12, image_dim=20, added_kv_proj_dim=32)
    tiny.wan_folder(folder, 160, transformer=transformer, clip=True)
    return folder


@pytest.fixture(scope="module")
def opened(published):
    return open_pipeline(MODEL, published, strict=False)


@pytest.fixture(scope="module")
def video(opened):
    return opened.sample(PROMPT, **OPTIONS)


@pytest.fixture
def original(opened, published, tmp_path, monkeypatch):
    """The same model as its authors publish it. Their files do not tell all sizes: what they do
    not tell must be that of a known model. Here ours is made known."""
    folder = tmp_path / "original"
    monkeypatch.setitem(wan._MODEL_TYPES, "i2v", (20, None))
    with opened.parts["transformer"].hold() as params:
        weights.save("wan", params, opened.parts["transformer"].config, folder)
    for part, (kind, file) in ORIGINAL.items():
        config = opened.parts[part].config
        monkeypatch.setitem(model_json.PRESETS, f"tiny {part}", config)
        with opened.parts[part].hold() as params:
            tensors = weights.export(kind, params, config)
        torch.save({key: torch.from_numpy(x.copy()) for key, x in tensors.items()}, folder / file)
    shutil.copytree(published / "tokenizer", folder / "google" / "umt5-xxl")
    return folder


def assert_same(pipeline, video):
    again = pipeline.sample(PROMPT, **OPTIONS)
    np.testing.assert_array_equal(again.latents, video.latents)
    np.testing.assert_array_equal(again.frames, video.frames)


def test_the_original_layout_gives_the_same_video(original, video):
    pipeline = open_pipeline(MODEL, original, strict=False)
    assert [part.opened.name for part in pipeline.parts.values()] == [
        "wan", "wan_vae", "umt5", "clip_vision_original",
    ]  # fmt: skip
    assert_same(pipeline, video)


@pytest.mark.slow
def test_imported_parts_give_the_same_video(published, tmp_path, video):
    parts = {}
    for name in ("transformer", "vae", "text_encoder"):
        weights.import_checkpoint(published / name, tmp_path / name)
        parts[name] = tmp_path / name
    pipeline = open_pipeline(MODEL, published, parts=parts, strict=False)
    assert pipeline.parts["vae"].opened.record is not None
    assert_same(pipeline, video)


def test_half_precision_computes_in_it(published, video):
    """Weights, encoders and transformer in bfloat16; latents and the autoencoder stay float32."""
    pipeline = open_pipeline(MODEL, published, strict=False, dtype="bfloat16")
    again = pipeline.sample(PROMPT, **OPTIONS)
    difference = np.linalg.norm(again.latents - video.latents) / np.linalg.norm(video.latents)
    assert 1e-4 < difference < 0.05 and again.latents.dtype == np.float32
    with pipeline.parts["transformer"].hold() as params:
        assert {leaf.dtype.name for leaf in jax.tree.leaves(params)} == {"bfloat16"}


@pytest.fixture
def files(tmp_path):
    def write(*names):
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        return tmp_path

    return write


def found(folder, *needed):
    where = layout.find_parts(folder, needed or layout.PARTS[:4])
    return {part: path.removeprefix(f"{folder}/") for part, path in where.items()}


def test_parts_of_each_published_layout(files, tmp_path):
    """Names as the repositories have them."""
    ti2v = files(
        "diffusion_pytorch_model-00001-of-00003.safetensors", "Wan2.2_VAE.pth",
        "models_t5_umt5-xxl-enc-bf16.pth", "google/umt5-xxl/spiece.model", "config.json",
    )  # fmt: skip
    assert found(ti2v) == {
        "transformer": str(ti2v), "vae": "Wan2.2_VAE.pth",
        "text_encoder": "models_t5_umt5-xxl-enc-bf16.pth", "tokenizer": "google/umt5-xxl",
    }  # fmt: skip


def test_parts_of_the_original_pair(files):
    pair = files(
        "high_noise_model/a.safetensors", "low_noise_model/a.safetensors", "Wan2.1_VAE.pth",
        "models_t5_umt5-xxl-enc-bf16.pth", "google/umt5-xxl/spiece.model", CLIP,
    )  # fmt: skip
    assert found(pair)["transformer"] == str(pair)
    assert found(pair, "image_encoder") == {"image_encoder": CLIP}


def test_parts_of_diffusers_pair_and_of_one_model(files):
    names = ("transformer", "vae", "text_encoder", "tokenizer")
    one = files(*(f"{name}/config.json" for name in names))
    assert found(one) == {name: name for name in names}
    assert found(files("transformer_2/config.json"))["transformer"] == str(one)


def test_parts_on_the_hub(monkeypatch, tmp_path):
    """The tokenizer is fetched at once, what `weights` reads when it is opened."""
    asked = []
    monkeypatch.setattr(layout, "download", lambda *args: asked.append(args) or tmp_path)
    source = "hf:Wan-AI/Wan2.1-T2V-1.3B-Diffusers"
    assert layout.find_parts(source, layout.PARTS[:4]) == {
        "transformer": source, "vae": f"{source}/vae", "text_encoder": f"{source}/text_encoder",
        "tokenizer": str(tmp_path),
    }  # fmt: skip
    assert asked == [(f"{source}/tokenizer", ("*.json", "*.model", "*.txt"))]
