"""Colours that name points."""

import numpy as np
import pytest

from tavid_jax.tracks import codes
from tavid_jax.tracks.trajectories import Trajectories

RELEASED = {
    1: [127, 255],
    2: [85, 170, 255],
    3: [63, 127, 191, 255],
    4: [51, 102, 153, 204, 255],
    5: [42, 85, 127, 170, 212, 255],
    8: [28, 56, 85, 113, 141, 170, 198, 226, 255],
}
TWO_WAY = {
    1: [0, 255],
    2: [0, 128, 255],
    3: [0, 85, 170, 255],
    4: [0, 64, 128, 191, 255],
    5: [0, 51, 102, 153, 204, 255],
}


def test_reds():
    for segments, reds in RELEASED.items():
        assert codes.segment_reds(segments).tolist() == reds
    for segments, reds in TWO_WAY.items():
        assert codes.segment_reds(segments, "two_way").tolist() == reds
    for way in codes.CODES:
        most = codes.segment_reds(codes.MAX_SEGMENTS, way)
        assert len(np.unique(most)) == 255 and most[1:].min() > 0
        with pytest.raises(ValueError, match="255 segments: red tells at most 254"):
            codes.segment_reds(255, way)
    with pytest.raises(ValueError, match="no codes 'hue'"):
        codes.segment_reds(3, "hue")


def test_first_mask_at_the_rounded_position_wins():
    masks = np.zeros((2, 4, 6), bool)
    masks[0, 1, 2] = masks[1, 1, 2] = masks[1, 3, 5] = True
    xy = np.array([[2.5, 0.5], [2.4, 1.4], [1.5, 1.49], [90, 90], [3.5, 1]], np.float32)
    # 2.5 and 1.5 round to 2, 0.5 to 0, 3.5 to 4.
    assert codes.segments_at(xy, masks).tolist() == [0, 1, 1, 2, 0]
    assert codes.segments_at(xy, masks[:0]).tolist() == [0] * 5
    with pytest.raises(ValueError, match="not finite"):
        codes.segments_at(np.full((1, 2), np.nan, np.float32), masks)


def test_points_count_up_within_their_segment():
    segment = np.array([1, 0, 1, 2, 0, 1])
    colours = codes.id_colours(segment, 2)
    assert colours[:, 0].tolist() == [170, 85, 170, 255, 85, 170]
    assert colours[:, 2].tolist() == [0, 0, 1, 0, 1, 2]
    many = codes.id_colours(np.zeros(700, int), 0)
    assert many[600].tolist() == [255, 600 // 256, 600 % 256]


def test_two_way_black_outside_and_counted():
    colours = codes.id_colours(np.array([0, 1, 0, 1]), 1, "two_way")
    assert colours.tolist() == [[0, 0, 0], [255, 0, 0], [0, 0, 0], [255, 0, 1]]


@pytest.mark.parametrize("way", ["released", "spread", "global"])
def test_every_point_has_its_own_colour(way):
    segment = np.random.default_rng(0).integers(0, 4, 4900)
    colours = codes.id_colours(segment, 3, way)
    assert len(np.unique(colours, axis=0)) == 4900
    full = codes.id_colours(np.ones(2**16, int), 1, way)
    assert len(np.unique(full, axis=0)) == 2**16
    with pytest.raises(ValueError, match="65537 points are counted together"):
        codes.id_colours(np.ones(2**16 + 1, int), 1, way)


def test_spread_keeps_points_apart():
    segment = np.repeat([1, 2], [4900, 1])
    apart = {}
    for way in ("released", "spread"):
        green_blue = codes.id_colours(segment, 2, way)[:4900, 1:].astype(int)
        squares = np.square(green_blue[:, None] - green_blue[None, :500]).sum(-1)
        apart[way] = np.sqrt(squares[squares > 0].min())
    assert apart["released"] == 1 and apart["spread"] >= 3


def test_what_is_left_out():
    segment = np.array([1, 2, 1])
    no_segment = codes.id_colours(segment, 2, with_segment=False)
    assert no_segment.tolist() == [[255, 0, 0], [255, 0, 1], [255, 0, 2]]
    no_point = codes.id_colours(segment, 2, with_point=False)
    assert no_point.tolist() == [[170, 0, 0], [255, 0, 0], [170, 0, 0]]
    assert codes.id_colours(np.zeros(0, int), 2).shape == (0, 3)
    with pytest.raises(ValueError, match=r"outside 0 \.\. 1"):
        codes.id_colours(segment, 1)


def test_segmented():
    tracks = np.array([[[1, 1], [4, 2]], [[4, 2], [1, 1]]], np.float32)
    points = Trajectories(tracks, np.ones((2, 2), bool), (4, 6))
    masks = np.zeros((3, 4, 6), bool)
    masks[1, 1, 1] = True
    assert codes.segmented(points, masks).segment.tolist() == [2, 0]
    last = codes.segmented(points, masks, frame=-1)
    assert last.segment.tolist() == [0, 2] and last.segments == 3
    with pytest.raises(ValueError, match="resize the masks"):
        codes.segmented(points, masks[:, 1:])
