"""No file of the package unpickles, evaluates or unpacks what a file says."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "tavid_jax"
# Where Python's unpickler is used: by a subclass that gives out stand-ins alone.
RESTRICTED = "data/arrays.py"
FORBIDDEN = {
    "pickle": {"load", "loads"},
    "marshal": None,
    "shelve": None,
    "dill": None,
    "joblib": None,
    "cloudpickle": None,
    "yaml": None,
    "tarfile": None,
    "xml": None,
}


def breaches(path: Path) -> list[str]:
    tree, name = ast.parse(path.read_text(encoding="utf-8")), path.relative_to(PACKAGE).as_posix()
    found = []
    for node in ast.walk(tree):
        where = f"{name}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = [alias.name for alias in node.names]
            modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else modules
            never = [m for m in modules if FORBIDDEN.get(m.split(".")[0], ()) is None]
            found += [f"{where} imports {module}" for module in never]
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            pair = node.value.id, node.attr
            if node.attr in (FORBIDDEN.get(node.value.id) or ()):
                found.append(f"{where} {'.'.join(pair)}")
            if pair == ("pickle", "Unpickler") and name != RESTRICTED:
                found.append(f"{where} {'.'.join(pair)}")
        if isinstance(node, ast.Attribute) and node.attr in ("extractall", "extract"):
            found.append(f"{where} {node.attr}")
        if isinstance(node, ast.Call):
            found += [f"{where} {told}" for told in _calls(node)]
    return found


def _calls(node: ast.Call) -> list[str]:
    words = {keyword.arg: getattr(keyword.value, "value", None) for keyword in node.keywords}
    name = ast.unparse(node.func)
    if name in ("eval", "exec"):
        return [name]
    if name in ("np.load", "numpy.load"):
        return ["np.load: use untrusted.npy"]
    if name == "torch.load" and words.get("weights_only") is not True:
        return ["torch.load without weights_only=True"]
    return ["allow_pickle=True"] if words.get("allow_pickle") is True else []


def test_nothing_that_a_file_says_is_run():
    found = [told for path in sorted(PACKAGE.rglob("*.py")) for told in breaches(path)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "line",
    [
        "import pickle\npickle.load(f)",
        "import pickle\npickle.Unpickler(f)",
        "import tarfile",
        "from yaml import load",
        "np.load(p)",
        "torch.load(p)",
        "torch.load(p, weights_only=False)",
        "eval(text)",
        "archive.extractall()",
    ],
)
def test_scan_finds(line, tmp_path, monkeypatch):
    monkeypatch.setattr(f"{__name__}.PACKAGE", tmp_path)
    (tmp_path / "x.py").write_text(line)
    assert breaches(tmp_path / "x.py")
