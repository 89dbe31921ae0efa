"""Whole tiny runs from configs/finetune.py: training, adapters, judging, preview, samples."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

import cv2
import jax
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache
from ml_collections import ConfigDict

from tavid_jax import run
from tavid_jax.data.clip import Clip
from tavid_jax.methods.finetune import evaluation, pages
from tavid_jax.methods.finetune.judging import ATTRIBUTES, Judged, Thing
from tavid_jax.pipelines.card import ADAPTERS
from tests.methods.finetune import bases

SCENES = 3
SETTINGS = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")


def smallest(preset: str, folder: Path) -> ConfigDict:
    """A tiny preset made tinier still: it learns nothing, but every part of it runs."""
    config = bases.config(preset)
    config.data_dir, config.compile_cache = str(folder / "data"), str(folder / "xla")
    config.cpu_devices = 1
    config.data.scenes.test = SCENES
    for other in config.evaluate.beside.values():
        other.scenes = 2
    config.evaluate.update(batch_size=2, resamples=50)
    config.report.update(scenes=1, sheet=2, failures=1)
    stage = config.stages.finetune
    stage.update(steps=2, batch_size=2, log_every=1, checkpoint_every=2)
    stage.optimizer.update(warmup=0, schedule="constant")
    return config


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Of all runs: their data and their compiled programs."""
    former = {name: getattr(jax.config, name) for name in SETTINGS}
    compilation_cache.reset_cache()
    yield tmp_path_factory.mktemp("finetune")
    for name, value in former.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


@pytest.fixture(scope="module")
def trained(folder: Path) -> Path:
    """A tiny Wan, trained and judged."""
    run.run(smallest("tiny_wan", folder), folder / "wan", "train")
    return folder / "wan"


def metrics_of(workdir: Path) -> dict:
    return json.loads((workdir / "report" / "metrics.json").read_text())


def test_a_text_to_video_model_is_judged(trained: Path):
    metrics = metrics_of(trained)
    for name, scenes in (("test", SCENES), ("seen", 2)):
        part = metrics[name]
        assert part["scenes"] == scenes and "base" not in part and "change" not in part
        for attribute in ATTRIBUTES:
            assert 0 <= part["sample"]["all"][attribute]["value"] <= 1
            assert part["truth"]["all"][attribute]["value"] == 1
        assert part["sample"]["all"]["colour"]["scenes"] == scenes
        assert set(part["by"]) == {"colour", "shape", "motion"}
    assert metrics["test"]["title"] == "Unseen captions"
    goals = {(goal["group"], goal["name"]): goal["goal"] for goal in metrics["goals"]}
    assert goals["one", "colour"] == 0.95 and goals["two", "colour"] == 0.9
    assert len(metrics["probe"]["right"]) == len(metrics["probe"]["sigma"]) == 4
    assert metrics["seconds"]["finetune"] > 0 and metrics["seconds"]["this_command"] > 0
    assert "weights/finetune" in metrics["provenance"]
    page = (trained / "report" / "index.html").read_text()
    for words in (" on 3 unseen scenes", "Seen captions", "Failures", "By colour"):
        assert words in page
    assert metrics["provenance"]["config"] in page and page.count("image/webp") >= 5


def test_adapters_are_compared_with_their_base(folder: Path, trained: Path):
    config = smallest("demo", folder)
    config.checkpoint = str(trained / "model")
    bases.write_run(folder / "demo", config)
    run.run(config, folder / "demo", "evaluate")
    metrics = metrics_of(folder / "demo")
    for name in ("test", "old"):
        part = metrics[name]
        assert {"sample", "base", "truth", "change"} <= set(part)
        for attribute, change in part["change"]["all"].items():
            values = (part[model]["all"][attribute]["value"] for model in ("sample", "base"))
            assert change["difference"] == pytest.approx(-np.diff(list(values))[0])
    assert (folder / "demo" / "model" / ADAPTERS).is_file()
    page = (folder / "demo" / "report" / "index.html").read_text()
    assert "the base alone" in page and "Captions of old colours" in page


def test_an_image_to_video_model_is_judged(folder: Path):
    config = smallest("tiny_cogvideox", folder)
    bases.write_run(folder / "cogvideox", config)
    run.run(config, folder / "cogvideox", "evaluate")
    metrics = metrics_of(folder / "cogvideox")
    test = metrics["test"]
    assert test["truth"]["all"]["target"]["value"] == 1
    assert test["still"]["all"]["none"]["value"] == 1
    assert test["still"]["all"]["first_frame"]["value"] == 0
    assert test["still"]["all"]["balance"]["value"] is None  # nothing was touched
    shares = [test["sample"]["all"][name]["value"] for name in ("target", "lookalike", "none")]
    assert math.isclose(sum(shares), 1)
    assert {goal["name"] for goal in metrics["goals"]} == {"touched", "balance", "first_frame"}
    assert "probe" not in metrics
    page = (folder / "cogvideox" / "report" / "index.html").read_text()
    assert "A touch counts where the boxes are seen" in page


