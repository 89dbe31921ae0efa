"""Files of trajectories: every format is told apart, read, and written again."""

import json
import os

import numpy as np
import pytest

from tavid_jax.data import other_tracks
from tavid_jax.data.official import TrackFile, TrackFileError, write_tracks
from tavid_jax.data.track_formats import KINDS
from tavid_jax.data.trajectory_files import (
    identify,
    read_pair,
    read_trajectories,
    resized,
    split_paths,
    write_trajectories,
)
from tavid_jax.tracks.trajectories import Trajectories

HW = (480, 720)
N, T = 5, 7


@pytest.fixture
def points():
    rng = np.random.default_rng(0)
    return Trajectories(
        rng.uniform(0, 400, (N, T, 2)).astype(np.float32),
        rng.random((N, T)) > 0.3,
        HW,
        depth=rng.random((N, T)).astype(np.float32),
        segment=np.arange(N) % 3,
        segments=4,
        colour=rng.integers(0, 255, (N, 3), dtype=np.uint8),
        fps=24.0,
        texts=("a cat", "", "ein Bär, groß", 'a "red" ball', "a cat"),
    )


def stored(points):
    """(by frame (1, T, N, 2), the same with z, visibility (1, T, N)), as trackers give them."""
    tracks = points.tracks.swapaxes(0, 1)[None]
    with_z = np.concatenate([tracks, points.depth.T[None, ..., None]], -1)
    return tracks, with_z, points.visibility.T[None]


def check(got, points, depth=True):
    np.testing.assert_allclose(got.tracks, points.tracks, atol=1e-4)
    np.testing.assert_array_equal(got.visibility, points.visibility)
    assert got.size_hw == points.size_hw
    if depth:
        np.testing.assert_array_equal(got.depth, points.depth)
    else:
        assert got.depth is None


@pytest.mark.parametrize("name", ["a.json", "a.npz"])
def test_our_own_formats_keep_everything(tmp_path, points, name):
    write_trajectories(tmp_path / name, points)
    got = read_trajectories(tmp_path / name, size_hw=HW, frames=T)
    for field in ("tracks", "visibility", "depth", "segment", "colour"):
        np.testing.assert_array_equal(getattr(got, field), getattr(points, field))
    assert (got.size_hw, got.segments, got.fps) == (HW, 4, 24.0)
    assert got.texts == points.texts
    for texts in (None, ("",) * N):
        write_trajectories(tmp_path / name, points.replace(texts=texts))
        assert read_trajectories(tmp_path / name).texts == texts
    assert identify(tmp_path / name) == ("points" if name.endswith("json") else "arrays")
    assert sorted(os.listdir(tmp_path)) == [name]  # nothing half-written beside it


def test_texts_go_with_their_points(tmp_path, points):
    write_trajectories(tmp_path / "a.json", points)
    got = read_trajectories(tmp_path / "a.json", size_hw=(240, 360), frames=3, rescale=True)
    assert got.num_frames == 3 and got.texts == points.texts
    assert points.take(np.array([3, 0])).texts == (points.texts[3], "a cat")
    assert points.take(np.arange(N) == 2).texts == ("ein Bär, groß",)
    none = points.take(np.zeros(N, bool))
    write_trajectories(tmp_path / "none.npz", none)
    assert read_trajectories(tmp_path / "none.npz").texts == none.texts == ()


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (np.array(["a", "b"]), r"'texts' must be strings \(N,\), got <U1 \(2,\) with N=5"),
        (np.array("a cat"), r"'texts' must be strings \(N,\), got <U5 \(\)"),
        (np.arange(5), r"'texts' must be strings \(N,\), got int64 \(5,\)"),
    ],
)
def test_texts_that_do_not_fit(tmp_path, points, texts, words):
    held = {"tracks": points.tracks, "visibility": points.visibility, "size_hw": np.array(HW)}
    np.savez(tmp_path / "a.npz", **held, texts=texts)
    with pytest.raises(TrackFileError, match=words):
        read_trajectories(tmp_path / "a.npz")


def test_trajlooms_files(tmp_path, points):
    file = TrackFile(points.tracks, points.visibility, size_hw=HW, fps=8.0)
    write_tracks(tmp_path / "says.npz", file)
    assert identify(tmp_path / "says.npz") == "trajloom"
    check(read_trajectories(tmp_path / "says.npz"), points, depth=False)
    np.savez(tmp_path / "bare.npz", tracks=points.tracks, vis=points.visibility)
    assert read_trajectories(tmp_path / "bare.npz").size_hw == (480, 832)  # the usual one
    check(read_trajectories(tmp_path / "bare.npz", stored_hw=HW), points, depth=False)


