"""Imports run one way. Parsed, not imported, so that lazy imports inside functions count too."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[1]
PACKAGE = CHECKOUT / "tavid_jax"

# Room -> prefixes (below tavid_jax) that it may import, besides itself. None: anything.
ARROWS: dict[str, tuple[str, ...] | None] = {
    "__init__": ("api",),
    "__main__": None,
    "bridge": None,
    "command_line": (),
    "main": None,
    "pack": None,
    "places": (),
    "reproduce": None,
    "run": None,
    "api": None,
    # Reading of files from elsewhere: below every room that reads.
    "untrusted": (),
    "engine": ("parallel", "places"),
    "methods": (
        "data.clip",
        "data.forecast_files",
        "data.latent_statistics",
        "data.official",
        "data.segments",
        "data.synthetic.judging",
        "data.synthetic.located_judging",
        "diffusion",
        "engine.method",
        "metrics",
        "models",
        "parallel",
        "pipelines",
        "places",
        "tracks",
        "untrusted",
        "viz",
    ),
    "pipelines": (
        "data.arrays",
        "data.carry",
        "data.clip",
        "data.drags",
        "data.files",
        "data.flexbench",
        "data.folder",
        "data.grounding.grounded",
        "data.latent_statistics",
        "data.masks",
        "data.movebench",
        "data.plan",
        "data.point_lists",
        "data.records",
        "data.rle_masks",
        "data.segments",
        "data.shards",
        "data.tracked",
        "data.trajectory_files",
        "data.video",
        "diffusion",
        "engine.checkpoint",
        "engine.interrupt",
        "engine.log",
        "engine.method",
        "engine.preemption",
        "engine.telemetry",
        "models",
        "parallel",
        "places",
        "tracks",
        "untrusted",
        "viz",
        "weights",
    ),
    "scoring": (
        "data",
        "engine.report",
        "metrics",
        "models",
        "tracks",
        "untrusted",
        "viz",
        "weights",
    ),
    # A program on top of the methods, as `main` is.
    "trajloombench": (
        "api",
        "data",
        "engine.log",
        "engine.report",
        "engine.telemetry",
        "methods",
        "metrics",
        "pipelines",
        "tracks",
        "untrusted",
        "viz",
        "weights.trajloom_release",
    ),
    "models": ("parallel.memory", "parallel.sharding", "untrusted"),
    "weights": ("models", "places", "untrusted"),
    "data": (
        "metrics.location_variance",
        "metrics.result",
        "parallel.processes",
        "places",
        "tracks",
        "untrusted",
        "viz",
    ),
    "metrics": ("tracks",),
    "viz": ("tracks",),
    "tracks": (),
    "diffusion": (),
    "parallel": (),
}

# Other frameworks. `torch` is allowed inside functions of weights/ (a reader of .pt files).
FOREIGN = {"diffusers", "tensorflow", "torch", "transformers"}
# Slow to import, and of no use to a run before its first step.
LATER = {"jax.experimental.pallas", "matplotlib", "tensorboardX", "tensorflow_datasets"}


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def module_name(path: Path, root: Path) -> str:
    """Dotted name of a file below root's parent, e.g. tavid_jax.metrics.fvmd."""
    parts = path.relative_to(root.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path: Path, root: Path = PACKAGE) -> list[tuple[str, int, bool]]:
    """(absolute dotted name, line, inside a function?) of everything that a file imports."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    lazy = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for node in ast.walk(function)
    }
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = resolve(node, path, root)
            names = [f"{base}.{alias.name}" for alias in node.names]
        else:
            continue
        found += [(name, node.lineno, id(node) in lazy) for name in names]
    return found


def resolve(node: ast.ImportFrom, path: Path, root: Path) -> str:
    """Absolute name of the module in `from X import ...`, also for relative imports."""
    if not node.level:
        return node.module or ""
    package = module_name(path, root).split(".")
    if path.name != "__init__.py":
        package = package[:-1]
    package = package[: len(package) - (node.level - 1)]
    return ".".join(package + ([node.module] if node.module else []))


def room(path: Path) -> str:
    parts = path.relative_to(PACKAGE).parts
    return parts[0].removesuffix(".py")


def allowed(own: str, target: str) -> bool:
    """Whether a file of room `own` may import `target` (dotted, without the package's name)."""
    rooms = ARROWS[own]
    if rooms is None or target.split(".")[0] in (own, "__version__"):
        return True
    return any(target == r or target.startswith(r + ".") for r in rooms)


def breaches(path: Path) -> list[str]:
    own, found = room(path), []
    for name, line, _ in imported(path):
        package, _, target = name.partition(".")
        if package == "tavid_jax" and target and not allowed(own, target):
            found.append(f"{path.relative_to(CHECKOUT)}:{line} {own} must not import {name}")
    return found


def foreign(path: Path) -> list[str]:
    in_weights = PACKAGE / "weights" in path.parents
    found = []
    for name, line, lazy in imported(path):
        top = name.split(".")[0]
        if top in FOREIGN and not (top == "torch" and in_weights and lazy):
            found.append(f"{path.relative_to(CHECKOUT)}:{line} imports {name}")
    return found


def test_every_room_has_its_arrows():
    assert {room(path) for path in modules()} <= set(ARROWS)


def test_imports_follow_the_arrows():
    found = [line for path in modules() for line in breaches(path)]
    assert not found, "\n".join(found)


def test_library_is_free_of_other_frameworks():
    scripts = [p for d in ("configs", "launch", "benchmarks") for p in (CHECKOUT / d).rglob("*.py")]
    # A comparison runs the other side.
    scripts = [p for p in scripts if "_vs_" not in p.stem]
    found = [line for path in [*modules(), *scripts] for line in foreign(path)]
    assert not found, "\n".join(found)


def test_importing_everything_loads_no_other_framework():
    """What the parse cannot see: a framework pulled in by one of our dependencies."""
    names = [module_name(p, PACKAGE) for p in modules() if p.stem != "__main__"]
    assert_not_loaded(FOREIGN, names)


def test_a_start_waits_for_no_slow_import():
    systems = [module_name(p, PACKAGE) for p in modules() if p.stem == "system"]
    assert_not_loaded(FOREIGN | LATER, ["tavid_jax.main", *systems])


def assert_not_loaded(unwanted: set[str], names: list[str]):
    program = f"""
import importlib, sys
for name in {names!r}:
    importlib.import_module(name)
loaded = sorted(set(sys.modules) & {unwanted!r})
sys.exit(f"loaded: {{loaded}}" if loaded else 0)
"""
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=CHECKOUT, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr[-2000:]


@pytest.mark.parametrize(
    ("own", "target", "expected"),
    [
        ("engine", "parallel.mesh", True),
        ("engine", "methods.trajloom", False),
        ("engine", "models.latte", False),
        ("methods", "engine.method.Method", True),
        ("methods", "engine.train", False),
        ("models", "parallel.sharding.constrain", True),
        ("models", "parallel.mesh", False),
        ("metrics", "tracks.grid", True),
        ("tracks", "metrics", False),
        ("tracks", "tracks.grid", True),
        ("main", "methods.trajloom", True),
    ],
)
def test_arrow_table(own: str, target: str, expected: bool):
    assert allowed(own, target) is expected


def test_parser_sees_lazy_and_relative_imports(tmp_path: Path):
    root = tmp_path / "tavid_jax"
    (root / "tracks").mkdir(parents=True)
    file = root / "tracks" / "grid.py"
    file.write_text(
        "from ..metrics import fvmd\nfrom . import raster\ndef f():\n    import torch\n"
    )
    assert imported(file, root) == [
        ("tavid_jax.metrics.fvmd", 1, False),
        ("tavid_jax.tracks.raster", 2, False),
        ("torch", 4, True),
    ]
