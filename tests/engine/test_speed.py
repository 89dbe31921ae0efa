"""Steps measured between records; what is not known is left out."""

import jax
import pytest

from tavid_jax.engine import speed
from tavid_jax.engine.goodput import Goodput
from tavid_jax.engine.method import Method
from tavid_jax.engine.report import Report
from tavid_jax.engine.speed import Speed, Work, in_words, memory_in_use
from tavid_jax.engine.took import add_took, stage_speed
from tavid_jax.parallel.peaks import peak_flops


class Told(Method):
    def flops(self, batch_size: int, *, encode: bool = False) -> int:
        return batch_size * (10**12 if encode else 10**9)

    def amounts(self):
        return {"tokens": 100, "frames": 9}


class Chip:
    device_kind = "NVIDIA H100 80GB HBM3"


def test_steps_with_their_data_and_without_the_first():
    clock = {"compile": 50.0}
    meter = Speed(Work(flops=4 * 10**12, amounts={"tokens": 6}, chips=2, peak=1e13), clock)
    assert not {name for name in meter.record() if name.startswith("speed/")}
    meter.tick()  # of the step that compiled
    for step, data in ((0.9, 0.1), (0.9, 0.1), (0.9, 0.1), (2.6, 0.4)):
        clock["step"] = clock.get("step", 0.0) + step
        clock["data"] = clock.get("data", 0.0) + data
        meter.tick()
    found = meter.record()
    assert found["speed/step_seconds"] == pytest.approx(1.0)
    assert found["speed/step_seconds_p90"] == pytest.approx(2.4)
    assert found["speed/data_wait"] == pytest.approx(0.7 / 6)
    assert found["speed/tokens_per_second"] == pytest.approx(4.0)  # mean step 1.5 s
    assert found["speed/tflops"] == pytest.approx(4 / 1.5 / 2)
    assert found["speed/mfu"] == pytest.approx(4 / 1.5 / 2 / 10)
    assert in_words(found) == "13.3 % MFU"
    assert in_words({"speed/tflops": 0.0123}) == "0.012 TFLOP/s" and in_words({}) == ""
    meter.tick()  # nothing in between: no step
    assert "speed/step_seconds" not in meter.record()


def test_work_of_a_method():
    work = Work.of(Told(), 8, [Chip()] * 4, encode=False)
    assert work == Work(8 * 10**9, {"tokens": 800, "frames": 72}, 4, 989e12)
    assert Work.of(Told(), 8, [Chip()], encode=True).flops == 8 * 10**12
    untold = Work.of(Method(), 8, jax.devices(), encode=False)
    assert untold == Work(None, {}, len(jax.devices()), None)


@pytest.mark.parametrize(
    ("kind", "tera"),
    [
        ("TPU v4", 275),
        ("TPU v5 lite", 197),
        ("TPU v5e", 197),
        ("TPU v5", 459),
        ("TPU v5p", 459),
        ("TPU v6 lite", 918),
        ("TPU v6e", 918),
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA H200", 989),
        ("cpu", None),
        ("NVIDIA L4", None),
    ],
)
def test_peaks(kind: str, tera: float | None):
    assert peak_flops(kind) == (None if tera is None else tera * 1e12)


def test_memory_of_the_fullest_device(monkeypatch: pytest.MonkeyPatch):
    class Device:
        def __init__(self, stats):
            self.memory_stats = lambda: stats

    full = [Device(dict(bytes_in_use=n * 2**30, peak_bytes_in_use=9 * 2**30)) for n in (1, 3, 2)]
    monkeypatch.setattr(speed.jax, "local_devices", lambda: full)
    assert memory_in_use() == {"memory/gib": 3.0, "memory/peak_gib": 9.0}
    monkeypatch.setattr(speed.jax, "local_devices", lambda: [*full, Device(None)])
    assert memory_in_use() == {}


def test_what_it_took_in_the_report(tmp_path):
    curve = [
        {"step": 1, "loss": 2.0, "memory/peak_gib": 1.0},
        {"step": 2, "loss": 1.0, "speed/step_seconds": 0.2, "memory/peak_gib": 3.0},
        {"step": 3, "loss": 1.0, "speed/step_seconds": 0.4, "memory/peak_gib": 2.0},
        {"step": 4, "loss": 1.0, "speed/step_seconds": 9.0, "memory/peak_gib": float("nan")},
    ]
    assert stage_speed(curve) == {"speed/step_seconds": 0.4, "memory/peak_gib": 3.0}
    report = Report("t")
    add_took(report, {"fit": curve, "stats": []}, Goodput(2, {"step": 30.0, "lost": 10.0}))
    page = report.write(tmp_path).read_text()
    assert "What it took" in page and "Where the time went" in page and "75.0 %" in page
    assert "MFU</th>" not in page  # nothing is known of it
    empty = Report("t")
    add_took(empty, {"fit": []}, None)
    assert "What it took" not in empty.write(tmp_path / "empty").read_text()
