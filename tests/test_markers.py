"""What tests/conftest.py and pyproject.toml promise about markers, warnings and fixtures."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest
from jax.errors import KeyReuseError

CHECKOUT = Path(__file__).resolve().parents[1]


def run_pytest(folder: Path, source: str, *arguments: str, **environment: str):
    """Runs a test file outside of the checkout under this suite's conftest and settings."""
    file = folder / "test_inner.py"
    file.write_text(source)
    drop = ("TAVID_TEST_MULTI", "PYTEST_XDIST_WORKER", "PYTEST_ADDOPTS", "TAVID_CLIPS")
    variables = {k: v for k, v in os.environ.items() if k not in drop} | environment
    settings = ["-c", str(CHECKOUT / "pyproject.toml"), "-p", "tests.conftest"]
    command = [sys.executable, "-m", "pytest", *settings, "-p", "no:cacheprovider", *arguments]
    return subprocess.run(
        [*command, str(file)], cwd=CHECKOUT, env=variables, capture_output=True, text=True
    )


PASSING = "def test_plain():\n    pass\n"
SKIPPING = "import pytest\n@pytest.mark.clips\ndef test_real():\n    pytest.skip('none here')\n"
CLIPS = "def test_real(clips_dir):\n    assert clips_dir.is_dir()\n"


@pytest.mark.parametrize(
    ("source", "marker"), [(PASSING, "clips"), (SKIPPING, "clips")], ids=["deselected", "skipped"]
)
def test_marker_that_runs_nothing_fails(tmp_path: Path, source: str, marker: str):
    result = run_pytest(tmp_path, source, "-m", marker)
    assert result.returncode == 1, result.stdout
    assert f"-m '{marker}' ran no test" in result.stdout


def test_marker_that_runs_something_passes(tmp_path: Path):
    folder = tmp_path / "real"
    folder.mkdir()
    result = run_pytest(tmp_path, CLIPS, "-m", "clips", TAVID_CLIPS=str(folder))
    assert result.returncode == 0, result.stdout
    assert "1 passed" in result.stdout


def test_named_but_missing_clips_fail(tmp_path: Path):
    result = run_pytest(tmp_path, CLIPS, TAVID_CLIPS=str(tmp_path / "nowhere"))
    assert result.returncode == 1
    assert "is not a folder" in result.stdout


def test_slow_is_left_out_unless_selected(tmp_path: Path):
    source = "import pytest\n@pytest.mark.slow\ndef test_long():\n    pass\n" + PASSING
    assert "1 passed, 1 deselected" in run_pytest(tmp_path, source).stdout
    assert "1 passed, 1 deselected" in run_pytest(tmp_path, source, "-m", "slow").stdout


def test_multi_runs_on_eight_devices(tmp_path: Path):
    source = (
        "import jax, pytest\n@pytest.mark.multi\ndef test_count():\n"
        "    assert jax.device_count() == 8\n"
    )
    result = run_pytest(tmp_path, source, "-m", "multi")
    assert result.returncode == 0, result.stdout


def test_warnings_of_the_library_are_errors(tmp_path: Path):
    source = (
        "import types, warnings\n"
        "def warn(name):\n"
        "    scope = {'__name__': name, 'warnings': warnings}\n"
        "    exec(\"warnings.warn('old', DeprecationWarning)\", scope)\n"
        "def test_ours():\n    warn('tavid_jax.metrics.fvmd')\n"
        "def test_theirs():\n    warn('elsewhere')\n"
    )
    result = run_pytest(tmp_path, source)
    assert "1 failed, 1 passed" in result.stdout, result.stdout


def test_key_reuse_is_found_on_request(key_reuse_checked):
    key = jax.random.key(0)
    jax.random.normal(key)
    with pytest.raises(KeyReuseError):
        jax.random.normal(key)
