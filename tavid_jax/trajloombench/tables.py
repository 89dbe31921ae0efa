"""Tables 1-6 in the paper's form: rows measured here beside the published ones.

Only what was run is shown; rows of the paper for which nothing was run are told, with what they
need. Means are over seeds. Which table is of which horizon is inferred, see `published`.
"""

from __future__ import annotations

import dataclasses
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from tavid_jax.trajloombench import published
from tavid_jax.trajloombench.measuring import MASKED
from tavid_jax.trajloombench.outputs import FORECAST, RECONSTRUCTION
from tavid_jax.trajloombench.protocol import DATASETS, Protocol

MEASURED, PUBLISHED, TRUTH = "measured", "published", "truth"
Record = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Metric:
    """One quantity of a table: how it is called, printed and found."""

    key: str
    heading: str
    unit: str
    digits: int
    better: str | None


FVMD = Metric("fvmd", "FVMD", "", 0, "lower")
LONG = Metric("fvmd_long", "FVMD-Long", "1e3", 2, "lower")
FLOW_TV = Metric("flow_tv", "FlowTV", "1e-3", 2, None)
DIV_CURL = Metric("div_curl", "DivCurlE", "1e-5", 2, None)


@dataclasses.dataclass(frozen=True)
class Row:
    """One row: (metric's key, data set) -> value as printed."""

    label: str
    origin: str
    values: Mapping[tuple[str, str], float | int]


@dataclasses.dataclass(frozen=True)
class Table:
    """One of the paper's tables.

    Attributes:
      number, title: as here called.
      metrics, datasets: columns are their products.
      rows: published, then measured, then the truth's.
      note: what the numbers depend on.
      missing: a sentence for each published row for which nothing was run.
    """

    number: int
    title: str
    metrics: tuple[Metric, ...]
    datasets: tuple[str, ...]
    rows: tuple[Row, ...]
    note: str
    missing: tuple[str, ...] = ()

    @property
    def measured(self) -> tuple[Row, ...]:
        """Rows of this run."""
        return tuple(row for row in self.rows if row.origin == MEASURED)


def role(label: str) -> str:
    """Which row of the paper a method stands for, by its name; the name itself for none.

    "TrajLoom", "WHN", "w/o on-policy", "w/o boundary hints", "w/o offsets", "w/o consistency";
    "no" and "without" mean "w/o".
    """
    words = re.sub(r"\b(without|no)\b|w/o", "w/o", label.lower().replace("_", " "))
    plain = re.sub(r"[^a-z]", "", words)
    for known in (
        published.NO_ON_POLICY,
        published.NO_BOUNDARY,
        published.NO_OFFSETS,
        published.NO_CONSISTENCY,
        published.TRAJLOOM,
        published.WHN,
    ):
        key = re.sub(r"[^a-z]", "", known)
        if plain == key or (key.startswith("wo") and plain.startswith(key[:7])):
            return known
    return label


def build_tables(records: Sequence[Record]) -> list[Table]:
    """The six tables of what was measured; those without any row are empty.

    Args:
      records: of `measuring.measure`.
    """
    forecasts = [record for record in records if record["kind"] == FORECAST]
    decoded = [record for record in records if record["kind"] == RECONSTRUCTION]
    longest = max((record["frames"] for record in forecasts), default=0)
    final = [record for record in forecasts if record["frames"] == longest]
    main = [r for r in forecasts if role(r["method"]) not in _ABLATIONS]
    return [
        _comparison(main),
        _autoencoders(2, "Autoencoders", [r for r in decoded if role(r["method"]) not in _VAE]),
        _ablation(3, "On-policy fine-tuning", final, (published.NO_ON_POLICY,), longest),
        _autoencoders(
            4,
            "Autoencoder: offsets and consistency",
            [r for r in decoded if role(r["method"]) in (*_VAE, published.TRAJLOOM)],
        ),
        _ablation(5, "Boundary hints", final, (published.NO_BOUNDARY,), longest),
        _solvers([record for record in main if record["solver"]]),
    ]


_VAE = (published.NO_OFFSETS, published.NO_CONSISTENCY)
_ABLATIONS = (published.NO_ON_POLICY, published.NO_BOUNDARY, *_VAE)
_SMOOTH_NOTE = (
    "FlowTV and DivCurlE measure smoothness, a frozen field scores 0: closest to the truth is "
    "best, not smallest."
)
_FVMD_NOTE = (
    "FVMD over windows of 16 frames, stride 1, visible points (velocity and acceleration combined)."
)
_NEEDS = {
    published.TRAJLOOM: "TrajLoom's released weights or a trained run: --method TrajLoom=PATH",
    published.WHN: "WHN's weights: --method WHN=PATH",
}


