"""The block study: it finds a block that is made to match, on real tiny models of both families."""

from __future__ import annotations

import dataclasses
import functools
import json

import jax.numpy as jnp
import numpy as np
import pytest

from tavid_jax.data.clip import Clip, ClipError
from tavid_jax.models.cogvideox.transformer import CogVideoX
from tavid_jax.models.layers.ports import Prediction
from tavid_jax.models.wan.transformer import Wan
from tavid_jax.pipelines import study as study_module
from tavid_jax.pipelines.backbones import CogVideoXBackbone, WanBackbone
from tavid_jax.pipelines.jobs import Job
from tavid_jax.pipelines.looking import look
from tavid_jax.pipelines.maps import MEASURES, chance, overlap
from tavid_jax.pipelines.part import Part
from tavid_jax.pipelines.pipeline import Pipeline
from tavid_jax.pipelines.ranking import record_of, table_of
from tavid_jax.pipelines.study import _by_expert, study
from tavid_jax.pipelines.targets import Targets
from tavid_jax.weights import CHECKPOINTS
from tavid_jax.weights.lazy import as_lazy
from tavid_jax.weights.opened import Opened
from tavid_jax.weights.table import walk
from tests.pipelines import trained

FAMILIES = ("wan", "cogvideox")
CAPTION = "a red disc touches the target box"


def clip(number: int, top: int, left: int, caption: str = CAPTION, size: int = 8) -> Clip:
    """A white target on black, and an actor beside it; the mask has the target as object 2."""
    video = np.zeros((9, 16, 16, 3), np.uint8)
    video[:, top : top + size, left : left + size] = 255
    masks = np.zeros((2, 16, 16), bool)
    masks[0, :4, :4] = True
    masks[1, top : top + size, left : left + size] = True
    return Clip(
        f"clip{number}", (16, 16), 8, video=video, masks=masks, caption=caption, actor=1, target=2
    )


CLIPS = (clip(0, 0, 8), clip(1, 8, 4), clip(2, 4, 4))


@pytest.fixture(autouse=True)
def _traced_anew():
    """Programs are kept by what the model is, not by what a test put in place of its parts."""
    study_module._seen.clear_cache()


@functools.cache
def with_targets(family: str) -> Pipeline:
    """A model of random weights that reads a mask."""
    config = dataclasses.replace(trained.CONFIGS[family], extra_channels=1)
    pipeline = trained.in_memory(family)
    params = trained.random_params(CHECKPOINTS[trained.KINDS[family]].shapes(config), 0)
    kernel = np.random.default_rng(5).normal(size=(config.patch_elements, config.dim))
    params["patch_embed_extra"] = {"kernel": kernel.astype(np.float32)}
    leaves = {path: as_lazy(leaf) for path, leaf in walk(params)}
    module = Wan if family == "wan" else CogVideoX
    opened = Opened("memory", "transformer", config, None, leaves)
    running = dict(dtype=jnp.float32, param_dtype=jnp.float32)
    parts = pipeline.parts | {
        "transformer": Part("transformer", opened, module(config, **running), jnp.float32)
    }
    targets = Targets(sentence="")
    return dataclasses.replace(pipeline, parts=parts, targets=targets)


def of_brightness(self, params, state, timestep, batch, probe=None):
    """Block 1 attends where the first latent frame is bright, block 0 where it is dark."""
    del params, timestep, batch
    first = state[:, 0].mean(-1)
    cells = first.reshape(len(first), 4, 2, 4, 2).mean((2, 4)).reshape(len(first), 1, -1)
    return Prediction(state, {}, jnp.stack([-cells, cells]))


@pytest.mark.parametrize("family", FAMILIES)
def test_it_finds_the_block_that_sees_the_mask(family, monkeypatch):
    kind = WanBackbone if family == "wan" else CogVideoXBackbone
    monkeypatch.setattr(kind, "evaluate", of_brightness)
    record = study(trained.in_memory(family), CLIPS, "target", shares=(0.05, 0.25))
    assert record["ranking"] == [1, 0] and record["clips"] == 3
    best, worst = record["blocks"][1], record["blocks"][0]
    assert best["iou"] == 1.0 and best["iou_error"] == 0.0 and best["iou_by_level"] == [1.0, 1.0]
    assert worst["iou"] == 0.0
    assert best["inside"] > 0.5 > best["outside"] and worst["inside"] < worst["outside"]
    assert table_of(record).splitlines()[1].split()[:2] == ["1", "1.000"]


