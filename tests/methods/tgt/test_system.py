"""A whole run, smaller still: trained, judged, opened, resumed, sampled, previewed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

import tavid_jax
from tavid_jax import run
from tavid_jax.engine.checkpoint import load_result
from tavid_jax.engine.report import Report
from tavid_jax.methods.finetune.saving import sampling_of
from tavid_jax.methods.registry import make_system
from tavid_jax.methods.tgt.preview import neighbourhood_pages
from tavid_jax.methods.tgt.system import TgtSystem
from tavid_jax.methods.tgt.variants import Models
from tavid_jax.pipelines import Job
from tavid_jax.pipelines.opening import open_pipeline
from tavid_jax.tracks.neighbourhoods import Rule
from tests.methods.finetune import tiny
from tests.methods.tgt.small import OBJECTS, scene, small

STEPS = 2


def alike(folder: Path) -> ConfigDict:
    """Both stages by one program: the first one differs in which trajectories it draws alone."""
    config = small(folder)
    dense = config.stages.dense.options
    dense.laca.gaussian = config.laca.gaussian
    dense.trajectories.update(points=5, least=3, most=5)
    return config


@pytest.fixture(scope="module")
def workdir(tmp_path_factory, programs) -> Path:
    folder = tmp_path_factory.mktemp("tgt")
    run.run(alike(folder), folder / "run", "train")
    return folder / "run"


def read_metrics(workdir: Path) -> dict:
    return json.loads((workdir / "report" / "metrics.json").read_text())


def test_the_report_and_its_numbers(workdir: Path):
    metrics = read_metrics(workdir)
    rows = metrics["variants"]
    assert set(rows) == {"oracle", "tgt", "early", "text"}
    assert (metrics["scenes"], metrics["entities"]) == (2, 4)
    assert rows["early"]["stages"] == ["sparse@1"] and rows["text"]["stages"] == [""]
    oracle = rows["oracle"]["measured"]
    assert oracle["epe"]["value"] < 1.5 and oracle["missing"]["value"] == 0
    claims = metrics["tables"]["headline"]["claims"]
    assert set(claims) == {"early", "text"}
    epe = {name: row["measured"]["epe"]["value"] for name, row in rows.items()}
    assert claims["text"]["epe"]["difference"] == pytest.approx(epe["tgt"] - epe["text"])
    assert len({epe[name] for name in ("tgt", "early", "text")}) == 3  # models of its own
    page = (workdir / "report" / "index.html").read_text()
    assert page.count("image/webp") == 2  # the first scene, the worst one
    assert "TGT, dual guidance" in page and "Worst scenes" in page
    losses = [r for r in (workdir / "stages" / "sparse" / "metrics.jsonl").read_text().splitlines()]
    assert all(np.isfinite(json.loads(line)["loss"]) for line in losses) and losses


def made(pipeline, *fields: dict) -> list[np.ndarray]:
    """Videos of scene 3, two at once: the batches of the evaluation, whose programs are there."""
    jobs = [Job(scene(3).caption, seed=1, **one) for one in fields]
    return [video.frames for video in pipeline.run(jobs, batch_size=2)]


def test_the_run_is_opened_and_each_word_follows_its_trajectory(workdir: Path):
    model = tavid_jax.load(workdir)
    assert (workdir / "model" / "laca.safetensors").is_file()
    assert not (workdir / "model" / "transformer").exists()  # the base is as it was
    tracks = OBJECTS.known(scene(3))
    first, again, other, weak = made(
        model,
        dict(tracks=tracks),
        dict(tracks=tracks.replace(texts=None), texts=list(tracks.texts)),
        dict(tracks=tracks, texts=["a white beam", "a teal disc"]),
        dict(tracks=tracks, options={"strength": 0.1}),
    )
    assert first.shape == (9, 24, 24, 3)
    np.testing.assert_array_equal(first, again)
    assert (first != other).any() and (first != weak).any()
    # Training has changed nothing of the base.
    alone = [dict(options={"guidance": 3.5, "steps": STEPS})] * 2
    plain, _ = made(model, *alone)
    assert (first != plain).any()
    base, _ = made(open_pipeline("tiny-wan"), *alone)
    np.testing.assert_array_equal(plain, base)


def test_an_interrupted_stage_goes_on_to_the_same_result(workdir: Path, tmp_path, monkeypatch):
    again = tmp_path / "run"
    shutil.copytree(workdir, again)
    stage = again / "stages" / "sparse"
    (stage / "done.json").unlink()
    shutil.rmtree(stage / "result")
    shutil.rmtree(stage / "checkpoints" / str(STEPS))
    monkeypatch.setattr(TgtSystem, "evaluate", lambda self, *_: {"seconds": {}})
    run.run(alike(workdir.parent), again, "train")
    found, wanted = (
        load_result(place / "stages" / "sparse" / "result") for place in (again, workdir)
    )
    jax.tree.map(np.testing.assert_array_equal, found, wanted)
    start = load_result(workdir / "stages" / "sparse" / "snapshots" / "1")
    changed = jax.tree.map(lambda a, b: bool((a != b).any()), start, wanted)
    assert all(jax.tree.leaves(changed))  # the second step was done again


def test_without_tables_samples_stand_beside_the_true_clips(workdir: Path):
    config = alike(workdir.parent)
    config.evaluate.tables = ConfigDict()
    config.report.scenes = 2
    before = (workdir / "report" / "metrics.json").read_text()
    page = Path(run.run(config, workdir, "evaluate")).read_text()
    assert "Unseen scenes" in page and page.count("image/webp") == 2
    assert len(read_metrics(workdir)["shown"]["test"]) == 2
    (workdir / "report" / "metrics.json").write_text(before)


def test_samples_of_a_run_follow_the_tracks_of_its_scenes(workdir: Path, monkeypatch):
    config = alike(workdir.parent)
    config.sampling.videos = 2
    asked = []
    monkeypatch.setattr(
        "tavid_jax.methods.tgt.system.write_samples",
        lambda pipeline, jobs, *rest: asked.extend(jobs) or [],
    )
    run.run(config, workdir, "sample")
    assert len(asked) == 2
    for job in asked:
        assert job.tracks.num_points == 2 and set(job.tracks.texts) == set(
            job.prompt.split(" and ")
        )


def test_preview_without_weights(tmp_path: Path):
    """Owners and weights of every stage; no checkpoint is opened."""
    config = small(tmp_path)
    config.checkpoint = ""
    text = Path(run.run(config, tmp_path / "run", "preview")).read_text()
    for name in ("train", "test"):
        for stage in ("dense", "sparse"):
            assert f"{name}: trajectories of stage {stage}" in text
    # A clip of each set and its examples in two stages; noise.
    assert text.count("image/webp") >= 2 * (1 + 2) + 1
    assert "owners and weights" in text or "owned tokens" in text


def test_what_the_preview_counts(tmp_path: Path):
    config = small(tmp_path)
    config.checkpoint = ""
    system = make_system(config)
    backbones = {n: system.method(n).backbone for n in ("dense", "sparse")}
    clip = scene(3)
    away = clip.replace(tracks=clip.tracks + np.float32([100, 0]))
    here, there = (
        neighbourhood_pages(config, "test", [one], backbones, Report("a")) for one in (clip, away)
    )
    assert 20 <= here["dense"]["trajectories"] <= 40 and here["sparse"]["trajectories"] in (1, 2)
    assert 0 < here["sparse"]["owned"] <= here["sparse"]["trajectories"] * 3 * 9 / (3 * 6 * 6)
    assert here["sparse"]["owned"] < here["dense"]["owned"] < 1 and here["dense"]["outside"] == 0
    # Points far to the right are seen nowhere.
    assert there["dense"]["owned"] == 0 and there["dense"]["outside"] >= 20
    assert backbones["sparse"].rule == Rule(radius=1.5, centre="continuous", time="mean")


def test_weights_are_exchanged_between_variants(tmp_path: Path, programs):
    """What a pipeline makes after another stage was opened is that stage's, not the first one's."""
    config = small(tmp_path)
    method = make_system(config).method("sparse")
    base = open_pipeline("tiny-wan")
    models = Models(base, sampling_of(config, config.model))
    clips = [scene(3), scene(4)]

    def frames(seed: int) -> np.ndarray:
        pipeline = models.open(method, tiny.random_params(method, seed))
        return models.sample(pipeline, clips, OBJECTS, {}, seed=0, batch_size=2)[0].frames

    first, second, again = frames(0), frames(1), frames(0)
    np.testing.assert_array_equal(first, again)
    assert (first != second).any()
    assert models.open(None, {}) is base
    # The base is asked for nothing that it does not know.
    options = {"dual": "semantic", "strength": 0.3, "guidance": 3.5}
    videos = models.sample(base, clips, None, options, seed=0, batch_size=2)
    jobs = [Job(clip.caption, seed=i, options={"steps": STEPS}) for i, clip in enumerate(clips)]
    for video, want in zip(videos, base.run(jobs, 2), strict=True):
        np.testing.assert_array_equal(video.frames, want.frames)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(main="s9"), "config.main 's9' is none of the stages dense, sparse"),
        (
            lambda c: c.evaluate.update(order=("tables",)),
            r"evaluate.order \('tables',\): give each of the tables once, headline",
        ),
        (
            lambda c: c.evaluate.tables.headline.update(main="x"),
            "evaluate.tables.headline.main 'x' is none of its order",
        ),
        (lambda c: c.stages.dense.update(method="finetune"), "'finetune': there is tgt, encode"),
    ],
)
def test_what_could_not_be_run_is_refused_at_once(tmp_path: Path, change, message: str):
    config = small(tmp_path)
    change(config)
    with pytest.raises(ValueError, match=message):
        system = make_system(config)
        system.method("dense")
        _ = system.main_stage
