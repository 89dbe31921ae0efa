"""launch/until_done.sh starts a command again exactly when it asks for it."""

import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "launch" / "until_done.sh"


def launch(command: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        ["bash", str(SCRIPT), "bash", "-c", command], capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize("stop", ["exit 75", "kill -TERM $$"])
def test_runs_again_after_a_stop_that_was_saved(tmp_path, stop):
    count = tmp_path / "count"
    done = launch(f"echo x >> {count}; [ $(wc -l < {count}) -ge 3 ] || {stop}")
    assert done.returncode == 0
    assert count.read_text().count("x") == 3
    assert done.stderr.count("starting again") == 2


@pytest.mark.parametrize("code", [0, 1, 130])
def test_other_exit_codes_are_passed_on(code):
    assert launch(f"exit {code}").returncode == code


def test_without_a_command_it_says_how_to_use_it():
    done = subprocess.run(["bash", str(SCRIPT)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and "bash launch/until_done.sh python -m" in done.stderr
