"""The command line end to end, and the files it leaves: whole, and with what made them."""

import json
import logging

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")
pytest.importorskip("imageio_ffmpeg")

from PIL import Image

from tavid_jax.pipelines import open_pipeline
from tavid_jax.pipelines.cli import main
from tavid_jax.pipelines.encoding import Autoencoding
from tavid_jax.viz import media
from tests.pipelines import tiny
from tests.pipelines.reference import picture

MODEL = "wan2.2-ti2v-5b"
SMALL = ["--any-size", "--size-hw", "32x64", "--frames", "5", "--steps", "2", "--guidance", "4"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("program") / "model"
    transformer = dict(in_channels=6, out_channels=6)
    tiny.wan_folder(folder, 150, transformer=transformer, vae=tiny.WAN_VAE_2)
    return folder


@pytest.fixture(scope="module")
def video(folder):
    options = dict(size_hw=(32, 64), frames=5, steps=2, guidance=4.0, shift=3, fps=12)
    pipeline = open_pipeline(MODEL, folder, strict=False, negative_prompt="blurry")
    return pipeline.sample("Ein rőter „Ball“", seed=5, name="ball", **options)


@pytest.mark.parametrize("ending", [".mp4", ".webp", ".gif", ".MP4"])
def test_files_tell_what_made_them(video, tmp_path, ending):
    path = video.save(tmp_path / "new" / f"a{ending}")
    told = media.read_provenance(path.read_bytes())
    assert told == json.loads(json.dumps(video.provenance))
    assert (told["prompt"], told["negative_prompt"]) == ("Ein rőter „Ball“", "blurry")
    assert (told["seed"], told["model"]) == (5, MODEL)
    assert set(told["weights"]) == {"transformer", "vae", "text_encoder"}
    assert told["sampling"]["shift"] == 3 and told["sampling"]["size_hw"] == [32, 64]
    assert len(told["config"]) == 12 and told["images"] == []
    assert list(path.parent.iterdir()) == [path]


def test_the_shift_of_the_size_is_told_where_none_was_given(folder, video):
    other = open_pipeline(MODEL, folder, strict=False).sample(
        "a", size_hw=(32, 64), frames=5, steps=2, guidance=4.0, fps=12
    )
    assert other.provenance["sampling"]["shift"] == 5.0
    assert other.provenance["config"] != video.provenance["config"]


def test_other_endings_are_refused_and_notebooks_show_it(video, tmp_path):
    with pytest.raises(ValueError, match=r"a\.avi: videos are written as \.mp4, \.webp or \.gif"):
        video.save(tmp_path / "a.avi")
    assert not list(tmp_path.iterdir())
    assert video._repr_html_().startswith('<img src="data:image/webp;base64,')
    assert video.frames.dtype == np.uint8 and video.frames.shape == (5, 32, 64, 3)


@pytest.fixture
def jobs(tmp_path):
    Image.fromarray(picture((32, 64))).save(tmp_path / "a.png")
    lines = [
        {"prompt": "one", "seed": 3, "name": "first"},
        {"prompt": "two", "image": "a.png", "steps": 1, "negative_prompt": ""},
    ]
    path = tmp_path / "jobs.jsonl"
    path.write_text("\n".join(json.dumps(line) for line in lines))
    return ["--jobs", str(path), "--out", str(tmp_path / "out"), "--negative-prompt", "blurry"]


def test_a_file_of_jobs(folder, jobs, tmp_path, caplog, capsys):
    run = [MODEL, str(folder), *SMALL, *jobs]
    with caplog.at_level(logging.INFO, logger="absl"):
        assert main(run) == 0
    out = tmp_path / "out"
    assert sorted(path.name for path in out.iterdir()) == ["first.mp4", "jobs_0001.mp4"]
    told = [media.read_provenance(path.read_bytes()) for path in sorted(out.iterdir())]
    assert [(x["prompt"], x["seed"], x["negative_prompt"]) for x in told] == [
        ("one", 3, "blurry"),
        ("two", 0, ""),
    ]
    assert [x["sampling"]["steps"] for x in told] == [2, 1]
    for line in (
        "text_encoder: ",
        "encode image 1/1: jobs_0001",
        "denoise 3/3",
        "decode 2/2",
    ):
        assert line in caplog.text
    assert caplog.text.count("transformer: ") == 1  # one reading for all jobs
    assert main(run) == 1
    assert "first.mp4 exists already: choose another --out" in capsys.readouterr().err


def test_what_ends_a_run_leaves_whole_files_only(folder, jobs, tmp_path, monkeypatch, capsys):
    run, former, calls = [MODEL, str(folder), *SMALL, *jobs], Autoencoding.decode, []

    def stopped(self, *args):
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return former(self, *args)

    monkeypatch.setattr(Autoencoding, "decode", stopped)
    assert main(run) == 130
    assert "interrupted; videos that were written are whole" in capsys.readouterr().err
    (left,) = (tmp_path / "out").iterdir()
    assert left.name == "first.mp4" and media.read_provenance(left.read_bytes())["prompt"] == "one"

    def full(*_, **__):
        raise OSError("No space left on device")

    monkeypatch.setattr(media.os, "replace", full)
    monkeypatch.setattr(Autoencoding, "decode", former)
    before = left.read_bytes()
    assert main([*run, "--overwrite"]) == 1
    assert "error: No space left on device" in capsys.readouterr().err
    assert list((tmp_path / "out").iterdir()) == [left] and left.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["wan2.2-ti2v", "x", "--prompt", "a"], "no model 'wan2.2-ti2v'; did you mean"),
        ([MODEL, "x"], "give either --prompt or --jobs"),
        ([MODEL, "x", "--prompt", "a", "--jobs", "b"], "give either --prompt or --jobs"),
        ([MODEL, "nowhere", "--prompt", "a"], "nowhere is no folder"),
        ([MODEL, "x", "--jobs", "gone.jsonl"], "gone.jsonl: jobs cannot be read"),
        ([MODEL, "x", "--prompt", "a", "--part", "vae"], "'vae': write NAME=VALUE"),
        ([MODEL, "x", "--prompt", "a", "--mesh", "fsdp=two"], "'fsdp=two': give a whole number"),
        ([MODEL, "x", "--prompt", "a", "--negative-prompt-file", "gone.txt"], "gone.txt"),
        ([MODEL, "x", "--prompt", "a", "--out", "file/new"], "file is no folder, choose another"),
    ],
)
def test_bad_arguments_end_with_one_line(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x").mkdir()
    (tmp_path / "file").touch()
    assert main(arguments) == 1
    printed = capsys.readouterr().err
    assert printed.startswith("error: ") and message in printed and "Traceback" not in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--size-hw", "big"], "'big': give height x width, such as 480x832"),
        (["--size-hw", "480x832x3"], "'480x832x3': give height x width"),
        (["--guidance", "4,"], "'4,': give a scale, or HIGH,LOW"),
    ],
)
def test_values_of_another_form_are_shown_how(arguments, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        main([MODEL, "x", "--prompt", "a", *arguments])
    assert message in capsys.readouterr().err


def test_a_third_scale_of_guidance_is_not_dropped(folder, capsys):
    given = [MODEL, str(folder), *SMALL, "--prompt", "a", "--guidance", "4,3,2"]
    assert main(given) == 1
    assert "guidance (4.0, 3.0, 2.0): give a scale from 0" in capsys.readouterr().err
