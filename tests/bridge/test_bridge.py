"""From a past to a video: alignment, choice and edits of tracks, the whole command."""

import dataclasses
import json

import numpy as np
import pytest

from tavid_jax.bridge import MOST, Window, aligned, chosen, read_history
from tavid_jax.bridge.alignment import forecast_frames, joined
from tavid_jax.bridge.command import main
from tavid_jax.data.official import TrackFile, write_tracks
from tavid_jax.data.trajectory_files import read_trajectories, write_trajectories
from tavid_jax.tracks.forecasting import Future, Past
from tavid_jax.tracks.trajectories import Trajectories
from tests.bridge import tiny

WINDOW = Window((24, 32), 8, "center", 5)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return tiny.clip(tmp_path_factory.mktemp("clip"))


def past(points=3, frames=5):
    rng = np.random.default_rng(2)
    tracks = rng.uniform(2, 22, (points, frames, 2)).astype(np.float32)
    return Past(tracks, np.ones((points, frames), bool), (24, 32), (1, points))


def future(points=3, frames=4):
    rng = np.random.default_rng(3)
    tracks = rng.uniform(2, 22, (2, points, frames, 2)).astype(np.float32)
    return Future(tracks, np.ones((2, points, frames), bool))


def test_the_image_is_the_last_frame_that_was_seen_or_the_one_behind_it():
    known, ahead = past(), future()
    known.visibility[1, -1], ahead.visible[1, 2, 3] = False, False
    ahead.tracks[1, 0, 1] = (31.5, 3)  # outside
    assert [forecast_frames(81, align) for align in ("causal", "reproduction")] == [80, 81]
    causal = aligned(known, ahead, "causal", (48, 64), sample=1)
    assert causal.tracks.shape == (3, 5, 2) and causal.size_hw == (48, 64)
    # Centres of pixels move as those of images that grow to twice their size.
    np.testing.assert_allclose(causal.tracks[:, 0], 2 * known.tracks[:, -1] + 0.5, atol=1e-5)
    np.testing.assert_allclose(causal.tracks[:, 1:], 2 * ahead.tracks[1] + 0.5, atol=1e-5)
    assert not causal.visibility[1, 0] and not causal.visibility[2, 4]
    assert not causal.visibility[0, 2] and causal.visibility.sum() == 12
    alone = aligned(known, ahead, "reproduction", (48, 64), sample=1)
    np.testing.assert_array_equal(alone.tracks, causal.tracks[:, 1:])
    with pytest.raises(ValueError, match="align 'next': there are causal, reproduction"):
        aligned(known, ahead, "next", (48, 64))


def test_tracks_that_are_not_on_the_image_are_left_out():
    count = 3 * MOST
    tracks = np.random.default_rng(4).uniform(0, 30, (count, 5, 2)).astype(np.float32)
    seen = np.random.default_rng(5).uniform(size=(count, 5)) > 0.4
    tracks[7, 0], seen[7, 0] = (64, 3), True  # visible, but outside
    found = chosen(Trajectories(tracks, seen, (48, 64)))
    assert found.num_points == MOST and found.visibility[:, 0].all()
    assert not (found.tracks[:, 0] == tracks[7, 0]).all(-1).any()
    few = chosen(Trajectories(tracks[:40], seen[:40], (48, 64)))
    assert few.num_points == seen[:40, 0].sum() - 1
    with pytest.raises(ValueError, match="none of 40 is visible in the first frame"):
        chosen(Trajectories(tracks[:40], np.zeros((40, 5), bool), (48, 64)))
    with pytest.raises(ValueError, match="tracks of num_frames 5 and of 3 cannot be joined"):
        joined(few, few.window(0, 3))


@pytest.mark.parametrize(("align", "start", "last"), [("causal", 7, 11), ("reproduction", 6, 11)])
def test_the_past_ends_with_the_video(clip, align, start, last):
    history = read_history(clip, WINDOW, align)
    shown = tiny.frames()
    np.testing.assert_array_equal(history.image, shown[last])
    assert history.past.tracks.shape == (12, 5, 2) and history.past.grid_hw == (3, 4)
    np.testing.assert_allclose(history.past.tracks[0, 0], [4, 4])
    way = (history.past.tracks[:, -1] - history.past.tracks[:, 0])[history.past.visibility[:, -1]]
    assert len(way) >= 6 and np.abs(np.median(way, 0) - [2.0, 0.0]).max() < 0.3  # half the px
    facts = history.facts
    assert (facts["start"], facts["image_frame"], history.fps) == (start, last, 8)
    bare = read_history(clip, WINDOW, align, start=0, tracked=False)
    np.testing.assert_array_equal(bare.image, shown[last - start])
    assert bare.past.tracks.shape == (0, 5, 2)


