"""What a run took: its speed by stage, and where its time went, for the report and the log."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from tavid_jax.engine.goodput import Goodput
from tavid_jax.engine.report import Report

# Column name, unit, decimals and the metric it shows, see engine/speed.py; factors as shown.
_COLUMNS: tuple[tuple[str, str, int | None, str, float], ...] = (
    ("step", "ms", None, "speed/step_seconds", 1e3),
    ("90 % within", "ms", None, "speed/step_seconds_p90", 1e3),
    ("data wait", "%", 1, "speed/data_wait", 1e2),
    ("tokens", "/s", None, "speed/tokens_per_second", 1.0),
    ("frames", "/s", None, "speed/frames_per_second", 1.0),
    ("model FLOPs", "TFLOP/s per chip", None, "speed/tflops", 1.0),
    ("MFU", "%", 1, "speed/mfu", 1e2),
    ("memory, peak", "GiB", 2, "memory/peak_gib", 1.0),
)
_NOTE = (
    "Medians over the records of a stage. Data wait: the share of a step's time in which the loop "
    "waited for its batch. Model FLOPs count no recomputation; MFU is their share of the chip's "
    "bfloat16 peak, for chips whose peak is known."
)


def stage_speed(records: Iterable[Mapping[str, float | int]]) -> dict[str, float]:
    """The median of every number of `engine/speed.py` over the records of a stage."""
    values: dict[str, list[float]] = {}
    for record in records:
        for name, value in record.items():
            if name.startswith(("speed/", "memory/")) and np.isfinite(value):
                values.setdefault(name, []).append(value)
    peak = "memory/peak_gib"
    return {n: max(v) if n == peak else float(np.median(v)) for n, v in values.items()}


def add_took(
    report: Report, curves: Mapping[str, list[Mapping[str, float | int]]], goodput: Goodput | None
) -> None:
    """Adds the section "What it took" to a report; nothing where nothing is known.

    Args:
      report: of the run.
      curves: records of its stages, by name.
      goodput: of the run, None where no start of it was kept.
    """
    speeds = {name: speed for name, curve in curves.items() if (speed := stage_speed(curve))}
    if not speeds and goodput is None:
        return
    report.section("What it took")
    shown = [c for c in _COLUMNS if any(c[3] in speed for speed in speeds.values())]
    if speeds:
        head: list[Any] = ["stage"]
        head += [dict(name=name, unit=unit, digits=digits) for name, unit, digits, *_ in shown]
        rows = [
            [name, *[None if c[3] not in s else c[4] * s[c[3]] for c in shown]]
            for name, s in speeds.items()
        ]
        report.table("Speed of training", head, rows, _NOTE)
    if goodput is not None:
        numbers = [
            dict(name="time", unit="s", digits=1),
            dict(name="share", unit="%", digits=1),
        ]
        rows = [[what, seconds, 100 * share] for what, seconds, share in goodput.rows()]
        rows.append(["all", goodput.wall, 100.0])
        starts = "one start" if goodput.starts == 1 else f"{goodput.starts} starts"
        share = f"{100 * goodput.share:.1f} % ({starts})"
        note = f"Goodput, the productive part of the wall time: {share}."
        report.table("Where the time went", ["category", *numbers], rows, note, reference="all")
