"""Set-up shared by every test: runtime type checks, JAX on CPU, data fixtures, marker hygiene."""

import importlib.util
import os
import re
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

# Both are read when the libraries are imported, so they are set before anything else.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("MPLBACKEND", "Agg")
# Compiling takes most of the time of these small programs: optimise them less.
FAST_COMPILE = "--xla_backend_optimization_level=0"
if "xla_backend_optimization_level" not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {FAST_COMPILE}".strip()

from jaxtyping import install_import_hook  # noqa: E402

# Every annotation of the library is checked at run time. Must precede its first import.
install_import_hook("tavid_jax", "beartype.beartype")

import jax  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402
from absl import flags  # noqa: E402

from tests import buckets  # noqa: E402

CHECKOUT = Path(__file__).resolve().parents[1]
GOLDENS = CHECKOUT / "tests" / "goldens"
MULTI = CHECKOUT / "tests" / "multi"
NUM_MULTI_DEVICES = 8
DEFAULT_SELECTION = "not slow"  # of addopts in pyproject.toml


def _hear_interrupts() -> None:
    """A job in the background of a shell is born deaf to Ctrl-C, and so are its children."""
    deaf = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    if deaf and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_configure(config: pytest.Config) -> None:
    """Configures JAX and absl before any test module is imported."""
    jax.config.update("jax_default_matmul_precision", "highest")
    _hear_interrupts()
    if not flags.FLAGS.is_parsed():  # grain reads absl flags
        flags.FLAGS.mark_as_parsed()
    if _selects_multi(config):
        os.environ["TAVID_TEST_MULTI"] = "1"  # inherited by xdist workers
    if _is_multi():
        jax.config.update("jax_num_cpu_devices", NUM_MULTI_DEVICES)


def _selects_multi(config: pytest.Config) -> bool:
    """Whether the command line names tests/multi or selects the marker `multi`."""
    paths = [Path(arg.split("::")[0]).resolve() for arg in config.args]
    named = any(path == MULTI or MULTI in path.parents for path in paths)
    marked = re.search(r"(?<!not )\bmulti\b", config.getoption("markexpr") or "")
    return named or marked is not None


def _is_multi() -> bool:
    return os.environ.get("TAVID_TEST_MULTI") == "1"


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """One process has one device count: tests/multi is collected only in a process of its own."""
    inside = collection_path == MULTI or MULTI in collection_path.parents
    return True if inside and not _is_multi() else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked by where they are or what they ask for need no marker of their own."""
    for item in items:
        if MULTI in item.path.parents:
            item.add_marker(pytest.mark.multi)
        if "clips_dir" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.clips)


class _RanTests:
    """Fails a run whose `-m` selection ran nothing: an empty check must not look like a pass."""

    def __init__(self, config: pytest.Config):
        self.config = config
        self.ran = 0

    @property
    def selection(self) -> str:
        return self.config.getoption("markexpr") or ""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        # A skip inside a test also reports "call"; an error in set-up is a failure already.
        self.ran += report.when == "call" and report.outcome != "skipped"

    @property
    def empty(self) -> bool:
        chosen = self.selection not in ("", DEFAULT_SELECTION)
        listing = self.config.getoption("collectonly")
        worker = hasattr(self.config, "workerinput")
        return chosen and self.ran == 0 and not listing and not worker

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.empty and session.exitstatus in (
            pytest.ExitCode.OK,
            pytest.ExitCode.NO_TESTS_COLLECTED,
        ):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter) -> None:
        if self.empty:
            line = f"-m {self.selection!r} ran no test: nothing was checked, so this run fails."
            terminalreporter.write_line(line, red=True, bold=True)


@pytest.hookimpl(trylast=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    session.config.pluginmanager.register(_RanTests(session.config), "ran_tests")


@pytest.fixture(scope="session")
def goldens() -> Callable[[str], dict[str, np.ndarray]]:
    """Loader of stored reference arrays: `goldens("vepe")` reads tests/goldens/vepe.npz."""

    def load(name: str) -> dict[str, np.ndarray]:
        with np.load(GOLDENS / f"{name}.npz", allow_pickle=False) as file:
            return {key: file[key] for key in file.files}

    return load


@pytest.fixture(scope="session")
def clips_dir() -> Path:
    """Folder of real clips: $TAVID_CLIPS, or `shared/data/real` beside the checkout.

    Skips where neither is there; a TAVID_CLIPS that names no folder is an error.
    """
    named = os.environ.get("TAVID_CLIPS")
    folder = Path(named) if named else CHECKOUT.parent / "shared" / "data" / "real"
    if folder.is_dir():
        return folder
    if named:
        pytest.fail(f"TAVID_CLIPS={named} is not a folder; unset it or point it at real clips")
    pytest.skip("no folder of real clips; set TAVID_CLIPS=FOLDER to run this test")


@pytest.fixture(scope="session")
def _bucket_server() -> Iterator[buckets.Store]:
    if importlib.util.find_spec("gcsfs") is None:  # not imported yet
        pytest.skip("buckets need gcsfs: pip install 'tavid_jax[cloud]'")
    import fsspec

    with buckets.serve() as (store, variables), pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        patch.setitem(fsspec.config.conf, "gcs", {"token": "anon"})
        yield store


@pytest.fixture
def bucket(_bucket_server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> buckets.Store:
    """An empty `gs://bucket` on this machine; copies of what lies there go to a folder of the test.

    One server for all tests: the storage libraries remember its address.
    """
    _bucket_server.empty()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    return _bucket_server


@pytest.fixture
def key_reuse_checked():
    """Turns on JAX's detection of PRNG keys that are consumed twice, for one test.

    Not on everywhere: a test of determinism uses one key twice on purpose.
    """
    with jax.debug_key_reuse(True):
        yield


@pytest.fixture(scope="module", autouse=True)
def _programs_are_dropped():
    """Behind each file: thousands of compiled programs exhaust a process's memory maps."""
    yield
    jax.clear_caches()
