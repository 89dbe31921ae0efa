"""The Clip schema: what is normalised, what is refused and in which words."""

import re

import numpy as np
import pytest

from tavid_jax.data.clip import Clip, ClipError, check_clip, sanitize


def make_clip(**changes):
    n, t, h, w = 6, 5, 8, 12
    tracks = np.arange(n * t * 2, dtype=np.float32).reshape(n, t, 2)
    fields = dict(
        id="a",
        size_hw=(h, w),
        fps=8.0,
        video=np.zeros((t, h, w, 3), np.uint8),
        tracks=tracks,
        visibility=np.ones((n, t), bool),
        grid_hw=(2, 3),
        query_xy=tracks[:, 0],
    )
    return Clip(**(fields | changes))


def test_a_good_clip_comes_back_as_the_same_object():
    clip = make_clip()
    assert check_clip(clip) is clip
    assert clip.num_frames == 5


def test_dtypes_are_normalised():
    clip = make_clip(tracks=make_clip().tracks.astype(np.float64), segment=np.zeros(6, np.int64))
    clip = check_clip(clip)
    assert clip.tracks.dtype == np.float32 and clip.segment.dtype == np.int32


def test_raster_coordinates_move_by_half_a_pixel():
    raster = check_clip(make_clip(coord="raster"))
    assert raster.coord == "center"
    np.testing.assert_array_equal(raster.tracks, make_clip().tracks - 0.5)
    np.testing.assert_array_equal(raster.query_xy, make_clip().query_xy - 0.5)


@pytest.mark.parametrize(
    "changes, words",
    [
        (dict(video=np.zeros((5, 8, 12, 3), np.float32)), "'video' must have a unsigned"),
        (dict(video=np.zeros((5, 9, 12, 3), np.uint8)), "H=8 as in 'size_hw'"),
        (dict(video=np.zeros((4, 8, 12, 3), np.uint8)), "T=4 as in 'video'"),
        (dict(tracks=np.zeros((5, 6, 3), np.float32)), "'tracks' must have shape (N, T, 2)"),
        (dict(visibility=np.ones((6, 5), np.uint8)), "'visibility' must have a bool"),
        (dict(visibility=np.zeros((6, 5), bool)), "False everywhere"),
        (dict(visibility=np.ones((5, 5), bool)), "N=6 as in 'tracks'"),
        (dict(grid_hw=(2, 2)), "does not multiply to N=6"),
        (dict(fps=0.0), "'fps' must be a positive"),
        (dict(coord="corner"), "'coord' must be"),
        (dict(tracks=None), "without field 'tracks'"),
        (dict(video=None, tracks=None), "nothing to learn from"),
        (dict(masks=np.zeros((2, 8, 12), bool), kinds=("a",)), "1 entries for S=2"),
        (dict(masks=np.zeros((2, 8, 12), bool), actor=3), "no such object"),
        (dict(contact_frame=5), "outside 5 frames"),
    ],
)
def test_what_breaks_the_schema_is_named(changes, words):
    with pytest.raises(ClipError) as error:
        check_clip(make_clip(source="x.mp4", **changes))
    assert words in str(error.value)
    assert "clip 'a' (x.mp4)" in str(error.value)


def test_nan_is_an_error_until_sanitized():
    tracks = make_clip().tracks.copy()
    tracks[1, 2, 0], tracks[3, 0, 1] = np.nan, np.inf
    with pytest.raises(ClipError, match="2 NaN or infinite.*sanitize"):
        check_clip(make_clip(tracks=tracks))
    clip = check_clip(sanitize(make_clip(tracks=tracks)))
    bad = np.zeros((6, 5), bool)
    bad[1, 2] = bad[3, 0] = True
    np.testing.assert_array_equal(~clip.visibility, bad)
    np.testing.assert_array_equal(~clip.valid, bad)
    assert (clip.tracks[bad] == 0).all()


def test_window_slices_every_field_of_time():
    segment_map = np.zeros((5, 8, 12), np.uint8)
    segment_map[2, 1:3, 4:6] = 2
    clip = make_clip(
        valid=np.ones((6, 5), bool),
        depth=np.zeros((6, 5), np.float32),
        masks=np.zeros((2, 8, 12), bool),
        segment_map=segment_map,
        contact_frame=3,
    )
    window = check_clip(clip.window(2, 3))
    assert window.num_frames == 3 and window.contact_frame == 1 and window.grid_hw == (2, 3)
    np.testing.assert_array_equal(window.tracks, clip.tracks[:, 2:5])
    np.testing.assert_array_equal(window.masks[1], segment_map[2] == 2)
    assert not window.masks[0].any()
    assert clip.window(0, 2).contact_frame == -1
    assert clip.window(0, 5) is clip


def test_masks_of_a_later_frame_are_dropped_when_unknown():
    clip = make_clip(masks=np.zeros((2, 8, 12), bool))
    assert clip.window(1, 2).masks is None
    assert clip.window(0, 2).masks is not None


@pytest.mark.parametrize("start, length", [(-1, 3), (3, 3), (0, 0)])
def test_a_window_outside_is_refused(start, length):
    with pytest.raises(ClipError, match="does not lie inside its 5 frames"):
        make_clip().window(start, length)


def test_partners_are_checked_and_cut_alike():
    clip = make_clip(partner=make_clip(id="b", coord="raster"))
    checked = check_clip(clip)
    assert checked.partner.coord == "center"
    window = checked.window(1, 3)
    np.testing.assert_array_equal(window.partner.tracks, checked.partner.tracks[:, 1:4])
    lost = make_clip(tracks=np.full((6, 5, 2), np.nan, np.float32), video=None)
    assert not sanitize(make_clip(partner=lost)).partner.visibility.any()


@pytest.mark.parametrize(
    "partner, words",
    [
        (make_clip(id="b").window(0, 4), "'partner' 'b' has num_frames 4, the clip itself has 5"),
        (make_clip(id="b", size_hw=(9, 12), video=None), "'b' has size_hw (9, 12), the clip"),
        (make_clip(id="b", partner=make_clip()), "'b' has a partner too"),
        (make_clip(id="b", fps=-1), "clip 'b': field 'fps'"),
    ],
)
def test_partners_that_do_not_fit(partner, words):
    with pytest.raises(ClipError, match=re.escape(words)):
        check_clip(make_clip(partner=partner))
