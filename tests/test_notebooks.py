"""Every notebook runs from its first cell to its last."""

import ast
import importlib
import os
from pathlib import Path

import nbclient
import nbformat
import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
# Moving pictures that a notebook shows, and a shape that it prints.
SHOWN = {
    "trajloom": (2, "(4, 3, 64, 17, 2)"),
    "finetune": (3, "(9, 24, 24, 3)"),
    "tavid": (4, "(9, 24, 24, 3) (3, 24, 24)"),
    "flextraj": (6, "(9, 24, 24, 3) (144, 9, 2)"),
    "tgt": (5, "(2, 9, 2) (3, 6, 6)"),
}


def _cases() -> list:
    return [pytest.param(path, id=path.stem) for path in NOTEBOOKS]


@pytest.mark.slow  # minutes each; what they call is tested elsewhere, too
@pytest.mark.parametrize("path", _cases())
def test_notebook_runs(path, tmp_path, monkeypatch):
    monkeypatch.setenv("TAVID_NOTEBOOK_QUICK", "1")
    monkeypatch.setenv("TAVID_NOTEBOOK_WORKDIR", str(tmp_path / "run"))
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(path.parents[1])]))
    notebook = nbformat.read(path, as_version=4)
    client = nbclient.NotebookClient(
        notebook, timeout=600, resources={"metadata": {"path": str(path.parent)}}
    )
    client.execute()
    shown = [out for cell in notebook.cells if cell.cell_type == "code" for out in cell.outputs]
    pictures = [
        o
        for o in shown
        if "text/html" in o.get("data", {}) and "image/webp" in o["data"]["text/html"]
    ]
    count, shape = SHOWN[path.stem]
    assert len(pictures) == count
    assert any(shape in out.get("text", "") for out in shown)


@pytest.mark.parametrize("path", _cases())
def test_what_a_notebook_takes_from_us_is_there(path):
    """Seconds instead of minutes: every cell parses, and every name that it imports exists."""
    taken = 0
    for cell in nbformat.read(path, as_version=4).cells:
        code = "\n".join(ln for ln in cell.source.splitlines() if ln.lstrip()[:1] not in ("%", "!"))
        for node in ast.walk(ast.parse(code)) if cell.cell_type == "code" else ():
            if isinstance(node, ast.ImportFrom) and node.module.startswith(
                ("tavid_jax", "configs")
            ):
                module = importlib.import_module(node.module)
                for name in node.names:
                    if not hasattr(module, name.name):
                        importlib.import_module(f"{node.module}.{name.name}")
                    taken += 1
    assert taken


def test_notebooks_are_committed_without_outputs():
    for path in NOTEBOOKS:
        for cell in nbformat.read(path, as_version=4).cells:
            assert cell.cell_type != "code" or not cell.outputs, f"{path}: clear its outputs"