def test_tracks_of_the_past_from_a_file(clip, tmp_path):
    """Of all frames of the video, in its pixels, on the same grid as it was then."""
    y, x = np.mgrid[:3, :4]
    start = np.stack([16 * x + 8.5, 16 * y + 8.5], -1).reshape(-1, 1, 2).astype(np.float32)
    tracks = np.repeat(start, 12, 1) + np.maximum(np.arange(12) - 7, 0)[:, None] * [2.0, 0]
    path = tmp_path / "clip.npz"
    write_tracks(path, TrackFile(tracks.astype(np.float32), np.ones((12, 12), bool), (48, 64)))
    history = read_history(clip, WINDOW, "causal", tracks=path)
    np.testing.assert_allclose(history.past.tracks[:, -1, 0], 8 * x.ravel() + 4 + 4, atol=1e-4)
    assert history.facts["tracks"] == "clip.npz"


def test_pasts_that_cannot_be(clip, tmp_path):
    long = dataclasses.replace(WINDOW, frames=13)
    with pytest.raises(ValueError, match="has 12 frames: the forecast is given 13; give a longer"):
        read_history(clip, long, "causal")
    with pytest.raises(ValueError, match="is given 13 and the frame behind them"):
        read_history(clip, long, "reproduction")
    with pytest.raises(ValueError, match="start 8: the past may begin in frame 0 to 7 of"):
        read_history(clip, WINDOW, "causal", start=8)
    with pytest.raises(ValueError, match="align 'next'"):
        read_history(clip, WINDOW, "next")


# ---- the command ----------------------------------------------------------------------------

GRID = ["--history-size", "24x32", "--stride", "8", "--origin", "center", "--history", "9"]


def test_tracks_can_be_edited_on_the_way(clip, tmp_path, capsys):
    """A trivial forecast: points go on as they went."""
    out = tmp_path / "tracks.npz"
    plain = [str(clip), "--forecast", "constant_velocity", *GRID, "--frames", "9"]
    assert main([*plain, "--save-tracks", str(out)]) == 0
    tracks = read_trajectories(out)
    assert tracks.size_hw == tiny.SIZE_HW and tracks.num_frames == 9
    assert tracks.visibility[:, 0].all() and 6 <= tracks.num_points <= 12
    way = tracks.tracks[:, 8] - tracks.tracks[:, 0]
    assert np.abs(np.median(way, 0) - [8, 0]).max() < 1.5
    edits = {"edits": [{"what": "keep", "region": [0, 0, 63, 30]}, {"what": "move", "by": [0, 5]}]}
    (tmp_path / "edits.json").write_text(json.dumps(edits))
    drawn = Trajectories(np.full((1, 9, 2), 7.0), np.ones((1, 9), bool), tiny.SIZE_HW)
    write_trajectories(tmp_path / "drawn.npz", drawn)
    more = ["--edits", str(tmp_path / "edits.json"), "--add", str(tmp_path / "drawn.npz")]
    assert main([*plain, *more, "--save-tracks", str(out)]) == 1
    assert "tracks.npz exists already" in capsys.readouterr().err
    assert main([*plain, *more, "--save-tracks", str(out), "--overwrite"]) == 0
    changed = read_trajectories(out)
    np.testing.assert_array_equal(changed.tracks[0], drawn.tracks[0])
    kept = tracks.take(tracks.tracks[:, 0, 1] <= 30)
    np.testing.assert_allclose(changed.tracks[1:, -1], kept.tracks[:, -1] + [0, 5], atol=1e-4)


def wan(path, **config):
    pytest.importorskip("torch")
    pytest.importorskip("diffusers")
    from tests.pipelines.tiny import wan_folder

    wan_folder(path, 80, **config)
    return str(path)


