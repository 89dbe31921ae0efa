"""Names and folders of models: published ones, packaged ones, and those trained here."""

import dataclasses

import pytest

import tavid_jax
from tavid_jax.pipelines import bases, cli, open_pipeline
from tavid_jax.pipelines.bases import resolve_checkpoint
from tavid_jax.pipelines.finding import find_model
from tavid_jax.pipelines.folder import find_parts
from tavid_jax.pipelines.pretrained import open_trained
from tavid_jax.weights import WeightsError
from tests.pipelines import trained


@pytest.fixture
def packaged(tmp_path, monkeypatch):
    """The package, as if "tiny-wan" alone had come with it."""
    monkeypatch.setattr(bases, "FOLDER", tmp_path / "bases")
    card = dataclasses.replace(trained.CARDS["wan"], name="tiny-wan")
    trained.save("wan", tmp_path / "bases" / "tiny_wan", card=card)
    return tmp_path / "bases" / "tiny_wan"


def test_a_packaged_base_by_its_name(packaged):
    found = find_model("tiny-wan")
    assert found.published.backbone == "tiny-wan" and not found.is_published
    assert found.source == str(packaged) and found.dtype == "float32"
    assert tavid_jax.load("tiny-wan").published == found.published
    # As the checkpoint of the published model that it is like, too.
    assert find_model("wan2.1-t2v-1.3b", "tiny-wan") == found


def test_a_base_is_a_checkpoint_for_training(packaged):
    assert resolve_checkpoint("tiny-wan") == str(packaged)
    assert find_parts("tiny-wan", ["tokenizer"]) == {"tokenizer": str(packaged / "tokenizer")}
    opened = open_trained("tiny-wan", ["transformer", "text_encoder", "vae"])
    for part, model in trained.parts_of("wan").items():
        assert opened[part].config == model.config
    assert not opened["vae"].leaves


def test_all_else_is_left_as_it_is():
    for name in ("", "hf:owner/name", "some/folder"):
        assert resolve_checkpoint(name) == name


def test_a_folder_of_its_own(tmp_path):
    trained.save("cogvideox", tmp_path / "mine")
    assert find_model(tmp_path / "mine") == find_model(str(tmp_path / "mine"))
    pipeline = tavid_jax.load(tmp_path / "mine", negative_prompt="a white box")
    assert pipeline.published.needs_image and pipeline.negative_prompt == "a white box"
    with pytest.raises(ValueError, match="smallest-cogvideox makes videos from an image: give one"):
        pipeline.sample("a red disc touches the target blue box")


def test_a_folder_of_another_model(tmp_path):
    trained.save("cogvideox", tmp_path / "mine")
    words = "mine is smallest-cogvideox, made like cogvideox-5b-i2v, not wan2.1-t2v-1.3b"
    with pytest.raises(ValueError, match=words):
        open_pipeline("wan2.1-t2v-1.3b", tmp_path / "mine")


def test_names_that_are_none(tmp_path):
    with pytest.raises(ValueError, match="no model 'tiny-wam'; did you mean 'tiny-wan'"):
        open_pipeline("tiny-wam")
    with pytest.raises(
        ValueError, match="with the package tiny-wan, tiny-cogvideox, tiny-wan-crowd$"
    ):
        open_pipeline(str(tmp_path))
    with pytest.raises(
        ValueError, match="wan2.1-t2v-14b is a published model: give its checkpoint"
    ):
        open_pipeline("wan2.1-t2v-14b")
    with pytest.raises(
        FileNotFoundError, match="with the package come tiny-wan, tiny-cogvideox, tiny-wan-crowd"
    ):
        tavid_jax.load("tiny-wam")


def test_a_base_that_is_not_there(packaged):
    words = "tiny-cogvideox is not in this installation .* train it with python -m tavid_jax.main"
    with pytest.raises(ValueError, match=words):
        tavid_jax.load("tiny-cogvideox")
    with pytest.raises(ValueError, match=words):
        resolve_checkpoint("tiny-cogvideox")


@pytest.mark.parametrize(
    "ask",
    [
        lambda: open_pipeline("tiny-wan"),
        lambda: resolve_checkpoint("tiny-wan"),
        lambda: open_trained("tiny-wan", ["transformer"]),
    ],
)
def test_a_damaged_base_is_named(packaged, ask):
    file = packaged / "transformer" / "diffusion_pytorch_model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(WeightsError, match="diffusion_pytorch_model.safetensors is damaged"):
        ask()


def test_the_base_of_adapters_is_looked_at_too(packaged, tmp_path):
    card = dataclasses.replace(trained.CARDS["wan"], checkpoint="tiny-wan")
    trained.save("wan", tmp_path / "more", card=card, parts={}, tokenizer=None)
    assert find_model(tmp_path / "more").source == str(packaged)
    (packaged / "vae" / "config.json").unlink()
    with pytest.raises(WeightsError, match="is not complete: vae/config.json is missing"):
        find_model(tmp_path / "more")


def test_the_command_line(packaged, tmp_path, capsys):
    pytest.importorskip("imageio_ffmpeg")
    out = tmp_path / "videos"
    options = ["--prompt", trained.PROMPT, "--steps", "1", "--out", str(out)]
    assert cli.main(["tiny-wan", *options]) == 0
    assert (out / "video.mp4").stat().st_size > 0
    assert cli.main(["tiny-wam", *options]) == 1
    assert "did you mean 'tiny-wan'" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    assert "tiny-wan, tiny-cogvideox, tiny-wan-crowd" in " ".join(capsys.readouterr().out.split())
