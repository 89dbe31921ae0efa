"""Tables of methods: intervals, gaps, both forms."""

import math

import numpy as np
import pytest

from tavid_jax.metrics.bootstrap import mean_interval
from tavid_jax.metrics.comparison import compare, lines, rows

ERRORS = np.array([0.01, 0.02, 0.03, math.nan])
VALUES = {
    "ours": {
        "dense": {"FVD": 532.44, "TrajErr": ERRORS},
        "unaligned": {"TrajSIM": np.array([0.9])},
    },
    "zero motion": {"dense": {"TrajErr": ERRORS + 0.1, "FVD": math.nan}},
}


@pytest.fixture(scope="module")
def cells():
    return compare(VALUES, num_resamples=500)


def test_means_have_the_bootstraps_intervals(cells):
    assert cells["ours"]["dense"]["TrajErr"] == mean_interval(ERRORS, num_resamples=500)
    assert cells["ours"]["dense"]["TrajErr"].n == 3
    value = cells["ours"]["dense"]["FVD"]
    assert value.mean == 532.44 and math.isnan(value.low) and value.n == 0
    narrow = compare(VALUES, num_resamples=500, level=0.5)["ours"]["dense"]["TrajErr"]
    assert narrow.low > cells["ours"]["dense"]["TrajErr"].low


def test_rows_for_reports(cells):
    columns, table = rows(cells)
    assert columns == ["method", "dense FVD", "dense TrajErr", "unaligned TrajSIM"]
    assert table[0][:2] == ["ours", 532.44] and table[0][3] == 0.9
    assert table[0][2] == tuple(cells["ours"]["dense"]["TrajErr"])[:3]
    assert table[1][0] == "zero motion" and table[1][1] is None and table[1][3] is None


def test_lines_for_people(cells):
    text = lines(cells, {"FVD": 1}, intervals=False)
    assert text[0].split() == "method dense: FVD / TrajErr unaligned: TrajSIM".split()
    assert text[1].split() == "ours 532.4 / 0.020 0.900".split()
    assert text[2].split() == "zero motion - / 0.120 -".split()
    with_intervals = lines(cells, {"FVD": 1})
    low, high = cells["ours"]["dense"]["TrajErr"][1:3]
    assert with_intervals[2].split() == f"- / [{low:.3f}, {high:.3f}] -".split()


def test_a_report_shows_it(cells):
    from tavid_jax.engine.report_table import table_html

    html = table_html("t", *rows(cells), "", (), ())
    assert "532" in html and "zero motion" in html
