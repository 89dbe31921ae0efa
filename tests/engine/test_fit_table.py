"""The table of presets and chips: layouts, the search for one that fits, what is kept and shown."""

import dataclasses
from pathlib import Path

import pytest

from tavid_jax.engine import fit_table
from tavid_jax.engine.fit_table import Kept, Reports, Row, from_json, markdown, search, to_json
from tavid_jax.engine.layouts import LADDERS, chips_in, layouts
from tavid_jax.parallel.ahead import GIB, Report
from tests.engine import toy

LIMIT = 16 * GIB


def config(batch: int = 8, context: int = 1, stages: int = 1):
    made = toy.toy_config(batch_size=batch, micro_batches=1)
    made.mesh = dict(replica=1, fsdp=-1, context=context, tensor=1)
    made.preset = "paper"
    if stages == 2:
        made.stages.more = made.stages.fit
        made.order = ("stats", "fit", "more")
    return made


def test_ladders_rise():
    for chip, ladder in LADDERS.items():
        counts = [chips_in(topology) for topology in ladder]
        assert counts == sorted(set(counts)) and all(t.startswith(chip) for t in ladder)


def test_layouts_split_the_batch_first_and_examples_only_then():
    assert [(t, m["fsdp"], m["context"]) for t, m in layouts("v5e", config(16))] == [
        ("v5e:2x4", 8, 1), ("v5e:4x4", 16, 1), ("v5e:8x8", 16, 4),
    ]  # fmt: skip
    # As many chips to an example as the config says, at least.
    assert next(layouts("v5e", config(16, context=8)))[1] == dict(
        replica=1, fsdp=1, context=8, tensor=1
    )


@dataclasses.dataclass
class Answer:
    report: Report
    count: object = dataclasses.field(default_factory=lambda: type("Count", (), {"flops": 10**15}))


def answers(monkeypatch: pytest.MonkeyPatch, peaks: dict, guess=0.5, held=1.0) -> list:
    """`fit` with made-up peaks: (topology, stage) -> GiB; the compiler's calls are listed."""
    asked = []

    def fit(config, system, topology, *, stage, estimated=False, reports=None):
        peak = int((guess * 16 if estimated else peaks[topology, stage]) * GIB)
        if not estimated:
            asked.append((topology, stage))
        report = Report(8, int(held * GIB), 0, peak, peak, LIMIT, peak <= LIMIT, {}, 1.0)
        return Answer(report)

    monkeypatch.setattr(fit_table, "fit", fit)
    return asked


def test_the_smallest_layout_that_holds_all_stages(monkeypatch, tmp_path):
    peaks = {("v5e:2x4", "fit"): 20, ("v5e:4x4", "fit"): 9, ("v5e:4x4", "more"): 12}
    asked = answers(monkeypatch, peaks)
    rows = search(config(16, stages=2), toy.ToySystem(), "toy", "v5e", Kept(tmp_path / "kept"))
    # Behind a stage that does not fit no other is compiled there.
    assert asked == [("v5e:2x4", "fit"), ("v5e:4x4", "fit"), ("v5e:4x4", "more")]
    assert [(r.stage, r.topology, r.fits, r.peak_bytes // GIB) for r in rows] == [
        ("fit", "v5e:4x4", True, 9), ("more", "v5e:4x4", True, 12),
    ]  # fmt: skip


def test_what_does_not_fit_says_what_is_missing(monkeypatch, tmp_path):
    peaks = {(topology, "fit"): 17 for topology in LADDERS["v5e"]}
    asked = answers(monkeypatch, peaks)
    (row,) = search(config(16), toy.ToySystem(), "toy", "v5e", Kept(tmp_path / "kept"))
    assert len(asked) == 3 and not row.fits
    assert "does not fit: 17.00, 1.00 GiB are missing" in markdown([row])


@pytest.mark.parametrize(
    ("guess", "held", "why"),
    [(2.0, 1, "about 32.00 GiB by the estimate"), (2.0, 20, "batch alone are 20.00 GiB")],
)
def test_hopeless_layouts_are_not_compiled(monkeypatch, tmp_path, guess, held, why):
    asked = answers(monkeypatch, {}, guess, held)
    (row,) = search(config(16), toy.ToySystem(), "toy", "v5e", Kept(tmp_path / "kept"))
    assert not asked and why in row.note and f"does not fit: {row.note}" in markdown([row])


def test_answers_survive_the_program(tmp_path: Path):
    report = Report(8, 1, 2, 3, 6, 7, True, {"all-gather": 4}, 1.5)
    Reports(Kept(tmp_path / "a" / "kept"))["key"] = report
    again = Reports(Kept(tmp_path / "a" / "kept"))
    assert again["key"] == report and "other" not in again and len(again) == 1
    (tmp_path / "a" / "kept").write_text('{"key": ')
    assert len(Kept(tmp_path / "a" / "kept")) == 0


def test_rows_survive_json():
    rows = [Row("toy", "paper", "fit", "v5e", "v5e:2x4", {"fsdp": 8}, 1, 2, 3, 4, True, 5, 6)]
    assert from_json(to_json(rows)) == rows
    (line,) = markdown(rows).splitlines()[2:]
    assert line == "| toy:paper | fit | v5e:2x4 (8) | fsdp=8 | 0.00 + 0.00 = 0.00 | 0.00 | 5e-15 |"
