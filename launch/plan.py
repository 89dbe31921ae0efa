"""What a launch does, as data: files that are written, then commands that are run, in order.

`script` prints it as a shell script, which does the same when it is run; `carry_out` does it.
"""

from __future__ import annotations

import dataclasses
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

#: what a run says that was told to stop and has saved its state (tavid_jax.engine.preemption)
RESTART_EXIT_CODE = 75

# Program -> what to do where it is missing.
_MENDS = {
    "gcloud": "install the Google Cloud CLI (cloud.google.com/sdk/docs/install), then "
    "`gcloud auth login` and `gcloud config set project PROJECT`",
    "kubectl": "install kubectl (`gcloud components install kubectl`) and get the cluster's "
    "credentials (`gcloud container clusters get-credentials CLUSTER`)",
    "nvidia-smi": "this machine has no NVIDIA driver",
    "sbatch": "run this on a login node of the SLURM cluster",
    "xpk": "`pip install xpk` (and its own needs: gcloud, kubectl, docker)",
}


class LaunchError(ValueError):
    """What the user has to mend, in one message."""


@dataclasses.dataclass(frozen=True)
class Step:
    """One command, as its arguments, and what it is for."""

    what: str
    command: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Plan:
    """A launch.

    Attributes:
      files: path -> content.
      steps: run when the files are there, each when the one before has succeeded.
      notes: what to know afterwards: where logs are, how to stop.
    """

    files: Mapping[Path, str]
    steps: Sequence[Step]
    notes: Sequence[str] = ()


def script(plan: Plan) -> str:
    """The plan as a shell script."""
    lines = ["#!/usr/bin/env bash", "set -eu"]
    for path, content in plan.files.items():
        if path.parent != Path("."):
            lines.append(f"mkdir -p {shlex.quote(str(path.parent))}")
        lines.append(written(path, content))
    for step in plan.steps:
        lines += [f"# {step.what}", shlex.join(step.command)]
    lines += [f"# {note}" for note in plan.notes]
    return "\n".join(lines) + "\n"


def written(path: str | Path, content: str) -> str:
    """Shell that writes a file, whatever is in it."""
    end = "END"
    while end in content.splitlines():
        end += "_"
    body = content if content.endswith("\n") else content + "\n"
    return f"cat > {shlex.quote(str(path))} <<'{end}'\n{body}{end}"


def exports(variables: Mapping[str, str]) -> str:
    """Shell that sets environment variables, one a line."""
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in variables.items())


def carry_out(plan: Plan) -> int:
    """Write the files and run the commands; the exit code of the first that fails, or 0.

    Raises LaunchError for a program that is not installed, before anything is done.
    """
    for step in plan.steps:
        _check_installed(step.command[0])
    for path, content in plan.files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        _say(f"written: {path}")
    for number, step in enumerate(plan.steps, 1):
        _say(f"[{number}/{len(plan.steps)}] {step.what}\n  {shlex.join(step.command)}")
        code = subprocess.run(step.command, check=False).returncode
        if code:
            _say(f"{step.command[0]} has failed with exit code {code}: see what it says above")
            return code
    for note in plan.notes:
        _say(note)
    return 0


def _check_installed(program: str) -> None:
    if shutil.which(program) is None:
        mend = _MENDS.get(program, "install it")
        raise LaunchError(f"{program} is not on this machine: {mend}")


def _say(text: str) -> None:
    print(f"launch: {text}", file=sys.stderr, flush=True)
