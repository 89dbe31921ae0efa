"""Looking on: maps equal those of the dense softmax, the video stays the same, errors are clear."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tavid_jax.models.layers import walk
from tavid_jax.models.layers.streams import TEXT, VIDEO
from tavid_jax.models.text.mentions import mentions
from tavid_jax.pipelines.backbones import Geometry, make_backbone
from tavid_jax.pipelines.jobs import Job
from tavid_jax.pipelines.looking import chosen_steps, look, pixel_spans
from tavid_jax.pipelines.words import word_columns
from tests.pipelines import trained

PROMPT = "a red disc touches the teal box"
FAMILIES = ("wan", "cogvideox")
# Positions of latents 8 x 8 in patches of 2, three latent frames.
FRAMES, ROWS, COLUMNS = 3, 4, 4


def picture(seed: int = 7) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8)


def mask_of(top: int, left: int, size: int = 6) -> np.ndarray:
    mask = np.zeros((16, 16), np.uint8)
    mask[top : top + size, left : left + size] = 255
    return mask


def job_of(family: str, **fields) -> Job:
    image = {"image": picture()} if family == "cogvideox" else {}
    return Job.of({"prompt": PROMPT, "seed": 3, **image, **fields})


def apart(got: np.ndarray, want: np.ndarray) -> float:
    """Root mean square of the difference, as a share of that of what is wanted."""
    return float(np.linalg.norm(got - want) / np.linalg.norm(want))


@pytest.fixture(scope="module", params=FAMILIES)
def seen(request):
    """(family, pipeline, its job, what was seen at all steps)."""
    family = request.param
    pipeline, job = trained.in_memory(family), job_of(family)
    return family, pipeline, job, look(pipeline, job, ["disc", "box"], steps=range(4))


def dense(probe, seen):
    """A map by whole matrices of probabilities, without the probe's own code."""
    start, stop = probe.rows
    q = seen.queries[VIDEO].q[:, start:stop].astype(jnp.float32)
    keys, text = [], None
    for name, part in seen.parts.items():
        if name == TEXT:
            at = sum(k.shape[1] for k in keys)
            text = slice(at, at + part.real)
        keys.append(part.k[:, : part.real].astype(jnp.float32))
    logits = jnp.einsum("bqkd,bskd->bkqs", q, jnp.concatenate(keys, 1)) / np.sqrt(q.shape[-1])
    p = jax.nn.softmax(logits, axis=-1).mean(1)
    return jnp.einsum("bqs,bms->bmq", p[..., text], probe.columns)


def test_maps_are_those_of_the_dense_softmax(seen, monkeypatch):
    family, _, job, looked = seen
    monkeypatch.setattr(walk, "watch", lambda probe, seen, *_: (seen, dense(probe, seen)))
    want = look(trained.in_memory(family), job, ["disc", "box"], steps=range(4))
    assert looked.maps.shape == (4, 2, 2, FRAMES, ROWS, COLUMNS)
    assert looked.maps.dtype == np.float32
    np.testing.assert_allclose(looked.maps, want.maps, rtol=2e-5, atol=1e-7)
    assert looked.maps.std() > 1e-3 * looked.maps.mean()


@pytest.mark.slow
def test_over_the_words_of_the_text_probabilities_sum_to_one(monkeypatch):
    """Wan's text alone is asked; of CogVideoX's text and video together make one."""

    def ones(reader, prompt, words):
        return np.ones((len(words), reader.length), np.float32)

    sums = {}
    for family in FAMILIES:
        pipeline, job = trained.in_memory(family), job_of(family)
        monkeypatch.setattr("tavid_jax.pipelines.looking.word_columns", ones)
        sums[family] = look(pipeline, job, ["disc"], steps=[1]).maps
        own = look(pipeline, job, ["disc"], steps=[1], among="own").maps
        np.testing.assert_allclose(own, 1.0, atol=1e-5)
    np.testing.assert_allclose(sums["wan"], 1.0, atol=1e-5)
    assert sums["cogvideox"].max() < 0.99 and sums["cogvideox"].min() > 0.01


