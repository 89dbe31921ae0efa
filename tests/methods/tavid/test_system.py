"""A whole run of the demo, smaller still: trained, judged, reported, opened, sampled, previewed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from ml_collections import ConfigDict

import tavid_jax
from configs.tavid import get_config
from tavid_jax import run
from tavid_jax.data.synthetic import sample_scene, scene_clip, toy
from tavid_jax.methods.registry import make_system
from tavid_jax.methods.tavid.pages import MASKED, outlined
from tavid_jax.methods.tavid.variants import Models
from tavid_jax.pipelines.opening import open_pipeline
from tests.methods.finetune import tiny


def small(folder: Path) -> ConfigDict:
    """Two trainings of two steps, two scenes, two sampling steps."""
    config = get_config("demo")
    config.data_dir = str(folder / "data")
    config.data.scenes.update(train=4, test=2)
    for stage in ("tavid", "text_only"):
        config.stages[stage].update(steps=2, batch_size=2, snapshots=())
        config.stages[stage].optimizer.warmup = 0
    config.stages.tavid.snapshots = (1,)
    config.order = ("tavid", "text_only")
    config.evaluate.sets.plain.order = ("tavid", "text_only")
    config.evaluate.update(mapped=1, resamples=50)
    config.sampling.options.steps = 2
    config.report.scenes = 1
    return config


@pytest.fixture(scope="module")
def workdir(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tavid")
    run.run(small(folder), folder / "run", "train")
    return folder / "run"


def test_the_report_and_its_numbers(workdir: Path):
    metrics = json.loads((workdir / "report" / "metrics.json").read_text())
    plain = metrics["plain"]
    assert set(plain["variants"]) == {"tavid", "text_only"} and plain["scenes"] == 2
    found = plain["variants"]["tavid"]
    assert found["touched"]["flips"]["scenes"] == 2  # masks were swapped
    assert plain["variants"]["text_only"]["touched"]["flips"]["scenes"] == 0
    assert list(found["curve"]) == ["1"]
    assert [block["block"] for block in found["attention"]["blocks"]] == [0, 1, 2, 3]
    assert set(plain["claims"]) == {
        "masked minus other",
        "masked, minus text_only",
        "flips of touching",
    }
    page = (workdir / "report" / "index.html").read_text()
    assert page.count("image/webp") == 2  # the first scene, and maps of the first model
    assert "What is touched: Two look-alikes" in page


def test_the_run_is_opened_with_its_mask_channel(workdir: Path):
    model = tavid_jax.load(workdir)
    assert model.targets.words == ("target",)
    clip = scene_clip(sample_scene(toy.reaching(says_target=1.0), 3))
    options = dict(image=clip.video[0], steps=2, seed=1)
    first, again, other = (
        model.sample(clip.caption, mask=clip.masks[number - 1], **options).frames
        for number in (1, 1, 2)
    )
    assert first.shape == (9, 24, 24, 3)
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()  # the channel is read, trained or not for long
    files = {path.name for path in (workdir / "model").iterdir()}
    assert {"pytorch_lora_weights.safetensors", "patch_embed_conv2d.pth"} <= files
    with pytest.raises(ValueError, match="1 target .target.: give one mask for each, not 0"):
        model.sample(clip.caption, **options)


def test_samples_of_a_run_have_the_masks_of_its_scenes(workdir: Path):
    config = small(workdir.parent)
    config.sampling.videos = 1
    out = run.run(config, workdir, "sample")
    assert [path.suffix for path in out.iterdir()] == [".webp"]


def test_preview_without_weights(tmp_path: Path):
    """Masks, cells and places of the word; no checkpoint is opened."""
    config = small(tmp_path)
    config.checkpoint = ""
    page = run.run(config, tmp_path / "run", "preview")
    text = Path(page).read_text()
    assert "Targets of train" in text and "input, max" in text
    assert "a <strong>" in text or "<strong>target</strong>" in text or "**target**" in text


def test_weights_are_exchanged_between_variants(tmp_path: Path):
    """What a pipeline makes after another stage was opened is that stage's, not the first one's."""
    config = small(tmp_path)
    method = make_system(config).method("tavid")
    base = open_pipeline("tiny-cogvideox")
    models = Models(base, base.published.sampling.changed({"steps": 2}))
    clip = scene_clip(sample_scene(toy.reaching(says_target=1.0), 3))

    def frames(seed: int) -> np.ndarray:
        pipeline = models.open(method, tiny.random_params(method, seed))
        (video,) = models.sample(pipeline, [clip], [clip.target], seed=0, batch_size=1)
        return video.frames

    first, second, again = frames(0), frames(1), frames(0)
    np.testing.assert_array_equal(first, again)
    assert (first != second).any()
    assert models.open(None, {}) is base


def test_an_unknown_main_stage(tmp_path: Path):
    config = small(tmp_path)
    config.main = "no_loss"
    with pytest.raises(ValueError, match="config.main 'no_loss' is none of the stages tavid, text"):
        _ = make_system(config).main_stage


def test_masks_are_outlined_outside_of_the_object():
    mask = np.zeros((24, 24), bool)
    mask[8:12, 4:9] = True
    frames = outlined(np.zeros((2, 24, 24, 3), np.uint8), mask, 96, MASKED)
    assert frames.shape == (2, 96, 96, 3)
    drawn = (frames[0] == MASKED).all(-1)
    assert drawn.any() and not drawn[32:48, 16:36].any()
    rows, columns = np.nonzero(drawn)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (31, 48, 15, 36)
