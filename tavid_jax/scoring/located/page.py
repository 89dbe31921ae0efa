"""The report as a page: the table, differences in words, films of cases."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from tavid_jax.engine.report import Report
from tavid_jax.metrics.comparison import rows
from tavid_jax.scoring.located import report
from tavid_jax.scoring.located.films import film
from tavid_jax.scoring.located.judge import CaseScores, LocatedScores
from tavid_jax.scoring.located.report import DETECT, EPE, HIGHER, SWAPPED, TRACK
from tavid_jax.viz import media

_FPS = 12


def write_page(
    path: str | os.PathLike,
    scores: LocatedScores,
    *,
    published: str | None = "methods",
    films: int = 6,
) -> None:
    """Writes the page, whole or not at all.

    Args:
      path: of the page, *.html.
      scores: what was judged.
      published: see `report.table`.
      films: how many cases are shown; their videos are read again.
    """
    build(scores, published=published, films=films).write(path)


def build(scores: LocatedScores, *, published: str | None, films: int) -> Report:
    """See `write_page`."""
    found = report.measured(scores)
    methods = list(found)
    page = Report("Text-grounded trajectories", ", ".join(methods))
    page.key_numbers(_cards(found))
    cells = report.table(found, published)
    heads, lines = rows(cells)
    page.table(
        "Methods",
        [_column(head) for head in heads],
        lines,
        note=_note(scores, published),
        highlight=methods,
        reference=[name for name in cells if name not in found],
    )
    _differences(page, found)
    _films(page, scores, films)
    _clips(page, scores, found)
    needs = [f"- **{name}** needs {need}" for name, need in report.left_out(scores).items()]
    said = needs + [f"- {note}" for note in report.notes(scores)]
    said += [f"- skipped `{path}`: {reason}" for path, reason in scores.skipped]
    if said:
        page.section("Left out, and notes", "\n".join(said))
    return page.provenance(scores.judges.describe())


def _cards(found: report.Records) -> list[dict[str, Any]]:
    """The EPE of each method, by words where they were looked for."""
    cards = []
    for method, columns in list(found.items())[:6]:
        name = DETECT if DETECT in columns[EPE] else TRACK
        record = columns[EPE][name]
        interval = report.table({method: columns}, None)[method][EPE][name]
        card = {"label": f"{method}: {EPE} {name}", "value": record["epe"], "unit": "px"}
        if np.isfinite(interval.low):
            card["interval"] = (interval.low, interval.high)
        cards.append(card)
    return cards


def _column(head: str) -> dict[str, Any]:
    better = "higher" if head.startswith(HIGHER) else "lower"
    digits = 4 if head.startswith(HIGHER) else 2 if head.startswith(EPE) else 3
    if head == "method":
        return {"name": head}
    return {"name": head, "better": better, "digits": digits}


def _note(scores: LocatedScores, published: str | None) -> str:
    note = (
        "95 % intervals over clips, of micro averages. EPE in px of 832x480: **detect** of the "
        "entity that the words name, **track** of whatever is where the trajectory starts. "
        "Swapped: share of the entities that follow another one's trajectory. Missing: share that "
        "was not found; in EPE they count by the rule `" + scores.judges.missing + "`."
    )
    if published:
        note += (
            f" Rows “{report.PUBLISHED}” are those of {report.SOURCE}, on DAVIS, whose CLIP and "
            "EPE are not told in full: they do not compete."
        )
    return note


def _differences(page: Report, found: report.Records) -> None:
    first = next(iter(found))
    for method, columns in report.differences(found).items():
        for column, measures in columns.items():
            for name, difference in measures.items():
                if difference.n > 1:
                    page.verdict(
                        method,
                        first,
                        difference[:3],
                        unit="px" if column == EPE else "",
                        better="higher" if column in HIGHER else "lower",
                        digits=2 if column == EPE else 4,
                        note=f"{column}, {name}, paired over {difference.n} clips",
                    )


def _films(page: Report, scores: LocatedScores, films: int) -> None:
    names = report.clip_names(scores)[:films]
    if not names:
        return
    words = "a ring where the point went that was followed from there"
    if scores.judges.detector is not None:
        words = f"a ring where the entity was found by {scores.judges.detector.name}"
    page.section("Trajectories over results", f"A line is where an entity should go, {words}.")
    for name in names:
        own: Sequence[CaseScores] = [one for one in scores.cases if one.case.name == name]
        clip = media.encode_animation(film(own), _FPS, max_bytes=600_000)
        page.media(clip.data, f"`{name}`", least_width=min(1100, 300 * len(own)))


def _clips(page: Report, scores: LocatedScores, found: report.Records) -> None:
    """A row for each clip: EPE and swaps of each method."""
    heads, columns = ["clip"], []
    for method, records in found.items():
        name = DETECT if DETECT in records[EPE] else TRACK
        heads.append(f"{method} {EPE} {name}")
        columns.append(records[EPE][name]["per_clip"])
        if report.ENTITIES in records:
            heads.append(f"{method} {SWAPPED}")
            columns.append(records[report.ENTITIES][SWAPPED]["per_clip"])
    lines = [
        [name, *(None if np.isnan(value) else value for value in values)]
        for name, *values in zip(report.clip_names(scores), *columns, strict=True)
    ]
    page.section("Clip by clip").table("Clips", heads, lines[:200])
