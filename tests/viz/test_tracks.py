"""Trails: what is drawn, where, how wide, in which colour, and what is not."""

import numpy as np
import pytest

from tavid_jax.viz import canvas, tracks

WHITE = canvas.white((40, 60))


def line_track(frames: int = 5, y: float = 20.0, step: float = 10.0) -> np.ndarray:
    """One point that moves to the right by `step` px a frame, from x = 5."""
    xs = 5.0 + step * np.arange(frames)
    return np.stack([xs, np.full(frames, y)], axis=-1)[None].astype(np.float32)


def seen(points: np.ndarray) -> np.ndarray:
    return np.ones(points.shape[:2], bool)


def painted(image: np.ndarray) -> np.ndarray:
    return (image != 255).any(axis=-1)


RED = np.array([[200, 0, 0]], np.uint8)
BARE = tracks.TrailStyle(lighten=0.0)


def test_head_dot_has_the_colour_and_place_of_the_point():
    points = line_track()
    drawn = tracks.draw_trails(WHITE, points, seen(points), colors=RED, style=BARE)
    assert drawn.shape == (5, 40, 60, 3)
    for t in range(5):
        assert drawn[t, 20, 5 + 10 * t].tolist() == [200, 0, 0]
    rows, columns = np.nonzero(painted(drawn[0]))
    assert abs(rows.mean() - 20) < 0.1 and abs(columns.mean() - 5) < 0.1
    ink = (1.0 - drawn[0, ..., 1] / 255.0).sum()
    assert 0.8 * np.pi * 2**2 < ink < 1.4 * np.pi * 2**2  # a disc of radius 2


def test_trail_reaches_back_and_fades():
    points = line_track()
    last = tracks.draw_trails(WHITE, points, seen(points), colors=RED, style=BARE)[-1]
    green = last[20, [10, 20, 30, 40]].astype(int)[:, 1]  # 255 is white, 0 is opaque red
    assert (green < 255).all()
    first_frame = tracks.draw_trails(WHITE, points, seen(points), colors=RED, style=BARE)[0]
    assert not painted(first_frame)[:, 10:].any()  # nothing of the future
    short = tracks.TrailStyle(lighten=0.0, trail=3)
    cut = tracks.draw_trails(WHITE, points, seen(points), colors=RED, style=short)[-1]
    assert painted(cut)[20, 30] and not painted(cut)[20, 20]
    assert cut[20, 30, 1] > cut[20, 40, 1]  # the older segment is fainter


def test_segment_style_follows_the_stated_law():
    style = tracks.TrailStyle()
    assert style.segment(0) == pytest.approx((3.0, 0.9))
    assert style.segment(13) == pytest.approx((1.2 + 1.8 * 0.5**1.6, 0.2 + 0.7 * 0.5**0.8))
    assert style.segment(26) == pytest.approx((1.2, 0.2))
    assert style.segment(40) == pytest.approx((1.2, 0.2))


def test_trail_is_wider_at_its_head_than_at_its_tail():
    points = line_track(frames=50, step=1.0)
    style = tracks.TrailStyle(lighten=0.0, head_radius=0.0, scale=4)
    last = tracks.draw_trails(WHITE, points, seen(points), colors=RED, style=style)[-1]
    ink = 1.0 - last[..., 1].astype(float) / 255.0  # coverage times opacity
    near, far = (ink[:, x].sum() / ink[:, x].max() for x in (52, 31))
    assert near > 1.4 * far


@pytest.mark.parametrize("hidden", ["invisible", "nan", "inf"])
def test_segments_with_an_unseen_end_are_not_drawn(hidden):
    points, visible = line_track(), seen(line_track())
    if hidden == "invisible":
        visible[0, 2] = False
    else:
        points[0, 2] = float(hidden)
    last = painted(tracks.draw_trails(WHITE, points, visible, colors=RED, style=BARE)[-1])
    assert last[20, 10] and last[20, 40]  # segments 0-1 and 3-4
    assert not last[20, 18:33].any()  # segments 1-2 and 2-3
    at_hidden = tracks.draw_trails(WHITE, points, visible, colors=RED, style=BARE)[2]
    assert not painted(at_hidden)[20, 20:].any()  # no head dot either


