"""Clips that go on from each other: shared frames, carried masks, and what is told of lost ones."""

import json

import numpy as np
import pytest

from tavid_jax.pipelines import TargetLost, Targets, chain, cli, open_pipeline
from tavid_jax.pipelines.chain import read_steps
from tests.pipelines import trained

IMAGE = np.random.default_rng(7).integers(0, 256, (24, 24, 3), dtype=np.uint8)
MASK = np.zeros((24, 24), bool)
MASK[6:15, 3:9] = True
STEPS = ({"prompt": "the target blue"}, {"prompt": "the red on the target"})


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base") / "cogvideox"
    trained.save("cogvideox", folder)
    return folder


@pytest.fixture(scope="module")
def folder(base):
    trained.save_targeted("cogvideox", base, base.parent / "model", trained.targeted())
    return base.parent / "model"


@pytest.fixture(scope="module")
def pipeline(folder):
    return open_pipeline(folder)


def moved(video, mask):
    """A tracker for which everything moves right by a pixel in every frame."""
    return np.stack(
        [np.roll(mask, t, 1) * (np.arange(mask.shape[1]) >= t) for t in range(len(video))]
    )


def test_the_second_clip_begins_where_the_first_ends(pipeline):
    """The same, made by hand."""
    video = chain(pipeline, STEPS, IMAGE, MASK, carry=moved, seed=4, name="story")
    first = pipeline.sample(STEPS[0]["prompt"], image=IMAGE, mask=MASK, seed=4)
    mask = moved(first.frames, first.masks[0] >= 0.5)[-1]
    assert mask.shape == (16, 16) and not np.array_equal(mask, first.masks[0] > 0)
    last = first.frames[-1]
    second = pipeline.sample(STEPS[1]["prompt"], image=last, mask=mask, seed=5)
    np.testing.assert_array_equal(video.frames, np.concatenate([first.frames, second.frames[1:]]))
    np.testing.assert_array_equal(video.latents, np.concatenate([first.latents, second.latents]))
    assert (video.name, video.fps, len(video.frames)) == ("story", 8, 17)
    assert video.provenance["starts"] == [0, 9] and video.provenance["seed"] == 4
    assert [clip["prompt"] for clip in video.provenance["clips"]] == [s["prompt"] for s in STEPS]
    still = pipeline.sample(STEPS[1]["prompt"], image=last, mask=first.masks[0], seed=5)
    assert np.abs(still.latents - second.latents).max() > 1e-2  # the mask is read


def test_a_step_may_have_a_mask_seed_and_options_of_its_own(pipeline):
    def never(video, mask):
        raise AssertionError("nothing is carried")

    near = np.zeros((16, 16), bool)
    near[:5, 8:] = True
    steps = (STEPS[0], {**STEPS[1], "mask": near, "seed": 9, "frames": 5, "steps": 2})
    video = chain(pipeline, steps, IMAGE, [MASK], carry=never)
    assert len(video.frames) == 9 + 5 - 1
    first, second = video.provenance["clips"]
    assert (first["seed"], second["seed"]) == (0, 9) and second["sampling"]["steps"] == 2
    assert first["masks"] != second["masks"]


def test_a_lost_target_is_told_with_what_there_is(pipeline):
    with pytest.raises(TargetLost, match="step 2: the target is lost at the end of step 1; give"):
        chain(pipeline, STEPS, IMAGE, MASK, carry=lambda v, m: np.zeros((len(v), *m.shape), bool))
    try:
        chain(pipeline, STEPS, IMAGE, MASK, carry=lambda v, m: np.zeros((len(v), *m.shape), bool))
    except TargetLost as error:
        assert error.video.frames.shape == (9, 16, 16, 3)


def test_the_tracker_of_the_package_is_the_default(pipeline):
    video = chain(pipeline, STEPS, IMAGE, MASK, seed=4, frames=5)
    assert len(video.frames) == 9


def test_models_without_masks_go_on_too(base):
    pipeline = open_pipeline(base)
    video = chain(pipeline, STEPS, IMAGE, frames=5)
    assert len(video.frames) == 9
    led = chain(pipeline, STEPS, IMAGE, MASK, carry=moved, frames=5, modulation=8.0)
    assert np.abs(video.latents - led.latents).max() > 1e-2


