"""Wan-Move: an image's latent moved along tracks, from a job to pixels, against diffusers."""

import dataclasses
import json

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")
pytest.importorskip("imageio_ffmpeg")

from PIL import Image

from tavid_jax.data.trajectory_files import write_trajectories
from tavid_jax.pipelines import PUBLISHED, Job, Move, open_pipeline
from tavid_jax.pipelines.cli import main
from tavid_jax.pipelines.moving import STILL
from tavid_jax.tracks.trajectories import Trajectories
from tavid_jax.viz import media
from tavid_jax.weights import PRESETS
from tests.models.random_weights import relative_error
from tests.pipelines import tiny
from tests.pipelines.reference import noise_of, picture, sample, wan

MODEL, PLAIN, T2V = "wan-move-14b-480p", "wan2.1-i2v-14b", "wan2.1-t2v-1.3b"
SIZE_HW, FRAMES = (32, 48), 9
IMAGES = dict(in_channels=12, image_dim=20, added_kv_proj_dim=32)
IMAGE, NOISE = picture(SIZE_HW, 5), noise_of((3, 4, 6, 4), 8)
SMALL = dict(size_hw=SIZE_HW, frames=FRAMES)
# (column, row) px: two drags, one of them over the other's end, and one that is hidden at first.
PLACES = np.array([[[4, 4], [20, 4], [36, 20]], [[20, 12], [20, 4], [44, 28]], [[4, 28]] * 3])
TRACKS = Trajectories(
    np.stack([np.interp(np.arange(9), (0, 4, 8), p[:, i]) for p in PLACES for i in (0, 1)])
    .reshape(3, 2, 9)
    .swapaxes(1, 2),
    np.ones((3, 9), bool) & ~((np.arange(3)[:, None] == 2) & (np.arange(9) == 0)),
    SIZE_HW,
)
# What becomes of it: latent frame, cell (row, column), and the cell of frame 0 that it shows.
WRITES = [(1, (0, 2), (0, 0)), (2, (2, 4), (0, 0)), (2, (3, 5), (1, 2))]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(pipeline, models of torch, its folder)."""
    folder = tmp_path_factory.mktemp("moving") / "model"
    models = tiny.wan_folder(folder, 70, transformer=IMAGES, clip=True)
    return open_pipeline(MODEL, folder, strict=False), models, folder


def moving(models, monkeypatch, uncond_motion):
    """Makes diffusers' transformer read the latent that is moved by hand, in the first of a step's
    two evaluations, or in both."""
    forward, calls = models["transformer"].forward, []

    def call(hidden_states, *args, **fields):
        calls.append(0)
        if uncond_motion or len(calls) % 2:
            hidden_states = hidden_states.clone()
            for k, (row, column), (i, j) in WRITES:
                hidden_states[:, 8:, k, row, column] = hidden_states[:, 8:, 0, i, j]
        return forward(hidden_states, *args, **fields)

    monkeypatch.setattr(models["transformer"], "forward", call)


@pytest.mark.parity
@pytest.mark.parametrize("uncond_motion", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_equals_diffusers_with_a_latent_moved_by_hand(made, monkeypatch, uncond_motion):
    pipeline, models, _ = made
    how = dict(noise=NOISE, grid="diffusers", guidance=5.0, shift=3.0, image=IMAGE)
    if not uncond_motion:
        how["move"] = {"uncond_motion": False}
    got = sample(pipeline, tracks=TRACKS, **how, **SMALL)
    moving(models, monkeypatch, uncond_motion)
    want = wan(pipeline, models, NOISE, SIZE_HW, FRAMES, images=[IMAGE])
    got.assert_near(want)


def test_what_the_branches_read(made):
    pipeline, *_ = made
    read = {}
    for move in (None, {"uncond_motion": False}, {"wrap_invalid_source": True}):
        fields = {"prompt": "a", "image": IMAGE, "tracks": TRACKS, **SMALL, "move": move}
        (batch,) = pipeline._batches([pipeline._task(Job.of(fields), "one")], 1)
        pipeline._encode(batch.tasks)
        read[str(move)] = [
            {name: np.asarray(x[0]) for name, x in branch.items()}
            for branch in batch.branches(True, np.float32)
        ]
        assert STILL not in batch.branches(False, np.float32)[0]
    (without, both), (still, same), (_, wraps) = read.values()
    np.testing.assert_array_equal(without["condition"], both["condition"])
    assert not np.array_equal(without["text"], both["text"])
    for name in both:  # only what the branch without the prompt reads, and of it the condition
        np.testing.assert_array_equal(both[name], same[name])
        assert np.array_equal(without[name], still[name]) == (name != "condition")
    moved, plain = both["condition"], still["condition"]
    cells = [(k, *cell) for k, cell, _ in WRITES]
    assert [tuple(at) for at in np.argwhere((moved != plain).any(-1))] == cells
    assert all((moved[k, *cell] == plain[0, *start]).all() for k, cell, start in WRITES)
    # As released: the corner, along the track that is hidden at first.
    where = np.argwhere((wraps["condition"] != moved).any(-1))
    assert where.tolist() == [[1, 3, 0], [2, 3, 0]]
    assert (wraps["condition"][1, 3, 0] == plain[0, -1, -1]).all()


def test_a_video_says_what_moved_it(made, tmp_path):
    pipeline, *_ = made
    ways = {"strategy": "average", "uncond_motion": False}
    job = dict(image=IMAGE, tracks=TRACKS, steps=1, **SMALL)
    video = pipeline.sample("a", **job, move=ways, follow={"keep_frames": [0, 8]})
    told = video.provenance["control"]
    assert told["move"] == dataclasses.asdict(Move(**ways))
    assert (told["points"], told["in_first_frame"], told["cells"]) == (3, 2, 2)
    assert told["follow"]["keep_frames"] == (0, 8)
    shown, _ = video.guide.videos()
    assert shown.shape == (FRAMES, *SIZE_HW, 3) and (shown != IMAGE).any()
    saved = video.save_beside_condition(tmp_path / "a.webp")
    assert media.read_provenance(saved.read_bytes())["control"]["cells"] == 2


@pytest.mark.slow
def test_batches_hold_jobs_that_move_and_jobs_that_do_not(made):
    """Equal to each alone; jobs whose branches differ are made apart."""
    pipeline, *_ = made
    job = dict(image=IMAGE, steps=2, **SMALL)
    kinds = ({}, dict(tracks=TRACKS), dict(tracks=TRACKS, move={"uncond_motion": False}))
    jobs = [Job.of({"prompt": "a", "name": str(i), **job, **more}) for i, more in enumerate(kinds)]
    together = list(pipeline.run(jobs, batch_size=3))
    for one, video in zip(jobs, together, strict=True):
        alone = next(pipeline.run([one]))
        assert relative_error(video.latents, alone.latents) < 1e-5
    first, second, third = (video.latents for video in together)
    assert relative_error(first, second) > 0.01 and relative_error(second, third) > 1e-3


def test_an_image_of_another_size_takes_its_tracks_along(made):
    """They are in its pixels, and are fitted as it is: cut at the sides."""
    pipeline, *_ = made
    image = picture((64, 128), 6)
    wide = TRACKS.replace(tracks=TRACKS.tracks * 2 + 0.5 + [16, 0], size_hw=(64, 128))
    job = {"prompt": "a", **SMALL}
    given = pipeline._task(Job.of({**job, "image": image, "tracks": wide}), "a").guide
    plain = pipeline._task(Job.of({**job, "image": IMAGE, "tracks": TRACKS}), "a").guide
    np.testing.assert_array_equal(given.sources, plain.sources)
    move = {"rescale": True}
    scaled = Job.of({**job, "image": picture((64, 96)), "tracks": TRACKS, "move": move})
    np.testing.assert_array_equal(pipeline._task(scaled, "a").guide.sources, plain.sources)


def test_other_models_move_if_they_are_asked_to(made):
    _, _, folder = made
    plain = open_pipeline(PLAIN, folder, strict=False)
    job = {"prompt": "a", "image": IMAGE, "tracks": TRACKS, **SMALL}
    with pytest.raises(ValueError, match="wan2.1-i2v-14b follows no tracks: it was not trained to"):
        plain._task(Job.of(job), "a")
    assert plain._task(Job.of({**job, "move": {}}), "a").is_moved


def test_the_command(made, tmp_path, capsys):
    _, _, folder = made
    Image.fromarray(IMAGE).save(tmp_path / "a.png")
    common = [str(folder), "--any-size", "--out", str(tmp_path)]
    one = ["--prompt", "a", "--image", str(tmp_path / "a.png"), "--size-hw", "32x48"]
    one += ["--frames", "9", "--steps", "1", "--guidance", "1"]
    drawn = ["--move", "--drag", "4,4:36,20", "--still", "20,20", "--no-uncond-motion"]
    assert main([PLAIN, *common, *one, *drawn]) == 0
    told = media.read_provenance((tmp_path / "video.mp4").read_bytes())
    assert told["control"]["points"] == 2 and told["control"]["move"]["uncond_motion"] is False
    assert (tmp_path / "video_condition.mp4").exists()
    write_trajectories(tmp_path / "a_tracks.npy", TRACKS)
    line = {"prompt": "a", "image": "a.png", "tracks": "a_tracks.npy", "move": {"strategy": "last"}}
    (tmp_path / "jobs.jsonl").write_text(json.dumps(line))
    assert main([MODEL, *common, "--jobs", str(tmp_path / "jobs.jsonl")]) == 1
    assert "jobs.jsonl, line 1: move: strategy 'last': there are" in capsys.readouterr().err
    write_trajectories(tmp_path / "small.npz", TRACKS.replace(size_hw=(16, 24)))
    small = ["--tracks", str(tmp_path / "small.npz"), "--name", "small"]
    assert main([MODEL, *common, *one, *small]) == 1
    assert "is in pixels of 24x16, the frames are 48x32: resize" in capsys.readouterr().err


def test_the_published_model():
    published = PUBLISHED[MODEL]
    s = published.sampling
    assert PRESETS[published.preset] == PRESETS[PLAIN]
    assert (s.size_hw, s.frames, s.fps, s.sampler, s.steps) == ((480, 832), 81, 16, "unipc", 40)
    assert (s.guidance, published.shift_for(s), s.fit) == (5.0, 3.0, None)


BAD = {
    "length": (dict(tracks=TRACKS.window(0, 5)), r"tracks have 5 frames, the video 9"),
    "longer": (dict(frames=5), r"tracks have 9 frames, the video 5: .*\(frames\)"),
    "size": (dict(tracks=TRACKS.replace(size_hw=(64, 96))), r"pixels of 96x64, the image is 48x32"),
    "hidden": (dict(tracks=TRACKS.take(np.array([2]))), "none of 1 is visible in the first frame"),
    "last image": (dict(last_image=IMAGE), "reads one image, 2 given"),
    "texts": (dict(texts=["a"] * 3), "texts: wan-move-14b-480p reads no texts"),
    "segments": (dict(segments=np.ones((1, 32, 48), bool)), "segments: this model moves its image"),
    "colour": (dict(follow={"codes": "spread"}), "follow: codes is of condition videos"),
    "strategy": (dict(move={"strategy": "mean"}), "move: strategy 'mean': there are sample"),
    "option": (dict(move={"uncond": True}), "no option 'uncond'; did you mean 'uncond_motion'"),
    "no tracks": (dict(tracks=None, move={}), "move without tracks"),
    "two files": (dict(tracks="a.npz,b.npz"), "two files; tracks that move an image are of one"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_jobs(made, case):
    fields, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        made[0].sample("a", **{"image": IMAGE, "tracks": TRACKS, **SMALL, **fields})


def test_models_without_the_latent_of_an_image(tmp_path):
    tiny.wan_folder(tmp_path / "model", 71)
    text = open_pipeline(T2V, tmp_path / "model", strict=False)
    with pytest.raises(
        ValueError, match="which this model does not read: use a Wan image-to-video"
    ):
        text.sample("a", tracks=TRACKS, move={}, **SMALL)
