"""docs/add_a_method.md, run: its file, its commands and its numbers are what it says."""

import json
import logging
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from tavid_jax import run
from tavid_jax.engine.fit import fit
from tavid_jax.methods.registry import make_system

CHECKOUT = Path(__file__).resolve().parents[1]
GUIDE = CHECKOUT / "docs" / "add_a_method.md"
MOST_LINES = 100
# Of ADE in px: other processors round otherwise, and training carries that on.
TOLERANCE = 0.15


def blocks(kind: str) -> list[str]:
    """The code blocks of the guide that are announced so, in order."""
    text = GUIDE.read_text()
    found = re.findall(rf"^( *)```{re.escape(kind)}\n(.*?)^ *```$", text, re.M | re.S)
    return [re.sub(rf"^{indent}", "", code, flags=re.M) for indent, code in found]


SHELL = blocks("bash")
WRITE, LOOK, TRAIN, FIT = SHELL
PYTHON = blocks("python my_method.py")
NUMBERS = re.compile(r"(\w+) +(-?\d+\.\d+) px \[(-?\d+\.\d+), (-?\d+\.\d+)\]")


def shell(command: str, folder: Path) -> str:
    """What a command of the guide says; `folder` is a checkout, and the home."""
    environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    environment |= {
        "HOME": str(folder),  # where data and compiled programs are kept
        "JAX_PLATFORMS": "cpu",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(CHECKOUT),
    }
    done = subprocess.run(
        ["bash", "-euc", command], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the guide is followed: beside the library's folders, with the file that it writes."""
    place = tmp_path_factory.mktemp("guide")
    for name in ("docs", "launch"):
        (place / name).symlink_to(CHECKOUT / name)
    shell(WRITE, place)
    return place


@pytest.fixture(scope="module")
def looked(folder: Path) -> Path:
    """The workdir of the first look."""
    said = shell(LOOK, folder)
    assert [name for name, *_ in NUMBERS.findall(said)] == [
        name for name, *_ in NUMBERS.findall("".join(blocks("text")))
    ]
    return folder / "runs" / "first_look"


@pytest.fixture
def config(folder: Path, monkeypatch: pytest.MonkeyPatch):
    """Of the first look, in this process."""
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("HOME", str(folder))
    import my_method

    made = my_method.get_config()
    flags = [word.partition("=")[::2] for word in shlex.split(LOOK) if "--config." in word]
    made.update_from_flattened_dict({k.removeprefix("--config."): int(v) for k, v in flags})
    made.cpu_devices, made.compile_cache = jax.local_device_count(), ""
    yield made
    monkeypatch.delitem(sys.modules, "my_method")


def test_the_guide_has_at_most_a_hundred_lines_of_code(folder):
    code = "".join(PYTHON)
    assert (folder / "my_method.py").read_text() == code
    lines = [line for line in code.splitlines() if line.strip()]
    assert len(PYTHON) == 6 and 80 < len(lines) <= MOST_LINES
    assert len(blocks("python")) == 0  # none that is not counted


def test_the_file_is_as_tidy_as_the_library(tmp_path):
    """Its format is checked where it stands, by `ruff format`; this is `ruff check`."""
    (tmp_path / "my_method.py").write_text("\n\n".join(PYTHON))
    settings = f"--config={CHECKOUT / 'pyproject.toml'}"
    command = [sys.executable, "-m", "ruff", "check", settings, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_a_first_look_ends_in_a_report(looked):
    page = (looked / "report" / "index.html").read_text()
    metrics = json.loads((looked / "report" / "metrics.json").read_text())
    assert page.count("data:image/webp") == 3 and "<svg" in page
    assert metrics["provenance"]["config"] in page
    assert {"newton_flow", "constant_velocity"} < set(metrics["ade_px"])
    assert metrics["seconds"]["flow"] > 0


def test_the_same_command_goes_on(looked, config, caplog):
    before = json.loads((looked / "report" / "metrics.json").read_text())
    with caplog.at_level(logging.INFO, logger="absl"):
        page = run.run(config, looked, "train")
    assert page == looked / "report" / "index.html"
    assert "stage flow is finished: skipped" in caplog.text
    again = json.loads((looked / "report" / "metrics.json").read_text())
    assert again["ade_px"] == pytest.approx(before["ade_px"], rel=1e-4)


def test_it_is_known_whether_it_fits(config):
    answer = fit(config, make_system(config), "cpu:1")
    assert (answer.stage, answer.batch, answer.frozen) == ("flow", 16, 0)
    assert answer.trained > 100_000 and answer.report.fits


@pytest.mark.slow
def test_the_numbers_are_those_that_the_guide_shows(folder):
    """The whole training, and the launcher: minutes."""
    said, (shown,) = shell(TRAIN, folder), blocks("text")
    measured = {name: float(value) for name, value, *_ in NUMBERS.findall(said)}
    written = {name: float(value) for name, value, *_ in NUMBERS.findall(shown)}
    assert measured == pytest.approx(written, abs=TOLERANCE)
    (difference,) = (row for row in NUMBERS.findall(said) if row[0] == "difference")
    assert float(difference[3]) < 0  # better than constant velocity, beyond its interval
    assert "stage flow is finished: skipped" in shell(TRAIN, folder)
    assert "8 (cpu:8)" in shell(FIT, folder)
