"""Tables of methods: a row a method, a column a setting, several measures with intervals in each.

In the form in which FlexTraj's paper reports: settings are dense, spatially sparse, temporally
sparse and unaligned; measures FVD / Consistency / TrajErr or TrajSIM.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from tavid_jax.metrics.bootstrap import Interval, mean_interval

# One value per clip, or one number that belongs to the set (FVD).
Values = Float[np.ndarray, " _"] | float | int
Cells = dict[str, dict[str, dict[str, Interval]]]  # method -> setting -> measure
Cell = str | float | int | tuple[float, float, float] | None


def compare(
    values: Mapping[str, Mapping[str, Mapping[str, Values]]],
    *,
    level: float = 0.95,
    num_resamples: int = 10_000,
    seed: int = 0,
) -> Cells:
    """Means over clips with bootstrap intervals.

    Args:
      values: method -> setting -> measure -> one value per clip (those that are not finite are left
        out), or one number, which gets no interval.
      level, num_resamples, seed: of the intervals, see `bootstrap.mean_interval`.

    Returns:
      The same nesting, in the same order, with an `Interval` for each entry: low and high are NaN
      of a number and of fewer than two clips, `n` is 0 of a number.
    """

    def summed_up(entry: Values) -> Interval:
        if isinstance(entry, np.ndarray):
            return mean_interval(entry, level=level, num_resamples=num_resamples, seed=seed)
        return Interval(float(entry), math.nan, math.nan, 0)

    return {
        method: {
            setting: {measure: summed_up(entry) for measure, entry in measures.items()}
            for setting, measures in settings.items()
        }
        for method, settings in values.items()
    }


def rows(cells: Cells, label: str = "method") -> tuple[list[str], list[list[Cell]]]:
    """The table with a column for each setting and measure, as `engine.report.Report.table` reads.

    Returns:
      Headings ("method", "dense FVD", ...), and rows whose cells are (mean, low, high), a number
      where there is no interval, or None where nothing was measured.
    """
    columns = _columns(cells)
    table: list[list[Cell]] = []
    for method, settings in cells.items():
        found = [settings.get(setting, {}).get(measure) for setting, measure in columns]
        table.append([method, *map(_plain, found)])
    return [label, *(f"{setting} {measure}" for setting, measure in columns)], table


def lines(
    cells: Cells, digits: Mapping[str, int], label: str = "method", *, intervals: bool = True
) -> list[str]:
    """The table as text, all measures of a setting in one cell: "532.4 / 0.979 / 0.017".

    Args:
      cells: see `compare`.
      digits: measure -> decimals; three where it is not named.
      label: over the methods.
      intervals: a second line below each method that has intervals with these.
    """
    settings = list(dict.fromkeys(s for row in cells.values() for s in row))
    measures = {s: [m for at, m in _columns(cells) if at == s] for s in settings}
    table = [[label, *(f"{s}: {' / '.join(measures[s])}" for s in settings)]]
    for method, row in cells.items():
        found = [[row.get(s, {}).get(m) for m in measures[s]] for s in settings]
        places = [[digits.get(m, 3) for m in measures[s]] for s in settings]
        pairs = [list(zip(a, b, strict=True)) for a, b in zip(found, places, strict=True)]
        table.append([method, *(" / ".join(_mean(*pair) for pair in cell) for cell in pairs)])
        if intervals and any(_bounds(*pair) != "-" for cell in pairs for pair in cell):
            table.append(["", *(" / ".join(_bounds(*pair) for pair in cell) for cell in pairs)])
    return _aligned(table)


def _columns(cells: Cells) -> list[tuple[str, str]]:
    """(setting, measure), each setting's together, in order of first appearance."""
    found: dict[str, dict[str, None]] = {}
    for settings in cells.values():
        for setting, measures in settings.items():
            found.setdefault(setting, {}).update(dict.fromkeys(measures))
    return [(setting, measure) for setting, measures in found.items() for measure in measures]


def _plain(interval: Interval | None) -> Cell:
    if interval is None or math.isnan(interval.mean):
        return None
    known = math.isfinite(interval.low) and math.isfinite(interval.high)
    return (interval.mean, interval.low, interval.high) if known else interval.mean


def _mean(interval: Interval | None, digits: int) -> str:
    known = interval is not None and math.isfinite(interval.mean)
    return f"{interval.mean:.{digits}f}" if known else "-"


def _bounds(interval: Interval | None, digits: int) -> str:
    known = interval is not None and math.isfinite(interval.low)
    return f"[{interval.low:.{digits}f}, {interval.high:.{digits}f}]" if known else "-"


def _aligned(table: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    padded = ([c.ljust(w) for c, w in zip(row, widths, strict=True)] for row in table)
    return ["  ".join(row).rstrip() for row in padded]
