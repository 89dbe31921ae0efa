"""Segments of points, masks as run lengths, and trajectories of clips."""

import os
import pickle

import numpy as np
import pytest

from tavid_jax.data.arrays import ForbiddenContentError
from tavid_jax.data.clip import Clip, ClipError
from tavid_jax.data.rle_masks import all_masks, frame_masks, write_rle_masks
from tavid_jax.data.segments import (
    mask_centres,
    object_tracks,
    trajectories_of,
    with_segments,
)
from tavid_jax.tracks.codes import segments_at
from tavid_jax.tracks.trajectories import Trajectories

HW = (10, 12)


def boxes():
    masks = np.zeros((2, *HW), bool)
    masks[0, 2:5, 2:8] = True
    masks[1, 4:9, 5:12] = True
    return masks


def moving(n=4, frames=3):
    rng = np.random.default_rng(0)
    tracks = rng.uniform(0, 9, (n, frames, 2)).astype(np.float32)
    return tracks, np.ones((n, frames), bool)


def test_the_first_mask_that_holds_the_rounded_place_wins():
    xy = np.array([[2, 2], [1.4, 2], [6, 4], [6, 5], [2.5, 4.5], [11.9, 8], [40, 7], [-3, -3]])
    # 2.5 and 4.5 round to even; places outside count as the border's.
    assert segments_at(xy, boxes()).tolist() == [1, 0, 1, 2, 1, 2, 2, 0]
    assert segments_at(xy, boxes()[:0]).tolist() == [0] * 8


def test_segments_by_first_or_last_frame():
    tracks, seen = np.zeros((1, 3, 2), np.float32), np.ones((1, 3), bool)
    tracks[0, 0], tracks[0, -1] = (2, 2), (8, 8)
    points = Trajectories(tracks, seen, HW)
    first, last = with_segments(points, boxes()), with_segments(points, boxes(), -1)
    assert (first.segment.tolist(), last.segment.tolist(), first.segments) == ([1], [2], 2)
    with pytest.raises(ClipError, match="masks are 6x5, the tracks are in pixels of 12x10"):
        with_segments(points, np.ones((1, 5, 6), bool))


def test_trajectories_of_a_clip():
    tracks, seen = moving()
    valid = seen.copy()
    valid[0, 1] = False
    clip = Clip("a", HW, 8.0, tracks=tracks, visibility=seen, valid=valid, masks=boxes())
    made = trajectories_of(clip)
    np.testing.assert_array_equal(made.visibility, valid)
    np.testing.assert_array_equal(made.segment, segments_at(tracks[:, 0], boxes()))
    assert (made.segments, made.fps, made.size_hw) == (2, 8.0, HW)
    own = trajectories_of(clip.replace(segment=np.array([0, 2, 1, 2], np.int32)))
    assert own.segment.tolist() == [0, 2, 1, 2] and own.segments == 2
    raster = trajectories_of(clip.replace(coord="raster", masks=None, visibility=None, valid=None))
    np.testing.assert_allclose(raster.tracks, tracks - 0.5, rtol=1e-6)
    assert raster.segment is None and raster.visibility.all()
    with pytest.raises(ClipError, match="'a': has no tracks"):
        trajectories_of(clip.replace(tracks=None))


def test_masks_come_back_from_run_lengths(tmp_path):
    masks = np.random.default_rng(0).random((3, 4, 33, 41)) > 0.5
    masks[0, 0], masks[0, 1], masks[1, 2] = False, True, False
    masks[1, 2, 5:30, 3:40] = True
    write_rle_masks(tmp_path / "m.pkl", masks)
    np.testing.assert_array_equal(all_masks(tmp_path / "m.pkl"), masks)
    np.testing.assert_array_equal(frame_masks(tmp_path / "m.pkl"), masks[0])
    np.testing.assert_array_equal(frame_masks(tmp_path / "m.pkl", -1), masks[2])
    with pytest.raises(ClipError, match=r"no masks of frame 7, only of 0 to 2"):
        frame_masks(tmp_path / "m.pkl", 7)