def test_flextrajs_files_and_back(tmp_path, points):
    _, with_z, seen = stored(points)
    np.save(tmp_path / "a_tracks.npy", {"tracks": with_z, "visibility": seen})
    assert identify(tmp_path / "a_tracks.npy") == "flextraj"
    check(read_trajectories(tmp_path / "a_tracks.npy"), points)
    write_trajectories(tmp_path / "b.npy", points)
    # As FlexTraj's own loader takes it apart.
    tracks, visibility = np.load(tmp_path / "b.npy", allow_pickle=True).item().values()
    np.testing.assert_array_equal(tracks, with_z)
    np.testing.assert_array_equal(visibility, seen)
    assert (tracks.dtype, visibility.dtype) == (np.float32, bool)
    with pytest.raises(TrackFileError, match="FlexTraj reads pixels of 720x480 only"):
        write_trajectories(tmp_path / "c.npy", resized(points, (240, 360)))
    assert not (tmp_path / "c.npy").exists()


def test_forward_and_reverse_files(tmp_path, points):
    write_trajectories(tmp_path / "f.npy", points)
    write_trajectories(tmp_path / "r.npy", points.take(np.array([0, 3])))
    write_trajectories(tmp_path / "short.npy", points.window(0, 3))
    f, r, short = (str(tmp_path / name) for name in ("f.npy", "r.npy", "short.npy"))
    forward, reverse = read_pair(f"{f}, {r}", frames=5)
    assert (forward.num_points, reverse.num_points, reverse.num_frames) == (N, 2, 5)
    assert read_pair(f)[1] is None
    with pytest.raises(TrackFileError, match="has 7 frames, .*short.npy 3"):
        read_pair(f"{f},{short}")
    with pytest.raises(TrackFileError, match="3 files"):
        read_pair(f"{f},{r},{r}")
    os.rename(f, tmp_path / "a,b.npy")
    assert split_paths(tmp_path / "a,b.npy") == [str(tmp_path / "a,b.npy")]


def test_trackers_files(tmp_path, points):
    tracks, with_z, seen = stored(points)
    np.savez(tmp_path / "cotracker.npz", pred_tracks=tracks, pred_visibility=seen)
    np.save(tmp_path / "cotracker.npy", {"pred_tracks": tracks[0], "pred_visibility": seen[0]})
    np.savez(tmp_path / "spatial.npz", pred_tracks=with_z, pred_visibility=seen.astype(np.uint8))
    raster = points.tracks + 0.5
    np.savez(tmp_path / "tapir.npz", tracks=raster, visibles=points.visibility)
    logits = np.where(points.visibility, -4.0, 4.0)
    np.save(tmp_path / "tapir.npy", {"tracks": raster[None], "occlusion": logits[None]})
    kinds = {"cotracker": "cotracker", "spatial": "spatialtracker", "tapir": "tapir"}
    for name in ("cotracker.npz", "cotracker.npy", "spatial.npz", "tapir.npz", "tapir.npy"):
        assert identify(tmp_path / name) == kinds[name.split(".")[0]]
        got = read_trajectories(tmp_path / name, size_hw=HW)
        check(got, points, depth=name == "spatial.npz")


def test_tapirs_visibility_is_both_seen_and_near():
    tracks = np.zeros((1, 3, 2), np.float32)
    made = other_tracks.from_tapir(
        tracks,
        HW,
        occlusion=np.array([[-9.0, -1.0, 9.0]]),
        expected_dist=np.array([[-9.0, 0.0, -9.0]]),
    )
    # (1 - sigmoid(-1)) (1 - sigmoid(0)) = 0.73 * 0.5 < 0.5
    assert made.visibility.tolist() == [[True, False, False]]
    assert made.tracks[0, 0].tolist() == [-0.5, -0.5]
    with pytest.raises(TrackFileError, match="either 'visibles' or 'occlusion'"):
        other_tracks.from_tapir(tracks, HW)