def test_two_targets(base, tmp_path):
    targets = Targets(words=("red", "target"), objects=("actor", "target"), sentence="")
    trained.save_targeted("cogvideox", base, tmp_path / "pair", trained.targeted(targets=targets))
    pipeline = open_pipeline(tmp_path / "pair")
    prompts = [{"prompt": "the red on the target"}] * 2
    carried = []

    def carry(video, mask):
        carried.append(mask)
        return moved(video, mask)

    chain(pipeline, prompts, IMAGE, [MASK, MASK.T], carry=carry, frames=5)
    assert len(carried) == 2 and not np.array_equal(*carried)
    with pytest.raises(TargetLost, match="target 2 is lost"):
        lost = lambda v, m: moved(v, m) & np.array_equal(m, carried[0])  # noqa: E731
        chain(pipeline, prompts, IMAGE, [MASK, MASK.T], carry=lost, frames=5)


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([], "a chain needs steps"),
        ([STEPS[0], {"prompt": "the red"}], "step 2: the prompt 'the red' lacks the word 'target'"),
        ([STEPS[0], {**STEPS[1], "image": "a.png"}], "step 2: 'image' is none of a step's"),
        ([{**STEPS[0], "fps": 3}], "step 1: 'fps' is none of a step's"),
        ([STEPS[0], {"promt": "a"}], "step 2: a job has no field 'promt'; did you mean 'prompt'"),
        ([STEPS[0], {**STEPS[1], "frames": 8}], r"step 2: frames 8 is not 4k \+ 1: use 9"),
        ([STEPS[0], {**STEPS[1], "mask": np.zeros((16, 16), bool)}], "step 2: mask 1 is empty"),
        ([STEPS[0], {**STEPS[1], "mask": [MASK, MASK]}], "step 2: .* give one mask for each"),
    ],
)
def test_all_steps_are_checked_before_the_first_is_made(pipeline, monkeypatch, steps, message):
    monkeypatch.setattr(type(pipeline), "_phases", lambda *_: pytest.fail("a video is made"))
    with pytest.raises(ValueError, match=message):
        chain(pipeline, steps, IMAGE, MASK)


def test_files_of_steps(tmp_path):
    file = tmp_path / "steps.jsonl"
    file.write_text('{"prompt": "a", "mask": ["m.png"], "modulation": 2}\n\n{"prompt": "b"}\n')
    first, second = read_steps(file)
    assert first["mask"] == [tmp_path / "m.png"] and second == {"prompt": "b"}
    for text, message in (
        ('{"prompt": "a"}\n{"prompt": "b", "image": "c.png"}', "line 2: 'image' is none of a step"),
        ('{"seed": 1}', "line 1: a job needs a prompt"),
        ('{"prompt": "a", "modulation": "x"}', "line 1: modulation 'x'"),
        ("[1]", "line 1: not a JSON object"),
        ("", "holds no steps"),
    ):
        file.write_text(text)
        with pytest.raises(ValueError, match=message):
            read_steps(file)


# ---- the command ----------------------------------------------------------------------------


@pytest.fixture
def run(folder, tmp_path):
    """Runs the command on steps; returns its exit code and folder."""
    pytest.importorskip("imageio_ffmpeg")
    from PIL import Image

    Image.fromarray(IMAGE).save(tmp_path / "image.png")
    Image.fromarray(MASK.astype(np.uint8) * 255).save(tmp_path / "mask.png")

    def run(*more, steps=STEPS):
        file = tmp_path / "steps.jsonl"
        file.write_text("".join(json.dumps(step) + "\n" for step in steps))
        files = ["--image", str(tmp_path / "image.png"), "--mask", str(tmp_path / "mask.png")]
        given = ["--chain", str(file), *files, "--out", str(tmp_path / "videos"), "--frames", "5"]
        return cli.main([str(folder), *given, *more]), tmp_path / "videos"

    return run


def test_the_command(run, capsys):
    code, out = run("--steps", "1", "--name", "story")
    assert code == 0 and [p.name for p in out.iterdir()] == ["story.mp4"]
    code, _ = run("--prompt", "a")
    assert code == 1 and "give either --prompt or --chain" in capsys.readouterr().err
    code, _ = run(steps=[{"prompt": "the red"}])
    assert code == 1 and "step 1: the prompt 'the red' lacks the word" in capsys.readouterr().err


def test_the_command_keeps_what_was_made_before_a_target_was_lost(run, monkeypatch, capsys):
    def lost(video, mask):
        return np.zeros((len(video), *mask.shape), bool)

    monkeypatch.setattr(cli, "chain", lambda *a, **k: chain(*a, **k, carry=lost))
    code, out = run("--steps", "1")
    assert code == 1 and "its last frame" in capsys.readouterr().err
    assert {p.name for p in out.iterdir()} == {"video_so_far.mp4", "video_so_far.png"}
