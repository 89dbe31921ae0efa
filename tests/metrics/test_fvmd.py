"""FVMD against the public codes' outputs, a plain loop, and its own rules."""

import dataclasses
import math

import numpy as np
import pytest

from tavid_jax.metrics import fvmd
from tavid_jax.metrics.fvmd import FvmdConfig


def values(record: dict) -> np.ndarray:
    return np.array([record["fvmd_velocity"], record["fvmd_acceleration"], record["fvmd"]])


def point_major(tracks: np.ndarray) -> np.ndarray:
    return np.swapaxes(tracks, 1, 2)


@pytest.fixture
def rect(goldens):
    """Tracks (4, 55, 40, 2) sorted into the row-major order of their 5 x 11 grid."""
    file = goldens("fvmd_trajloom_rect")
    order = np.lexsort((file["query_xy"][:, 0], file["query_xy"][:, 1]))
    for key in ("gt_tracks", "pred_tracks", "visibility"):
        file[key] = point_major(file[key])[:, order]
    return file


def random_tracks(seed: int, videos: int = 3, grid_hw=(6, 7), frames: int = 11) -> np.ndarray:
    rng = np.random.default_rng(seed)
    steps = rng.normal(0, 3, (videos, grid_hw[0] * grid_hw[1], frames, 2))
    return steps.cumsum(axis=2).astype(np.float32)


# --- the values of the public codes -------------------------------------------------------------


@pytest.mark.parametrize(
    ("clip_len", "stride", "masked", "windows", "expected"),
    [
        (16, 15, False, 40, (1462.606607503492, 3494.0833470120715, 5034.023873273985)),
        (16, 15, True, 40, (758.2086814367979, 1135.1387429496629, 1933.9067026324844)),
        (16, 1, True, 528, (724.815107250723, 1100.9419564693508, 1871.0552719637162)),
        (24, 1, True, 464, (1144.7371599992875, 1790.20912045919, 2996.9298829138265)),
        (0, 1, True, 8, (4653.374319208892, 7363.165815573491, 12054.080436048325)),
    ],
)
def test_waves_equal_the_public_script(waves, clip_len, stride, masked, windows, expected):
    config = FvmdConfig(clip_len, stride)
    seen = waves.visibility if masked else None
    record = fvmd.fvmd(waves.prediction, waves.truth, seen, waves.grid_hw, config)
    assert record["n"] == windows
    # Histogram edges are sensitive to the last bit of the float32 inputs.
    np.testing.assert_allclose(values(record), expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "config", "masked"),
    [
        ("clip16_s1_vis", FvmdConfig(16, 1), True),
        ("clip16_s15_vis", FvmdConfig(16, 15), True),
        ("clip24_s1_vis", FvmdConfig(24, 1), True),
        ("clip16_s1_novis", FvmdConfig(16, 1), False),
        ("full_s1_vis", fvmd.FVMD_LONG, True),
    ],
)
@pytest.mark.parametrize("root", ["auto", "eigen"])
def test_rectangular_golden(rect, name, config, masked, root):
    config = dataclasses.replace(config, root=root)
    seen = rect["visibility"] if masked else None
    record = fvmd.fvmd(rect["pred_tracks"], rect["gt_tracks"], seen, (5, 11), config)
    np.testing.assert_allclose(values(record), rect[f"fvmd_{name}"], rtol=1e-6)


@pytest.mark.parametrize("side", ["gt", "pred"])
def test_rectangular_golden_features(rect, side):
    tracks, seen = rect[f"{side}_tracks"], rect["visibility"]
    features = fvmd.fvmd_features(tracks, seen, (5, 11), FvmdConfig(16, 15))
    # The golden pools windows in another order: compare as sets of rows.
    for ours, name in ((features.velocity, "v"), (features.acceleration, "a")):
        golden = rect[f"feats_{name}_{side}"]
        assert sorted(map(tuple, ours.tolist())) == sorted(map(tuple, golden.tolist()))


@pytest.mark.parametrize("config", [FvmdConfig(), fvmd.VIDEO_FVMD], ids=["tracks", "video"])
def test_square_golden(goldens, config):
    file = goldens("fvmd_official_square")
    sides = {}
    for side in ("gt", "gen"):
        sides[side] = fvmd.fvmd_features(
            point_major(file[f"tracks_{side}"]), None, (10, 10), config
        )
        np.testing.assert_array_equal(sides[side].velocity, file[f"hist_v_{side}"])
        np.testing.assert_array_equal(sides[side].acceleration, file[f"hist_a_{side}"])
    distances = fvmd.distances(sides["gt"], sides["gen"], config)
    for name, ours in zip(("velocity", "acceleration", "combine"), distances, strict=True):
        for code in ("official", "trajloom"):
            assert ours == pytest.approx(float(file[f"fd_{code}_{name}"]), rel=1e-6)
    for root in ("auto", "eigen"):
        own = fvmd.distances(sides["gt"], sides["gt"], dataclasses.replace(config, root=root))[2]
        # -2 eps D; the full-size routes of the public codes carry noise of this order.
        assert own == pytest.approx(float(file["fd_trajloom_self_combine"]), abs=2e-4)