def _comparison(records: Sequence[Record]) -> Table:
    metrics = (FVMD, FLOW_TV, DIV_CURL)
    # Table 1 is of one solver: of several the fixed-step one, which the paper's is.
    best = {
        m: _main_solver(r["solver"] for r in records if r["method"] == m) for m in _labels(records)
    }
    chosen = [r for r in records if r["solver"] == best[r["method"]]]
    groups = _grouped(chosen, lambda r: f"{r['method']}, {r['frames']} frames")
    note = (
        f"{_FVMD_NOTE} {_SMOOTH_NOTE} Published: Euler, 10 steps; the length is not told with the "
        "numbers (WHN forecasts 24 frames)."
    )
    return _table(1, "Comparison", metrics, groups, note, truth=True)


def _autoencoders(number: int, title: str, records: Sequence[Record]) -> Table:
    lengths = sorted({int(n) for r in records for n in r["metrics"]["vepe"]}) or [24, 81]
    metrics = tuple(Metric(f"vepe_{n}", f"VEPE {n}", "px", 2, "lower") for n in lengths)
    groups = _grouped(records, lambda r: r["method"])
    note = (
        "Mean error of visible points in the first frames of the reconstructed future window, from "
        "the posterior mean."
    )
    return _table(number, title, metrics, groups, note)


def _ablation(
    number: int, title: str, records: Sequence[Record], without: tuple[str, ...], frames: int
) -> Table:
    kept = [r for r in records if role(r["method"]) in (published.TRAJLOOM, *without)]
    best = {m: _main_solver(r["solver"] for r in kept if r["method"] == m) for m in _labels(kept)}
    kept = [r for r in kept if r["solver"] == best[r["method"]]]
    note = f"FVMD-Long: all {frames or 81} frames are one window, visible points. {_SMOOTH_NOTE}"
    groups = _grouped(kept, lambda r: r["method"])
    return _table(number, title, (LONG, FLOW_TV, DIV_CURL), groups, note, truth=True)


def _solvers(records: Sequence[Record]) -> Table:
    groups = _grouped(records, lambda r: f"{r['method']}, {r['solver']}, {r['frames']} frames")
    note = f"{_FVMD_NOTE} {_SMOOTH_NOTE}"
    return _table(6, "Solvers", (FVMD, FLOW_TV, DIV_CURL), groups, note, truth=True)


def _table(
    number: int,
    title: str,
    metrics: tuple[Metric, ...],
    groups: Mapping[str, Sequence[Record]],
    note: str,
    truth: bool = False,
) -> Table:
    there = {record["dataset"] for records in groups.values() for record in records}
    datasets = (*DATASETS, *sorted(there - set(DATASETS)))
    rows, missing = [], []
    ran = {(role(r["method"]), _is_dopri(r["solver"])) for rs in groups.values() for r in rs}
    for row in published.TABLES[number]:
        known = {(m, d): v for m, by in row.values.items() for d, v in by.items()}
        rows.append(Row(f"{row.label} ({PUBLISHED})", PUBLISHED, known))
        wants_dopri = "DOPRI5" in row.label
        if not any(r == row.role and (number != 6 or d == wants_dopri) for r, d in ran):
            missing.append(_lacking(number, row, wants_dopri))
    for label, records in groups.items():
        rows.append(Row(label, MEASURED, _means(records, metrics)))
    if truth:
        for frames in sorted({r["frames"] for rs in groups.values() for r in rs}):
            of_length = [r for rs in groups.values() for r in rs if r["frames"] == frames]
            values = _means(of_length, metrics, of_truth=True)
            rows.append(Row(f"truth, {frames} frames", TRUTH, values))
    return Table(number, title, metrics, datasets, tuple(rows), note, tuple(missing))


def _lacking(number: int, row: published.Published, dopri: bool) -> str:
    need = _NEEDS.get(
        row.role,
        "a checkpoint that was never released: train it (configs/trajloom.py:ablations) and give "
        f"--method '{row.role}=RUN@VARIANT'",
    )
    solver = " --solver dopri5" if dopri else ""
    return f"Table {number}, “{row.label}”: not run, needs {need}{solver}"


def _is_dopri(solver: str) -> bool:
    return solver == "dopri5"


def _main_solver(solvers: Iterable[str]) -> str:
    """Euler with 10 steps if it was run, else the first fixed-step one, else what there is."""
    ran = sorted(set(solvers), key=lambda s: (s != "euler-10", _is_dopri(s), s))
    return ran[0]


def _labels(records: Sequence[Record]) -> list[str]:
    return list(dict.fromkeys(record["method"] for record in records))


