"""The caching command on clips with masks: what examples hold, and what is told before any work."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("torch")
pytest.importorskip("diffusers")

from tavid_jax.data.shards import ShardedRecords
from tavid_jax.data.video import write_video
from tavid_jax.pipelines.backbones import Geometry
from tavid_jax.pipelines.encode import main
from tavid_jax.pipelines.opening import open_encoders
from tavid_jax.pipelines.targets import Targets
from tests.pipelines import tiny
from tests.pipelines.reference import picture
from tests.pipelines.tavid import COGVIDEOX, TRANSFORMER, mask_of

SIZE = (32, 48)
SMALL = ["--any-size", "--size-hw", "32x48", "--frames", "5", "--fps", "8"]
WORDS = {"a": "the red cat", "b": "the blue cat on the red"}
BOXES = {"a": (8, 25, 10, 30), "b": (0, 16, 32, 48)}


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "model"
    tiny.cogvideox_folder(folder, 90, transformer=TRANSFORMER)
    return folder


@pytest.fixture
def clips(tmp_path) -> Path:
    """Two videos with captions; masks beside them, of the target and the actor."""
    folder = tmp_path / "clips"
    folder.mkdir()
    for i, (name, text) in enumerate(WORDS.items()):
        wide = picture((32, 60), i)
        write_video(folder / f"{name}.mp4", [wide[:, t : t + 48] for t in range(6)], 8)
        (folder / f"{name}.txt").write_text(text)
        for which, box in (("target", BOXES[name]), ("actor", (20, 32, 0, 8))):
            Image.fromarray(mask_of(*box)).save(folder / f"{name}.{which}.png")
    return folder


@pytest.fixture
def run(model, clips, tmp_path):
    """Runs the command; returns (its exit code, the folder of the cache)."""

    def run(*more: str):
        out = tmp_path / "cache"
        return main([COGVIDEOX, str(model), str(clips), str(out), *SMALL, *more]), out

    return run


def source_of(model, out, targets):
    """The cache, as a training on these targets opens it."""
    encoders = open_encoders(COGVIDEOX, model, Geometry(5, SIZE), targets=targets, strict=False)
    return ShardedRecords(out, expect=encoders.requirements()), encoders


def test_one_command(run, model):
    code, out = run("--masks", "beside", "--sentence", "", "--nouns", "cat", "dog")
    assert code == 0
    source, encoders = source_of(model, out, Targets(sentence="", nouns=("cat", "dog")))
    assert len(source) == 2  # one of each video, from its first frame on
    for i, (name, box) in enumerate(BOXES.items()):
        example = source[i]
        assert example["mask"].shape == (4, 6, 1) and example["columns"].shape == (1, 12)
        mask = mask_of(*box)
        np.testing.assert_array_equal(example["mask"][..., 0], mask[::8, ::8] / 255)
        area = mask.reshape(2, 16, 3, 16).mean((1, 3)).ravel() / 255
        np.testing.assert_allclose(example["aim"][0], area, atol=1e-6)
        told = {"a": "the red target cat", "b": "the blue target cat on the red"}[name]
        pieces = encoders.reader.pieces(told)
        assert [pieces[j] for j in np.flatnonzero(example["columns"][0])] == [" target"]
        with encoders.parts["text_encoder"].hold() as params:
            text = encoders.read(params, [told], 12)[told]
        np.testing.assert_array_equal(example["text"], text)


@pytest.mark.slow
def test_further_options(run, model, clips, tmp_path):
    """Masks in another folder, other words and objects, another way to the latent."""
    (tmp_path / "masks").mkdir()
    for file in clips.glob("*.png"):
        file.rename(tmp_path / "masks" / file.name)
    code, out = run(
        "--masks", str(tmp_path / "masks"), "--trigger", "red", "target", "--objects", "actor",
        "target", "--sentence", "red target", "--latent-mask", "max", "--aim", "max",
    )  # fmt: skip
    assert code == 0
    targets = Targets(
        words=("red", "target"), objects=("actor", "target"), sentence="red target", latent="max",
        aim="max",
    )  # fmt: skip
    example = source_of(model, out, targets)[0][0]
    assert example["mask"].shape == (4, 6, 2)
    actor, target = mask_of(20, 32, 0, 8), mask_of(*BOXES["a"])
    for k, mask in enumerate((actor, target)):
        np.testing.assert_array_equal(
            example["mask"][..., k], mask.reshape(4, 8, 6, 8).max((1, 3)) / 255
        )
    with pytest.raises(ValueError, match="was encoded otherwise: targets"):
        source_of(model, out, dataclasses.replace(targets, mentions="all"))


def test_a_list_of_selected_clips(run, tmp_path):
    from tavid_jax.data.verdicts import Verdict, write_verdicts

    file = tmp_path / "selected.csv"
    write_verdicts(file, {"a": Verdict(True, "", 3), "b": Verdict(False, "no contact", -1)})
    code, out = run(
        "--masks", "beside", "--sentence", "", "--nouns", "cat", "--selected", str(file)
    )
    assert code == 0 and len(ShardedRecords(out)) == 1


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--nouns", "cat"], "--nouns is of clips with masks: give --masks beside"),
        (["--sentence", ""], "--sentence is of clips with masks"),
        (["--masks", "beside", "--sentence", ""], "lacks the word 'target'"),
        (["--masks", "beside", "--sentence", "", "--nouns", "mug"], "a.mp4: the caption 'the red"),
        (["--masks", "beside", "--objects", "left"], "targets.objects 'left' is neither"),
        (["--masks", "beside", "--objects", "actor", "target"], "name one object for each of 1"),
        (["--masks", "beside", "--sentence", "It moves."], "lacks the word 'target'"),
        (["--masks", "nowhere"], "nowhere"),
        (["--masks", "beside"], "targets.sentence has 30 tokens, the model reads 11"),
    ],
)
def test_what_is_wrong_is_told_before_any_work(run, capsys, more, message):
    code, out = run(*more)
    told = capsys.readouterr().err
    assert code == 1 and message in told and told.count("\n") == 1
    assert not out.exists()


def test_the_default_sentence_names_the_trigger(run, capsys):
    code, _ = run("--masks", "beside", "--trigger", "red", "--sentence", "the red")
    assert code == 0
    code, _ = run("--masks", "beside", "--trigger", "blue")
    assert code == 1 and "targets.sentence has" in capsys.readouterr().err
