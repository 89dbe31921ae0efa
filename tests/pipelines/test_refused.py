"""Models, folders and jobs that cannot work: each is told in one sentence, before anything runs."""

import functools
import json
import re
import shutil

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")

from PIL import Image

from tavid_jax.pipelines import Job, open_pipeline
from tavid_jax.weights import WeightsError
from tests.pipelines import tiny
from tests.pipelines.reference import picture

IMAGES = dict(in_channels=12, image_dim=20, added_kv_proj_dim=32)
FOLDERS = {
    "wan2.1-t2v-1.3b": lambda path: tiny.wan_folder(path),
    "wan2.1-i2v-14b": lambda path: tiny.wan_folder(path, transformer=IMAGES, clip=True),
    "wan2.1-flf2v-14b": lambda path: tiny.wan_folder(
        path, transformer=IMAGES | dict(pos_embed_seq_len=10), clip=True
    ),
    "wan2.2-ti2v-5b": lambda path: tiny.wan_folder(
        path, transformer=dict(in_channels=6, out_channels=6), vae=tiny.WAN_VAE_2
    ),
    "wan2.2-t2v-a14b": lambda path: tiny.wan_folder(path, experts=True),
    "cogvideox-5b": lambda path: tiny.cogvideox_folder(path),
    "cogvideox-5b-i2v": lambda path: tiny.cogvideox_folder(
        path, transformer=dict(in_channels=8, use_learned_positional_embeddings=True)
    ),
}
SIZE = dict(size_hw=(32, 48), frames=9)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Name of a published model -> a folder of one of that kind, written once."""
    root = tmp_path_factory.mktemp("refused")

    def get(name):
        if not (root / name).exists():
            FOLDERS[name](root / name)
        return root / name

    return get


@pytest.fixture(scope="module")
def opened(folder):
    return functools.cache(lambda name: open_pipeline(name, folder(name), strict=False))


def sentence(raised) -> str:
    return str(raised.value)


# ---- models and folders ---------------------------------------------------------------------


def test_an_unknown_name_gets_the_nearest(tmp_path):
    message = r"no model 'wan2.1-t2v-1\.4b'; did you mean 'wan2\.1-t2v-14b'\? There are cogvideox"
    with pytest.raises(ValueError, match=message):
        open_pipeline("wan2.1-t2v-1.4b", tmp_path)


def test_all_missing_parts_are_listed(folder, tmp_path):
    shutil.copytree(folder("wan2.1-i2v-14b"), tmp_path / "model")
    for part in ("vae", "tokenizer", "image_encoder"):
        shutil.rmtree(tmp_path / "model" / part)
    with pytest.raises(WeightsError, match="lacks parts") as raised:
        open_pipeline("wan2.1-i2v-14b", tmp_path / "model", strict=False)
    text = sentence(raised)
    assert all(f"\n  {part}: {part}/ or" in text for part in ("vae", "tokenizer", "image_encoder"))
    assert "text_encoder:" not in text and "it holds text_encoder, transformer" in text
    with pytest.raises(WeightsError, match="is no folder: give that of a whole model"):
        open_pipeline("wan2.1-i2v-14b", tmp_path / "gone")
    with pytest.raises(WeightsError, match="no part 'unet' of a model; there are transformer"):
        open_pipeline("wan2.1-i2v-14b", tmp_path / "model", parts={"unet": "x"})


def test_missing_parts_may_lie_elsewhere(folder, tmp_path):
    shutil.copytree(folder("wan2.1-t2v-1.3b"), tmp_path / "model")
    (tmp_path / "model" / "vae").rename(tmp_path / "elsewhere")
    parts = {"vae": tmp_path / "elsewhere"}
    open_pipeline("wan2.1-t2v-1.3b", tmp_path / "model", parts=parts, strict=False)


def test_sizes_that_were_not_published_are_listed(folder):
    with pytest.raises(WeightsError, match="transformer: .* is not the published model") as raised:
        open_pipeline("wan2.1-t2v-1.3b", folder("wan2.1-t2v-1.3b"))
    text = sentence(raised)
    assert "num_heads: 2 in the checkpoint, 12 as published" in text
    assert "num_layers: 2 in the checkpoint, 30 as published" in text
    assert "strict=False" in text and "freq_dim: 16 in the checkpoint" in text


def test_another_family_in_the_folder_is_named(folder):
    message = "transformer: .* holds a CogVideoX, not a Wan"
    with pytest.raises(WeightsError, match=message):
        open_pipeline("wan2.1-t2v-1.3b", folder("cogvideox-5b"), strict=False)
    parts = {"text_encoder": folder("wan2.1-t2v-1.3b") / "vae"}
    with pytest.raises(WeightsError, match="text_encoder: .* holds a WanVAE, not a T5"):
        open_pipeline("wan2.1-t2v-1.3b", folder("wan2.1-t2v-1.3b"), parts=parts, strict=False)


def test_one_expert_or_two(folder):
    one, two = "wan2.1-t2v-1.3b", "wan2.2-t2v-a14b"
    with pytest.raises(WeightsError, match=f"holds one transformer, {two} has two experts"):
        open_pipeline(two, folder(one), strict=False)
    with pytest.raises(WeightsError, match=f"holds two experts, {re.escape(one)} has one"):
        open_pipeline(one, folder(two), strict=False)


def test_a_folder_without_a_tokenizer_file(folder, tmp_path):
    (tmp_path / "tokenizer").mkdir()
    (tmp_path / "tokenizer" / "notes.txt").write_text("nothing")
    parts = {"tokenizer": tmp_path / "tokenizer"}
    message = r"no tokenizer in .*expected tokenizer\.json, spiece\.model.*found notes\.txt"
    with pytest.raises(ValueError, match=message):
        open_pipeline("wan2.1-t2v-1.3b", folder("wan2.1-t2v-1.3b"), parts=parts, strict=False)


def test_a_config_that_does_not_fit_the_weights(folder, tmp_path):
    shutil.copytree(folder("wan2.1-t2v-1.3b"), tmp_path / "model")
    file = tmp_path / "model" / "transformer" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"ffn_dim": 50}))
    with pytest.raises(WeightsError, match=r"transformer.*(?s:.*)wrong shape.*(?s:.*)ffn"):
        open_pipeline("wan2.1-t2v-1.3b", tmp_path / "model", strict=False)


# ---- jobs -----------------------------------------------------------------------------------

T2V, I2V, FLF2V, TI2V = (
    "wan2.1-t2v-1.3b", "wan2.1-i2v-14b", "wan2.1-flf2v-14b", "wan2.2-ti2v-5b",
)  # fmt: skip
PAIR, COGVIDEOX, LEARNED = "wan2.2-t2v-a14b", "cogvideox-5b", "cogvideox-5b-i2v"
IMAGE = picture((32, 48))


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        (T2V, {"step": 3}, r"no field 'step'; did you mean 'steps'\?"),
        (T2V, {"frames": 8}, r"frames 8 is not 4k \+ 1: use 9"),
        (T2V, {"frames": 9.5}, r"frames 9\.5: give a whole number"),
        (T2V, {"size_hw": (40, 48)}, r"height 40 is not a multiple of 16: use 32"),
        (T2V, {"size_hw": (32, 60)}, r"width 60 is not a multiple of 16: use 64"),
        (T2V, {"size_hw": 480}, r"size_hw 480: give \[height, width\]"),
        (T2V, {"size_hw": "480x832"}, r"size_hw '480x832': give \[height, width\]"),
        (TI2V, {"size_hw": (32, 48)}, r"width 48 is not a multiple of 32: use 64"),
        (COGVIDEOX, {"frames": 5}, r"frames 5: cogvideox-5b makes 8k \+ 1, use 1"),
        (COGVIDEOX, {"frames": 46}, r"frames 46: .* use 49"),
        (LEARNED, {"image": IMAGE, "size_hw": (64, 64)}, r"table of positions is for \(32, 48\)"),
        (T2V, {"image": IMAGE}, r"wan2\.1-t2v-1\.3b reads no image, 1 given"),
        (COGVIDEOX, {"image": IMAGE}, r"cogvideox-5b reads no image"),
        (TI2V, {"image": IMAGE, "last_image": IMAGE, "size_hw": (32, 64)}, r"reads one image, 2"),
        (LEARNED, {"image": IMAGE, "last_image": IMAGE}, r"reads one image, 2 given"),
        (I2V, {}, r"wan2\.1-i2v-14b makes videos from an image: give one"),
        (LEARNED, {}, r"cogvideox-5b-i2v makes videos from an image"),
        (FLF2V, {"image": IMAGE}, r"needs a first and a last image"),
        (I2V, {"last_image": IMAGE}, r"last_image without image"),
        (I2V, {"image": "gone.png"}, r"gone\.png: cannot be read"),
        (I2V, {"image": IMAGE.astype(np.float32)}, r"type float32: give RGB pixels"),
        (I2V, {"image": Image.new("RGBA", (8, 8))}, r"has an alpha channel"),
        (I2V, {"image": 3}, r"image 3: give a file"),
        (I2V, {"image": IMAGE, "last_image": IMAGE, "frames": 1}, r"frames 1: .* at least 5"),
        (TI2V, {"image": IMAGE, "size_hw": (32, 64), "frames": 1}, r"frames 1: .* at least 5"),
        (T2V, {"sampler": "ddim"}, r"no scheduler 'ddim' for wan: it has unipc, euler"),
        (COGVIDEOX, {"sampler": "unipc"}, r"no scheduler 'unipc' for cogvideox: it has dpm, ddim"),
        (T2V, {"grid": "karras"}, r"no grid of sigmas 'karras': use one of wan, diffusers"),
        (T2V, {"shift": 0}, r"shift 0: give a number above 0"),
        (T2V, {"shift": "3"}, r"shift '3': give a number"),
        (COGVIDEOX, {"shift": 3.0}, r"shift 3\.0: it is of Wan's noise levels, not of cogvideox"),
        (COGVIDEOX, {"grid": "diffusers"}, r"grid 'diffusers': it is of Wan's"),
        (T2V, {"guidance": -1}, r"guidance -1: give a scale"),
        (T2V, {"guidance": float("nan")}, r"guidance nan"),
        (T2V, {"guidance": "5"}, r"guidance '5': give a scale"),
        (T2V, {"guidance": (4.0, 3.0)}, r"wan2\.1-t2v-1\.3b has one expert, give one scale"),
        (PAIR, {"guidance": (4.0, 3.0, 2.0)}, r"guidance \(4\.0, 3\.0, 2\.0\): give a scale"),
        (T2V, {"dynamic": "index"}, r"dynamic 'index': it is CogVideoX's"),
        (COGVIDEOX, {"dynamic": "cosine"}, r"dynamic 'cosine': there are none, timestep, index"),
        (T2V, {"guided": (0.9, 0.3)}, r"guided \(0\.9, 0\.3\): give the lowest and highest"),
        (T2V, {"guided": [0, 2]}, r"guided \(0, 2\)"),
        (T2V, {"guided": 0.5}, r"guided 0\.5"),
        (T2V, {"steps": 0}, r"steps 0: give a whole number from 1"),
        (T2V, {"fps": 0}, r"fps 0: give frames per second"),
        (
            LEARNED,
            {"image": IMAGE, "posterior": "mean"},
            r"posterior 'mean': there are sample, mode",
        ),
        (I2V, {"image": IMAGE, "fit": "pad"}, r"fit 'pad': there are cover, stretch"),
        (
            T2V,
            {"noise": np.zeros((3, 4, 6, 5))},
            r"noise of shape \(3, 4, 6, 5\): .* \(3, 4, 6, 4\)",
        ),
    ],
)
def test_bad_jobs(opened, name, fields, message):
    pipeline = opened(name)
    with pytest.raises(ValueError, match=message):
        pipeline.sample("a", **{**SIZE, **fields})


def test_the_bad_one_of_many_jobs_is_named_before_anything_is_made(opened):
    jobs = [Job("a", options=SIZE), Job("b", name="wave", options=SIZE | {"frames": 10})]
    with pytest.raises(ValueError, match=r"job wave: frames 10 is not 4k \+ 1: use 9"):
        opened(T2V).run(jobs)  # not a step of it is taken
    with pytest.raises(ValueError, match="batch_size 0 must be at least 1"):
        opened(T2V).run(jobs[:1], batch_size=0)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"dtype": "float33"}, "dtype 'float33': give one of floats"),
        ({"dtype": "int8"}, "dtype 'int8': give one of floats"),
        ({"attention": "fast"}, "attention 'fast': there are auto, xla"),
        ({"mesh": {"fsdp": 3}}, "3 devices but 1 are there: set mesh axis fsdp=1$"),
    ],
)
def test_options_that_nothing_knows(folder, option, message):
    with pytest.raises(ValueError, match=message):
        open_pipeline(T2V, folder(T2V), strict=False, **option)