def test_the_video_stays_the_same(seen):
    _, pipeline, job, looked = seen
    (video,) = pipeline.run([job])
    assert apart(looked.video.latents, video.latents) <= 1e-6
    assert np.abs(looked.video.frames.astype(int) - video.frames).max() <= 1
    assert looked.video.provenance == video.provenance


@pytest.mark.parametrize("sampler", ["unipc", "dpm"])
@pytest.mark.slow
def test_samplers_with_a_memory_or_noise_of_their_own(sampler):
    family = "wan" if sampler == "unipc" else "cogvideox"
    pipeline, job = trained.in_memory(family), job_of(family, sampler=sampler, steps=5)
    looked = look(pipeline, job, ["disc"])
    assert looked.steps == (1, 2, 4)
    (video,) = pipeline.run([job])
    assert apart(looked.video.latents, video.latents) <= 1e-6


def test_what_is_seen_is_the_conditional_branch_before_the_step(seen):
    """At step 0 the noise itself, told the first timestep, with the prompt and not the other."""
    family, pipeline, job, looked = seen
    noise = np.random.default_rng(1).standard_normal((3, 8, 8, trained.CHANNELS))
    noisy = dataclasses.replace(job, noise=noise.astype(np.float32))
    first = look(pipeline, noisy, ["disc"], steps=[0]).maps
    without = dataclasses.replace(noisy, options={"guidance": 1.0})
    np.testing.assert_allclose(look(pipeline, without, ["disc"], steps=[0]).maps, first, atol=1e-6)
    other = dataclasses.replace(noisy, negative_prompt="a box")
    np.testing.assert_array_equal(look(pipeline, other, ["disc"], steps=[0]).maps, first)
    assert np.abs(first - looked.maps[:1, :, :1]).max() > 1e-4  # other noise


def test_parts_of_what_there_is(seen):
    family, pipeline, job, looked = seen
    options = {"steps": [3, 1], "frames": [2, 0], "blocks": [1]}
    part = look(pipeline, job, ["box"], **options)
    assert (part.steps, part.frames, part.blocks) == ((1, 3), (0, 2), (1,))
    assert part.spans == ((0, 1), (5, 9)) and looked.spans == ((0, 1), (1, 5), (5, 9))
    want = looked.maps[[1, 3]][:, [1]][:, :, [1]][:, :, :, [0, 2]]
    np.testing.assert_allclose(part.maps, want, rtol=1e-4, atol=1e-7)


@pytest.mark.slow
def test_the_words_of_cogvideox_ask_too():
    pipeline, job = trained.in_memory("cogvideox"), job_of("cogvideox")
    ways = {
        way: look(pipeline, job, ["disc", "box"], steps=[1], direction=way)
        for way in ("video_to_text", "text_to_video", "both")
    }
    assert ways["text_to_video"].words == ("disc (asks)", "box (asks)")
    assert ways["both"].words == ("disc", "box", "disc (asks)", "box (asks)")
    joined = [ways[way].maps for way in ("video_to_text", "text_to_video")]
    np.testing.assert_allclose(ways["both"].maps, np.concatenate(joined, 2), atol=1e-7)
    # Rows of one text piece over all video keys alone sum to 1.
    own = look(pipeline, job, ["red"], steps=[1], direction="text_to_video", among="own")
    pieces = len(mentions(pipeline.tokenizer, PROMPT, "red")[0])
    np.testing.assert_allclose(own.maps.sum((3, 4, 5)), pieces, rtol=1e-5)


@pytest.mark.slow
def test_a_mask_is_compared_where_the_model_reads_none():
    pipeline = trained.in_memory("cogvideox")
    bare, job = job_of("cogvideox"), job_of("cogvideox", mask=mask_of(4, 8))
    looked = look(pipeline, job, ["disc", "box"])
    np.testing.assert_array_equal(looked.video.latents, look(pipeline, bare, ["box"]).video.latents)
    for place in (0, 1):
        np.testing.assert_array_equal(looked.masks[place] * 255, mask_of(4, 8))
        # Cells of 4 x 4 pixels; 6 x 6 pixels from (4, 8) on.
        want = np.zeros((4, 4))
        want[1, 2], want[1, 3], want[2, 2], want[2, 3] = 1, 0.5, 0.5, 0.25
        np.testing.assert_array_equal(looked.aims[place], want)
        found = looked.measured(place)["iou"]
        wanted = {(1, 2), (1, 3), (2, 2)}
        for step, block in np.ndindex(found.shape):
            grid = looked.maps[step, block, place, 0]
            top = {np.unravel_index(i, grid.shape) for i in np.argsort(-grid.ravel())[:3]}
            top = {tuple(map(int, at)) for at in top}
            assert found[step, block] == pytest.approx(len(top & wanted) / len(top | wanted))
    assert look(pipeline, bare, ["box"]).measured(0) is None
    assert look(pipeline, job, ["box"], frames=[1]).measured(0) is None