def test_noise_hides_the_mask(monkeypatch):
    monkeypatch.setattr(CogVideoXBackbone, "evaluate", of_brightness)
    record = study(trained.in_memory("cogvideox"), CLIPS, "target", shares=(0.05, 1.0))
    clear, hidden = record["blocks"][1]["iou_by_level"]
    assert clear == 1.0 and hidden < 0.8
    other = study(trained.in_memory("cogvideox"), CLIPS, "target", shares=(0.05, 1.0), seed=1)
    assert other["blocks"][1]["iou_by_level"][1] != hidden


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("reads_masks", [False, True])
def test_real_models(family, reads_masks):
    pipeline = with_targets(family) if reads_masks else trained.in_memory(family)
    record = study(pipeline, CLIPS[:2], "target", shares=(0.5, 0.9))
    assert json.loads(json.dumps(record)) == record
    assert record["model"] == f"smallest-{family}" and record["words"] == ["target"]
    assert sorted(record["ranking"]) == [0, 1] and record["levels"] == [0.5, 0.9]
    for row in record["blocks"]:
        assert 0 <= row["iou"] <= 1 and 0 < row["inside"] < 1 and 0 < row["outside"] < 1
        assert row["iou"] == pytest.approx(np.mean(row["iou_by_level"]))
    assert record["chance"] == pytest.approx(4 / 28)
    assert study(pipeline, CLIPS[:2], "target", shares=(0.5, 0.9)) == record


def test_a_model_that_reads_masks_sees_another_one(monkeypatch):
    pipeline = with_targets("cogvideox")
    moved = CLIPS[0].replace(masks=np.roll(CLIPS[0].masks, 8, axis=1))
    kept = {}
    for name, one in (("own", CLIPS[0]), ("moved", moved)):
        record = study(pipeline, [one], "disc", shares=(0.5,))
        kept[name] = [row["inside"] * 4 + row["outside"] * 12 for row in record["blocks"]]
    # The sum over all tokens does not depend on what it is compared with.
    assert not np.allclose(kept["own"], kept["moved"], rtol=1e-4)


def test_of_both_directions_and_among_the_text():
    pipeline = trained.in_memory("cogvideox")
    found = {
        way: study(pipeline, CLIPS[:1], "target", shares=(0.5,), direction=way)["blocks"]
        for way in ("video_to_text", "text_to_video", "both")
    }
    for block in (0, 1):
        for name in MEASURES:
            ways = [found[way][block][name] for way in ("video_to_text", "text_to_video")]
            assert found["both"][block][name] == pytest.approx(np.mean(ways), abs=1e-6)
    own = study(pipeline, CLIPS[:1], "target", shares=(0.5,), among="own")["blocks"]
    assert all(a["inside"] > b["inside"] for a, b in zip(own, found["video_to_text"], strict=True))


@pytest.mark.slow
def test_jobs_are_looked_at_while_they_are_sampled():
    pipeline = trained.in_memory("cogvideox")
    jobs = [
        Job(CAPTION, image=one.video[0], mask=one.masks[1], seed=i)
        for i, one in enumerate(CLIPS[:2])
    ]
    record = study(pipeline, jobs, ["mug", "box"], steps=[1, 3])
    assert (record["kind"], record["levels"], record["clips"]) == ("steps", [1, 3], 2)
    looked = [look(pipeline, job, ["box"], steps=[1, 3]).measured(0) for job in jobs]
    for name in MEASURES:
        want = np.mean([one[name] for one in looked], axis=(0, 1))
        np.testing.assert_allclose([row[name] for row in record["blocks"]], want, rtol=1e-4)
    bare = Job(CAPTION, image=CLIPS[0].video[0], name="bare")
    with pytest.raises(ValueError, match="job bare: it has no mask to compare maps with"):
        study(pipeline, [jobs[0], bare], "box", steps=[1])
    short = dataclasses.replace(jobs[0], options={"steps": 3})
    with pytest.raises(ValueError, match="different numbers of steps: say at which"):
        study(pipeline, [jobs[0], short], "box")


def test_of_several_words_each_caption_has_its_own(monkeypatch):
    monkeypatch.setattr(WanBackbone, "evaluate", of_brightness)
    pipeline = trained.in_memory("wan")
    clips = [CLIPS[0], clip(1, 8, 4, "the teal box moves")]
    record = study(pipeline, clips, ["target", "teal"], shares=(0.1,))
    assert record["clips"] == 2 and record["words"] == ["target", "teal"]
    with pytest.raises(ClipError, match="clip 'clip1': the prompt .* lacks the word 'target'"):
        study(pipeline, clips, ["target", "mug"], shares=(0.1,))


