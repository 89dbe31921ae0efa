"""Records, curves over restarts, the progress line."""

import importlib.machinery
import json
import logging
import sys
from pathlib import Path

import numpy as np
import pytest

from tavid_jax.engine import telemetry


def test_json_lines_forget_what_came_after_the_restart(tmp_path: Path):
    path = tmp_path / "metrics.jsonl"
    writer = telemetry.JsonLines(path)
    for step in (5, 10, 15):
        writer.scalars(step, {"loss": step / 10})
    writer.close()
    with path.open("a") as file:
        file.write('{"step": 20, "lo')  # cut off by a crash
    assert [r["step"] for r in telemetry.read_json_lines(path)] == [5, 10, 15]
    writer = telemetry.JsonLines(path, start_step=10)
    writer.scalars(12, {"loss": 1.2})
    writer.close()
    assert telemetry.read_json_lines(path) == [
        {"step": 5, "loss": 0.5},
        {"step": 10, "loss": 1.0},
        {"step": 12, "loss": 1.2},
    ]
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_records_are_on_disk_at_once_and_valid_json(tmp_path: Path):
    writer = telemetry.JsonLines(tmp_path / "m.jsonl")
    writer.scalars(1, {"loss": float("nan"), "norm": float("inf")})

    def refuse(name: str):
        raise AssertionError(f"{name} is no JSON")

    line = (tmp_path / "m.jsonl").read_text()
    assert json.loads(line, parse_constant=refuse) == {"step": 1, "loss": None, "norm": None}
    assert np.isnan(telemetry.read_json_lines(tmp_path / "m.jsonl")[0]["loss"])
    writer.close()


def test_no_file_is_no_record(tmp_path: Path):
    assert telemetry.read_json_lines(tmp_path / "none.jsonl") == []


def test_tensorboard_is_optional(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)  # as if not installed
    writers = telemetry.open_writers(tmp_path, 0)
    assert [type(w) for w in writers] == [telemetry.JsonLines]
    writers[0].close()


def test_tensorboard_gets_finite_scalars(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    class Fake:
        def __init__(self, folder, purge_step):
            self.made = (folder, purge_step)
            self.scalars: list = []

        def add_scalar(self, *scalar):
            self.scalars.append(scalar)

        def close(self):
            self.scalars.append("closed")

    module = type(sys)("tensorboardX")
    module.__spec__ = importlib.machinery.ModuleSpec("tensorboardX", None)
    module.SummaryWriter = Fake
    monkeypatch.setitem(sys.modules, "tensorboardX", module)
    lines, board = telemetry.open_writers(tmp_path, 7)
    board.flush()
    assert board._writer is None  # nothing is imported before there is something to write
    board.scalars(8, {"loss": 1.5, "bad": float("nan")})
    board.close()
    lines.close()
    assert board._writer.made == (str(tmp_path / "tensorboard"), 7)
    assert board._writer.scalars == [("loss", 1.5, 8), "closed"]


class FakeTime:
    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.now = 100.0
        monkeypatch.setattr(telemetry.time, "perf_counter", lambda: self.now)


def test_clock_goes_on_from_what_was_saved(monkeypatch: pytest.MonkeyPatch):
    time = FakeTime(monkeypatch)
    clock = telemetry.Clock()
    clock.resume({"step": 10.0})
    for name, seconds in (("data", 1.0), ("step", 2.0), ("data", 0.5)):
        with clock.measure(name):
            time.now += seconds
    assert clock.seconds == {"step": 12.0, "data": 1.5}
    assert clock.total() == 13.5


def test_progress_line(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    """Resumed at step 100 of 400: 20 s of compiling are in no rate."""
    time = FakeTime(monkeypatch)
    monkeypatch.setattr(telemetry.sys.stderr, "isatty", lambda: False, raising=False)
    with caplog.at_level(logging.INFO, "absl"):
        progress = telemetry.Progress("flow", 400)
        time.now += 20
        progress.show(101)
        for step in range(102, 202):
            time.now += 0.5
            progress.show(step, "| loss 0.25 | data 3%")
        time.now += 1
        progress.show(400, "| loss 0.1", last=True)
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 7  # the compile, every ten seconds, the end
    assert lines[0].startswith("flow 101/400 | 0.00/s | ETA ?")
    assert lines[3] == "flow 161/400 | 2.00/s | ETA 2m00s | loss 0.25 | data 3%"
    assert lines[-1].startswith("flow 400/400") and "done in 1m11s" in lines[-1]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0s"), (59.4, "59s"), (185.0, "3m05s"), (7440.0, "2h04m"), (float("inf"), "?")],
)
def test_duration(seconds: float, text: str):
    assert telemetry.duration(seconds) == text


def test_few_things_are_all_told_many_by_tenths():
    def told(total):
        return [n for n in range(1, total + 1) if telemetry.is_told(n, total)]

    assert told(1) == [1] and told(7) == [1, 2, 3, 4, 5, 6, 7]
    assert told(200) == list(range(20, 201, 20))
    assert told(23)[-1] == 23 and len(told(23)) == 10


def test_lines_that_are_none_end_the_curve(tmp_path: Path):
    file = tmp_path / "metrics.jsonl"
    for rest in (b"\xff\x00\n", b'{"loss": 1}\n', b"[1]\n", b'{"step": 2, "lo'):
        file.write_bytes(b'{"step": 1, "loss": null}\n' + rest)
        assert [record["step"] for record in telemetry.read_json_lines(file)] == [1]