def test_the_columns_of_a_word():
    pipeline = trained.in_memory("cogvideox")
    reader = pipeline.reader(pipeline.backbone(pipeline.published.sampling, True))
    text = "red disc and teal disc"
    columns = word_columns(reader, text, ["disc", "teal", "Red Disc"])
    first, second = mentions(pipeline.tokenizer, text, "disc")
    np.testing.assert_array_equal(columns[0] > 0, np.isin(range(12), first + second))
    assert columns[0, first[0]] == 0.5 and columns[0].sum() == pytest.approx(len(first))
    assert columns[1].sum() == len(mentions(pipeline.tokenizer, text, "teal")[0])
    assert (columns[2] > 0).sum() == columns[2].sum() > 1


def test_what_cannot_be_looked_at(seen):
    family, pipeline, job, _ = seen
    long = dataclasses.replace(job, prompt="a red disc " * 12 + "touches the teal box")
    for words, options, message in (
        (["mug"], {}, "lacks the word 'mug'"),
        (["dis"], {}, "lacks the word 'dis'"),
        ([], {}, "no word to look at"),
        (["box"], {"steps": [4]}, "step 4 does not exist: there are 4, 0 to 3"),
        (["box"], {"steps": []}, "no step to look at"),
        (["box"], {"steps": [-1]}, "step -1 does not exist"),
        (["box"], {"blocks": [0, 2]}, "block 2 does not exist: there are 2, 0 to 1"),
        (["box"], {"frames": [3]}, "latent frame 3 does not exist: there are 3, 0 to 2"),
        (["box"], {"direction": "up"}, "direction 'up' is none of video_to_text"),
        (["box"], {"among": "up"}, "among 'up' is none of all, own"),
    ):
        with pytest.raises(ValueError, match=message):
            look(pipeline, job, words, **options)
    with pytest.raises(ValueError, match="'box' is cut off: it is token .* the model reads 11"):
        look(pipeline, long, ["box"])
    if family == "wan":
        with pytest.raises(ValueError, match="Wan's text is asked and does not ask"):
            look(pipeline, job, ["box"], direction="both")
    else:
        with pytest.raises(ValueError, match="2 masks: give one, or one for each"):
            two = [mask_of(4, 8), mask_of(0, 0)]
            look(pipeline, job_of(family, mask=two), ["box"])
        with pytest.raises(ValueError, match="the mask is empty"):
            look(pipeline, job_of(family, mask=np.zeros((16, 16), np.uint8)), ["box"])


def test_the_steps_of_the_release():
    assert chosen_steps(None, 50) == (1, 25, 49)
    assert chosen_steps(None, 4) == (1, 2, 3)
    assert chosen_steps(None, 2) == (1,) and chosen_steps(None, 1) == (0,)


@pytest.mark.parametrize(
    ("patch_t", "frames", "spans"),
    [
        (1, 9, [(0, 1), (1, 5), (5, 9)]),
        # Three latent frames are filled up to four; the copy in front stands for no frame.
        (2, 9, [(0, 1), (1, 9)]),
        (2, 13, [(0, 5), (5, 13)]),
    ],
)
def test_the_frames_that_a_latent_one_stands_for(patch_t, frames, spans):
    config = trained.CONFIGS["cogvideox"]
    changes = dataclasses.asdict(config) | {
        "patch_size": (patch_t, 2, 2), "learned_positions": False, "rotary": True,
    }  # fmt: skip
    backbone = make_backbone(
        "cogvideox-5b-i2v", Geometry(frames, (16, 16)), changes, False, stride=2
    )
    assert pixel_spans(backbone, 4) == spans
