"""Tracks that are made for an image: their places, and the options of the command line."""

import json

import numpy as np
import pytest
from PIL import Image

from tavid_jax.data.video import write_video
from tavid_jax.pipelines import read_jobs
from tavid_jax.pipelines.cli import _parser
from tavid_jax.pipelines.follow import Follow
from tavid_jax.pipelines.follow_options import job_fields
from tavid_jax.pipelines.moves import cloned, dragged, redirected
from tests.pipelines.reference import picture

SIZE_HW = (48, 72)


def parsed(*options):
    return _parser().parse_args(["model", "--prompt", "a", *options])


def test_drags_go_where_they_are_drawn():
    made = dragged(["10,20:50,20"], ["5,6"], SIZE_HW, 5)
    np.testing.assert_allclose(made.tracks[0, :, 0], [10, 20, 30, 40, 50])
    np.testing.assert_allclose(made.tracks[1], [[5, 6]] * 5)
    assert made.size_hw == SIZE_HW and made.visibility.all()


def test_the_motion_of_a_video(tmp_path):
    wide = picture((48, 120), 3)
    write_video(tmp_path / "a.mp4", [wide[:, 2 * t : 2 * t + 72] for t in range(6)], 8)
    made = cloned(tmp_path / "a.mp4", 5)
    assert made.num_frames == 5 and made.size_hw == SIZE_HW
    step = np.diff(made.tracks, axis=1)[made.visibility.all(1)]
    assert len(step) > 500 and np.abs(np.median(step, axis=(0, 1)) - [-2, 0]).max() < 0.3


@pytest.mark.parametrize(
    ("move", "towards"),
    [
        ("pan:10,0", (-1, 0)),
        ("pan:0,10", (0, -1)),
        ("dolly:0.2,0,0", (-1, 0)),
        ("orbit:2,10,0", None),
    ],
)
def test_a_camera_that_moves(move, towards):
    image, depth = picture(SIZE_HW), np.full(SIZE_HW, 2.0, np.float32)
    made = redirected(image, move, 4, depth)
    moved = (made.tracks[:, -1] - made.tracks[:, 0])[made.visibility.all(1)].mean(0)
    assert made.visibility[:, 0].all() and made.colour.any()
    if towards is None:  # what is looked at stays in the middle
        middle = np.linalg.norm(made.tracks[:, 0] - [35.5, 23.5], axis=1).argmin()
        assert np.abs(made.tracks[middle, -1] - made.tracks[middle, 0]).max() < 1
        assert np.ptp(np.linalg.norm(np.diff(made.tracks, axis=1), axis=-1)) > 1
    else:
        assert np.sign(moved.round(1)).tolist() == list(towards)


def test_a_camera_that_zooms_needs_no_depth():
    made = redirected(picture(SIZE_HW), "zoom:2", 3)
    middle = np.array([35.5, 23.5])
    np.testing.assert_allclose(
        made.tracks[:, -1] - middle, 2 * (made.tracks[:, 0] - middle), atol=1e-3
    )
    with pytest.raises(ValueError, match="give the image's depth"):
        redirected(picture(SIZE_HW), "orbit:2,10,0", 3)
    with pytest.raises(ValueError, match="there are zoom:FACTOR"):
        redirected(picture(SIZE_HW), "roll:2", 3)


def test_options_of_the_command(tmp_path):
    Image.fromarray(picture(SIZE_HW)).save(tmp_path / "a.png")
    image = ["--image", str(tmp_path / "a.png")]
    fields = job_fields(parsed(*image, "--drag", "1,2:3,4", "--drag", "5,6:7,8"), 9)
    assert fields["tracks"].tracks.shape == (2, 9, 2) and "follow" not in fields
    options = [
        "--tracks",
        "t.npz",
        "--source",
        "v.mp4",
        "--colour",
        "frame",
        "--keep-frames",
        "0,8",
    ]
    fields = job_fields(
        parsed(*options, "--keep-points", "0.1", "--stamp", "3", "2", "--native"), 9
    )
    # What is not said stays the model's own.
    told = dict(colour="frame", keep_frames=(0, 8), keep_points=0.1, stamp=(3.0, 2.0), native=True)
    assert fields == {"tracks": "t.npz", "source": "v.mp4", "follow": told}
    with pytest.raises(ValueError, match="keep_points 2.0"):
        job_fields(parsed("--tracks", "t.npz", "--keep-points", "2"), 9)
    assert job_fields(parsed(), 9) == {}
    with pytest.raises(ValueError, match="give one of --tracks, --drag"):
        job_fields(parsed("--tracks", "t.npz", "--camera", "zoom:2"), 9)
    with pytest.raises(ValueError, match="give --image"):
        job_fields(parsed("--drag", "1,2:3,4"), 9)


def test_files_of_jobs_name_tracks_beside_them(tmp_path):
    line = {
        "prompt": "a", "tracks": "f.npy, r.npy", "source": "v.mp4",
        "control_videos": ["ids.mp4", "colours.mp4"], "follow": {"keep_frames": [0, 8]},
    }  # fmt: skip
    (tmp_path / "jobs.jsonl").write_text(json.dumps(line))
    (job,) = read_jobs(tmp_path / "jobs.jsonl")
    assert str(job.tracks) == f"{tmp_path}/f.npy,{tmp_path}/r.npy"
    assert job.source == tmp_path / "v.mp4"
    assert job.control_videos == [tmp_path / "ids.mp4", tmp_path / "colours.mp4"]
    assert job.ways({"codes": "spread"}) == Follow(keep_frames=(0, 8), codes="spread")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"follow": {"colour": "frame"}}, "follow without tracks"),
        ({"segments": "m.pkl"}, "segments without tracks"),
        ({"tracks": 3}, "tracks 3: give a file"),
        ({"tracks": "t.npz", "source": "v.mp4", "image": "a.png"}, "source is not read"),
        ({"control_videos": ["a.mp4", "b.mp4", "c.mp4"]}, "identities and colours"),
    ],
)
def test_lines_that_make_no_sense(tmp_path, line, message):
    (tmp_path / "jobs.jsonl").write_text(json.dumps({"prompt": "a"} | line))
    with pytest.raises(ValueError, match=f"line 1: .*{message}"):
        read_jobs(tmp_path / "jobs.jsonl")
