"""Tracks that a person draws, tracks of a video, and the commands for both."""

import json

import cv2
import numpy as np
import pytest

from tavid_jax.data.__main__ import main
from tavid_jax.data.drags import Drag, DragError, drag_clip, drag_file, draw_paths
from tavid_jax.data.point_lists import parse_points
from tavid_jax.data.rle_masks import write_rle_masks
from tavid_jax.data.tracked import even_points, track_video
from tavid_jax.data.trajectory_files import read_trajectories
from tavid_jax.data.video import read_video

HW = (64, 96)


def test_a_drag_goes_along_its_lines_at_constant_speed():
    drag = Drag.parse("10,10:40,10:40,20")
    made = parse_points(drag_file([drag], HW, 9))
    steps = np.linalg.norm(np.diff(made.tracks[0], axis=0), axis=-1)
    np.testing.assert_allclose(steps, 5.0, rtol=1e-4)  # 30 + 10 px in 8 steps
    assert made.tracks[0, 6].tolist() == [40, 10]
    assert Drag.parse("5,5").keys(9) == Drag.parse("5,5:5,5").keys(9) == [[0, 5, 5]]


def test_drags_take_the_segment_that_they_start_in():
    masks = np.zeros((2, *HW), bool)
    masks[1, :32] = True
    drags = [Drag.parse("3,3:90,60"), Drag.parse("3,60")]
    made = parse_points(drag_file(drags, HW, 5, masks=masks, fps=16))
    assert (made.segment.tolist(), made.segments, made.fps) == ([2, 0], 2, 16)


@pytest.mark.parametrize("text", ["", "1", "1,2,3", "1,2:", "a,b", "1,nan", "1,2;3,4"])
def test_what_is_no_drag(text):
    with pytest.raises(DragError, match="give places as x0,y0:x1,y1"):
        Drag.parse(text)


def test_drags_start_inside_the_image():
    with pytest.raises(DragError, match="starts at 96,3, outside the image of 96x64"):
        drag_file([Drag.parse("96,3:1,1")], HW, 5)
    with pytest.raises(DragError, match="at least one"):
        drag_file([], HW, 5)


def test_paths_are_drawn_where_they_are():
    image = np.full((*HW, 3), 90, np.uint8)
    made = parse_points(drag_file([Drag.parse("20,30:70,30")], HW, 9))
    made = made.replace(colour=np.array([[255, 0, 0]], np.uint8))
    picture = draw_paths(image, made)
    red = (picture[..., 0] > 180) & (picture[..., 1] < 60)
    assert red[30, 30:68].all() and not red[:, :15].any() and not red[:24].any()
    assert (image == 90).all()  # drawn on a copy
    clip = drag_clip(image, made)
    assert clip.shape == (9, *HW, 3) and not np.array_equal(clip[0], clip[8])
    with pytest.raises(DragError, match="the image is"):
        draw_paths(image[:10], made)


@pytest.fixture
def image(tmp_path, moving_frames):
    cv2.imwrite(str(tmp_path / "image.png"), moving_frames(HW, 1)[0])
    return tmp_path / "image.png"


def test_drag_command(image, tmp_path, capsys):
    out, clip = tmp_path / "out.json", tmp_path / "out.avi"
    drags = ["--drag", "10,10:40,10:40,50", "--drag", "60,5:80,60", "--still", "90,60"]
    options = ["--frames", "7", "--ease", "smooth", "--clip", str(clip)]
    assert main(["drag", str(image), str(out), *drags, *options]) == 0
    made = read_trajectories(out, size_hw=HW, frames=7)
    assert made.num_points == 3 and made.tracks[1, -1].tolist() == [80, 60]
    assert [len(point["path"]) for point in json.loads(out.read_text())["points"]] == [3, 2, 1]
    assert cv2.imread(str(tmp_path / "out.png")).shape == (*HW, 3)
    assert len(read_video(clip)) == 7
    assert main(["drag", str(image), str(tmp_path / "out.npz"), *drags]) == 0
    assert read_trajectories(tmp_path / "out.npz").num_frames == 49
    assert "3 tracks of 49 frames" in capsys.readouterr().out