def test_points_far_outside_do_not_disturb_those_inside():
    points = np.concatenate([line_track(), line_track() * 1e8])
    colors = np.repeat(RED, 2, axis=0)
    drawn = tracks.draw_trails(WHITE, points, seen(points), colors=colors, style=BARE)
    alone = tracks.draw_trails(WHITE, points[:1], seen(points[:1]), colors=RED, style=BARE)
    np.testing.assert_array_equal(drawn[0], alone[0])


def test_larger_canvas_keeps_pixel_centres():
    points = np.array([[[10.0, 5.0]]], np.float32)
    style = tracks.TrailStyle(lighten=0.0)
    big = tracks.draw_trails(
        canvas.white((160, 240)), points, seen(points), size_hw=(40, 60), colors=RED, style=style
    )[0]
    rows, columns = np.nonzero(painted(big))
    # Centre of pixel 10 of a frame four times smaller: (10 + 1/2) * 4 - 1/2.
    assert columns.mean() == pytest.approx(41.5, abs=0.15)
    assert rows.mean() == pytest.approx(21.5, abs=0.15)


def test_the_past_is_grey_and_start_skips_frames():
    points = line_track()
    drawn = tracks.draw_trails(
        WHITE, points, seen(points), colors=RED, style=BARE, start=3, grey_before=3
    )
    assert len(drawn) == 2
    past, present = drawn[-1][20, 10].astype(int), drawn[-1][20, 40].astype(int)
    assert np.ptp(past) < 30
    assert present[0] - present[1] > 80


def test_backgrounds_per_frame_show_through():
    points = line_track(frames=3)
    grounds = np.stack([np.full((40, 60, 3), v, np.uint8) for v in (0, 100, 200)])
    drawn = tracks.draw_trails(grounds, points, seen(points))
    assert drawn[:, 0, 0, 0].tolist() == [0, 100, 200]
    with pytest.raises(ValueError, match="3 backgrounds for frames 1..2"):
        tracks.draw_trails(grounds, points, seen(points), start=1)


def test_whole_track_in_one_still():
    points = line_track(frames=50, step=1.0)
    still = tracks.draw_whole(WHITE, points, seen(points), colors=RED, style=BARE)
    assert still.shape == WHITE.shape
    assert painted(still)[20, 6:54].all()  # also beyond the 27 frames of a moving trail


def test_colours_of_the_three_modes():
    corners = np.array([[0, 0], [99, 0], [0, 49], [np.nan, 10]], np.float32)
    by_y = tracks.track_colors(corners, (50, 100), "y")
    assert (by_y[0] == by_y[1]).all() and (by_y[0] != by_y[2]).any()
    assert by_y[2].tolist() == [122, 4, 3]  # the upper end of turbo
    by_x = tracks.track_colors(corners, (50, 100), "x")
    assert (by_x[0] == by_x[2]).all() and (by_x[0] != by_x[1]).any()
    hsv = tracks.track_colors(corners, (50, 100), "xy_hsv")
    assert hsv[0].tolist() == [128, 0, 0] and hsv[2].tolist() == [255, 0, 0]
    with pytest.raises(ValueError, match="unknown colour mode 'z'"):
        tracks.track_colors(corners, (50, 100), "z")


def test_colours_come_from_the_first_seen_place():
    points = line_track(frames=3)
    points[0, 0] = np.nan
    np.testing.assert_array_equal(
        tracks.first_places(points, seen(points)), np.array([[15.0, 20.0]], np.float32)
    )


def test_subset_is_even_and_bounded():
    assert tracks.subset(5, None).tolist() == [0, 1, 2, 3, 4]
    assert tracks.subset(9, 3).tolist() == [0, 4, 8]


def test_wrong_arguments_are_named():
    points = line_track()
    with pytest.raises(ValueError, match="2 colours for 1 tracks"):
        tracks.draw_trails(WHITE, points, seen(points), colors=np.repeat(RED, 2, axis=0))
    with pytest.raises(ValueError, match="trail >= 1"):
        tracks.TrailStyle(trail=0)
