"""Panels: sizes, who moves when, and that a prediction never sees the future frames."""

import numpy as np
import pytest

from tavid_jax.viz import canvas, panels

T, T2, N, SIZE = 4, 3, 2, (24, 32)
RED, BLUE, GREEN = (200, 0, 0), (0, 0, 200), (0, 200, 0)


def frames(count: int, color: tuple[int, int, int]) -> np.ndarray:
    return np.broadcast_to(np.array(color, np.uint8), (count, *SIZE, 3)).copy()


def still(count: int, x: float = 10.0) -> np.ndarray:
    places = np.array([[x, 8.0], [x, 16.0]], np.float32)
    return np.repeat(places[:, None], count, axis=1)


def forecast(**changes) -> np.ndarray:
    arguments = dict(
        frames_history=frames(T, RED),
        history_tracks=still(T),
        history_vis=np.ones((N, T), bool),
        predicted=still(T2, 20.0),
        pred_vis=np.ones((N, T2), bool),
        true=still(T2, 12.0),
        true_vis=np.ones((N, T2), bool),
        size_hw=SIZE,
        out_height=48,
        whiten=0.5,
    )
    return panels.forecast_panel(**(arguments | changes))


def corner(clip: np.ndarray, panel: int) -> np.ndarray:
    """The colour in the upper left of each panel, per frame."""
    theme = canvas.THEME
    left = theme.gap + panel * (64 + theme.gap)
    return clip[:, theme.header + 1, left + 1].astype(int)


def inside(clip: np.ndarray, panel: int) -> np.ndarray:
    theme = canvas.THEME
    left = theme.gap + panel * (64 + theme.gap)
    return clip[:, theme.header : theme.header + 48, left : left + 64]


def test_size_and_length():
    clip = forecast()
    theme = canvas.THEME
    assert clip.dtype == np.uint8
    assert clip.shape[0] == T + T2
    assert clip.shape[2] == 3 * 64 + 4 * theme.gap
    assert clip.shape[1] >= 48 + theme.header
    assert forecast(true=None, true_vis=None).shape[2] == 2 * 64 + 3 * theme.gap


def test_history_plays_then_stands():
    clip = forecast(frames_history=np.concatenate([frames(T - 1, RED), frames(1, GREEN)]))
    shown = corner(clip, 0)
    assert (shown[: T - 1] == RED).all() and (shown[T - 1 :] == GREEN).all()
    assert (inside(clip, 0)[T - 1] == inside(clip, 0)[-1]).all()


def test_prediction_never_sees_future_frames():
    with_future = forecast(future_frames=frames(T2, BLUE))
    without = forecast()
    np.testing.assert_array_equal(inside(with_future, 1), inside(without, 1))
    faded_red, faded_blue = (228, 128, 128), (128, 128, 228)
    assert (corner(with_future, 1) == faded_red).all()
    assert (corner(with_future, 2)[:T] == faded_red).all()  # waits on the last given frame
    assert (corner(with_future, 2)[T:] == faded_blue).all()
    assert (corner(without, 2) == faded_red).all()


def test_future_panels_wait_in_grey_then_move_in_colour():
    clip = inside(forecast(frames_history=None), 1)
    waiting, moving = clip[0].astype(int), clip[-1].astype(int)
    assert (clip[0] == clip[T - 1]).all()
    assert np.ptp(waiting, axis=-1).max() < 30  # grey only
    assert (waiting[17, 21] < 220).all()  # at the last given place, zoomed by two
    assert np.ptp(moving, axis=-1).max() > 80
    assert np.ptp(moving[17, 41]) > 80  # at the predicted place


def test_unseen_points_are_not_drawn():
    clip = inside(forecast(frames_history=None, true_vis=np.zeros((N, T2), bool)), 2)
    assert np.ptp(clip[-1].astype(int), axis=-1).max() < 30


def test_several_samples_get_a_panel_each():
    samples = np.stack([still(T2, 20.0), still(T2, 26.0)])
    clip = forecast(
        frames_history=None, predicted=samples, pred_vis=np.ones((2, N, T2), bool), whiten=0
    )
    assert clip.shape[2] == 4 * 64 + 5 * canvas.THEME.gap
    first, second = inside(clip, 1)[-1].astype(int), inside(clip, 2)[-1].astype(int)
    assert np.ptp(first[17, 41]) > 80 and np.ptp(second[17, 53]) > 80
    wrapped = forecast(
        predicted=samples, pred_vis=np.ones((2, N, T2), bool), columns=2, out_height=48
    )
    assert wrapped.shape[2] == 2 * 64 + 3 * canvas.THEME.gap
    assert wrapped.shape[1] > 2 * 48


def test_most_points():
    clip = forecast(frames_history=None, max_points=1)
    assert (inside(clip, 1)[-1][17, 41] < 255).any()  # the first point
    assert (inside(clip, 1)[-1][33, 41] == 255).all()  # not the second


def test_counters_differ_between_frames():
    strips = forecast()[:, : canvas.THEME.header]
    assert len({strip.tobytes() for strip in strips}) == T + T2


def test_wrong_shapes_are_named():
    with pytest.raises(ValueError, match="number of tracks N differs.*'predicted': 1"):
        forecast(predicted=still(T2)[:1], pred_vis=np.ones((1, T2), bool))
    with pytest.raises(ValueError, match="2 prediction labels for 1 samples"):
        forecast(prediction_labels=["a", "b"])
    with pytest.raises(ValueError, match="at least one panel"):
        panels.side_by_side([])
    with pytest.raises(ValueError, match="equal shapes"):
        panels.side_by_side([panels.Panel("a", frames(2, RED)), panels.Panel("b", frames(3, RED))])


def test_progress_line_fills_up():
    clip = panels.side_by_side([panels.Panel("a", frames(4, RED))], progress=[BLUE] * 4)
    filled = (clip[:, -1] == np.array(BLUE, np.uint8)).all(axis=-1).mean(axis=1)
    np.testing.assert_allclose(filled, [0.25, 0.5, 0.75, 1.0], atol=0.03)


def test_track_panel_shows_frames_and_points():
    clip = panels.track_panel(
        frames(T, RED), still(T), np.ones((N, T), bool), size_hw=SIZE, out_height=48
    )
    assert len(clip) == T and (corner(clip, 0) == RED).all()
    assert (inside(clip, 0)[0][17, 21] != RED).any()
