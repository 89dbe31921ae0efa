"""Every second of a run is somewhere, and what a kill has undone is lost."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tavid_jax.engine import goodput as accounts
from tavid_jax.engine.goodput import Ledger, goodput, read_starts

CHECKOUT = Path(__file__).resolve().parents[2]


class FakeTime:
    """Both clocks, moved by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.now = 1000.0
        monkeypatch.setattr(accounts.time, "perf_counter", lambda: self.now)
        monkeypatch.setattr(accounts.time, "time", lambda: self.now)

    def run(self, ledger: Ledger, category: str, seconds: float) -> None:
        with ledger.measure(category):
            self.now += seconds


def start(folder: Path) -> Ledger:
    """Written by hand alone."""
    return Ledger(folder, every=3600)


def test_two_starts_of_a_run_to_the_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """100 steps of 1 s, saved every 40; killed at step 90, 60 s nobody notices."""
    clock = FakeTime(monkeypatch)
    first = Ledger(tmp_path, began=clock.now - 20, every=3600)  # imports took 20 s
    clock.now += 5
    first.begin_stage("latents", "compute")
    clock.run(first, "pass", 30)
    clock.now += 1
    first.begin_stage("fit", "train", 0)
    clock.run(first, "compile", 10)
    for step in range(1, 91):
        clock.run(first, "data", 0.25)
        clock.run(first, "step", 0.75)
        first.reached(step)
        if step % 40 == 0:
            first.reached(step, saved=True)
            clock.run(first, "checkpoint", 2)
    first.write()  # the last that is known of it
    clock.now += 60
    second = start(tmp_path)
    clock.now += 7
    second.begin_stage("fit", "train", 80)
    clock.run(second, "compile", 3)
    for step in range(81, 101):
        clock.run(second, "step", 0.75)
        second.reached(step)
    with second.measure("evaluation"):
        clock.now += 4
        clock.run(second, "checkpoint", 1)  # inside of it, but no part
    second.finish()
    second.write()
    found = goodput(read_starts(tmp_path))
    lost = 10 * 0.75
    assert found.starts == 2
    assert found.seconds == pytest.approx(
        {
            "start-up": 20 + 5 + 1 + 7,
            "pass": 30,
            "compile": 13,
            "data": 90 * 0.25,
            "step": 110 * 0.75 - lost,
            "checkpoint": 5,
            "evaluation": 4,
            "lost": lost,
            "down": 60,
        }
    )
    assert found.wall == pytest.approx(clock.now - (1000 - 20))
    assert found.share == pytest.approx((30 + 110 * 0.75 - lost) / found.wall)
    assert "in 2 starts" in found.line() and sum(row[2] for row in found.rows()) == pytest.approx(1)
    # What comes behind the end of a run is no part of it.
    clock.now += 1e6
    with start(tmp_path) as third:
        clock.run(third, "step", 5)
    assert goodput(read_starts(tmp_path)) == found


@pytest.mark.parametrize(
    ("kind", "begun", "lost"),
    [
        ("train", [6], 0),  # saved when it stopped
        ("train", [4], 2),
        ("train", [0], 6),  # no checkpoint was whole
        ("train", [4, 2], 4),  # the one of step 4 was found to be damaged later
        ("train", [5], 1),  # of a step that is not among those saved: in proportion
        ("compute", [0], 6),
        ("encode", [0], 0),
        ("train", [], 0),  # nothing has gone on from it yet
    ],
)
def test_what_is_lost(kind: str, begun: list[int], lost: float):
    stage = dict(kind=kind, begun=0, step=6, productive=6.0, saves=[[2, 2.0], [4, 4.0], [6, 6.0]])
    own = "step" if kind == "train" else "pass"

    def one(began: float, seconds: dict, stages: dict) -> dict:
        ended = began + sum(seconds.values())
        return dict(began=began, ended=ended, seconds=seconds, stages=stages, finished=False)

    starts = [one(0.0, {own: 6.0}, {"fit": stage})]
    for number, step in enumerate(begun, 1):
        again = dict(kind=kind, begun=step, step=step, productive=0.0, saves=[])
        starts.append(one(100.0 * number, {"start-up": 1.0}, {"fit": again}))
    found = goodput(starts).seconds
    assert found.get("lost", 0.0) == pytest.approx(lost)
    assert found[own] == pytest.approx(6.0 - lost)


def test_a_damaged_file_and_a_full_disk_stop_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with start(tmp_path) as ledger:
        pass
    (tmp_path / "0001.json").write_text('{"began": 1')
    assert len(read_starts(tmp_path)) == 1

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(accounts, "write_json", full)
    with start(tmp_path) as ledger, ledger.measure("step"):
        pass
    assert goodput([]) is None


@pytest.mark.parametrize("stop", ["kill", "terminate"])
def test_killed_program(tmp_path: Path, programs: dict[str, str], stop: str):
    """Checkpoints every 2 steps; stopped while the data of the fourth are made."""
    settings = {"JAX_PLATFORMS": "cpu", "JAX_DEFAULT_MATMUL_PRECISION": "highest"}

    def program(*arguments: str) -> None:
        left = subprocess.run(
            [sys.executable, "-m", "tests.engine.toy", str(tmp_path), *arguments],
            cwd=CHECKOUT,
            env=os.environ | settings | programs,
            capture_output=True,
        )
        assert left.returncode in (0, 75, -signal.SIGKILL), left.stderr[-2000:]

    program(f"--{stop}=3")
    program()
    starts = read_starts(tmp_path / "goodput")
    found = goodput(starts)
    assert found.starts == 2
    # To the last tick before the kill, and with the gap: from the first start to the last end.
    assert found.wall == pytest.approx(starts[1]["ended"] - starts[0]["began"], abs=0.01)
    assert found.seconds["down"] > 0.1  # at least a new interpreter
    fit = starts[0]["stages"]["fit"]
    if stop == "terminate":
        assert fit["step"] == 4 and starts[1]["stages"]["fit"]["begun"] == 4
        assert found.seconds["lost"] == pytest.approx(0.0, abs=1e-3)
    else:
        # From the checkpoint of step 2, or from the beginning, if that was not finished in time.
        begun = starts[1]["stages"]["fit"]["begun"]
        kept = {0: 0.0} | {step: seconds for step, seconds in fit["saves"]}
        assert begun in (0, 2) and fit["step"] == 3 and fit["productive"] > 0
        assert found.seconds["lost"] == pytest.approx(fit["productive"] - kept[begun])
    steps = sum(s["seconds"].get("step", 0.0) for s in starts)
    assert found.seconds["step"] + found.seconds["lost"] == pytest.approx(steps)
    assert json.dumps(found.seconds)  # plain numbers