def test_drag_command_says_what_is_wrong(image, tmp_path, capsys):
    out = str(tmp_path / "out.json")
    for arguments, words in (
        ([str(image), out], "give at least one --drag"),
        ([str(image), out, "--still", "1,1:2,2"], "a still point has one place"),
        ([str(tmp_path / "no.png"), out, "--still", "1,1"], "no such image"),
        ([str(image), out, "--still", "1,1", "--masks", str(image), str(image)], ""),
    ):
        code = main(["drag", *arguments])
        assert code == (1 if words else 0)
        assert words in capsys.readouterr().err


def test_even_points():
    points = even_points((480, 720), (70, 70))
    assert points.shape == (4900, 2)
    assert points[0].tolist() == [11.25, 11.25] and points[-1].tolist() == [708.75, 468.75]
    assert points[1, 1] == 11.25  # row by row
    assert even_points((9, 64), (1, 2)).tolist() == [[1, 4], [63, 4]]
    with pytest.raises(ValueError, match="a grid of 70x70 points does not fit 9x64 px"):
        even_points((9, 64), (70, 70))


def test_a_video_is_tracked_both_ways(moving_frames):
    video = moving_frames(HW, 6, (2.0, 1.0))
    masks = np.zeros((1, *HW), bool)
    masks[0, :, :48] = True
    way = np.array([10.0, 5.0])
    for reverse in (False, True):
        made = track_video(video, (5, 6), masks=masks, reverse=reverse, fps=8)
        near = -1 if reverse else 0
        np.testing.assert_allclose(made.tracks[:, near], even_points(HW, (5, 6)), atol=1e-4)
        moved = (made.tracks[:, -1] - made.tracks[:, 0])[made.visibility.all(1)]
        assert len(moved) > 10 and np.abs(np.median(moved, axis=0) - way).max() < 0.5
        left = even_points(HW, (5, 6))[:, 0] < 47.5
        np.testing.assert_array_equal(made.segment, left.astype(int))


def test_track_and_tracks_commands(make_video, tmp_path, capsys):
    video = make_video(tmp_path / "v.avi", num_frames=8, size_hw=HW, velocity=(2.0, 0.0))
    masks = np.zeros((8, 2, *HW), bool)
    masks[:, 0, :32], masks[:, 1, 32:] = True, True
    write_rle_masks(tmp_path / "m.pkl", masks)
    out, small = tmp_path / "t.npz", tmp_path / "t_tracks.npy"
    options = ["--grid", "4x6", "--start", "1", "--frames", "6", "--size", "32x48"]
    assert main(["track", str(video), str(out), *options, "--masks", str(tmp_path / "m.pkl")]) == 0
    made = read_trajectories(out)
    assert (made.num_points, made.num_frames, made.size_hw) == (24, 6, (32, 48))
    assert made.segment.tolist() == [1] * 12 + [2] * 12 and made.fps == 10
    told = ["tracks", str(out), str(small), "--size", "64x96", "--rescale", "--frames", "5"]
    assert main(told) == 0
    text = capsys.readouterr().out
    for words in ("format         arrays", "points         24", "frames         5 at 10", "96x64",
                  "segments       2 (1: 12, 2: 12; none: 0)"):  # fmt: skip
        assert words in text
    np.testing.assert_allclose(
        read_trajectories(small, size_hw=HW).tracks, (made.tracks[:, :5] + 0.5) * 2 - 0.5, rtol=1e-5
    )
    assert main(["track", str(video), str(out), "--frames", "9"]) == 1
    assert "has 8 frames from frame 0 on, 9 are asked for" in capsys.readouterr().err
    assert main(["tracks", str(video)]) == 1
    assert "is a video or picture" in capsys.readouterr().err
    assert main(["tracks", str(small)]) == 1
    assert "give size_hw (--size HxW)" in capsys.readouterr().err
