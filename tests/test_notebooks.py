"""Every notebook runs from its first cell to its last."""

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


# The longest ones; what they call is tested elsewhere, too.
LONG = ("flextraj", "tavid", "tgt", "trajloom")


def _cases() -> list:
    slow = pytest.mark.slow
    return [pytest.param(p, marks=slow if p.stem in LONG else (), id=p.stem) for p in NOTEBOOKS]


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


def test_notebooks_are_committed_without_outputs():
    for path in NOTEBOOKS:
        for cell in nbformat.read(path, as_version=4).cells:
            assert cell.cell_type != "code" or not cell.outputs, f"{path}: clear its outputs"