def test_run_lengths_written_by_others(tmp_path):
    # Column by column: 5 outside, 2 inside, 13 outside; "52=" says the same.
    counts = {"size": [4, 5], "counts": [5, 2, 13]}
    text = {"size": [4, 5], "counts": b"52="}
    want = np.zeros((4, 5), bool)
    want[1:3, 1] = True
    (tmp_path / "m.pkl").write_bytes(pickle.dumps({0: [text], 1: [counts, text]}, 5))
    np.testing.assert_array_equal(frame_masks(tmp_path / "m.pkl"), want[None])
    padded = all_masks(tmp_path / "m.pkl")
    assert padded.shape == (2, 2, 4, 5) and not padded[0, 1].any() and padded[1, 1].any()
    (tmp_path / "m.pkl").write_bytes(pickle.dumps({0: [text | {"counts": b"52<"}]}))
    with pytest.raises(ClipError, match="mask 0 of frame 0: run lengths add up to"):
        frame_masks(tmp_path / "m.pkl")


@pytest.mark.parametrize(
    ("held", "words"),
    [
        ([[]], "frame 0 has no masks"),
        ({}, "holds no frames"),
        ({"a": 1}, "no masks in it"),
        (
            {0: [{"size": [2, 2], "counts": [4]}, {"size": [1, 2], "counts": [2]}]},
            "mask 1 of frame",
        ),
        ({0: ["x"]}, "no dict of run lengths"),
        ({0: [{"size": [1, 1], "counts": [1]}], 2: []}, "no masks of frame 1"),
    ],
)
def test_broken_mask_files_are_named(tmp_path, held, words):
    (tmp_path / "m.pkl").write_bytes(pickle.dumps(held))
    with pytest.raises(ClipError, match=f"m.pkl: .*{words}"):
        all_masks(tmp_path / "m.pkl")


def test_code_in_a_mask_file_is_refused(tmp_path):
    class Bad:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    (tmp_path / "m.pkl").write_bytes(pickle.dumps({0: [Bad()]}))
    with pytest.raises(ForbiddenContentError, match="mkdir"):
        frame_masks(tmp_path / "m.pkl")
    assert not (tmp_path / "ran").exists()


def one_box(**fields):
    """A clip of a 4 x 3 box that goes 2 px right per frame; a third of it is hidden at last."""
    way = np.array([[0, 0], [2, 0], [4, 0]], np.float32)
    at = np.array([[2, 2], [4, 2], [5, 4]], np.float32)
    pixels = np.zeros((3, *HW), bool)
    for t in range(3):
        pixels[t, 2:5, 2 + 2 * t : 6 + 2 * t] = True
    pixels[2, 4] = False
    seen = np.ones((3, 3), bool)
    seen[2, 2] = False
    return Clip(
        id="box",
        size_hw=HW,
        fps=8.0,
        tracks=at[:, None] + way,
        visibility=seen,
        segment=np.ones(3, np.int32),
        **{"masks": pixels[:1], "segment_map": pixels.astype(np.uint8), **fields},
    )


@pytest.mark.parametrize(
    "fields, start",
    [
        ({}, (3.5, 3.0)),  # of the whole views
        ({"segment_map": None}, (3.5, 3.0)),
        ({"segment_map": None, "masks": None}, (11 / 3, 8 / 3)),  # of the points
    ],
)
def test_objects_move_as_their_points(fields, start):
    found = object_tracks(one_box(**fields, local_captions=("a box",)))
    ways = [[start, (start[0] + 2, start[1]), (start[0] + 4, start[1])]]
    np.testing.assert_allclose(found.tracks, ways, rtol=1e-6)
    assert found.visibility.tolist() == [[True, True, True]] and found.texts == ("a box",)
    assert found.segment.tolist() == [1] and found.segments == 1 and found.fps == 8.0
    stricter = object_tracks(one_box(**fields), least=0.7)
    assert stricter.visibility.tolist() == [[True, True, False]] and stricter.texts is None


def test_objects_without_points_are_never_visible():
    masks = np.concatenate([one_box().masks, np.zeros((1, *HW), bool)])
    found = object_tracks(one_box(masks=masks))
    assert found.visibility.tolist() == [[True] * 3, [False] * 3] and found.segments == 2


def test_objects_that_are_not_there():
    with pytest.raises(ClipError, match="'box': its tracks belong to no objects"):
        object_tracks(one_box(masks=None).replace(segment=None))
    with pytest.raises(ClipError, match="'box': 2 local captions for 1 objects"):
        object_tracks(one_box(local_captions=("a box", "a disc")))


def test_centres_of_masks():
    centres = mask_centres(np.stack([boxes(), np.zeros((2, *HW), bool)]))
    np.testing.assert_array_equal(centres[0], [[4.5, 3.0], [8.0, 6.0]])
    assert centres.shape == (2, 2, 2) and np.isnan(centres[1]).all()