def test_a_run_may_be_judged_again_with_other_settings(folder: Path, trained: Path):
    config = smallest("tiny_wan", folder)
    config.evaluate.beside = ConfigDict()
    config.evaluate.goals = ConfigDict()
    run.run(config, trained, "evaluate")
    metrics = metrics_of(trained)
    assert "seen" not in metrics and metrics["goals"] == []


def test_without_a_judge_the_clips_are_shown(folder: Path, trained: Path):
    config = smallest("tiny_wan", folder)
    config.evaluate.judge = "none"
    run.run(config, trained, "evaluate")
    metrics = metrics_of(trained)
    assert set(metrics) == {"shown", "seconds", "provenance"}
    assert len(metrics["shown"]["test"]) == config.report.scenes
    page = (trained / "report" / "index.html").read_text()
    assert "Samples of the first captions beside their true clips." in page
    assert "image/webp" in page and "<svg" in page  # the curves


@pytest.fixture(scope="module")
def videos(folder: Path) -> Path:
    """Two clips of 24 frames with captions beside them."""
    place = folder / "videos"
    place.mkdir()
    for number, name in enumerate(("one", "two")):
        code = cv2.VideoWriter_fourcc(*"mp4v")
        writer = cv2.VideoWriter(str(place / f"{name}.mp4"), code, 8.0, (32, 32))
        for t in range(24):
            frame = np.full((32, 32, 3), 60 + 20 * number, np.uint8)
            frame[10:20, t : t + 8] = 220
            writer.write(frame)
        writer.release()
        (place / f"{name}.txt").write_text(f"clip {name}")
    return place


def test_samples_stand_beside_the_clips_of_a_user(folder: Path, videos: Path):
    config = smallest("tiny_wan", folder)
    config.train_clips, config.data.clips.holdout = str(videos), 0.4
    config.evaluate.judge = "none"
    bases.write_run(folder / "mine", config)
    run.run(config, folder / "mine", "evaluate")
    shown = metrics_of(folder / "mine")["shown"]
    assert len(shown["train"]) == len(shown["held_out"]) == 1
    page = (folder / "mine" / "report" / "index.html").read_text()
    for words in ("Training clips", "Held-out parts of the clips", "clip one"):
        assert words in page
    preview = run.run(config, folder / "mine", "preview").read_text()
    assert "clip one" in preview and "Captions as tokens" in preview


def test_preview_draws_data_before_any_training(folder: Path, tmp_path: Path):
    page = run.run(smallest("tiny_wan", folder), tmp_path / "run", "preview").read_text()
    assert not (tmp_path / "run" / "stages").exists()
    for words in ("Data set train", "Captions as tokens", " · end", "Noised, as decoded", "tokens"):
        assert words in page
    assert page.count("image/webp") == 4  # a clip and its noise, of each data set


def test_samples_are_files_with_what_made_them(folder: Path, trained: Path):
    config = smallest("tiny_wan", folder)
    config.sampling.videos = 1
    out = run.run(config, trained, "sample")
    (film,) = out.iterdir()
    assert film.suffix == ".webp" and film.stat().st_size > 100


# ---- numbers of a trial --------------------------------------------------------------------------


def judged(**right: float) -> Judged:
    values = dict.fromkeys(ATTRIBUTES, 1.0) | right
    thing = Thing(
        "red", "disc", "left", {n: bool(values[n]) for n in ("colour", "motion", "shape")}
    )
    return Judged(values, (thing,))


def test_a_trial_measures_every_model():
    clips = [
        Clip(str(i), (4, 4), 8.0, kinds=("left",) * n, caption=words)
        for i, (n, words) in enumerate(((1, "a"), (1, "b"), (2, "a"), (2, "c")))
    ]
    right, wrong = judged(), judged(colour=0.0, all=0.0)
    found = {
        pages.SAMPLE: [right, right, right, wrong],
        pages.BASE: [wrong, right, wrong, wrong],
        pages.TRUTH: [right] * 4,
    }
    trial = evaluation.Trial("A title", clips, {}, found)
    measured = trial.measured(resamples=200)
    assert (measured["title"], measured["scenes"], measured["captions"]) == ("A title", 4, 3)
    assert measured["sample"]["one"]["colour"]["value"] == 1.0
    assert measured["sample"]["two"]["colour"]["value"] == 0.5
    assert measured["sample"]["all"]["colour"]["value"] == 0.75
    assert measured["base"]["all"]["colour"]["value"] == 0.25
    change = measured["change"]["all"]["colour"]
    assert change["difference"] == 0.5 and change["scenes"] == 4
    assert measured["change"]["all"]["motion"]["difference"] == 0.0
    assert measured["by"]["colour"]["red"]["objects"] == 4
    assert measured["by"]["colour"]["red"]["colour"] == 0.75  # of the samples, not of the base
