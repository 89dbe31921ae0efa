"""The table of what fits where: recorded for all presets and chips, shown as it was recorded."""

import importlib
from pathlib import Path

import pytest

from launch.fit_table import RECORD, cases, published, write_between
from tavid_jax.engine.fit_table import BEGIN, END, HEAD, from_json, markdown
from tavid_jax.engine.layouts import LADDERS

CHECKOUT = Path(__file__).resolve().parents[1]


def table_of(document: str) -> list[list[str]]:
    """Cells of the lines between the marks."""
    inside = document.partition(BEGIN)[2].partition(END)[0]
    return [[c.strip() for c in line.strip("|").split("|")] for line in inside.split("\n") if line]


def test_published_presets_are_found():
    found = published()
    systems = {"finetune", "flextraj", "tavid", "tgt", "trajloom", "wan_move", "whn"}
    assert {name for name, _ in found} == systems
    assert ("trajloom", "paper") in found and ("tgt", "paper_v5e") in found
    assert ("finetune", "cogvideox_5b_full") in found and ("trajloom", "demo") not in found


def test_cases():
    chips = {chip for name, preset, chip in cases(list(LADDERS), []) if preset == "paper_v5e"}
    assert chips == {"v5e"}
    assert cases(["v6e"], ["whn"]) == [("whn", "paper", "v6e")]
    with pytest.raises(ValueError, match="no preset at a published size has nothing in its name"):
        cases(["v6e"], ["nothing"])


def test_what_is_recorded_is_of_presets_that_are_there():
    """In the order of the cases; that none is missing is a slow test's, which compiles them."""
    rows = from_json(RECORD.read_text())
    order = []
    for name, preset, chip in cases(list(LADDERS), []):
        config = importlib.import_module(f"configs.{name}").get_config(preset)
        stages = [stage for stage in config.order if config.stages[stage].kind == "train"]
        order += [(name, preset, chip, stage) for stage in stages]
    found = [(r.config, r.preset, r.chip, r.stage) for r in rows]
    assert found and found == [case for case in order if case in set(found)]
    for row in rows:
        assert row.fits == (0 < row.peak_bytes <= row.limit_bytes)
        assert row.peak_bytes == row.held_bytes + row.needed_bytes or row.note


def test_the_readme_shows_what_was_recorded():
    shown = table_of((CHECKOUT / "README.md").read_text())
    assert shown[0] == list(HEAD)
    rows = from_json(RECORD.read_text())
    assert shown == table_of(f"{BEGIN}\n{markdown(rows)}\n{END}")


def test_a_table_is_written_between_its_marks(tmp_path: Path):
    file = tmp_path / "a.md"
    file.write_text(f"before\n{BEGIN}\nold\n{END}\nbehind\n")
    write_between(file, "new")
    assert file.read_text() == f"before\n{BEGIN}\nnew\n{END}\nbehind\n"
    file.write_text("nothing")
    with pytest.raises(ValueError, match="a.md has no <!-- fit table: begin -->"):
        write_between(file, "new")