def test_wan_moves_files_and_back(tmp_path, points):
    write_trajectories(tmp_path / "a_tracks.npy", points)
    tracks, _, seen = stored(points)
    np.testing.assert_array_equal(np.load(tmp_path / "a_tracks.npy"), tracks)
    np.testing.assert_array_equal(np.load(tmp_path / "a_visibility.npy"), seen)
    assert identify(tmp_path / "a_tracks.npy") == "wan_move"
    check(read_trajectories(tmp_path / "a_tracks.npy", size_hw=HW), points, depth=False)
    os.unlink(tmp_path / "a_visibility.npy")
    with pytest.raises(TrackFileError, match="a_visibility.npy is not beside it"):
        read_trajectories(tmp_path / "a_tracks.npy", size_hw=HW)
    every = read_trajectories(tmp_path / "a_tracks.npy", size_hw=HW, kind="keypoints")
    assert every.visibility.all()


def test_comfys_coordinates_and_tracks(tmp_path, points):
    places = [[{"x": float(x), "y": float(y)} for x, y in track] for track in points.tracks]
    (tmp_path / "a.json").write_text(json.dumps(places))
    (tmp_path / "single.txt").write_text(str(places[0]))  # single quotes, one track
    got = read_trajectories(tmp_path / "a.json", size_hw=HW)
    np.testing.assert_array_equal(got.tracks, points.tracks)
    assert got.visibility.all() and identify(tmp_path / "a.json") == "comfy"
    single = read_trajectories(tmp_path / "single.txt", size_hw=HW)
    np.testing.assert_array_equal(single.tracks, points.tracks[:1])
    held = {"track_path": points.tracks.swapaxes(0, 1), "track_visibility": points.visibility.T}
    np.savez(tmp_path / "a.npz", **held)
    check(read_trajectories(tmp_path / "a.npz", size_hw=HW), points, depth=False)
    by_frame = held | {"track_visibility": np.arange(T)[:, None] < 2}  # one for all points
    assert (other_tracks.from_comfy(by_frame, HW).visibility == (np.arange(T) < 2)).all()
    for bad, words in (
        ([[{"x": 1}]], "lists of"),
        (places + [places[0][:2]], "one length"),
        ([], "one length, got none"),
    ):
        with pytest.raises(TrackFileError, match=words):
            other_tracks.from_comfy(bad, HW)


def test_keypoints(tmp_path):
    found = np.random.default_rng(0).uniform(0, 400, (T, 18, 2))
    found[2, 3] = np.nan
    np.save(tmp_path / "pose.npy", found)
    assert identify(tmp_path / "pose.npy") == "keypoints"
    got = read_trajectories(tmp_path / "pose.npy", size_hw=HW)
    assert got.tracks.shape == (18, T, 2) and not got.visibility[3, 2]
    assert got.visibility.sum() == 18 * T - 1
    np.testing.assert_allclose(got.tracks[5], found[:, 5], rtol=1e-6)


def test_another_size_is_an_error_or_resized(tmp_path, points):
    write_trajectories(tmp_path / "a.npz", points)
    with pytest.raises(TrackFileError, match="pixels of 720x480, the frames are 360x240: resize"):
        read_trajectories(tmp_path / "a.npz", size_hw=(240, 360))
    got = read_trajectories(tmp_path / "a.npz", size_hw=(240, 360), rescale=True)
    np.testing.assert_allclose(got.tracks, (points.tracks + 0.5) / 2 - 0.5, rtol=1e-4, atol=1e-4)
    assert got.size_hw == (240, 360)
    with pytest.raises(TrackFileError, match="says that it is in pixels of 720x480"):
        read_trajectories(tmp_path / "a.npz", stored_hw=(240, 360))


def test_frames(tmp_path, points):
    write_trajectories(tmp_path / "a.npz", points)
    got = read_trajectories(tmp_path / "a.npz", frames=3)
    np.testing.assert_array_equal(got.tracks, points.tracks[:, :3])
    with pytest.raises(TrackFileError, match="a.npz .*tracks have 7 frames, .*give longer tracks"):
        read_trajectories(tmp_path / "a.npz", frames=49)


