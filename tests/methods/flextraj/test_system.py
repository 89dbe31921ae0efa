"""A whole run, smaller still: trained, judged, reported, opened, sampled, previewed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import tavid_jax
from tavid_jax import run
from tavid_jax.data.segments import trajectories_of
from tavid_jax.data.synthetic import sample_scene, scene_clip, toy
from tavid_jax.methods.flextraj.variants import Models
from tavid_jax.methods.registry import make_system
from tavid_jax.pipelines.follow import Follow
from tavid_jax.pipelines.opening import open_pipeline
from tests.methods.finetune import tiny
from tests.methods.flextraj.small import small as whole

COLUMNS = ("coloured", "frames_2", "unaligned")


def small(folder: Path):
    """Two stages, three granularities."""
    config = whole(folder)
    config.order, config.evaluate.columns = ("dense", "unaligned"), COLUMNS
    config.stages.unaligned.init_from, config.evaluate.curve = ("dense",), ("dense",)
    config.stages.dense.snapshots = (1,)
    return config


@pytest.fixture(scope="module")
def workdir(tmp_path_factory, programs) -> Path:
    folder = tmp_path_factory.mktemp("flextraj")
    run.run(small(folder), folder / "run", "train")
    return folder / "run"


def test_the_report_and_its_numbers(workdir: Path):
    metrics = json.loads((workdir / "report" / "metrics.json").read_text())
    assert set(metrics["variants"]) == {"oracle", "zero", "flextraj", "base"}
    assert metrics["variants"]["flextraj"]["stages"] == ["unaligned"] and metrics["scenes"] == 2
    cells = {name: row["measured"] for name, row in metrics["variants"].items()}
    for column in COLUMNS:
        assert cells["oracle"][column]["error"]["value"] < 0.5 / 24
        assert cells["zero"][column]["similarity"]["value"] == 0
        assert set(metrics["claims"][column]) == {"oracle", "zero", "base"}
        # Without tracks there is one video, whatever the others are given.
        assert cells["base"][column]["lost"] == cells["base"]["coloured"]["lost"]
    found = metrics["claims"]["coloured"]["base"]
    means = [cells[name]["coloured"]["error"]["value"] for name in ("flextraj", "base")]
    assert found["difference"] == pytest.approx(means[0] - means[1])
    given = metrics["granularities"]
    assert (given["frames_2"]["frames"], given["coloured"]["frames"]) == (2, 9)
    assert [(point["stage"], point["step"]) for point in metrics["curve"]] == [
        ("dense", 1),
        ("dense", 2),
    ]
    page = (workdir / "report" / "index.html").read_text()
    assert page.count("image/webp") == 4  # a scene at each granularity, the worst one
    assert "FlexTraj, First and last frame" in page and "scoring.motion" in page


def test_the_run_is_opened_and_follows_tracks(workdir: Path):
    model = tavid_jax.load(workdir)
    assert (workdir / "model" / "control.safetensors").is_file()
    clip = scene_clip(sample_scene(toy.steered(), 3))
    options = dict(image=clip.video[0], steps=2, seed=1)
    follow = dict(native=True, stamp=(1.0, 1.0), codes="spread", order="array")
    tracks = trajectories_of(clip)
    # The folder knows how points are drawn.
    assert model.follow["codes"] == "spread"
    first, again, plain = (
        model.sample(clip.caption, **options, **more).frames
        for more in (dict(tracks=tracks, follow=follow), dict(tracks=tracks), {})
    )
    assert first.shape == (9, 24, 24, 3)
    np.testing.assert_array_equal(first, again)
    assert (first != plain).any()
    base = open_pipeline("tiny-cogvideox").sample(clip.caption, guidance=1.0, **options)
    np.testing.assert_array_equal(base.frames, plain)


def test_samples_of_a_run_follow_the_tracks_of_its_scenes(workdir: Path, monkeypatch):
    config = small(workdir.parent)
    config.sampling.videos = 1
    asked = []
    monkeypatch.setattr(
        "tavid_jax.methods.flextraj.system.write_samples",
        lambda pipeline, jobs, *rest: asked.extend(jobs) or [],
    )
    run.run(config, workdir, "sample")
    (job,) = asked
    assert job.tracks.num_points == 144 and job.follow.colour == "frame"


def test_without_a_judge_samples_stand_beside_what_steers_them(workdir: Path):
    config = small(workdir.parent)
    config.evaluate.order, config.evaluate.columns = (), ("coloured",)
    page = Path(run.run(config, workdir, "evaluate")).read_text()
    assert "Unseen scenes: Dense, with colours" in page and page.count("image/webp") == 1
    metrics = json.loads((workdir / "report" / "metrics.json").read_text())
    assert len(metrics["shown"]["test"]) == 1


def test_preview_without_weights(tmp_path: Path):
    """Tasks and condition videos; no checkpoint is opened."""
    config = small(tmp_path)
    config.checkpoint = ""
    text = Path(run.run(config, tmp_path / "run", "preview")).read_text()
    assert "Shares of tasks" in text and "Examples of stage unaligned" in text
    assert "test: First and last frame" in text
    # A clip of each set, an example of each stage, three granularities; noise.
    assert text.count("image/webp") >= 2 + 2 + 3


def test_weights_are_exchanged_between_variants(tmp_path: Path):
    """What a pipeline makes after another stage was opened is that stage's, not the first one's."""
    config = small(tmp_path)
    method = make_system(config).method("dense")
    base = open_pipeline("tiny-cogvideox")
    models = Models(base, base.published.sampling.changed({"steps": 2}))
    clip = scene_clip(sample_scene(toy.steered(), 3))
    follow = Follow.of(config.follow.to_dict())

    def frames(seed: int) -> np.ndarray:
        pipeline = models.open(method, tiny.random_params(method, seed))
        (video,) = models.sample(pipeline, [clip], follow, seed=0, batch_size=1)
        return video.frames

    first, second, again = frames(0), frames(1), frames(0)
    np.testing.assert_array_equal(first, again)
    assert (first != second).any()
    assert models.open(None, {}) is base


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(main="s9"), "config.main 's9' is none of the stages dense, unaligned"),
        (lambda c: c.evaluate.update(main="x"), "evaluate.main 'x' is none of flextraj, base"),
        (lambda c: c.evaluate.update(order=("x",)), "evaluate.order: 'x' is no variant"),
        (lambda c: c.evaluate.update(columns=("x",)), "evaluate.columns: 'x' is no granularity"),
        (lambda c: c.evaluate.update(columns=()), "name what is given to them, columns"),
        (lambda c: c.evaluate.update(curve=("s3",)), "evaluate.curve: stage 's3' is none of dense"),
        (
            lambda c: c.evaluate.variants.flextraj.update(stage="s2"),
            "evaluate.variants.flextraj: stage 's2' is none",
        ),
        (
            lambda c: c.evaluate.granularities.coloured.update(measure="fvd"),
            "granularities.coloured.measure 'fvd' is none of trajerr, trajsim",
        ),
        (
            lambda c: c.evaluate.granularities.coloured.follow.update(colour="blue"),
            "granularities.coloured.follow: colour 'blue': there are none, frame, point",
        ),
    ],
)
def test_what_could_not_be_judged_is_refused_at_once(tmp_path: Path, change, message: str):
    config = small(tmp_path)
    change(config)
    with pytest.raises(ValueError, match=message):
        _ = make_system(config).main_stage
