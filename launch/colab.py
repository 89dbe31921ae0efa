"""A notebook for Colab: code, rights, the run. Open it there (File, Upload notebook).

A session that ends loses its disk: with a --workdir in a bucket, or below /content/drive, the run
goes on when the notebook is run again.
"""

from __future__ import annotations

import argparse
import json
import shlex

from launch import arguments
from launch.plan import LaunchError, Plan

DRIVE = "/content/drive/"


def parser() -> argparse.ArgumentParser:
    made = arguments.parser("colab", __doc__)
    made.add_argument("--device", choices=("gpu", "tpu", "cpu"), default="gpu", help="default: gpu")
    arguments.add_source(made)
    return made


def plan(known: argparse.Namespace, run: list[str]) -> Plan:
    """See the module."""
    workdir = arguments.option(run, "workdir") or ""
    if not workdir.startswith(("gs://", DRIVE)):
        raise LaunchError(
            f"--workdir={workdir} would be lost with the session: give gs://BUCKET/NAME, or a "
            f"folder of your Drive, {DRIVE}MyDrive/NAME"
        )
    file = arguments.folder(known) / "colab.ipynb"
    notes = (f"open {file} at colab.research.google.com, choose a {known.device.upper()}, run all",)
    return Plan({file: _notebook(known, run, workdir)}, [], notes)


def _notebook(known: argparse.Namespace, run: list[str], workdir: str) -> str:
    extras = [*({"gpu": ["cuda12"], "tpu": ["tpu"]}.get(known.device, [])), "video"]
    if workdir.startswith("gs://"):
        extras.append("cloud")
        rights = "from google.colab import auth\n\nauth.authenticate_user()"
    else:
        rights = "from google.colab import drive\n\ndrive.mount('/content/drive')"
    package = f"[{','.join(extras)}]"
    package = f"tavid_jax{package} @ {known.wheel}" if known.wheel else f".{package}"
    clone = ["git", "clone", "--depth=1", f"--branch={known.branch}", known.repository, "tavid_jax"]
    install = ["pip", "install", "--quiet", *([] if known.wheel else ["-e"]), package]
    # A list, and no line of shell: nothing in it has to be quoted for the notebook.
    command = ["bash", "launch/until_done.sh", *arguments.command(run)]
    variables = arguments.variables(known)
    cells = [
        ("markdown", f"# {known.name}\n\n`{shlex.join(arguments.command(run))}`"),
        (
            "code",
            "import os\nimport subprocess\n\n"
            f"if not os.path.isdir('/content/tavid_jax'):\n    subprocess.run({clone!r}, "
            f"cwd='/content', check=True)\nos.chdir('/content/tavid_jax')\n"
            f"subprocess.run({install!r}, check=True)",
        ),
        ("code", rights),
        (
            "code",
            "import os\nimport subprocess\n\n"
            f"command = {command!r}\nenvironment = os.environ | {variables!r}\n"
            "with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, "
            "stderr=subprocess.STDOUT, text=True) as run:\n"
            "    for line in run.stdout:\n        print(line, end='')\n"
            "print('exit code', run.returncode)",
        ),
    ]
    content = {
        "cells": [_cell(number, kind, text) for number, (kind, text) in enumerate(cells)],
        "metadata": {"kernelspec": {"display_name": "Python 3", "name": "python3"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return json.dumps(content, indent=1) + "\n"


def _cell(number: int, kind: str, text: str) -> dict:
    cell = {"cell_type": kind, "id": f"cell-{number}", "metadata": {}, "source": text}
    return cell | ({"execution_count": None, "outputs": []} if kind == "code" else {})