IMAGES = dict(transformer=dict(in_channels=12, image_dim=20, added_kv_proj_dim=32), clip=True)
VIDEO = ["--prompt", "it goes on", "--size-hw", "32x48", "--steps", "2", "--any-size"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("align", "forecast", "grid"),
    [
        ("causal", "tests.bridge.tiny:trajloom", ()),
        ("reproduction", "constant_velocity", GRID),
    ],
)
def test_a_past_becomes_a_video(clip, tmp_path, align, forecast, grid):
    """TrajLoom (or a trivial forecast) and Wan-Move, of random weights."""
    pytest.importorskip("imageio_ffmpeg")
    model = ["--model", "wan-move-14b-480p", "--checkpoint", wan(tmp_path / "wan", **IMAGES)]
    how = ["--frames", "9", "--align", align, "--out", str(tmp_path)]
    given = ["--forecast", forecast, *grid, "--seed", "3"]
    assert main([str(clip), *given, *model, *VIDEO, *how]) == 0
    card = json.loads((tmp_path / "future.json").read_text())
    told, moved = card["bridge"], card["control"]
    assert told["forecast"]["seed"] == 3 and told["history"]["align"] == align
    assert told["history"]["image_frame"] == 11
    assert 0 < moved["cells"] <= 2 * moved["points"]
    assert told["points"]["used"] == moved["points"]
    for name in ("future.mp4", "future_bridge.mp4", "future_tracks.npz"):
        assert (tmp_path / name).stat().st_size > 0
    # The same from the tracks that were written.
    tracks = ["--tracks", str(tmp_path / "future_tracks.npz"), "--name", "again", "--seed", "3"]
    assert main([str(clip), *tracks, *GRID, *model, *VIDEO, *how]) == 0
    again = json.loads((tmp_path / "again.json").read_text())
    assert again["control"] == moved and again["seed"] == card["seed"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "give either --forecast, what forecasts the tracks, or --tracks, a file"),
        (["--forecast", "stand_still"], "give --model and --prompt of the video, or --save-tracks"),
        (
            ["--forecast", "tests.bridge.tiny:trajloom", "--save-tracks", "{}/a.npz"],
            "a video of 81 frames needs a forecast of 80, TrajLoom gives 9: make a shorter one, "
            "--frames 9",
        ),
        (
            ["--forecast", "tests.bridge.tiny:trajloom", "--save-tracks", "{}/a.npz", "--history",
             "5", "--frames", "9"],
            "the past's frames 5: TrajLoom was made for 9",
        ),
        (
            ["--tracks", "{}/small.npz", *GRID, "--frames", "9", "--save-tracks", "{}/a.npz"],
            "is in pixels of 32x24, the frames are 64x48: resize the tracks",
        ),
        (
            ["--tracks", "{}/small.npz", *GRID, "--save-tracks", "{}/a.npz", "--rescale"],
            "tracks have 9 frames, the video 81: give tracks of so many, or make a video of theirs "
            "(--frames 9)",
        ),
        (
            ["--tracks", "{}/hidden.npz", *GRID, "--frames", "9", "--save-tracks", "{}/a.npz"],
            "none of 1 is visible in the first frame",
        ),
    ],
)  # fmt: skip
def test_bad_input(clip, tmp_path, capsys, options, message):
    still = Trajectories(np.full((1, 9, 2), 7.0), np.ones((1, 9), bool), (24, 32))
    write_trajectories(tmp_path / "small.npz", still)
    hidden = still.replace(visibility=np.arange(9)[None] > 0, size_hw=tiny.SIZE_HW)
    write_trajectories(tmp_path / "hidden.npz", hidden)
    assert main([str(clip), *(text.format(tmp_path) for text in options)]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "a.npz").exists()


def test_models_that_cannot_move_an_image(clip, tmp_path, capsys):
    pytest.importorskip("imageio_ffmpeg")
    how = ["--forecast", "stand_still", *GRID, *VIDEO, "--out", str(tmp_path / "out")]
    text = ["--model", "wan2.1-t2v-1.3b", "--checkpoint", wan(tmp_path / "text")]
    assert main([str(clip), *how, *text]) == 1
    assert "move the latent of an image, which this model does not" in capsys.readouterr().err
    image = ["--model", "wan2.1-i2v-14b", "--checkpoint", wan(tmp_path / "image", **IMAGES)]
    assert main([str(clip), *how, *image]) == 1
    assert "was not trained to move its image along tracks" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
