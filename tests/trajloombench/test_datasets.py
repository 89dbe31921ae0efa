"""Data sets in TrajLoom's layout, and what is refused of them."""

from __future__ import annotations

import numpy as np
import pytest

from tavid_jax.data.official import TrackFile, read_tracks, write_tracks
from tavid_jax.trajloombench.datasets import load, names_in, open_datasets
from tavid_jax.trajloombench.protocol import BenchError, Protocol
from tests.trajloombench.bench_files import TINY, tracks_of, write_dataset


def test_clips_and_their_halves(tmp_path):
    write_dataset(tmp_path, "robotap", tracker="alltracker")
    (tmp_path / "RoboTAP.csv").write_text("videoid,video_path,text\nc1,x.mp4,a robot arm\n")
    (tmp_path / "robotap_video" / "lonely.mp4").write_bytes(b"x")
    (data,) = open_datasets(tmp_path, TINY)
    assert (data.name, data.heading, data.tracker) == ("robotap", "RoboTAP", "alltracker")
    assert [clip.name for clip in data.clips] == ["c0", "c1", "c2"]
    assert [clip.caption for clip in data.clips] == ["", "a robot arm", ""]
    assert data.skipped[0][1] == "has no file of tracks" and "lonely" in data.skipped[0][0]
    tracks, seen = tracks_of(1 + 70, TINY.frames + 1)
    example = load(data.clips[1], TINY)
    np.testing.assert_array_equal(example.past.tracks, tracks[:, :6])
    np.testing.assert_array_equal(example.past.visibility, seen[:, :6])
    np.testing.assert_array_equal(example.future, tracks[:, 6:15])
    inside = ((example.future >= 0) & (example.future <= [47, 39])).all(-1)
    np.testing.assert_array_equal(example.future_visible, seen[:, 6:15] & inside)
    assert not inside.all() and example.past.video.shape == (6, 40, 48, 3)
    assert example.past.caption == "a robot arm" and example.past.grid_hw == (5, 6)
    assert load(data.clips[1], TINY, video=False).past.video is None
    assert open_datasets(tmp_path, TINY, captions=False)[0].clips[1].caption == ""


def test_points_are_sorted_by_where_they_were_asked_for(tmp_path):
    write_dataset(tmp_path, "kubric", 1)
    path = tmp_path / "kubric_toy_s8" / "c0.npz"
    file = read_tracks(path)
    order = np.random.default_rng(0).permutation(30)
    shuffled = TrackFile(file.tracks[order], file.visibility[order], None, TINY.queries[order])
    write_tracks(path, shuffled)
    (data,) = open_datasets(tmp_path, TINY)
    np.testing.assert_array_equal(load(data.clips[0], TINY).future, file.tracks[:, 6:15])


def test_a_list_says_which_clips_are_evaluated(tmp_path):
    write_dataset(tmp_path, "magicdata")
    (tmp_path / "magicdata_eval.csv").write_text("video,kept\nc0,0\nc2,1\nc9,1\n")
    (data,) = open_datasets(tmp_path, TINY)
    assert [clip.name for clip in data.clips] == ["c2"] and data.skipped == ()
    (tmp_path / "magicdata_eval.csv").write_text("video,kept\nc9,1\n")
    with pytest.raises(BenchError, match="none of the 1 clips that it names has tracks"):
        open_datasets(tmp_path, TINY)


def test_order_is_the_papers(tmp_path):
    for name in ("zebras", "magicdata", "kinetics"):
        (tmp_path / f"{name}_video").mkdir()
    assert names_in(tmp_path) == ["kinetics", "magicdata", "zebras"]


def broken(path, change) -> None:
    """Rewrites a file of tracks by (tracks, visibility) -> TrackFile."""
    file = read_tracks(path)
    write_tracks(path, change(file.tracks, file.visibility))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t, v: TrackFile(t[:, :9], v[:, :9]), "has 9 frames, wanted are at least 15"),
        (lambda t, v: TrackFile(t[:-6], v[:-6]), "has 24 points, wanted are 30: 5 rows of 6"),
        (lambda t, v: TrackFile(t + 4, v), "30 points do not start on the grid, such as point 0"),
        (lambda t, v: TrackFile(t[..., ::-1].copy(), v), "coordinates are .y, x."),
        (lambda t, v: TrackFile(t / 48, v), "normalised, not pixels"),
        (lambda t, v: TrackFile(t, v, (80, 96)), "is for frames of .80, 96., wanted are .40, 48."),
        (
            lambda t, v: TrackFile(t, v, None, np.r_[TINY.queries[:-1], TINY.queries[:1]]),
            "query_xy lacks 1 points of the grid, such as .40, 32.",
        ),
    ],
)
def test_tracks_that_do_not_fit_are_named(tmp_path, change, words):
    write_dataset(tmp_path, "kinetics")
    broken(tmp_path / "kinetics_toy_s8" / "c2.npz", change)
    with pytest.raises(BenchError, match=f"c2.npz: .*{words}"):
        open_datasets(tmp_path, TINY)


def test_folders_that_are_no_data_set(tmp_path):
    with pytest.raises(BenchError, match="nowhere: no such folder"):
        names_in(tmp_path / "nowhere")
    with pytest.raises(BenchError, match="holds no data set"):
        open_datasets(tmp_path, TINY)
    (tmp_path / "kinetics_video").mkdir()
    with pytest.raises(BenchError, match="'kinetics' has no tracks: .*kinetics_alltracker_s8"):
        open_datasets(tmp_path, TINY)
    write_dataset(tmp_path, "kinetics")
    with pytest.raises(BenchError, match="no tracks: .*; there is kinetics_toy_s8"):
        open_datasets(tmp_path, Protocol())
    with pytest.raises(BenchError, match="no data set 'robotap'; there are kinetics"):
        open_datasets(tmp_path, TINY, only=["robotap"])
    write_dataset(tmp_path, "kinetics", tracker="other")
    with pytest.raises(BenchError, match="several trackers .kinetics_other_s8, kinetics_toy_s8."):
        open_datasets(tmp_path, TINY)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(size_hw=(41, 48)), "41x48 does not divide"),
        (dict(horizons=(24,)), r"forecasts of \[24\] frames: give lengths from 2 to 9"),
        (dict(history=0), "history 0"),
        (dict(origin="left"), "no query origin 'left'"),
    ],
)
def test_protocols_that_cannot_be(options, words):
    sizes = dict(size_hw=(40, 48), stride=8, history=6, future=9, horizons=(5,))
    with pytest.raises(BenchError, match=words):
        Protocol(**{**sizes, **options})
