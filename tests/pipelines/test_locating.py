"""Videos whose things follow trajectories by their words: jobs, files of a model, the command."""

import dataclasses
import functools
import json

import jax
import numpy as np
import pytest
from PIL import Image

from tavid_jax.data.rle_masks import write_rle_masks
from tavid_jax.data.trajectory_files import write_trajectories
from tavid_jax.data.video import write_video
from tavid_jax.models.layers.located import Laca
from tavid_jax.pipelines import Job, Locate, Located, Memory, open_pipeline, read_jobs
from tavid_jax.pipelines.card import LOCATED, read_card
from tavid_jax.pipelines.cli import _parser, main
from tavid_jax.pipelines.copying import shares, spread
from tavid_jax.pipelines.follow_options import job_fields
from tavid_jax.pipelines.laca_files import load_laca, save_laca, shapes_of
from tavid_jax.pipelines.located import LOCAL_LENGTH, LOCAL_TEXT, NEAR, NODE, STRENGTH, locate
from tavid_jax.tracks.neighbourhoods import Rule
from tavid_jax.tracks.trajectories import Trajectories
from tavid_jax.viz import media
from tavid_jax.weights import WeightsError
from tavid_jax.weights.safetensors import read_metadata, read_safetensors, write_safetensors
from tavid_jax.weights.table import nest, walk
from tests.pipelines import trained

CONFIG = trained.CONFIGS["wan"]
HOW = Locate(Laca(outside="skip"), points=3, text_positions=6)
SIZE_HW, FRAMES = (16, 16), 9
TRACKS = Trajectories(
    np.float32([[3, 4], [11, 9]])[:, None]
    + np.arange(FRAMES, dtype=np.float32)[:, None] * [0.5, 0],
    np.ones((2, FRAMES), bool),
    SIZE_HW,
    texts=("a red disc", "a blue disc"),
)
HIDDEN = TRACKS.replace(visibility=np.zeros_like(TRACKS.visibility))