def _grouped(records: Sequence[Record], label: Any) -> dict[str, list[Record]]:
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(label(record), []).append(record)
    return groups


def _means(
    records: Sequence[Record], metrics: Sequence[Metric], of_truth: bool = False
) -> dict[tuple[str, str], float]:
    """Over seeds (and, of the truth, methods), as printed."""
    found: dict[tuple[str, str], list[float]] = {}
    for record in records:
        for metric in metrics:
            value = _value(record, metric.key, of_truth)
            if value is not None and np.isfinite(value):
                scale = published.SCALES[re.sub(r"_\d+$", "", metric.key)]
                found.setdefault((metric.key, record["dataset"]), []).append(value / scale)
    return {place: float(np.mean(values)) for place, values in found.items()}


def _value(record: Record, key: str, of_truth: bool) -> float | None:
    metrics = record["metrics"]
    if key.startswith("vepe_"):
        length = metrics["vepe"].get(key.removeprefix("vepe_"))
        return length[MASKED]["epe"] if length else None
    if key in ("fvmd", "fvmd_long"):
        variant = "16_1_masked" if key == "fvmd" else "long_masked"
        return None if of_truth else metrics["fvmd"][variant]["fvmd"]
    return metrics[key][MASKED]["truth" if of_truth else "prediction"]


def doubts(records: Sequence[Record]) -> list[str]:
    """What a reader should know before comparing rows."""
    said = []
    for dataset in dict.fromkeys(r["dataset"] for r in records):
        here = [r for r in records if r["dataset"] == dataset]
        counts = {r["clips"] for r in here}
        if len(counts) > 1:
            few = ", ".join(f"{r['method']} {r['clips']}" for r in here if r["clips"] < max(counts))
            said.append(f"{dataset}: not all methods have all {max(counts)} clips ({few})")
        trackers = sorted({r["tracker"] for r in here})
        if not all("alltracker" in tracker.lower() for tracker in trackers):
            said.append(
                f"{dataset}: tracks by {', '.join(trackers)}; the published rows are of AllTracker"
            )
    for reason in dict.fromkeys(
        f"{r['dataset']}, {r['method']}: {of['reason']}"
        for r in records
        for of in r["metrics"].get("fvmd", {}).values()
        if "reason" in of
    ):
        said.append(reason)
    paper = Protocol().describe()
    if any(r["facts"].get("protocol", paper) != paper for r in records):
        said.append("frames, grid or lengths are not the paper's: published rows do not compare")
    blind = {
        r["method"] for r in records
        if role(r["method"]) == published.TRAJLOOM
        and (r["facts"].get("predictor_facts") or {}).get("features") == "none"
    }  # fmt: skip
    if blind:
        said.append(f"{', '.join(blind)}: ran without video and caption; give --encoders")
    return said


def to_text(table: Table) -> str:
    """The table as lines of text, with what is missing below."""
    lines = [f"Table {table.number}. {table.title}"]
    if table.measured:
        lines += _lines(table)
        lines += _wrapped(table.note)
    for sentence in table.missing:
        lines += _wrapped(sentence)
    return "\n".join(lines)


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, 100, initial_indent="  ", subsequent_indent="    ")


def _lines(table: Table) -> list[str]:
    used = [
        d
        for d in table.datasets
        if any(d == place[1] for row in table.rows for place in row.values)
    ]
    width = max(len(row.label) for row in table.rows)
    cells = [
        [_cell(row, metric, dataset) for metric in table.metrics for dataset in used]
        for row in table.rows
    ]
    heads = [DATASETS.get(dataset, dataset) for _ in table.metrics for dataset in used]
    widths = [max(len(head), *(len(line[i]) for line in cells)) for i, head in enumerate(heads)]
    blocks = []
    for i, metric in enumerate(table.metrics):
        name = f"{metric.heading} ({metric.unit})" if metric.unit else metric.heading
        last = (i + 1) * len(used) - 1
        lacking = len(name) - sum(widths[i * len(used) : last + 1]) - 2 * (len(used) - 1)
        widths[last] += max(0, lacking)
        blocks.append(name.ljust(len(name) - min(0, lacking)))
    lines = [f"  {'':{width}}  " + "  ".join(blocks).rstrip()]
    for label, row in [("", heads), *zip((r.label for r in table.rows), cells, strict=True)]:
        padded = "  ".join(cell.rjust(w) for cell, w in zip(row, widths, strict=True))
        lines.append(f"  {label:{width}}  {padded}".rstrip())
    return lines


def _cell(row: Row, metric: Metric, dataset: str) -> str:
    value = row.values.get((metric.key, dataset))
    return "" if value is None else f"{value:.{metric.digits}f}"
