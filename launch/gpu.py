"""The GPUs of this machine: the run itself, again as long as it ends with 75.

Ctrl-C saves and ends; the same command goes on.
"""

from __future__ import annotations

import argparse

from launch import arguments
from launch.plan import Plan, Step


def parser() -> argparse.ArgumentParser:
    made = arguments.parser("gpu", __doc__)
    made.add_argument("--gpus", default="", help="numbers of those to use: 0,1 (default: all)")
    made.add_argument("--python", default="python", help="default: python")
    return made


def plan(known: argparse.Namespace, run: list[str]) -> Plan:
    """See the module."""
    variables = arguments.variables(known)
    if known.gpus:
        variables["CUDA_VISIBLE_DEVICES"] = known.gpus
    around = ("env", *(f"{name}={value}" for name, value in variables.items())) if variables else ()
    command = arguments.command(run, known.python)
    steps = [
        Step("is there a GPU?", ("nvidia-smi", "--list-gpus")),
        Step("the run", (*around, "bash", "launch/until_done.sh", *command)),
    ]
    return Plan({}, steps)
