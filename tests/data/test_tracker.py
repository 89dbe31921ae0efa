"""The embedded tracker against known motion, and against pseudo tracks of real clips."""

import numpy as np
import pytest

from tavid_jax.data.tracker import DISTracker, Tracker, sample_flow
from tavid_jax.data.video import read_video
from tavid_jax.tracks.grid import query_points


def test_flow_is_read_bilinearly_and_clamped():
    y, x = np.mgrid[:5, :7].astype(np.float32)
    flow = np.stack([2 * x + y, 3 * y - x], axis=-1)
    points = np.array([[1.25, 2.5], [6.0, 4.0], [-3.0, 1.0], [0.0, 0.0]])
    inside = np.clip(points, 0, [6, 4])
    want = np.stack([2 * inside[:, 0] + inside[:, 1], 3 * inside[:, 1] - inside[:, 0]], axis=-1)
    np.testing.assert_allclose(sample_flow(flow, points), want, atol=1e-6)


@pytest.mark.parametrize("velocity", [(0.0, 0.0), (0.6, -0.4), (2.5, 1.0), (-5.0, 0.7)])
@pytest.mark.parametrize("preset, mean_px, worst_px", [("medium", 0.2, 0.5), ("fine", 0.1, 0.3)])
def test_known_translation(moving_frames, preset, mean_px, worst_px, velocity):
    """Chained over nine frames, the drift stays below a third of a pixel."""
    num_frames, size_hw = 10, (96, 128)
    video = moving_frames(size_hw, num_frames, velocity)
    query_xy = query_points(size_hw, 16, "center")
    tracks, visibility = DISTracker(preset=preset)(video, query_xy)
    assert tracks.dtype == np.float32 and visibility.dtype == bool
    times = np.arange(num_frames)[None, :, None]
    truth = query_xy[:, None] + times * np.array(velocity)
    inside = ((truth >= -0.5) & (truth < np.array([128, 96]) - 0.5)).all(-1)
    error = np.linalg.norm(tracks - truth, axis=-1)[visibility & inside]
    assert error.mean() < mean_px and np.quantile(error, 0.98) < worst_px
    assert visibility[inside].mean() > 0.98  # kept while seen
    assert visibility[~inside].sum() <= 0.1 * max((~inside).sum(), 1)  # gone when gone


def test_once_lost_a_point_stays_invisible_where_it_was(moving_frames):
    video = moving_frames((64, 64), 12, (0.0, 0.0))
    video[5] = np.random.default_rng(0).integers(0, 255, video[5].shape)  # a flash of noise
    tracks, visibility = DISTracker(threshold_px=0.5)(video, query_points((64, 64), 8, "center"))
    lost = ~visibility[:, 5]
    assert lost.mean() > 0.9 and visibility[:, :5].all()
    assert not visibility[lost, 5:].any()
    assert (tracks[lost, 6:] == tracks[lost, 5:6]).all()


def test_working_resolution_only_rescales(moving_frames):
    """Tracks found at a quarter of the size are those of the full size, to a pixel's fraction."""
    video = moving_frames((192, 256), 8, (4.0, 2.0))
    query_xy = query_points((192, 256), 32, "center")
    full, seen = DISTracker(long_side=0)(video, query_xy)
    small, seen_small = DISTracker(long_side=128)(video, query_xy)
    np.testing.assert_array_equal(full[:, 0], query_xy)
    np.testing.assert_array_equal(small[:, 0], query_xy)
    both = seen & seen_small
    assert both.mean() > 0.7 and np.abs(full - small)[both].mean() < 0.5


def test_protocol_and_fingerprint():
    assert isinstance(DISTracker(), Tracker)
    prints = {DISTracker(**kw).fingerprint for kw in ({}, {"preset": "fast"}, {"long_side": 0})}
    assert len(prints) == 3


def test_frames_too_small_for_flow_are_refused():
    with pytest.raises(ValueError, match="8x8 .* too small"):
        DISTracker()(np.zeros((2, 8, 8, 3), np.uint8), np.zeros((1, 2), np.float32))


@pytest.mark.clips
@pytest.mark.parametrize("name, median_px", [("sam2_01_dog", 0.15), ("sam2_04_coffee", 0.6)])
def test_real_clips_agree_with_lucas_kanade(clips_dir, name, median_px):
    """Points that Lucas-Kanade follows for a second are followed too, to nearly the same place."""
    num_frames = 30
    with np.load(clips_dir / f"{name}.lk_tracks.npz") as stored:
        query_xy, truth = stored["query_xy"].astype(np.float32), stored["tracks"][:, :num_frames]
        seen = stored["visibility"][:, :num_frames]
    video = read_video(
        clips_dir / f"{name}.mp4", range(num_frames), size_hw=(480, 832), resize="squash"
    )
    tracks, visibility = DISTracker()(video, query_xy)
    both = visibility & seen
    assert both[:, -1].sum() > 0.9 * seen[:, -1].sum()
    error = np.linalg.norm(tracks - truth, axis=-1)
    assert np.median(error[both]) < median_px
    assert np.median(error[:, -1][both[:, -1]]) < 2 * median_px
