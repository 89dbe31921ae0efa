"""The caching command end to end: resumable, divided over machines, honest about its clips."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("torch")
pytest.importorskip("diffusers")

from tavid_jax.data.records import RecordError
from tavid_jax.data.shards import ShardedRecords
from tavid_jax.data.video import write_video
from tavid_jax.pipelines.backbones import Geometry
from tavid_jax.pipelines.encode import main
from tavid_jax.pipelines.encoders import Encoders
from tavid_jax.pipelines.opening import open_encoders
from tests.pipelines import tiny
from tests.pipelines.reference import picture

CHECKOUT = Path(__file__).resolve().parents[2]
MODEL, SIZE = "wan2.2-ti2v-5b", (32, 64)
SMALL = ["--any-size", "--size-hw", "32x64", "--frames", "5", "--fps", "8", "--shard-size", "2"]
WORDS = {"a": "a red ball", "b": "a cat", "c": "a blue square", "d": "a red ball"}


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("encode") / "model"
    transformer = dict(in_channels=6, out_channels=6)
    tiny.wan_folder(folder, 300, transformer=transformer, vae=tiny.WAN_VAE_2)
    return folder


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    """Four videos of one window each (one of two) and a table of their captions."""
    folder = tmp_path_factory.mktemp("clips")
    for i, name in enumerate(WORDS):
        wide = picture((40, 90), i)
        frames = [wide[:, t : t + 80] for t in range(10 if name == "b" else 6)]
        write_video(folder / f"{name}.mp4", frames, 8)
    rows = "".join(f"{name},{text}\n" for name, text in WORDS.items())
    (folder / "captions.csv").write_text(f"videoid,text\n{rows}")
    return folder


@pytest.fixture
def run(model, clips):
    """Runs the command on all clips; returns its exit code."""

    def run(out, *more: str, folder: Path = clips) -> int:
        captions = ["--captions", str(folder / "captions.csv")]
        return main([MODEL, str(model), str(folder), str(out), *SMALL, *captions, *more])

    return run


@pytest.fixture(scope="module")
def whole(model, clips, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("cache") / "whole"
    captions = ["--captions", str(clips / "captions.csv")]
    assert main([MODEL, str(model), str(clips), str(out), *SMALL, *captions]) == 0
    return out


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_a_cache_is_what_a_backbone_reads(model, whole, caplog):
    encoders = open_encoders(MODEL, model, Geometry(5, SIZE), strict=False)
    source = ShardedRecords(whole, expect=encoders.requirements())
    assert [clip["id"] for clip in source.clips] == [f"{n}@{s}" for n, s in _windows()]
    spec = encoders.recipe.backbone.spec()
    for i, (name, _) in enumerate(_windows()):
        example = source[i]
        assert source.clips[i]["caption"] == WORDS[name]
        for key, one in spec.items():
            assert (example[key].shape, example[key].dtype) == (one.shape, one.dtype)
    texts = [source[i]["text"] for i in range(5)]
    np.testing.assert_array_equal(texts[0], texts[4])
    assert not np.array_equal(texts[0], texts[1])
    np.testing.assert_array_equal(source.null_text, encoders.shared()["null_text"])
    assert source.meta["clips"] == {"fps": 8.0, "hop": None, "resize": "cover"}


def _windows() -> list[tuple[str, str]]:
    return [("a", "00000"), ("b", "00000"), ("b", "00005"), ("c", "00000"), ("d", "00000")]


def test_two_machines_make_what_one_makes(run, whole, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    assert run(tmp_path / "cache", "--shard", "1/2") == 0
    assert "shard 1/2 is finished; 2 of 3 files" in caplog.text
    with pytest.raises(RecordError, match="not finished: 2 of 3 shards are missing"):
        ShardedRecords(tmp_path / "cache")
    assert run(tmp_path / "cache", "--shard", "0/2") == 0
    assert f"{tmp_path / 'cache'} is finished; train from it with --config.cache=" in caplog.text
    assert contents(tmp_path / "cache") == contents(whole)


def test_what_was_killed_goes_on_to_the_same_bytes(run, whole, tmp_path, monkeypatch, capsys):
    encode, seen = Encoders._encode, []

    def killed(self, params, group):
        seen.append(group[0].id)
        if len(seen) == 4:
            raise KeyboardInterrupt
        return encode(self, params, group)

    monkeypatch.setattr(Encoders, "_encode", killed)
    assert run(tmp_path / "cache") == 130
    assert "finished shards are kept" in capsys.readouterr().err
    assert sorted(p.name for p in (tmp_path / "cache").iterdir()) == [
        "00000-of-00003",
        "plan.json",
    ]
    assert run(tmp_path / "cache") == 0
    assert seen[4:] == ["b@00005", "c@00000", "d@00000"]
    assert contents(tmp_path / "cache") == contents(whole)
    assert run(tmp_path / "cache") == 0 and len(seen) == 7


def test_another_encoder_or_size_is_refused(model, whole, tmp_path):
    shutil.copytree(model, tmp_path / "other")
    tiny.wan_folder(tmp_path / "new", 301, vae=tiny.WAN_VAE_2)
    shutil.rmtree(tmp_path / "other" / "vae")
    shutil.move(tmp_path / "new" / "vae", tmp_path / "other" / "vae")
    for folder, geometry, message in (
        (tmp_path / "other", Geometry(5, SIZE), r"encoders.vae: '\w+' there, '\w+' wanted"),
        (model, Geometry(5, (64, 64)), r"size_hw: \[32, 64\] there, \[64, 64\] wanted; arrays"),
        (model, Geometry(9, SIZE), "frames: 5 there, 9 wanted; arrays"),
    ):
        encoders = open_encoders(MODEL, folder, geometry, strict=False)
        with pytest.raises(RecordError, match=f"was encoded otherwise: {message}"):
            ShardedRecords(whole, expect=encoders.requirements())


def test_a_cache_goes_on_as_it_was_begun(run, tmp_path, capsys):
    run(tmp_path / "cache", "--shard", "1/2")
    assert run(tmp_path / "cache", "--stored", "float16", "--hop", "1") == 1
    told = capsys.readouterr().err
    assert "stored: 'float32' there, 'float16' wanted" in told
    assert "clips.hop: None there, 1 wanted" in told and "7 clips are new" in told


@pytest.fixture
def changed(clips, tmp_path) -> Path:
    """A copy of the clips, to be changed."""
    return shutil.copytree(clips, tmp_path / "clips")


def test_captions_and_clips_that_do_not_match(run, changed, tmp_path, capsys):
    (changed / "captions.csv").write_text("videoid,text\na,a red ball\nx,nothing\n")
    assert run(tmp_path / "cache", folder=changed) == 1
    told = capsys.readouterr().err
    assert "3 videos have no caption" in told and "1 captions have no video (x)" in told
    assert "--skip-unmatched" in told and not (tmp_path / "cache").exists()
    (changed / "b.txt").write_text("a cat")
    assert run(tmp_path / "cache", "--skip-unmatched", folder=changed) == 0
    source = ShardedRecords(tmp_path / "cache")
    assert [clip["id"] for clip in source.clips] == ["a@00000", "b@00000", "b@00005"]


def test_short_and_broken_clips_are_named_and_left_out(run, changed, tmp_path, caplog, capsys):
    (changed / "a.mp4").unlink()
    (changed / "more" / "a").mkdir(parents=True)
    for i in range(3):
        Image.fromarray(picture((40, 80), 0)).save(changed / "more" / "a" / f"{i}.png")
    (changed / "c.mp4").write_bytes(b"no video")
    assert run(tmp_path / "cache", folder=changed) == 0
    assert "more/a: too short: 1 frames at 8 fps, a window needs 5" in caplog.text
    assert "c.mp4: not a video" in caplog.text
    assert len(ShardedRecords(tmp_path / "cache")) == 3
    assert run(tmp_path / "long", "--frames", "41", folder=changed) == 1
    assert "no usable clip" in capsys.readouterr().err and not (tmp_path / "long").exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--shard", "4/4"], "--shard 4/4: write 0/4, 1/4"),
        (["--shard", "one"], "--shard one: write 0/4"),
        (["--frames", "6"], r"frames 6 is not 4k + 1: use 5"),
        (["--part", "vae"], "'vae': write NAME=VALUE"),
        (["--shard-size", "0"], "shard_size 0 must be at least 1"),
        (["--image-noise"], "image_noise is CogVideoX image-to-video's"),
        (["--size-hw", "30x64"], "height 30 is not a multiple of 32: use 32"),
    ],
)
def test_what_is_wrong_is_told_before_any_work(run, tmp_path, capsys, more, message):
    assert run(tmp_path / "cache", *more) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "cache").exists()


def test_a_packaged_base_has_its_own_size(clips, tmp_path):
    captions = ["--captions", str(clips / "captions.csv")]
    out = tmp_path / "cache"
    how = ["--fps", "8", "--frames", "5"]
    assert main(["wan2.1-t2v-1.3b", "tiny-wan", str(clips), str(out), *captions, *how]) == 0
    source = ShardedRecords(out)
    assert source.meta["size_hw"] == [24, 24] and source.meta["model"] == "tiny-wan"
    assert source[0]["video"].shape == (2, 12, 12, 48)


def test_a_file_in_the_way(run, tmp_path, capsys):
    (tmp_path / "cache").write_text("mine")
    assert run(tmp_path / "cache") == 1
    assert "is no folder, choose another" in capsys.readouterr().err


def test_sigterm_keeps_what_is_finished(run, model, clips, tmp_path):
    """Leaves with the code that asks for another start, which goes on."""
    out = tmp_path / "cache"
    command = [sys.executable, "-m", "tavid_jax.pipelines.encode", MODEL, model, clips, out, *SMALL]
    command += ["--captions", clips / "captions.csv", "--shard-size", "1"]
    variables = os.environ | {"JAX_PLATFORMS": "cpu"}
    process = subprocess.Popen(list(map(str, command)), cwd=CHECKOUT, env=variables)
    deadline = time.monotonic() + 300
    while not list(out.glob("0*")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=120) in (0, 75)
    assert list(out.glob("0*"))
    assert run(out, "--shard-size", "1") == 0
    assert len(ShardedRecords(out)) == 5 and not list(out.glob(".*"))
