"""Track files in TrajLoom's layout."""

import numpy as np
import pytest

from tavid_jax.data.official import TrackFile, TrackFileError, read_tracks, write_tracks


def arrays(n=6, t=9):
    tracks = np.random.default_rng(0).uniform(0, 800, (n, t, 2)).astype(np.float32)
    return {"trajectory": tracks, "visibility": np.arange(n * t).reshape(n, t) % 3 > 0}


@pytest.mark.parametrize("tracks_key", ["trajectory", "trajectories", "tracks"])
@pytest.mark.parametrize("visibility_key", ["visibility", "visibilities", "vis"])
def test_every_alias_is_read(tmp_path, tracks_key, visibility_key):
    data = arrays()
    stored = {tracks_key: data["trajectory"].astype(np.float64)}
    np.savez(tmp_path / "a.npz", **stored, **{visibility_key: data["visibility"].astype(np.uint8)})
    file = read_tracks(tmp_path / "a.npz")
    np.testing.assert_array_equal(file.tracks, data["trajectory"])
    np.testing.assert_array_equal(file.visibility, data["visibility"])
    assert file.tracks.dtype == np.float32 and file.visibility.dtype == bool
    assert file.size_hw is None and file.query_xy is None and file.fps is None


def test_the_first_alias_wins(tmp_path):
    data = arrays()
    np.savez(tmp_path / "a.npz", tracks=data["trajectory"] + 1, **data)
    np.testing.assert_array_equal(read_tracks(tmp_path / "a.npz").tracks, data["trajectory"])


def test_axis_order_yx_is_swapped(tmp_path):
    data = arrays()
    np.savez(tmp_path / "a.npz", **data)
    swapped = read_tracks(tmp_path / "a.npz", axis_order="yx")
    np.testing.assert_array_equal(swapped.tracks, data["trajectory"][..., ::-1])


def test_what_is_written_is_read_back(tmp_path):
    data = arrays()
    file = TrackFile(
        tracks=data["trajectory"],
        visibility=data["visibility"],
        size_hw=(480, 832),
        query_xy=data["trajectory"][:, 0],
        fps=8.0,
    )
    write_tracks(tmp_path / "a.npz", file)
    again = read_tracks(tmp_path / "a.npz")
    for name in ("tracks", "visibility", "query_xy"):
        np.testing.assert_array_equal(getattr(again, name), getattr(file, name))
    assert (again.size_hw, again.fps) == ((480, 832), 8.0)


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda d: d.pop("trajectory"), r"none of the keys \['trajectory'.*only \['visibility'\]"),
        (lambda d: d.pop("visibility"), "none of the keys .*'vis'"),
        (lambda d: d.update(trajectory=np.zeros((6, 9, 3))), r"shape \(N, T, 2\), got .*\(6, 9, 3"),
        (lambda d: d.update(visibility=np.ones((9, 6), bool)), "time-major, transpose it"),
        (lambda d: d.update(visibility=np.full((6, 9), 0.5)), "must be bool or 0/1"),
        (lambda d: d.update(query_xy=np.zeros((5, 2))), r"'query_xy' must have shape .*\(6, 2\)"),
        (lambda d: d.update(size_hw=np.array([0, 4])), "'size_hw' must be two positive"),
    ],
)
def test_files_out_of_layout_are_named(tmp_path, change, words):
    data = arrays()
    change(data)
    np.savez(tmp_path / "bad.npz", **data)
    with pytest.raises(TrackFileError, match=f"bad.npz: .*{words}"):
        read_tracks(tmp_path / "bad.npz")


def test_broken_and_absent_files_are_named(tmp_path):
    (tmp_path / "noise.npz").write_bytes(b"PK not really")
    np.save(tmp_path / "bare.npy", np.zeros(3))
    np.savez(tmp_path / "pickle.npz", trajectory=np.array([{}], object), visibility=np.ones(1))
    for name in ("noise.npz", "bare.npy", "pickle.npz", "absent.npz"):
        with pytest.raises(TrackFileError, match=name):
            read_tracks(tmp_path / name)
