"""Outputs of every method on every data set; stopped and gone on with."""

from __future__ import annotations

import numpy as np
import pytest

from tavid_jax.data.forecast_files import read_forecast
from tavid_jax.metrics.epe import epe
from tavid_jax.metrics.fvmd import FvmdConfig, fvmd
from tavid_jax.metrics.smoothness import div_curl_energy, flow_tv
from tavid_jax.tracks.baselines import constant_velocity
from tavid_jax.tracks.coordinates import in_bounds
from tavid_jax.trajloombench import Job, evaluate, find_folders, measure
from tavid_jax.trajloombench.methods import EULER_10, Method, read_method, read_methods, read_solver
from tavid_jax.trajloombench.protocol import BenchError
from tests.methods.trajloom import micro
from tests.trajloombench.bench_files import TINY, Drifting, tracks_of, write_dataset


def job_of(tmp_path, *methods, **options) -> Job:
    data, out = tmp_path / "data", tmp_path / "out"
    defaults = dict(protocol=TINY, solvers=(EULER_10,), seeds=(1, 2))
    return Job(data, out, tuple(methods), **{**defaults, **options})


def drifting(predictor: Drifting, **options) -> Method:
    return Method("Drifting", "here", lambda solver: predictor, **options)


def test_outputs_measure_as_the_metrics_do(tmp_path):
    write_dataset(tmp_path / "data", "kinetics")
    done = evaluate(job_of(tmp_path, read_method("velocity=constant_velocity")))
    assert (done.made, done.kept) == (6, 0)
    short, long = find_folders([tmp_path / "out"])
    assert (short.method, short.dataset) == ("velocity", "kinetics")
    assert (short.frames, short.solver) == (5, "")
    record = measure(long)
    halves = [tracks_of(i + 80, TINY.frames + 1) for i in range(3)]
    past = np.stack([tracks[:, :6] for tracks, _ in halves])
    truth = np.stack([tracks[:, 6:15] for tracks, _ in halves])
    seen = np.stack([visible[:, 6:15] for _, visible in halves]) & in_bounds(truth, (40, 48))
    ours = constant_velocity(past, 9, clip_hw=(40, 48))
    want = fvmd(ours, truth, seen, (5, 6))
    assert record["metrics"]["fvmd"]["16_1_masked"] == want and record["clips"] == 3
    strided = fvmd(ours, truth, None, (5, 6), FvmdConfig(clip_stride=15))
    assert record["metrics"]["fvmd"]["16_15_unmasked"] == strided
    masked = record["metrics"]["flow_tv"]["masked"]
    assert masked["prediction"] == pytest.approx(flow_tv(ours, seen, (5, 6), 8).mean(), rel=1e-12)
    assert masked["truth"] == pytest.approx(flow_tv(truth, seen, (5, 6), 8).mean(), rel=1e-12)
    energy = record["metrics"]["div_curl"]["unmasked"]["prediction"]
    assert energy == pytest.approx(div_curl_energy(ours, None, (5, 6), 8).mean(), rel=1e-12)
    assert record["metrics"]["epe"]["masked"]["epe"] == epe(ours, truth, seen)["epe"]
    assert record["tracker"] == "toy" and masked["settings"]["spacing"] == 8


def test_every_seed_and_length_has_its_folder(tmp_path):
    write_dataset(tmp_path / "data", "kinetics", 2)
    predictor = Drifting()
    evaluate(job_of(tmp_path, drifting(predictor, prefix=False)))
    assert [asked[:2] for asked in predictor.asked[:4]] == [(9, 1), (5, 1), (9, 2), (5, 2)]
    assert predictor.asked[0][2] == (6, 40, 48, 3)
    found = {(f.kind, f.frames, f.seed): f for f in find_folders([tmp_path / "out"])}
    assert set(found) == {
        *(("forecast", frames, seed) for frames in (5, 9) for seed in (1, 2)),
        ("reconstruction", 9, None),
    }
    files = read_forecast(found["forecast", 5, 2].path / "c1")
    np.testing.assert_allclose(files.pred_tracks[:, 0], tracks_of(81, 16)[0][:, 5] + 2, atol=1e-5)
    assert files.pred_probability[0, 0] == 0.75 and files.meta["noise_seed"] == 2
    assert (files.meta["solver"], files.meta["steps"], files.meta["hist_len"]) == ("euler", 10, 6)
    assert files.meta["gt_meta"]["path"].endswith("kinetics_toy_s8/c1.npz")
    vepe = measure(found["reconstruction", 9, None])["metrics"]["vepe"]
    truth = tracks_of(81, 16)[0][:, 6:15]
    error = np.linalg.norm(truth / 2, axis=-1).mean()
    assert vepe["9"]["unmasked"]["per_video"][1] == pytest.approx(error, rel=1e-5)


def test_the_longest_forecast_is_cut_where_it_may_be(tmp_path):
    write_dataset(tmp_path / "data", "kinetics", 1)
    predictor = Drifting()
    evaluate(job_of(tmp_path, drifting(predictor, video=False)))
    assert predictor.asked == [(9, 1, None), (9, 2, None)]
    short, long = (f for f in find_folders([tmp_path / "out"]) if f.seed == 1)
    np.testing.assert_array_equal(
        read_forecast(short.path / "c0").pred_tracks,
        read_forecast(long.path / "c0").pred_tracks[:, :5],
    )


