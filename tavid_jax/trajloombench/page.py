"""The report of a benchmark: tables with bars, films of clips, what is missing, every variant."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tavid_jax.engine.report import Report
from tavid_jax.trajloombench import published, tables
from tavid_jax.trajloombench.measuring import FVMD_VARIANTS
from tavid_jax.trajloombench.outputs import FORECAST
from tavid_jax.trajloombench.pictures import Picture
from tavid_jax.trajloombench.protocol import DATASETS
from tavid_jax.trajloombench.tables import MEASURED, PUBLISHED, TRUTH, Metric, Table
from tavid_jax.viz import curves


def build_page(
    made: Sequence[Table],
    records: Sequence[Mapping[str, Any]],
    pictures: Sequence[Picture] = (),
    provenance: Mapping[str, Any] | None = None,
) -> Report:
    """The page of the tables of `records`; see `tables.build_tables` and `pictures.draw`."""
    methods = list(dict.fromkeys(record["method"] for record in records))
    page = Report("TrajLoomBench", ", ".join(methods))
    page.text(
        "Rows marked “published” are those of the paper (" + published.SOURCE + "), as far as they "
        "are known; they do not compete here. Cells that are not known are left blank. Powers of "
        "ten of the published values are inferred."
    )
    if said := tables.doubts(records):
        page.text("\n".join(f"- {sentence}" for sentence in said))
    for table in made:
        if table.measured:
            _section(page, table)
    _films(page, pictures)
    _variants(page, records)
    if lacking := [sentence for table in made for sentence in table.missing]:
        page.section("Rows that were not run", "\n".join(f"- {sentence}" for sentence in lacking))
    return page.provenance(provenance or {})


def _section(page: Report, table: Table) -> None:
    """The paper's table, a block for each metric: twelve columns would not fit a page."""
    page.section(f"Table {table.number}: {table.title}", table.note)
    used = [d for d in table.datasets if any(d == at[1] for r in table.rows for at in r.values)]
    # Forecasts of different lengths do not compete.
    mixed = sum(row.origin == TRUTH for row in table.rows) > 1
    for metric in table.metrics:
        shown = [row for row in table.rows if any(at[0] == metric.key for at in row.values)]
        better = None if mixed else metric.better
        head = {"unit": metric.unit, "better": better, "digits": metric.digits}
        page.table(
            metric.heading,
            ["method", *({"name": DATASETS.get(d, d), **head} for d in used)],
            [[row.label, *(row.values.get((metric.key, d)) for d in used)] for row in shown],
            highlight=[row.label for row in shown if row.origin == MEASURED],
            reference=[row.label for row in shown if row.origin != MEASURED],
        )
        if figure := _bars(table, metric, used):
            page.figure(figure, f"{metric.heading}: measured and published.")


def _bars(table: Table, metric: Metric, datasets: Sequence[str]) -> bytes | None:
    """Bars of the data sets that were measured, a colour for each row."""
    measured = [d for d in datasets if any((metric.key, d) in row.values for row in table.measured)]
    series = {}
    for row in sorted(table.rows, key=lambda row: (MEASURED, TRUTH, PUBLISHED).index(row.origin)):
        heights = [row.values.get((metric.key, d), math.nan) for d in measured]
        if any(map(math.isfinite, heights)):
            series[row.label] = (heights, None)
    if not measured:
        return None
    unit = f" ({metric.unit})" if metric.unit else ""
    return curves.numbered_bars(
        series, [DATASETS.get(d, d) for d in measured], y_label=f"{metric.heading}{unit}"
    )


def _films(page: Report, pictures: Sequence[Picture]) -> None:
    if not pictures:
        return
    page.section(
        "Side by side",
        "The history plays first; then the forecasts and what was tracked go on from its last "
        "frame. Shown are the clips whose points move most; long ones are thinned.",
    )
    for picture in pictures:
        heading = DATASETS.get(picture.dataset, picture.dataset)
        page.media(picture.film.data, f"{heading}: `{picture.clip}`", least_width=620)


def _variants(page: Report, records: Sequence[Mapping[str, Any]]) -> None:
    """FVMD in every setting."""
    forecasts = [record for record in records if record["kind"] == FORECAST]
    if not forecasts:
        return
    page.section("FVMD in every setting")
    rows = []
    for record in forecasts:
        made = f"{record['frames']} frames" + (f", {record['solver']}" if record["solver"] else "")
        seed = "" if record["seed"] is None else f", seed {record['seed']}"
        label = f"{record['method']}, {DATASETS.get(record['dataset'], record['dataset'])}, {made}"
        values = [record["metrics"]["fvmd"][name]["fvmd"] for name in FVMD_VARIANTS]
        finite = [v if v is not None and math.isfinite(v) else None for v in values]
        rows.append([label + seed, record["clips"], *finite])
    names = [name.replace("_", " / ", 1).replace("_", ", ") for name in FVMD_VARIANTS]
    names[-1] = "whole, masked"
    page.table(
        "FVMD, combined",
        ["forecast", "clips", *({"name": name, "digits": 1} for name in names)],
        rows,
        "Frames of a window / stride. The paper's is 16 / 1, masked by the truth's visibility; "
        "16 / 15 unmasked is the default of the released script, 24 / 1 its README's.",
    )
