"""Metrics fetched late, intervals averaged exactly, the guard."""

import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from tavid_jax.engine import telemetry
from tavid_jax.engine.inputs import StageFolder
from tavid_jax.engine.monitor import (
    MetricBuffer,
    Monitor,
    NonFiniteError,
    mean_of,
)
from tavid_jax.engine.profiling import profile_window, set_profile
from tests.engine import toy


def metrics(loss: float, streak: int = 0, start: int = -1) -> dict:
    values = dict(loss=loss, skipped=streak, streak=streak, streak_start=start)
    return {name: jnp.asarray(value) for name, value in values.items()}


def make_monitor(folder: Path, **stage) -> Monitor:
    config = ConfigDict(toy.fit_stage(steps=100, **stage))
    return Monitor("fit", config, StageFolder(folder), 0, telemetry.Clock())


def test_buffer_keeps_the_newest_back():
    buffer = MetricBuffer(lag=2)
    for step in range(1, 6):
        buffer.push(step, metrics(step))
    assert [step for step, _ in buffer.pop()] == [1, 2, 3]
    assert buffer.pop() == []
    assert [(s, m["loss"]) for s, m in buffer.pop(everything=True)] == [(4, 4.0), (5, 5.0)]


def test_every_record_is_the_mean_of_its_interval(tmp_path: Path):
    with make_monitor(tmp_path, log_every=4, max_bad_steps=3) as monitor:
        for step in range(1, 11):
            monitor.push(step, metrics(step), [f"c{step}"])
        monitor.flush(**{"validation/loss": 7.0})
        for step in range(11, 14):
            monitor.push(step, metrics(step), [])
        monitor.flush()
    curve = telemetry.read_json_lines(tmp_path / "metrics.jsonl")
    assert [(r["step"], r["loss"]) for r in curve] == [
        (4, 2.5),
        (8, 6.5),
        (10, 9.5),
        (12, 11.5),
        (13, 13.0),
    ]
    assert [r.get("validation/loss") for r in curve] == [None, None, 7.0, None, None]


def test_mean_of_leaves_out_what_is_not_finite():
    entries = [
        dict(loss=1.0, skipped=0.0, learning_rate=0.3),
        dict(loss=float("nan"), skipped=1.0, learning_rate=0.2),
        dict(loss=3.0, skipped=1.0, learning_rate=0.1),
    ]
    assert mean_of(entries) == dict(loss=2.0, skipped=1.0, learning_rate=0.1)
    assert np.isnan(mean_of(entries[1:2])["loss"])


def test_guard_names_step_and_clips_and_the_records_stay(tmp_path: Path):
    with make_monitor(tmp_path, log_every=50, max_bad_steps=2) as monitor:
        monitor.push(1, metrics(1.0), ["good"])
        monitor.push(2, metrics(float("nan"), 1, 1), ["bad a", "bad b"])
        monitor.push(3, metrics(float("nan"), 2, 1), ["bad c"])
        with pytest.raises(NonFiniteError) as stopped:
            monitor.flush()
    assert str(stopped.value) == (
        "fit: loss or gradient not finite for 2 steps in a row from step 1 "
        "(clips of step 1: bad a, bad b; step 2: bad c). Nothing of them went into the weights. "
        "Look at these clips and run the same command again, or begin another --workdir with a "
        "lower --config.stages.fit.optimizer.lr"
    )
    curve = telemetry.read_json_lines(tmp_path / "metrics.jsonl")
    assert curve[-1]["step"] == 3 and curve[-1]["streak"] == 2


@pytest.mark.parametrize("window", [(3,), (4, 2), (-1, 2)])
def test_profile_window_is_checked(tmp_path: Path, window: tuple):
    with pytest.raises(ValueError, match=r"must be \(\) or \(first step, last step\)"):
        with profile_window(StageFolder(tmp_path), window):
            pass


PROFILED = """
import sys
import jax.numpy as jnp
from tavid_jax.engine.inputs import StageFolder
from tavid_jax.engine.profiling import profile_window
from pathlib import Path

with profile_window(StageFolder(Path(sys.argv[1])), (1, 1)) as at:
    for step in range(4):
        at(step)
        jnp.ones(3).block_until_ready()
"""


def test_profile_is_written(tmp_path: Path):
    """In a process of its own: the profiler does not bear other frameworks beside it."""
    subprocess.run([sys.executable, "-c", PROFILED, str(tmp_path)], check=True)
    assert list((tmp_path / "profile").rglob("*.xplane.pb"))


@pytest.mark.parametrize(
    ("text", "windows"),
    [("1:2", {"fit": (1, 2)}), ("fit:0:0", {"fit": (0, 0)}), ("3:900", {"fit": (3, 900)})],
)
def test_profile_by_flag(text: str, windows: dict):
    config = toy.toy_config(profile=())
    set_profile(config, text)
    assert {"fit": config.stages.fit.profile} == windows
    assert "profile" not in config.stages.stats


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("3", "FIRST:LAST or STAGE:FIRST:LAST"),
        ("5:3", "FIRST:LAST"),
        ("stats:0:1", "no train stage 'stats'; there are fit"),
        ("4:5", "there are 4 steps, 0 to 3"),
    ],
)
def test_profile_flag_that_makes_no_sense(text: str, message: str):
    with pytest.raises(ValueError, match=message):
        set_profile(toy.toy_config(profile=()), text)