def test_a_stopped_evaluation_goes_on(tmp_path):
    write_dataset(tmp_path / "data", "kinetics")

    class Stopped(Drifting):
        def predict(self, past, frames, samples=1, seed=0):
            if len(self.asked) == 3:
                raise KeyboardInterrupt
            return super().predict(past, frames, samples, seed)

    with pytest.raises(KeyboardInterrupt):
        evaluate(job_of(tmp_path, drifting(Stopped())))
    again = Drifting()
    done = evaluate(job_of(tmp_path, drifting(again)))
    # Clip 0 and its reconstruction are there, and of clip 1 what the first seed made.
    assert (done.made, done.kept) == (8, 7) and len(again.asked) == 3
    assert evaluate(job_of(tmp_path, drifting(Drifting()))).made == 0


def test_other_facts_are_refused(tmp_path):
    write_dataset(tmp_path / "data", "kinetics", 2)
    evaluate(job_of(tmp_path, drifting(Drifting()), limit=1))
    changed = Drifting()
    changed.facts = {"weights": "b"}
    with pytest.raises(
        BenchError, match="made in another way .predictor_facts.weights: a there, b now"
    ):
        evaluate(job_of(tmp_path, drifting(changed)))
    evaluate(job_of(tmp_path, drifting(Drifting())))
    write_dataset(tmp_path / "data", "kinetics", 3)
    with pytest.raises(BenchError, match="dataset_fingerprint"):
        evaluate(job_of(tmp_path, drifting(Drifting())))


def test_a_method_that_refuses_a_clip_is_named(tmp_path):
    write_dataset(tmp_path / "data", "kinetics", 1)

    class Picky(Drifting):
        def predict(self, past, frames, samples=1, seed=0):
            raise ValueError("the past has 6 frames, 81 are wanted")

    with pytest.raises(BenchError, match="Drifting on kinetics/c0: the past has 6 frames"):
        evaluate(job_of(tmp_path, drifting(Picky())))


def test_an_autoencoder_may_be_shown_the_window(tmp_path):
    write_dataset(tmp_path / "data", "kinetics", 2)
    shown = []

    class Looking(Drifting):
        def reconstruct(self, tracks, picture=None):
            shown.append(picture)
            return tracks

    evaluate(job_of(tmp_path, drifting(Looking())))
    assert [round(float(picture.mean()), -1) for picture in shown] == [30, 70]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("TrajLoom=no/such/folder", "'TrajLoom': there is no 'no/such/folder'; give a trained run"),
        ("TrajLoom=", "give NAME=PATH"),
        ("a:b=stand_still", "give NAME=PATH"),
        ("mine=no.such:thing", "'mine': 'no.such:thing' cannot be imported"),
        ("stand_stil", "there is no 'stand_stil'"),
    ],
)
def test_methods_that_are_none(text, words):
    with pytest.raises(BenchError, match=words):
        read_method(text)


def test_methods_have_names_of_their_own():
    with pytest.raises(BenchError, match="a name of its own"):
        read_methods(["a=stand_still", "a=constant_velocity"])
    assert read_method("stand_still").label == "stand_still"


def test_a_broken_run(tmp_path):
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(BenchError, match="config.json: is no config of a run"):
        read_method(f"X={tmp_path}@other")
    (tmp_path / "config.json").write_text('{"system": "tavid"}')
    with pytest.raises(BenchError, match="'X' .*: a run of tavid forecasts no tracks"):
        read_method(f"X={tmp_path}")


def test_solvers():
    assert [str(read_solver(text)) for text in ("euler-10", "heun-4", "dopri5")] == [
        "euler-10", "heun-4", "dopri5",
    ]  # fmt: skip
    for text in ("euler", "euler-0", "dopri5-3", "lsoda"):
        with pytest.raises(BenchError, match=f"solver '{text}'"):
            read_solver(text)


@pytest.mark.slow  # compiles two solvers
def test_a_trained_run_is_evaluated(tmp_path, untrained_run):
    geometry = micro.Geometry(size_hw=(40, 48), stride=8, origin="topleft", frames=9)
    folder = untrained_run(geometry)
    protocol = type(TINY)((40, 48), 8, history=9, future=9, horizons=(5, 9))
    write_dataset(tmp_path / "data", "kinetics", 2, protocol)
    method = read_method(f"TrajLoom={folder}")
    solvers = (read_solver("euler-2"), read_solver("dopri5"))
    evaluate(job_of(tmp_path, method, protocol=protocol, solvers=solvers, seeds=(4,)))
    found = {(f.kind, f.frames, f.solver): f for f in find_folders([tmp_path / "out"])}
    assert len(found) == 5
    facts = found["forecast", 9, "euler-2"].facts["predictor_facts"]
    assert (facts["solver"], facts["steps"], facts["features"]) == ("euler", 2, "cells")
    ways = [read_forecast(found["forecast", 9, s].path / "c0") for s in ("euler-2", "dopri5")]
    assert not np.array_equal(ways[0].pred_tracks, ways[1].pred_tracks)
    assert measure(found["reconstruction", 9, ""])["metrics"]["vepe"]["9"]["masked"]["n"] > 0
    with pytest.raises(BenchError, match="no trained run .*no release of TrajLoom"):
        read_method(f"X={tmp_path / 'data'}").open(EULER_10)
    with pytest.raises(BenchError, match="no variant 'other': there are"):
        read_method(f"TrajLoom={folder}@other").open(EULER_10)
