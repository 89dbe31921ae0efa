"""Tables: columns that know unit and direction, cells with intervals, winners in bold."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from tavid_jax.engine import report_markup as markup

_BETTER = {"lower": "↓", "higher": "↑", "target": "→", None: ""}


@dataclasses.dataclass(frozen=True)
class Column:
    """One column of numbers.

    unit: written under the name. digits: decimals; None keeps three significant ones.
    better: "lower", "higher" or "target" (closest to `target` wins); None marks no winner.
    """

    name: str
    unit: str = ""
    better: str | None = None
    target: float | None = None
    digits: int | None = None

    def __post_init__(self):
        if self.better not in _BETTER:
            raise ValueError(f"column {self.name!r}: better must be one of {list(_BETTER)}")
        if (self.better == "target") != (self.target is not None):
            raise ValueError(f"column {self.name!r}: better='target' and target go together")

    def badness(self, cell: Any) -> float:
        """What the winner has least of; NaN where the cell cannot win."""
        value = cell[0] if markup.is_interval(cell) else cell
        if self.better is None or not markup.is_number(value):
            return math.nan
        value = float(value)
        if self.better == "target":
            return abs(value - float(self.target))
        return value if self.better == "lower" else -value


def table_html(
    name: str,
    columns: Sequence[str | Mapping[str, Any] | Column],
    rows: Sequence[Sequence[Any]],
    note: str,
    highlight: str | Sequence[str],
    reference: str | Sequence[str],
) -> str:
    """See `Report.table`."""
    columns = [as_column(column) for column in columns]
    for row in rows:
        if len(row) != len(columns):
            raise ValueError(
                f"table {name!r}: row {row[:1]} has {len(row)} cells for {len(columns)} columns"
            )
    ours, aside = _labels(highlight), _labels(reference)
    best = _winners(columns, rows, aside)
    words = {j for j in range(1, len(columns)) if rows and all(_is_words(row[j]) for row in rows)}
    lines = []
    for i, (label, *cells) in enumerate(rows):
        kind = "ours" if str(label) in ours else "reference" if str(label) in aside else ""
        shown = [
            _cell(cell, column.digits, (i, j) in best, j in words)
            for j, (column, cell) in enumerate(zip(columns[1:], cells, strict=True), start=1)
        ]
        head = f'<th scope="row">{markup.inline(str(label))}</th>'
        lines.append(f'<tr class="{kind}">{head}{"".join(shown)}</tr>')
    head = "".join(_heading(column, j in words) for j, column in enumerate(columns))
    foot = f'<div class="note">{markup.inline(note)}</div>' if note else ""
    return (
        f'<figure class="card"><div class="scroll"><table><caption>{markup.escape(name)}'
        f"</caption><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
        f"{foot}</figure>"
    )


def as_column(column: str | Mapping[str, Any] | Column) -> Column:
    if isinstance(column, str):
        return Column(column)
    return column if isinstance(column, Column) else Column(**column)


def _labels(names: str | Sequence[str]) -> set[str]:
    return {names} if isinstance(names, str) else set(names)


def _winners(
    columns: Sequence[Column], rows: Sequence[Sequence[Any]], aside: set[str]
) -> set[tuple[int, int]]:
    """(row, column) of the best cells; ties share."""
    best = set()
    for j, column in enumerate(columns):
        scores = {
            i: column.badness(row[j]) for i, row in enumerate(rows) if str(row[0]) not in aside
        }
        finite = {i: score for i, score in scores.items() if math.isfinite(score)}
        if len(finite) > 1:
            least = min(finite.values())
            best |= {(i, j) for i, score in finite.items() if score == least}
    return best


def _is_words(cell: Any) -> bool:
    return cell is not None and not markup.is_number(cell) and not markup.is_interval(cell)


def _heading(column: Column, words: bool) -> str:
    hint = {"lower": "lower is better", "higher": "higher is better"}.get(column.better, "")
    if column.better == "target":
        hint = f"best near {markup.number(column.target, column.digits)}"
    arrow = f" {_BETTER[column.better]}" if column.better else ""
    unit = f'<br><span class="unit">{markup.escape(column.unit)}</span>' if column.unit else ""
    title = f' title="{markup.escape(hint)}"' if hint else ""
    kind = ' class="words"' if words else ""
    return f'<th scope="col"{kind}{title}>{markup.escape(column.name)}{arrow}{unit}</th>'


def _cell(cell: Any, digits: int | None, best: bool, words: bool) -> str:
    kind = ' class="best"' if best else ""
    if cell is None:
        return "<td>–</td>"
    if markup.is_interval(cell):
        value, _, ends = markup.interval(cell, digits).partition(" ")
        ends = f'<span class="ends">{markup.escape(ends)}</span>' if ends else ""
        return f"<td{kind}>{markup.escape(value)}{' ' if ends else ''}{ends}</td>"
    if markup.is_number(cell):
        return f"<td{kind}>{markup.escape(markup.number(cell, digits))}</td>"
    # A word in a column of numbers ("failed") stands where the numbers stand.
    kind = ' class="words"' if words else ""
    return f"<td{kind}>{markup.inline(str(cell))}</td>"
