"""Track files that mean something else than they should."""

import numpy as np
import pytest

from tavid_jax.data import folder
from tavid_jax.data.clip import ClipError
from tavid_jax.data.official import TrackFile, write_tracks
from tavid_jax.data.track_checks import ConventionError, check_convention
from tavid_jax.tracks.grid import query_points

SIZE, STRIDE, T = (32, 48), 8, 9
GRID = query_points(SIZE, STRIDE)


def moving(frames=T, grid=GRID):
    return (grid[:, None] + np.arange(frames)[None, :, None] * [0.5, 0.25]).astype(np.float32)


def save(path, tracks, **fields):
    write_tracks(path, TrackFile(tracks, np.ones(tracks.shape[:2], bool), SIZE, **fields))


def open_clips(path, **changes):
    settings = dict(size_hw=SIZE, num_frames=T, stride=STRIDE, origin="topleft", regrid=False)
    return folder.open_clips(path, **(settings | changes))


@pytest.mark.parametrize(
    "tracks, words",
    [
        (moving(), ""),
        (moving() / [48, 32], "coordinates lie within 0.92 of 0: normalised"),
        (moving() / 8, "its grid of 6x4 points spans 5x3 where the frame has 48x32 px"),
        (moving().swapaxes(0, 1), "its first axis counts frames"),
        (moving()[..., ::-1], r"coordinates are \(y, x\)"),
        (moving().swapaxes(0, 1)[..., ::-1], r"first axis counts frames.*\(y, x\)"),
        (np.random.default_rng(0).uniform(0, 30, (20, T, 2)), ""),  # no grid: nothing is known
    ],
)
def test_conventions_are_told_from_the_points_of_frame_0(tracks, words):
    file = TrackFile(tracks.astype(np.float32), np.ones(tracks.shape[:2], bool))
    if not words:
        check_convention("a.npz", file, SIZE)
        return
    with pytest.raises(ConventionError, match=f"^a.npz: .*{words}"):
        check_convention("a.npz", file, SIZE)


@pytest.fixture
def clips(tmp_path, make_video):
    for name in "abc":
        make_video(tmp_path / f"{name}.avi", num_frames=12, size_hw=SIZE)
        save(tmp_path / f"{name}.npz", moving(12))
    return tmp_path


def test_tracks_of_the_grid_are_taken_as_they_are(clips):
    save(clips / "b.npz", moving(10) + 0.5)  # not exactly at the points: not moved there
    source = open_clips(clips)
    np.testing.assert_array_equal(source[0].tracks, moving())
    np.testing.assert_array_equal(source[1].tracks, moving() + 0.5)
    assert not np.array_equal(open_clips(clips, regrid=True)[1].tracks, moving() + 0.5)


def test_files_of_other_conventions_are_named(clips):
    save(clips / "b.npz", moving(12)[..., ::-1])
    words = r"1 of 3 track files have other conventions .*b.npz: coordinates are \(y, x\)\. .*"
    for regrid in (True, False):
        with pytest.raises(ClipError, match=words + "import-tracks FOLDER OUT"):
            open_clips(clips, regrid=regrid)


@pytest.mark.parametrize(
    "tracks, words",
    [
        (moving(12)[:-2], r"holds 22 tracks, the grid of 8 px has 24, of which 2 are missing: "
                          r"\(32, 24\), \(40, 24\)"),
        (moving(12, query_points(SIZE, 16)), "holds 6 tracks, the grid of 8 px has 24"),
        (moving(12) + 3, r"start 3.0 px \(median\) away from the points of the grid of 8 px"),
        (moving(12)[::-1], "in another order: `python -m tavid_jax.data import-tracks"),
        (moving(13), "has 13 frames, its video 12"),
        (moving(8), "too short: 8 frames, a window needs 9: tracks end before the video's 12"),
    ],
)  # fmt: skip
def test_other_grids_and_lengths_are_refused_where_they_must_fit(clips, tracks, words):
    save(clips / "b.npz", np.ascontiguousarray(tracks))
    source = open_clips(clips)
    assert [file.name for file in source.files] == ["a", "c"]
    with pytest.raises(ClipError, match=words):
        open_clips(clips / "b.avi")
