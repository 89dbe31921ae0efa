"""Trajectories as JSON that people write."""

import json

import numpy as np
import pytest

from tavid_jax.data.official import TrackFileError
from tavid_jax.data.point_lists import along, format_points, parse_points
from tavid_jax.tracks.trajectories import Trajectories


def held(*points, **head):
    return {"size_hw": [20, 30], "frames": 5, "points": list(points), **head}


def test_key_points_are_joined_by_lines():
    made = parse_points(held({"path": [[1, 10, 4], [3, 14, 0]]}))
    want = [[10, 4], [10, 4], [12, 2], [14, 0], [14, 0]]  # stands still before and after
    assert made.tracks.tolist() == [want]
    assert made.visibility.all() and made.size_hw == (20, 30)
    assert made.segment is made.colour is made.depth is made.fps is None
    still = parse_points(held({"path": [[2, 3, 4]]}))
    assert still.tracks.tolist() == [[[3, 4]] * 5]


def test_smooth_paths_rest_at_their_ends_and_pass_their_places():
    keys = np.array([[0, 0, 0], [10, 20, 0], [25, 20, 30], [40, 0, 0]], float)
    path = along(keys, 41, "smooth").astype(np.float64)
    np.testing.assert_allclose(path[[0, 10, 25, 40]], keys[:, 1:], atol=1e-5)
    speed = np.linalg.norm(np.diff(path, axis=0), axis=-1)
    assert speed[0] < 0.6 and speed[-1] < 0.6 and speed.max() > 1.5
    # No corner: velocity changes little from frame to frame, unlike the lines'.
    turns = [np.abs(np.diff(along(keys, 41, e), 2, axis=0)).max() for e in ("smooth", "linear")]
    assert turns[0] < 0.5 * turns[1]
    two = along(keys[:2], 11, "smooth")[:, 0]  # between two places: 3 u^2 - 2 u^3
    u = np.arange(11) / 10
    np.testing.assert_allclose(two, 20 * u * u * (3 - 2 * u), atol=1e-5)
    by_file = parse_points(held({"path": [[0, 0, 0], [4, 8, 0]]}, ease="smooth")).tracks[0, :, 0]
    by_point = parse_points(held({"path": [[0, 0, 0], [4, 8, 0]], "ease": "smooth"})).tracks
    assert by_file.tolist() == by_point[0, :, 0].tolist() == [0, 1.25, 4, 6.75, 8]


def test_everything_that_a_point_may_have():
    made = parse_points(
        held(
            {"path": [[0, 1, 2]], "visible": [[1, 2], [4, 4]], "depth": 0.5, "colour": [1, 2, 3]},
            {
                "xy": [[0, 0], None, [2, 2], [3, 3], [4.5, 4]],
                "visible": [1, 1, 1, 0, True],
                "segment": 2,
                "depth": [0, 1, 2, 3, 4],
                "colour": [255, 0, 0],
            },
            segments=4,
            fps=24,
        )
    )
    assert made.visibility.astype(int).tolist() == [[0, 1, 1, 0, 1], [1, 0, 1, 0, 1]]
    assert made.segment.tolist() == [0, 2] and made.segments == 4 and made.fps == 24
    assert made.colour.tolist() == [[1, 2, 3], [255, 0, 0]]
    assert made.depth.tolist() == [[0.5] * 5, [0, 1, 2, 3, 4]]
    assert made.tracks[1, 4].tolist() == [4.5, 4]


def test_texts_are_the_points_own():
    still = {"path": [[0, 1, 2]]}
    assert parse_points(held(still, still)).texts is None
    made = parse_points(held(still | {"text": "  a cat\n"}, still, still | {"text": " "}))
    assert made.texts == ("a cat", "", "")  # white space alone is no text
    assert json.loads(format_points(made))["points"][0]["text"] == "a cat"
    assert "ein Bär" in format_points(made.replace(texts=("ein Bär", "", "")))