def save(path, **changes):
    rng = np.random.default_rng(0)
    held = {
        "tracks": rng.random((2, 3, 2)),
        "visibility": np.ones((2, 3), bool),
        "size_hw": np.array(HW),
    }
    held = {key: value for key, value in (held | changes).items() if value is not None}
    np.savez(path, **held)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"tracks": np.full((2, 3, 2), np.nan)}, "point 0 is visible in frame 0, .*not finite"),
        ({"colours": np.zeros(3)}, r"unknown keys \['colours'\]; known are tracks"),
        ({"visibility": np.full((2, 3), 0.5)}, "must be bool or 0/1, got numbers from 0.5"),
        (
            {"visibility": np.ones((3, 2), bool)},
            r"'visibility' must be bool \(N, T\), got bool \(3, 2\) with N=2",
        ),
        ({"size_hw": np.array([1.5, 2])}, "'size_hw' must be two integers"),
        ({"segments": np.zeros(2)}, "'segments' must be one number"),
        ({"segment": np.array([0, 3]), "segments": 2}, "segment 3 does not exist"),
        ({"number": np.array([0.5, 3])}, r"'number' must be integers \(N,\)"),
        ({"tracks": np.zeros((2, 3, 4))}, r"'tracks' must be numbers \(N, T, 2\)"),
    ],
)
def test_mistakes_in_our_own_arrays(tmp_path, changes, words):
    save(tmp_path / "a.npz", **changes)
    with pytest.raises(TrackFileError, match=f"a.npz .*{words}"):
        read_trajectories(tmp_path / "a.npz")


def test_what_is_no_file_of_tracks_is_said(tmp_path):
    np.savez(tmp_path / "else.npz", foo=np.zeros((2, 3)), bar=np.ones(1, np.int64))
    np.save(tmp_path / "else.npy", np.zeros((2, 3)))
    none = {"pred_tracks": np.zeros((0, 5, 2)), "pred_visibility": np.zeros((0, 5))}
    np.savez(tmp_path / "empty arrays.npz", **none)
    (tmp_path / "empty.json").touch()
    (tmp_path / "broken.json").write_text('{"points": [')
    (tmp_path / "nan.json").write_text('{"points": [{"path": [[0, NaN, 1]]}]}')
    (tmp_path / "clip.mp4").write_bytes(b"video")
    (tmp_path / "a.pt").write_bytes(b"x")
    cases = {
        "else.npz": r"no known format .*'foo' float64 \(2, 3\), 'bar' int64 \(1,\)",
        "else.npy": r"no known format .*an array float64 \(2, 3\)",
        "empty arrays.npz": r"'pred_tracks' is empty: \(0, 5, 2\)",
        "empty.json": "file is empty",
        "broken.json": "no JSON that can be read",
        "nan.json": "NaN is no place; write null",
        "clip.mp4": "is a video or picture.*tavid_jax.data track",
        "a.pt": "tracks are .json, .txt, .npz, .npy or .pkl",
        "absent.npz": "no such file",
    }
    for name, words in cases.items():
        with pytest.raises(ValueError, match=f"{name}.*{words}"):
            read_trajectories(tmp_path / name, size_hw=HW)
    with pytest.raises(TrackFileError, match="no format 'x' of tracks: use one of points"):
        read_trajectories(tmp_path / "else.npz", kind="x")
    for kind in KINDS:  # whatever it is taken for, an error that names the file
        with pytest.raises(ValueError, match="else.npz"):
            read_trajectories(tmp_path / "else.npz", size_hw=HW, kind=kind)


def test_a_size_that_nobody_tells(tmp_path, points):
    tracks, _, seen = stored(points)
    np.savez(tmp_path / "a.npz", pred_tracks=tracks, pred_visibility=seen)
    with pytest.raises(TrackFileError, match="does not say which size .*give size_hw"):
        read_trajectories(tmp_path / "a.npz")
    two = {"pred_tracks": np.zeros((2, 4, 3, 2)), "pred_visibility": np.zeros((2, 4, 3))}
    np.savez(tmp_path / "two.npz", **two)
    with pytest.raises(TrackFileError, match=r"holds 2 videos .*keep one"):
        read_trajectories(tmp_path / "two.npz", size_hw=HW)


def test_kinds_that_cannot_be_written(tmp_path, points):
    for name, kind, words in (
        ("a.txt", None, "written as .json, .npz or .npy"),
        ("a.npz", "tapir", "'tapir' cannot be written"),
        ("a.npz", "wan_move", "named NAME_tracks.npy"),
    ):
        with pytest.raises(TrackFileError, match=words):
            write_trajectories(tmp_path / name, points, kind=kind)
    assert not os.listdir(tmp_path)