def test_tiny_histograms(goldens):
    file = goldens("fvmd_hist_tiny")
    vectors = np.moveaxis(file["vectors"], 1, 2)  # (1, 25, 4, 2): one cell
    for binning, name in (("exact", "trajloom"), ("float32", "official")):
        config = FvmdConfig(clip_len=4, binning=binning)
        histogram = fvmd._frame_histograms(vectors, (5, 5), config).sum(axis=(0, 1)) / 8
        np.testing.assert_allclose(histogram, file[f"hist_{name}"].ravel(), rtol=1e-6)


def test_ties_and_levels(goldens):
    file = goldens("fvmd_hist_tiny")
    np.testing.assert_array_equal(fvmd.bins(file["tie_dirs"]), file["tie_bins_trajloom_f32"])
    np.testing.assert_array_equal(
        fvmd.bins(file["tie_dirs"], "float32"), file["tie_bins_official_f32"]
    )
    mags = file["mags"].astype(np.float32)
    vectors = np.stack([mags, np.zeros_like(mags)], axis=-1)
    np.testing.assert_array_equal(fvmd.levels(vectors), file["mag_levels"])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_levels_are_a_count_of_passed_powers(dtype):
    edges = np.concatenate([2.0 ** np.arange(9) - 1, [254.99, 255, 256, 1e9]]).astype(dtype)
    near = [np.nextafter(edges, dtype(0)), edges, np.nextafter(edges, dtype(np.inf))]
    sizes = np.concatenate([*near, np.random.default_rng(0).uniform(0, 300, 1000).astype(dtype)])
    clipped = 1 + np.minimum(sizes, 255)
    expected = sum((clipped > 2**k).astype(int) for k in range(8))
    vectors = np.stack([np.zeros_like(sizes), -sizes], axis=-1)
    np.testing.assert_array_equal(fvmd.levels(vectors), expected)
    assert fvmd.levels(np.array([[np.nan, 1]], dtype)) == 0


# --- against the definition, written as loops -----------------------------------------------------


def plain_features(tracks, seen, grid_hw, config):
    """One window's (velocity, acceleration) features straight from the definition."""
    num_frames = tracks.shape[1]
    velocity, acceleration = np.zeros_like(tracks), np.zeros_like(tracks)
    for t in range(1, num_frames):
        keep = seen[:, t] & seen[:, t - 1]
        velocity[:, t] = np.where(keep[:, None], tracks[:, t] - tracks[:, t - 1], 0)
    for t in range(2, num_frames):
        keep = seen[:, t] & seen[:, t - 1] & seen[:, t - 2]
        change = (tracks[:, t] - tracks[:, t - 1]) - (tracks[:, t - 1] - tracks[:, t - 2])
        acceleration[:, t] = np.where(keep[:, None], change, 0)
    return [plain_histogram(v, grid_hw, config) for v in (velocity, acceleration)]


