"""Judging: a video that follows is as good as the oracle, one that stands is zero motion."""

import math

import numpy as np
import pytest
from motion_scene import FRAMES, HW, save_tracks

from tavid_jax.metrics.fvd import fvd
from tavid_jax.scoring import ScoringError
from tavid_jax.scoring.motion import Judges, judge_motion, report
from tavid_jax.scoring.motion.cases import Folders, find_cases


def judged(studio, **folders):
    cases, skipped = find_cases(studio / "generated", Folders(real=studio / "real", **folders))
    return judge_motion(cases, Judges(), skipped=skipped)


@pytest.fixture(scope="module")
def scores(studio):
    return judged(studio)


def test_errors(scores, scenes):
    found = report.measured(scores, "pixels")
    rows = {name: found[name]["dense"][report.TRAJERR] for name in report.ROWS}
    made, oracle, still = (rows[name]["per_clip"] for name in report.ROWS)
    # Frames 1 ... 9 of a constant speed.
    speeds = [np.hypot(3, 1), np.hypot(2, 1)]
    np.testing.assert_allclose(still, [5 * speed for speed in speeds], rtol=1e-6)
    assert max(oracle) < 0.2 * min(still) and made[0] == oracle[0]
    assert made[1] == pytest.approx(still[1], rel=0.05)
    assert rows["oracle"]["seen"] > 0.8 and rows["oracle"]["pck"]["4"] > 0.8
    assert rows["zero motion"]["settings"]["tracker"] == "none"
    assert rows["oracle"]["settings"]["tracker"].startswith("dis1-")


def test_similarities(scores):
    found = report.measured(scores)
    rows = {name: found[name]["unaligned"][report.TRAJSIM] for name in report.ROWS}
    made, oracle, still = (rows[name]["per_clip"] for name in report.ROWS)
    assert min(oracle) > 0.98 and made[0] == oracle[0]
    assert still == [0.0, 0.0] and abs(made[1]) < 0.6
    assert rows["oracle"]["matched"] > 0.9


def test_table_and_what_is_missing(scores):
    text = report.text(scores)
    head = text.splitlines()[0]
    assert "dense: TrajErr" in head and "unaligned: TrajSIM" in head
    assert "left out: FVD needs weights of I3D" in text
    assert "left out: Consistency needs weights of CLIP" in text
    cells = report.table(report.measured(scores))
    cell = cells["zero motion"]["dense"]["TrajErr"]
    assert cell.n == 2 and cell.low < cell.mean < cell.high


class Brightness:
    """A feature per video that is known without a network."""

    name, min_frames = "brightness", 3

    def describe(self):
        return {"name": self.name}

    def __call__(self, frames):
        return frames.reshape(len(frames), -1, 3).mean(axis=1)[:: len(frames) - 1].reshape(-1)


def test_fvd_compares_the_sets(studio):
    cases, _ = find_cases(studio / "generated" / "dense", Folders(real=studio / "real"))
    scores = judge_motion(cases, Judges(videos=Brightness()), max_frames=4)
    found = report.measured(scores)
    features = {
        name: np.stack([case.rows[name].feature for case in scores.cases]) for name in report.ROWS
    }
    for name in ("generated", "zero motion"):
        record = found[name]["dense"][report.FVD]
        assert record["fvd"] == pytest.approx(fvd(features[name], features["oracle"])["fvd"])
        assert record["settings"]["frames"] == [4] and record["n"] == 2
    assert report.FVD not in found["oracle"]["dense"]
    np.testing.assert_array_equal(features["zero motion"][:, :3], features["zero motion"][:, 3:])
    assert not np.allclose(features["oracle"][:, :3], features["oracle"][:, 3:])
    assert "FVD by brightness (stylegan-v) of 2 videos of 4 frames" in report.text(scores)
    with pytest.raises(ScoringError, match="2 frames; at least 3 are needed"):
        judge_motion(cases, Judges(videos=Brightness()), max_frames=2)


def test_tracks_of_another_tracker(studio, scenes, tmp_path):
    """Predicted tracks 3 px off, of the real videos exact; nothing is tracked."""
    for name, scene in scenes.items():
        seen = np.zeros(scene.tracks().shape[:2], bool)
        save_tracks(tmp_path / "made" / f"{name}.npz", scene.tracks() + [3, 0], seen)
        save_tracks(tmp_path / "real" / f"{name}.npz", scene.tracks())
    cases, _ = find_cases(
        studio / "generated" / "dense",
        Folders(
            real=studio / "real",
            predicted=tmp_path / "made",
            predicted_real=tmp_path / "real",
        ),
    )
    found = report.measured(judge_motion(cases, Judges(tracker=Refuses())), "pixels")
    record = found["generated"]["dense"][report.TRAJERR]
    assert record["per_clip"] == [pytest.approx(3, rel=1e-6)] * 2 and record["seen"] == 0
    assert record["settings"]["tracker"] == "given in files"
    assert found["oracle"]["dense"][report.TRAJERR]["trajectory_error"] == 0


