"""Track files of any convention, brought into the strict one."""

import numpy as np
import pytest

from tavid_jax.data.__main__ import main
from tavid_jax.data.foreign_tracks import (
    COORDS,
    AmbiguousTracksError,
    Options,
    convert,
    coordinate_score,
)
from tavid_jax.data.official import TrackFileError, read_tracks
from tavid_jax.tracks.grid import query_points

H, W, T = 96, 160, 30
OPTIONS = Options(size_hw=(H, W), stride=16, history=13)
GRID = query_points((H, W), 16)
N = len(GRID)
ORDER = np.random.default_rng(1).permutation(N)


def scene(frames=T, start=0):
    rng = np.random.default_rng(0)
    speed = rng.normal(size=(N, 1, 2)) * 0.3 + 0.4
    tracks = GRID[:, None] + speed * (np.arange(frames) + start)[None, :, None]
    return tracks.astype(np.float32), rng.random((N, frames)) > 0.2


def encoded(px, mode):
    """The inverse of what each mode means."""
    most = np.array([W - 1, H - 1])
    return {
        "pixel": px,
        "unit": px / most,
        "norm": px / most * 2 - 1,
        "grid": px / 16,
        "base256_resize": px * 255 / most,
        "base256_letterbox": (px + [0, (W - H) // 2]) * 256 / W,
    }[mode].astype(np.float32)


@pytest.mark.parametrize("swap", [False, True])
@pytest.mark.parametrize("mode", COORDS)
def test_every_unit_order_and_layout(tmp_path, mode, swap):
    tracks, seen = scene()
    turn = slice(None, None, -1 if swap else 1)
    values, query = encoded(tracks, mode)[..., turn], encoded(GRID, mode)[:, turn]
    np.savez(tmp_path / "a.npz", tracks=values, visibility=seen)
    np.savez(
        tmp_path / "b.npz",
        pred_tracks=values[ORDER].swapaxes(0, 1),
        occlusion=(~seen[ORDER]).T.astype(np.float32),
        query_points=query[ORDER],
    )
    for name in "ab":
        file, decision = convert(tmp_path / f"{name}.npz", OPTIONS)
        assert (decision.coords, decision.axes) == (mode, "yx" if swap else "xy")
        np.testing.assert_allclose(file.tracks, tracks, atol=1e-3)
        np.testing.assert_array_equal(file.visibility, seen)
        np.testing.assert_array_equal(file.query_xy, GRID)
    assert (decision.layout, decision.order) == ("tnc", "by query points")
    assert decision.visibility == "not occlusion"


@pytest.mark.parametrize("columns", [(0, 2, 1), (0, 1, 2)])
def test_query_points_with_a_time(tmp_path, columns):
    tracks, _ = scene()
    query = np.insert(GRID, 0, 0, axis=1)[:, columns]
    np.savez(tmp_path / "a.npz", tracks=tracks[ORDER], queries=query[ORDER])
    file, decision = convert(tmp_path / "a.npz", OPTIONS)
    np.testing.assert_array_equal(file.tracks, tracks)
    assert decision.queries == f"queries (t, {'yx'[columns[1] == 1]}, {'yx'[columns[1] == 2]})"
    # Without a word on the places asked for: visible inside of the frame.
    assert decision.visibility == "inside the frame"
    inside = ((tracks >= 0) & (tracks <= [W - 1, H - 1])).all(-1)
    np.testing.assert_array_equal(file.visibility, inside)


def test_a_bare_array_in_any_order(tmp_path):
    tracks, _ = scene()
    np.save(tmp_path / "a.npy", tracks[ORDER].swapaxes(0, 1)[None].astype(np.float64))
    file, decision = convert(tmp_path / "a.npy", OPTIONS)
    np.testing.assert_array_equal(file.tracks, tracks)
    assert decision.order == "by frame 0"


@pytest.mark.parametrize("frames, time0", [(30, 0), (17, 13), (18, 12)])
def test_times_by_the_length_of_the_video(tmp_path, frames, time0):
    tracks, seen = scene(frames, time0)
    np.savez(tmp_path / "a.npz", tracks=tracks, vis=seen)
    file, _ = convert(tmp_path / "a.npz", OPTIONS, video_frames=30)
    assert file.tracks.shape == (N, 30, 2) and not file.visibility[:, :time0].any()
    np.testing.assert_allclose(file.tracks[:, time0:], tracks)
    np.testing.assert_array_equal(file.visibility[:, time0:], seen)


def ambiguous():
    tracks, seen = scene()
    still = np.full((N, T, 2), 0.5, np.float32)
    later = encoded(scene(start=60)[0], "base256_resize")
    return {
        "--tracks-key": dict(a=tracks, b=tracks + 1),
        "--visibility-key": dict(tracks=tracks, seen=seen),
        "--visibility-key KEY": dict(tracks=tracks, vis_a=seen, vis_b=~seen),
        "--layout": dict(tracks=np.ones((N, N, 2), np.float32)),
        "--coords norm or unit, --axes xy or yx": dict(tracks=still + np.float32(1e-3) * tracks),
        "--axes xy or yx": dict(tracks=later),
        "--time0": dict(tracks=tracks[:, :20]),
    }


@pytest.mark.parametrize("option", ambiguous())
def test_what_fits_two_readings_is_refused(tmp_path, option):
    np.savez(tmp_path / "a.npz", **ambiguous()[option])
    with pytest.raises(AmbiguousTracksError, match=f"a.npz: .*{option}"):
        convert(tmp_path / "a.npz", OPTIONS, video_frames=T)


@pytest.mark.parametrize(
    "arrays, words",
    [
        (dict(tracks=scene()[0][:-1]), r"no array of tracks .* N = 60.*tracks \[59, 30, 2\]"),
        (
            dict(tracks=scene()[0], query_xy=GRID + [[16, 0]]),
            r"6 of 60 points .* \(\(0, 0\),",
        ),
        (dict(tracks=scene()[0], query_xy=np.repeat(GRID[:1], N, 0)), "59 of 60|60 of 60"),
    ],
)
def test_other_grids_and_missing_points_are_errors(tmp_path, arrays, words):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(TrackFileError, match=words):
        convert(tmp_path / "a.npz", OPTIONS)


def test_score_is_inside_share_and_span():
    xy = np.array([[0, 0], [79.5, 95], [200, 0], [np.nan, 1]], np.float32)
    assert coordinate_score(xy, (H, W)) == pytest.approx(2 / 3 + 0.25 * (0.5 + 1))
    assert coordinate_score(xy[3:], (H, W)) < -1e8
    assert coordinate_score(xy[2:3], (H, W)) == 0


def test_the_command_writes_a_strict_folder(tmp_path, capsys):
    tracks, seen = scene()
    (tmp_path / "in").mkdir()
    np.savez(tmp_path / "in" / "a.npz", tracks=encoded(tracks, "norm")[..., ::-1], vis=seen)
    np.savez(tmp_path / "in" / "b10.npz", tracks=tracks, vis=seen)
    np.savez(tmp_path / "in" / "b9.npz", words=np.array("no tracks"))
    command = ["import-tracks", str(tmp_path / "in"), str(tmp_path / "out"), "--size", "96x160"]
    assert main([*command, "--stride", "16"]) == 1
    told = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in told[:4]] == ["file", "a.npz", "b9.npz", "b10.npz"]
    assert "norm" in told[1] and "REFUSED: no array of tracks" in told[2]
    assert "2 files in" in told[4] and "2 conventions: ntc norm yx; ntc pixel xy" in told[5]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.npz", "b10.npz"]
    strict = read_tracks(tmp_path / "out" / "a.npz")
    np.testing.assert_allclose(strict.tracks, tracks, atol=1e-3)
    assert strict.size_hw == (H, W)
    assert main([*command[:2], str(tmp_path / "in")]) == 1
    assert "name another folder" in capsys.readouterr().err