def test_what_cannot_be_studied():
    pipeline = trained.in_memory("cogvideox")
    small = clip(1, 0, 0).replace(video=np.zeros((9, 12, 16, 3), np.uint8))
    alone = CLIPS[0].replace(masks=CLIPS[0].masks[1:], target=-1, actor=-1)
    for clips, options, message in (
        ([], {}, "nothing to study"),
        ([CLIPS[0], small], {}, "clip 'clip1': its video is not of the first one's size"),
        ([CLIPS[0].replace(video=None)], {}, "clip 'clip0' has no video"),
        ([CLIPS[0].replace(masks=None)], {}, "clip 'clip0': has no mask of what 'target' means"),
        ([CLIPS[0].replace(masks=CLIPS[0].masks & False)], {}, "clip 'clip0': the mask is empty"),
        ([clip(4, 0, 0, "a red box")], {}, "clip 'clip4': the prompt .* lacks the word 'target'"),
        (CLIPS, {"shares": ()}, "give shares of noise"),
        (CLIPS, {"shares": (0.5, 1.5)}, "give shares of noise above 0, up to 1"),
        (CLIPS, {"direction": "up"}, "direction 'up' is none of"),
    ):
        with pytest.raises(ValueError, match=message):
            study(pipeline, clips, "target", **options)
    with pytest.raises(ClipError, match="has no mask of 'target'"):
        study(with_targets("wan"), [alone], "target")
    # The only mask that there is belongs to the word.
    assert study(pipeline, [alone], "target", shares=(0.5,))["clips"] == 1


def test_each_share_is_shown_to_the_expert_that_serves_it():
    pipeline = trained.in_memory("wan")
    assert _by_expert(pipeline, (0.3, 0.9)) == {"": [0, 1]}
    two = dataclasses.replace(
        pipeline, published=dataclasses.replace(pipeline.published, boundary=0.875)
    )
    served = _by_expert(two, (0.3, 0.9, 0.8, 0.875))
    assert served == {"low_noise": [0, 2], "high_noise": [1, 3]}


def test_a_record_holds_means_and_errors():
    rng = np.random.default_rng(0)
    found = {name: rng.random((2, 4, 3)) for name in MEASURES}
    record = record_of(found, levels=[0.5, 0.9], blocks=[5, 8, 11], chance=0.1)
    for place, row in enumerate(record["blocks"]):
        assert row["block"] == (5, 8, 11)[place]
        for name in MEASURES:
            per_clip = found[name][:, :, place].mean(0)
            assert row[name] == pytest.approx(per_clip.mean())
            assert row[f"{name}_error"] == pytest.approx(per_clip.std(ddof=1) / 2)
    ious = [row["iou"] for row in record["blocks"]]
    assert record["ranking"] == [(5, 8, 11)[i] for i in np.argsort(-np.array(ious))]
    alone = record_of({k: x[:, :1] for k, x in found.items()}, levels=[0.5, 0.9], chance=0.1)
    assert alone["blocks"][0]["iou_error"] is None and " - " in table_of(alone)


def test_the_overlap_of_maps():
    rng = np.random.default_rng(0)
    aim = jnp.asarray([0.0, 1.0, 0.6, 0.4, 0.0, 0.0])
    maps = jnp.asarray([[0, 9, 8, 0, 0, 0], [9, 8, 0, 0, 0, 0], [9, 0, 0, 0, 8, 0]], jnp.float32)
    np.testing.assert_allclose(overlap(maps, jnp.broadcast_to(aim, maps.shape)), [1, 1 / 3, 0])
    thin = jnp.asarray([0.0, 0.1, 0.3, 0.0, 0.0, 0.0])  # where no token is half full
    np.testing.assert_allclose(overlap(maps[0][None] * 0 + jnp.eye(6)[2], thin[None]), [1])
    assert chance(np.asarray(aim)) == pytest.approx(2 / 10)
    blind = rng.random((4000, 6)).astype(np.float32)
    hits = overlap(jnp.asarray(blind), jnp.broadcast_to(aim, blind.shape))
    assert float(hits.mean()) == pytest.approx(chance(np.asarray(aim)), abs=0.06)
