"""Files that belong together are found; what lacks one is named."""

import shutil

import numpy as np
import pytest
from motion_scene import save_tracks

from tavid_jax.scoring import ScoringError
from tavid_jax.scoring.motion.cases import Folders, find_cases
from tavid_jax.scoring.motion.trackfiles import read_trajectories


def test_folders_name_the_granularity(studio):
    cases, skipped = find_cases(studio / "generated", Folders(real=studio / "real"))
    assert not skipped
    named = [(case.granularity, case.name) for case in cases]
    assert named == [
        ("dense", "moves"), ("dense", "stands"), ("unaligned", "moves"), ("unaligned", "stands"),
    ]  # fmt: skip
    assert [case.aligned for case in cases] == [True, True, False, False]
    assert all(case.real.path == str(studio / "real" / f"{case.name}.mp4") for case in cases)
    assert cases[2].tracks == studio / "generated" / "unaligned" / "moves.tracks.npz"
    assert [path.name for path in cases[2].masks] == ["moves.mask.png"]
    alone, _ = find_cases(studio / "generated" / "unaligned", Folders())
    assert {case.granularity for case in alone} == {"unaligned"}


def test_videos_in_no_such_folder(studio, scenes, tmp_path):
    shutil.copy(studio / "real" / "moves.mp4", tmp_path)
    save_tracks(tmp_path / "t" / "spatial" / "moves.npz", scenes["moves"].tracks())
    save_tracks(tmp_path / "t" / "moves.npz", scenes["moves"].tracks())
    folders = Folders(tracks=tmp_path / "t")
    [case], _ = find_cases(tmp_path, folders, granularity="spatial")
    assert case.granularity == "spatial" and case.tracks.parent.name == "spatial"
    [case], _ = find_cases(tmp_path, folders)
    assert case.granularity == "dense" and case.tracks == tmp_path / "t" / "moves.npz"
    [case], _ = find_cases(tmp_path / "moves.mp4", folders)
    assert case.name == "moves"


def test_what_is_lacking_is_named(studio, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(
        ScoringError, match="no trajectories moves.tracks.npz or .*moves.npz or .* in"
    ):
        find_cases(studio / "real", Folders())
    with pytest.raises(ScoringError, match="no predicted tracks moves.tracks.npz"):
        find_cases(studio / "generated", Folders(predicted=empty))
    with pytest.raises(ScoringError, match="no real video named stands"):
        find_cases(studio / "generated", Folders(real=empty))
    with pytest.raises(ScoringError, match=r"--predicted-real .*none: no such folder"):
        Folders(predicted_real=tmp_path / "none")
    with pytest.raises(ScoringError, match="granularity 'sparse' is unknown; known: dense"):
        find_cases(studio / "generated", Folders(), granularity="sparse")
    shutil.copytree(studio / "real", tmp_path / "real")
    (tmp_path / "real" / "stands.mp4").write_bytes(b"no video")
    cases, skipped = find_cases(studio / "generated" / "dense", Folders(real=tmp_path / "real"))
    assert len(cases) == 1 and "stands.mp4 is broken" in skipped[0][1]


def test_files_of_tracks(scenes, tmp_path):
    path = tmp_path / "a.npz"
    save_tracks(path, scenes["moves"].tracks())
    assert read_trajectories(path).num_points == 25
    path.write_bytes(b"no archive")
    with pytest.raises(ScoringError, match="a.npz: cannot be read as an npz file"):
        read_trajectories(path)
    np.savez(path, tracks=scenes["moves"].tracks())
    with pytest.raises(ScoringError, match="a.npz: no known format of tracks"):
        read_trajectories(path)
    save_tracks(path, scenes["moves"].tracks(), size_hw=np.array(5))
    with pytest.raises(ScoringError, match="a.npz .*'size_hw' must be two integers"):
        read_trajectories(path)