def plain_histogram(vectors, grid_hw, config):
    cubes = vectors.shape[1] // config.cube_frames
    rows, columns = grid_hw[0] // config.cell, grid_hw[1] // config.cell
    histogram = np.zeros((cubes, rows, columns, 8))
    for q in range(cubes * config.cube_frames):
        for i in range(rows * config.cell):
            for j in range(columns * config.cell):
                x, y = (float(c) for c in vectors[i * grid_hw[1] + j, q])
                angle = math.floor((math.atan2(x, y) + math.pi) / (math.pi / 4))
                level = math.ceil(math.log2(1 + min(math.hypot(x, y), 255)))
                where = (q // config.cube_frames, i // config.cell, j // config.cell)
                histogram[(*where, min(angle, 7))] += min(level, 8) / 8
    return histogram.ravel()


@pytest.mark.parametrize("cube_frames", [1, 2, 4])
def test_equals_plain_loops(cube_frames):
    """cube_frames 1 puts the two zero accelerations of a window into two cubes."""
    config = FvmdConfig(clip_len=9, clip_stride=2, cell=3, cube_frames=cube_frames)
    tracks = random_tracks(0)
    seen = np.random.default_rng(1).random(tracks.shape[:3]) < 0.8
    expected = [
        plain_features(video[:, s : s + 9], mask[:, s : s + 9], (6, 7), config)
        for video, mask in zip(tracks, seen, strict=True)
        for s in (0, 2)
    ]
    features = fvmd.fvmd_features(tracks, seen, (6, 7), config)
    np.testing.assert_array_equal(features.velocity, [v for v, _ in expected])
    np.testing.assert_array_equal(features.acceleration, [a for _, a in expected])


def test_chunks_change_nothing(monkeypatch):
    tracks = random_tracks(2, videos=5)
    whole = fvmd.fvmd_features(tracks, None, (6, 7))
    monkeypatch.setattr(fvmd, "CHUNK", 2)
    np.testing.assert_array_equal(
        fvmd.fvmd_features(tracks, None, (6, 7)).combined(), whole.combined()
    )


@pytest.mark.parametrize(
    ("num_frames", "clip_len", "stride", "starts"),
    [(81, 16, 1, range(66)), (81, 16, 15, range(0, 66, 15)), (81, 0, 1, [0]), (9, 16, 1, [0])],
)
def test_windows(num_frames, clip_len, stride, starts):
    assert list(fvmd.window_starts(num_frames, FvmdConfig(clip_len, stride))) == list(starts)


def test_dimensions_of_the_paper():
    tracks = np.zeros((1, 390, 81, 2), np.float32)
    assert fvmd.fvmd_features(tracks, None, (15, 26)).combined().shape == (66, 960)
    assert fvmd.fvmd_features(tracks, None, (15, 26), fvmd.FVMD_LONG).combined().shape == (1, 4800)


def test_small_grid_has_one_cell():
    """8 x 8 points, 17 frames: two windows of 16 frames, 2 * 4 * 8 numbers each."""
    tracks = random_tracks(3, videos=4, grid_hw=(8, 8), frames=17)
    features = fvmd.fvmd_features(tracks, None, (8, 8))
    assert features.combined().shape == (8, 64)
    moved = fvmd.fvmd(tracks * 2, tracks, None, (8, 8))
    assert moved["n"] == 8 and moved["fvmd"] > 1
    assert moved["settings"]["grid_hw"] == [8, 8] and moved["settings"]["clip_len"] == 16


# --- masks, NaN, errors ---------------------------------------------------------------------------


def test_hidden_points_have_no_influence():
    truth, prediction = random_tracks(4), random_tracks(5)
    seen = np.random.default_rng(6).random(truth.shape[:3]) < 0.7
    expected = fvmd.fvmd(prediction, truth, seen, (6, 7))
    broken_truth, broken_prediction = truth.copy(), prediction.copy()
    broken_truth[~seen], broken_prediction[~seen] = np.nan, np.inf
    assert fvmd.fvmd(broken_prediction, broken_truth, seen, (6, 7)) == expected


def test_broken_prediction_is_nan():
    truth, prediction = random_tracks(4), random_tracks(5)
    prediction[1, 3, 4, 0] = np.nan
    record = fvmd.fvmd(prediction, truth, None, (6, 7))
    assert np.isnan(values(record)).all()
    assert record["settings"]["nonfinite"] == 1


def test_one_window_is_nan():
    truth = random_tracks(4, videos=1)
    record = fvmd.fvmd(truth, truth, None, (6, 7), fvmd.FVMD_LONG)
    assert np.isnan(values(record)).all() and record["n"] == 1


def test_bad_inputs_are_named():
    truth = random_tracks(4)
    with pytest.raises(ValueError, match="42 points do not fill a grid of 6 x 6"):
        fvmd.fvmd(truth, truth, None, (6, 6))
    with pytest.raises(ValueError, match="6 x 7 points is smaller than one cell of 8 x 8.*most 6"):
        fvmd.fvmd(truth, truth, None, (6, 7), FvmdConfig(cell=8))
    with pytest.raises(ValueError, match="smaller than one cell"):
        fvmd.fvmd(truth[:1], truth[:1], None, (6, 7), FvmdConfig(clip_len=0, cell=8))
    with pytest.raises(ValueError, match="3 frames are shorter than one cube of 4"):
        fvmd.fvmd(truth[:, :, :3], truth[:, :, :3], None, (6, 7))
    with pytest.raises(ValueError, match="clip_stride is 0"):
        FvmdConfig(clip_stride=0)
    broken = truth.copy()
    broken[0, 0, 0] = np.nan
    with pytest.raises(ValueError, match="true tracks hold NaN"):
        fvmd.fvmd(truth, broken, None, (6, 7))