def test_what_the_reader_is_told():
    bare = {"points": [{"path": [[0, 1, 1], [6, 7, 1]]}]}
    made = parse_points(bare, size_hw=(8, 8), frames=7)
    assert made.num_frames == 7 and made.size_hw == (8, 8)
    assert parse_points({"points": [{"xy": [[0, 0]] * 3}]}, size_hw=(8, 8)).num_frames == 3
    for told in ({"size_hw": (8, 8)}, {"frames": 7}):
        with pytest.raises(TrackFileError, match="says no '(frames|size_hw)'"):
            parse_points(bare, **told)


def test_what_is_written_is_read_back_exactly():
    rng = np.random.default_rng(0)
    for extra in ({}, {"depth": True}):
        points = Trajectories(
            rng.normal(size=(6, 9, 2)).astype(np.float32) * 100,
            np.concatenate([rng.random((4, 9)) > 0.4, np.ones((1, 9)), np.zeros((1, 9))]) > 0,
            (480, 720),
            depth=rng.random((6, 9)).astype(np.float32) if extra else None,
            segment=np.arange(6) % 3 if extra else None,
            segments=5 if extra else 0,
            colour=rng.integers(0, 255, (6, 3), dtype=np.uint8) if extra else None,
            fps=23.976 if extra else None,
        )
        again = parse_points(json.loads(format_points(points)))
        for name in ("tracks", "visibility", "depth", "segment", "colour"):
            np.testing.assert_array_equal(getattr(again, name), getattr(points, name))
        assert (again.size_hw, again.segments, again.fps) == (
            points.size_hw,
            points.segments,
            points.fps,
        )


PATH = {"path": [[0, 1, 1]]}


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (held(), "'points' must be a list of at least one"),
        (held(PATH, colour=[1, 2, 3]), "unknown key 'colour'"),
        (held(PATH | {"color": [1, 2, 3]}), r"points\[0\] has an unknown key 'color'.*'colour'\?"),
        (held(PATH, {"segment": 1}), r"points\[1\] must have either 'path' or 'xy'"),
        (held(PATH | {"xy": []}), "either 'path' or 'xy'"),
        (held({"path": [[0, 1]]}), r"'path' must be \[\[frame, x, y\]"),
        (held({"path": [[0, 1, 1], [0, 2, 2]]}), "must ascend from 0 to 4"),
        (held({"path": [[0, 1, 1], [5, 2, 2]]}), "must ascend from 0 to 4"),
        (held({"path": [[0, 1, "a"]]}), "'path' must be"),
        (held({"path": [[0, 1, float("nan")]]}), "'path' must be"),
        (held({"xy": [[0, 0]] * 4}), "a place for each of 5 frames, got 4"),
        (held({"xy": [[0, 0, 0]] * 5}), r"'xy' must be \[\[x, y\]"),
        (held(PATH | {"visible": [1, 0]}), "'visible' must be true, false, 5 of them or spans"),
        (held(PATH | {"visible": [[2, 5]]}), "no such span of frames 0 to 4"),
        (held(PATH | {"segment": -1}), "'segment' must be 0, 1, 2"),
        (held(PATH | {"segment": 3}, segments=2), "segment 3 does not exist"),
        (held(PATH | {"colour": [0, 0, 256]}), "of 0 to 255"),
        (held(PATH | {"colour": [0, 0, 1]}, PATH), r"points\[1\] has no 'colour', others have"),
        (held(PATH | {"depth": [1, 2]}), "a number or 5 of them"),
        (held(PATH | {"text": 3}), r"points\[0\]: 'text' must be words in quotes, got 3"),
        (held(PATH | {"text": ["a"]}), "'text' must be words"),
        (held(PATH, {"text": "a cat"}), r"points\[1\] has a text, 'a cat', but no trajectory"),
        (held(PATH | {"texts": "a"}), "unknown key 'texts'; did you mean 'text'"),
        (held(PATH, ease="fast"), "'ease' must be one of linear, smooth"),
        (held(PATH, frames=0), "'frames' must be a count"),
        (held(PATH, size_hw=[20]), r"'size_hw' must be \[H, W\]"),
        (held(PATH, fps=-1), "'fps' must be a positive"),
    ],
)
def test_mistakes_are_named(bad, words):
    with pytest.raises(ValueError, match=words):
        parse_points(bad)