def node(how=HOW, seed=9):
    return trained.random_params(shapes_of(how, CONFIG), seed)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Of a base, and beside it of what was trained upon it."""
    root = tmp_path_factory.mktemp("located")
    trained.save("wan", root / "base")
    card = dataclasses.replace(trained.CARDS["wan"], checkpoint=str(root / "base"))
    located = Located(CONFIG, node(), HOW)
    trained.save("wan", root / "model", card=card, parts={}, tokenizer=None, located=located)
    return root


@pytest.fixture(scope="module")
def pipeline(folder):
    return open_pipeline(folder / "model", memory=Memory(keep="device"))


def sample(pipeline, **fields):
    return pipeline.sample(trained.PROMPT, seed=3, steps=2, **fields)


def encoded(pipeline, **fields):
    """A task after the phase of encoding."""
    task = pipeline._task(Job.of({"prompt": trained.PROMPT, **fields}), "one")
    pipeline._encode([task])
    return task


# ---- videos ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_without_strength_or_a_place_it_is_the_base_model_s_video(folder, pipeline, caplog):
    base = open_pipeline(folder / "base")
    want = sample(base, guidance=4.0).latents
    options = dict(steps=2, guidance=5.0)
    jobs = [
        Job(trained.PROMPT, tracks=TRACKS, seed=3, options=options | strength)
        for strength in ({"strength": 0.0}, {})
    ]
    none, own = pipeline.run(jobs, 2)  # by one program: the strength is traced
    # None + 5 (both - glob) + 4 (both - loc), of which the local texts change nothing.
    np.testing.assert_allclose(none.latents, want, atol=1e-4)
    assert np.abs(own.latents - want).max() > 0.05
    assert own.guide.trajectories.texts == TRACKS.texts
    assert own.provenance["weights"][NODE] and own.provenance["sampling"]["dual"] == "literal"
    assert own.provenance["control"]["texts"] == list(TRACKS.texts)
    drawn, nothing = own.guide.videos()
    assert drawn.shape == (FRAMES, *SIZE_HW, 3) and drawn.any() and not nothing.any()
    caplog.set_level("INFO", logger="absl")
    for tracks in (None, HIDDEN):
        plain = sample(pipeline, tracks=tracks, guidance=4.0)
        np.testing.assert_array_equal(plain.latents, want)
        assert plain.guide is None
    assert "no tracks are given; the plain smallest-wan makes it" in caplog.text
    assert "no point is visible in any frame; the plain smallest-wan makes it" in caplog.text
    assert plain.provenance["control"]["unconditioned"] == "no point is visible"


def test_guidance_is_on_in_an_interval_alone(pipeline):
    options = dict(guided=(0.7, 1.0), steps=4, null_local="empty", dual="local_given")
    task = encoded(pipeline, tracks=TRACKS, **options)
    (batch,) = pipeline._batches([task], 1)
    assert [(s.start, s.stop, s.guided) for s in batch.segments] == [(0, 3, True), (3, 4, False)]
    glob, both = batch.branches(True, np.float32)
    (alone,) = batch.branches(False, np.float32)
    assert set(glob) == set(both) == set(alone)
    for name in both:
        same = np.array_equal(glob[name], both[name])
        assert same == (name not in (LOCAL_TEXT, LOCAL_LENGTH)), name
    assert (glob[LOCAL_LENGTH] == 1).all()  # the end of ""


def test_other_words_change_the_words_alone(pipeline):
    """Local text editing: the same motion of another thing."""
    one = encoded(pipeline, tracks=TRACKS)
    other = encoded(pipeline, tracks=TRACKS, texts=["a red disc", "a green disc"])
    for name, x in one.conditions.items():
        same = np.array_equal(x, other.conditions[name])
        assert same == (name != LOCAL_TEXT), name
    np.testing.assert_array_equal(one.conditions[LOCAL_TEXT][0], other.conditions[LOCAL_TEXT][0])
    assert one.program == other.program
    c = one.conditions
    assert c[LOCAL_LENGTH].tolist()[2] == 0 and c[STRENGTH] == 0.5
    real = np.arange(6) < c[LOCAL_LENGTH][:, None]
    assert not c[LOCAL_TEXT][~real].any() and np.abs(c[LOCAL_TEXT][real]).min(-1).all()
    spec = one.backbone.spec()
    assert all(c[name].shape == spec[name].shape for name in (LOCAL_TEXT, LOCAL_LENGTH, *NEAR))
    assert set(spec) - set(c) == {"video"}


def test_another_attention_is_another_program():
    made, pipeline = [], trained.in_memory("wan")
    for overlap in ("owner", "blend", "concat"):
        how = dict(laca=Laca(overlap=overlap), rule=Rule(overlap=overlap))
        pipeline.inject = functools.partial(locate, **how, points=3, text_positions=6)
        made.append(pipeline._task(Job("a", tracks=TRACKS), "one").program)
    assert len(set(made)) == 3


def test_tracks_of_another_size_and_length_are_brought_to_the_video(pipeline):
    longer = np.concatenate([TRACKS.tracks, TRACKS.tracks[:, -1:]], axis=1)
    wide = Trajectories(  # a frame twice as large, wider by half: its sides are cut off
        2 * longer + np.float32([8.5, 0.5]),
        np.ones(longer.shape[:2], bool),
        (32, 48),
        texts=TRACKS.texts,
    )
    guide = pipeline._task(Job("a", tracks=wide), "one").guide
    np.testing.assert_allclose(guide.trajectories.tracks, TRACKS.tracks, atol=1e-4)
    same = pipeline._task(Job("a", tracks=TRACKS), "one").guide
    for got, want in zip(guide.pairs, same.pairs, strict=True):
        np.testing.assert_array_equal(got, want)


def test_places_outside_of_the_frame_are_told_once(pipeline, caplog):
    caplog.set_level("INFO", logger="absl")
    away = TRACKS.tracks.copy()
    away[0, 4:] = -5
    task = pipeline._task(Job("a", tracks=TRACKS.replace(tracks=away)), "leaves")
    said = [r.message for r in caplog.records if "outside" in r.message]
    assert said == [
        "leaves: 5 places of trajectories lie outside of the frame; nothing is seen there"
    ]
    seen = task.guide.trajectories.visibility
    assert seen[0].tolist() == [True] * 4 + [False] * 5 and seen[1].all()


def test_texts_of_segments(pipeline):
    masks = np.zeros((2, *SIZE_HW), bool)
    masks[0, :, 8:], masks[1, :, :8] = True, True
    three = Trajectories(
        np.repeat(np.float32([[2, 2], [12, 3], [3, 12]])[:, None], FRAMES, 1),
        np.ones((3, FRAMES), bool),
        SIZE_HW,
    )
    job = Job("a", tracks=three, segments=masks, texts="right; left")
    assert pipeline._task(job, "one").guide.trajectories.texts == ("left", "right", "left")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(tracks=TRACKS.replace(texts=None)), 'tracks without texts: give the words.*--texts'),
        (dict(tracks=TRACKS, texts=["a"]), "1 texts for 2 trajectories: a trajectory without a t"),
        (dict(tracks=TRACKS, texts="a;b;c"), "3 texts for 2 trajectories: a text without a traj"),
        (dict(tracks=TRACKS, texts=["a", " "]), "trajectory 1 has an empty text: give its words"),
        (dict(tracks=TRACKS.take(np.array([0, 1, 0, 1]))), "4 trajectories.*has room for 3"),
        (dict(tracks=TRACKS.window(0, 5)), "tracks have 5 frames, frames 0 to 8 are asked for"),
        (dict(texts=["a"]), "texts without tracks"),
        (dict(tracks=TRACKS, texts=[1]), "give a list of texts"),
        (dict(tracks=TRACKS, follow={"keep_points": 0.5}), "keep_points is of condition videos"),
        (dict(tracks=TRACKS, control_videos=[np.zeros((9, 8, 8, 3), np.uint8)]), "give tracks"),
        (dict(tracks=TRACKS, dual="both"), "dual 'both': there are literal, semantic"),
        (dict(tracks=TRACKS, strength=-0.5), "strength -0.5: give a number from 0"),
        (dict(tracks=TRACKS, null_local="none"), "null_local 'none': there are drop, empty"),
        (dict(tracks=TRACKS, control_guidance=2.0), "control_guidance is of condition videos"),
        (dict(tracks=TRACKS, local_guidance=-1), "local_guidance -1: give a scale"),
    ],
)  # fmt: skip
def test_what_cannot_be_followed_is_told_before_anything_is_made(pipeline, fields, message):
    with pytest.raises(ValueError, match=message):
        pipeline.run([Job.of({"prompt": "a", **fields})])


@pytest.mark.parametrize("fields", [dict(strength=0.5), dict(tracks=TRACKS, texts=["a", "b"])])
def test_a_model_that_reads_no_local_texts_says_what_to_give(fields):
    with pytest.raises(ValueError, match="smallest-wan reads no texts of traject.*--laca"):
        trained.in_memory("wan").run([Job.of({"prompt": "a", **fields})])


# ---- files ----------------------------------------------------------------------------------


def test_what_is_saved_is_what_is_opened(folder, pipeline):
    card = read_card(folder / "model")
    assert set(card.files) == {LOCATED} and Locate.of(card.locate) == HOW
    params, how, length = load_laca(folder / "model", CONFIG)
    assert how == HOW and length == CONFIG.text_length
    read = {path: leaf.read() for path, leaf in walk(params)}
    for path, leaf in walk(node()):
        np.testing.assert_array_equal(read.pop(path), leaf)
    assert not read
    upon = open_pipeline(folder / "base", laca=folder / "model" / LOCATED)
    assert upon.backbone(upon.published.sampling, False).where == HOW
    for one in (upon, pipeline):
        with one.parts["transformer"].hold() as held:
            jax.tree.map(np.testing.assert_array_equal, held[NODE], node())
    mark = upon.parts["transformer"].marks
    assert mark == pipeline.parts["transformer"].marks and set(mark) == {NODE}
    with pytest.raises(ValueError, match="laca x: .*model has its own"):
        open_pipeline(folder / "model", laca="x")


def test_room_for_more_trajectories_than_in_training(folder, pipeline):
    """No weight is of the room: what fits into the smaller one reads the same."""
    count = 2 * pipeline.plan(Job("a cat"))[1].points
    wide = open_pipeline(folder / "model", points=count)
    _, backbone = wide.plan(Job("a cat"))
    assert backbone.points == count and backbone.rule == pipeline.plan(Job("a cat"))[1].rule
    with pytest.raises(ValueError, match="points 0"):
        open_pipeline(folder / "model", points=0)
    with pytest.raises(ValueError, match="points 40: .* reads no texts of trajectories; give laca"):
        open_pipeline(folder / "base", points=40)


def test_texts_are_as_long_as_in_training(folder, tmp_path):
    longer = dataclasses.replace(CONFIG, text_length=20)
    file = save_laca(tmp_path / "longer.safetensors", node(), HOW, longer)
    task = encoded(open_pipeline(folder / "base", laca=file), tracks=TRACKS)
    assert task.conditions["text"].shape[0] == 20 and task.backbone.spec()["text"].shape[0] == 20


def without(path, tmp_path, change):
    """The file with other tensors, its header as it is."""
    tensors = {name: leaf.read() for name, leaf in read_safetensors(path).items()}
    change(tensors)
    metadata = {k: v for k, v in read_metadata(path).items() if k != "format"}
    write_safetensors(tmp_path / "other.safetensors", tensors, metadata)
    return tmp_path / "other.safetensors"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x.pop("q/kernel"), r"lacks q/kernel \(1 of 10 missing\)"),
        (lambda x: x.update(r=x["q/bias"]), "holds r, which such an attention does not have"),
        (lambda x: x.update({"o/bias": x["o/bias"][:1]}), r"o/bias has shape \(1, 24\), expected"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(folder, tmp_path, change, message):
    file = without(folder / "model" / LOCATED, tmp_path, change)
    with pytest.raises(WeightsError, match=message):
        open_pipeline(folder / "base", laca=file)


def test_files_of_something_else_are_refused(folder, tmp_path):
    load = functools.partial(load_laca, folder / "model")
    with pytest.raises(WeightsError, match="another model: num_layers 2, this one has 3"):
        load(dataclasses.replace(CONFIG, num_layers=3))
    with pytest.raises(WeightsError, match="no file .*gone.safetensors: give the laca.safetens"):
        load_laca(tmp_path / "gone.safetensors", CONFIG)
    write_safetensors(tmp_path / "a.safetensors", {"x": np.zeros(1, np.float32)})
    with pytest.raises(WeightsError, match="its header does not say 'locate'"):
        load_laca(tmp_path / "a.safetensors", CONFIG)
    beyond = dataclasses.replace(HOW, laca=Laca(layers=(2,)))
    with pytest.raises(WeightsError, match="block 2 of 2 does not exist"):
        save_laca(tmp_path / "b.safetensors", node(), beyond, CONFIG)
    broken = nest({path: leaf * np.nan for path, leaf in walk(node())})
    with pytest.raises(WeightsError, match="values that are not finite"):
        save_laca(tmp_path / "b.safetensors", broken, HOW, CONFIG)
    assert not (tmp_path / "b.safetensors").exists()
    trained.save("cogvideox", tmp_path / "c")
    with pytest.raises(WeightsError, match="CogVideoX has no cross-attention"):
        open_pipeline(tmp_path / "c", laca=folder / "model")


# ---- the command ----------------------------------------------------------------------------


def test_lines_of_a_file_of_jobs(tmp_path):
    write_trajectories(tmp_path / "t.json", TRACKS)
    (tmp_path / "words.txt").write_text("a cat\na dog\n")
    lines = [{"texts": texts} for texts in (["a cat", "a dog"], "a cat;a dog", "words.txt")]
    lines = [{"prompt": "a", "tracks": "t.json", "strength": 0.25, **line} for line in lines]
    (tmp_path / "jobs.jsonl").write_text("\n".join(map(json.dumps, lines)))
    pipeline = trained.in_memory("wan")
    pipeline.inject = functools.partial(locate, **vars(HOW))
    for job in read_jobs(tmp_path / "jobs.jsonl"):
        task = pipeline._task(job, "one")
        assert task.guide.trajectories.texts == ("a cat", "a dog")
        assert task.sampling.strength == 0.25


OPTIONS = dict(
    dual="global_given", guidance=3.0, local_guidance=2.0, strength=0.25, guided=[0.2, 1.0]
)


@pytest.mark.slow
def test_the_command(folder, tmp_path):
    pytest.importorskip("imageio_ffmpeg")
    write_trajectories(tmp_path / "t.json", TRACKS)
    out = tmp_path / "out"
    run = [str(folder / "model"), "--prompt", "a", "--steps", "1", "--out", str(out)]
    run += ["--tracks", str(tmp_path / "t.json"), "--texts", "a cat;a dog"]
    for name, value in OPTIONS.items():
        text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
        run += [f"--{name.replace('_', '-')}", text]
    assert main(run) == 0
    assert sorted(path.name for path in out.iterdir()) == ["video.mp4", "video_condition.mp4"]
    told = media.read_provenance((out / "video.mp4").read_bytes())
    assert told["control"]["texts"] == ["a cat", "a dog"]
    assert {name: told["sampling"][name] for name in OPTIONS} == OPTIONS


def made_by(*options, points=3):
    args = _parser().parse_args(["model", "--prompt", "a", *options])
    return job_fields(args, FRAMES, points, SIZE_HW)


def test_the_motion_of_a_video(tmp_path):
    scene = np.random.default_rng(0).integers(0, 256, (6, 15, 3), dtype=np.uint8)
    scene = np.asarray(Image.fromarray(scene).resize((120, 48)))
    write_video(tmp_path / "v.mp4", [scene[:, 2 * t : 2 * t + 64] for t in range(FRAMES)], 8)
    masks = np.zeros((FRAMES, 2, 48, 64), bool)
    masks[:, 0, 10:30, 30:60], masks[:, 1, 35:40, 25:30] = True, True
    write_rle_masks(tmp_path / "m.pkl", masks)
    motion = ["--motion-of", str(tmp_path / "v.mp4")]
    segments = [*motion, "--segments", str(tmp_path / "m.pkl")]
    fields = made_by(*segments, "--texts", "a cat;a dog")
    tracks = fields["tracks"]
    assert "texts" not in fields and tracks.texts == ("a cat", "a cat", "a dog")
    assert tracks.segment.tolist() == [1, 1, 2] and tracks.size_hw == (48, 64)
    seen = tracks.visibility.all(1)
    step = np.diff(tracks.tracks, axis=1)[seen]
    assert seen.sum() >= 2 and np.abs(np.median(step, axis=(0, 1)) - [-2, 0]).max() < 0.3
    whole = made_by(*motion, "--texts", "a cat", points=4)["tracks"]
    assert whole.texts == ("a cat",) * 4
    with pytest.raises(ValueError, match="--motion-of: give the words of what moves, --texts"):
        made_by(*motion)
    with pytest.raises(ValueError, match="1 texts for 2 segments: give one for each"):
        made_by(*segments, "--texts", "a cat")


def test_drags_need_no_image():
    fields = made_by("--drag", "1,2:9,2", "--texts", "a cat")
    assert fields["texts"] == "a cat" and fields["tracks"].size_hw == SIZE_HW


def test_points_of_segments():
    assert shares([100, 10, 1], 5) == [3, 1, 1] and shares([2, 1], 40) == [2, 1]
    with pytest.raises(ValueError, match="3 segments, this model has room for 2"):
        shares([1, 1, 1], 2)
    with pytest.raises(ValueError, match="segment 2 is not in the first frame"):
        shares([1, 0], 2)
    mask = np.zeros((20, 30), bool)
    mask[5:15, 10:30] = True
    found = spread(mask, 3)
    assert mask[found[:, 1].astype(int), found[:, 0].astype(int)].all()
    gaps = np.linalg.norm(found[:, None] - found[None], axis=-1)[np.triu_indices(3, 1)]
    assert gaps.min() > 8