class Refuses:
    """A tracker that must not be called."""

    fingerprint = "none"

    def working_hw(self, size_hw):
        return size_hw

    def __call__(self, video, query_xy):
        raise AssertionError("tracked although tracks were given")


def test_unaligned_tracks_of_another_tracker(studio, scenes, tmp_path):
    """Without a mask the real video has no points, but its place in the table."""
    for name, scene in scenes.items():
        save_tracks(tmp_path / "made" / f"{name}.npz", scene.tracks(7))
    (tmp_path / "empty").mkdir()
    folders = Folders(real=studio / "real", predicted=tmp_path / "made", masks=tmp_path / "empty")
    cases, _ = find_cases(studio / "generated" / "unaligned", folders)
    scores = judge_motion(cases, Judges(tracker=Refuses(), videos=Brightness()))
    found = report.measured(scores)
    made = found["generated"]["unaligned"]
    assert made[report.TRAJSIM]["trajectory_similarity"] > 0.99 and made[report.FVD]["fvd"] > 0
    assert np.isnan(found["oracle"]["unaligned"][report.TRAJSIM]["per_clip"]).all()
    text = report.text(scores)
    assert "left out: TrajSIM of 'oracle' needs masks" in text
    assert "note: the tracks of generated and of real videos come from different" in text


def test_only_what_was_given_counts(studio, scenes, tmp_path):
    """Frames 2 and 9: a temporally sparse condition starts, and is measured, there alone."""
    scene = scenes["moves"]
    seen = np.zeros(scene.tracks().shape[:2], bool)
    seen[:, [2, FRAMES - 1]] = True
    save_tracks(tmp_path / "temporal" / "moves.npz", scene.tracks(), seen)
    cases, skipped = find_cases(
        studio / "generated" / "dense", Folders(tracks=tmp_path / "temporal", real=studio / "real")
    )
    assert len(cases) == 1 and "no trajectories stands.tracks.npz" in skipped[0][1]
    found = report.measured(judge_motion(cases, Judges()), "pixels")
    rows = {name: found[name]["dense"][report.TRAJERR] for name in report.ROWS}
    assert rows["zero motion"]["trajectory_error"] == pytest.approx(7 * np.hypot(3, 1), rel=1e-6)
    assert rows["generated"]["trajectory_error"] < 0.2 * rows["zero motion"]["trajectory_error"]
    assert rows["generated"]["settings"]["samples"] == len(scene.tracks())


def test_trajectories_of_another_resolution(studio, scenes, tmp_path):
    """Pixels are those of the trajectories, whatever the size of the video."""
    scene = scenes["moves"]
    double = 2 * scene.tracks() + 0.5
    save_tracks(tmp_path / "moves.npz", double, size_hw=np.array(HW) * 2)
    cases, _ = find_cases(studio / "generated" / "dense", Folders(tracks=tmp_path))
    found = report.measured(judge_motion(cases, Judges()), "pixels")
    still = found["zero motion"]["dense"][report.TRAJERR]["trajectory_error"]
    assert still == pytest.approx(10 * np.hypot(3, 1), rel=1e-6)
    assert found["generated"]["dense"][report.TRAJERR]["trajectory_error"] < 0.2 * still
    assert "oracle" not in found


def test_what_does_not_fit_is_named_before_the_work(studio, scenes, tmp_path):
    tracks = scenes["moves"].tracks()

    def attempt(message: str, kind: str = "dense", *, made=tracks, **fields):
        save_tracks(tmp_path / "t" / "moves.npz", made, **fields)
        cases, _ = find_cases(studio / "generated" / kind, Folders(tracks=tmp_path / "t"))
        with pytest.raises(ScoringError, match=message):
            judge_motion(cases, Judges(tracker=Refuses()))

    attempt(
        "has 10 frames, its trajectories .* have 12; .* --frames 10",
        made=tracks.repeat(2, 1)[:, :12],
    )
    attempt("trajectories in pixels of 72x96: another aspect ratio", size_hw=np.array(HW[::-1]))
    attempt("1 frames; at least 2 are needed", made=tracks[:, :1])
    broken = tracks.copy()
    broken[0, 0] = math.nan
    attempt("moves.npz .*tracks: point 0 is visible in frame 0", made=broken)


def test_predicted_tracks_that_do_not_fit(studio, scenes, tmp_path):
    tracks = scenes["moves"].tracks()

    def attempt(message: str, made: np.ndarray, visibility=None, **fields):
        save_tracks(tmp_path / "moves.npz", made, visibility, **fields)
        cases, _ = find_cases(studio / "generated" / "dense", Folders(predicted=tmp_path))
        with pytest.raises(ScoringError, match=message):
            judge_motion(cases, Judges())

    attempt("10 frames of 24 points, but .* 10 frames of 25 points", tracks[1:])
    attempt("pixels of 192x144, .* have 96x72", tracks, size_hw=np.array(HW) * 2)
    lost = tracks.copy()
    lost[0, 5] = math.nan
    attempt("places that are not finite", lost, np.isfinite(lost).all(-1))
