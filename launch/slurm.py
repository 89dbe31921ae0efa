"""GPUs of a SLURM cluster: a job file for sbatch, with one task per GPU or per host.

The job is sent SIGTERM --margin seconds before its time is over; the run saves and ends with 75,
and the job goes back into the queue. So it does when SLURM takes its nodes away.
"""

from __future__ import annotations

import argparse
import re
import shlex

from launch import arguments
from launch.plan import RESTART_EXIT_CODE, LaunchError, Plan, Step, exports

_TIME = re.compile(r"(\d+-)?\d+(:\d\d){0,2}")
_WORD = re.compile(r"[^\s#'\"\\]+")


def parser() -> argparse.ArgumentParser:
    made = arguments.parser("slurm", __doc__)
    made.add_argument("--nodes", type=int, default=1, help="hosts (default: 1)")
    made.add_argument("--gpus", type=int, default=8, help="of each host (default: 8)")
    made.add_argument(
        "--tasks",
        choices=("gpu", "host"),
        default="gpu",
        help="a process for each (default: gpu)",
    )
    made.add_argument("--cpus", type=int, default=8, help="cores for each GPU (default: 8)")
    made.add_argument("--time", default="24:00:00", help="of one turn (default: 24:00:00)")
    made.add_argument("--margin", type=int, default=300, help="seconds to save in (default: 300)")
    made.add_argument("--partition", default="")
    made.add_argument("--account", default="")
    made.add_argument(
        "--sbatch", action="append", default=[], metavar="OPTION", help="another line of #SBATCH, "
        "such as --sbatch=--constraint=a100; may be given more than once"
    )  # fmt: skip
    made.add_argument(
        "--setup", default="", help="a line of shell before the run: 'module load cuda; ...'"
    )
    made.add_argument("--python", default="python", help="default: python")
    return made


def plan(known: argparse.Namespace, run: list[str]) -> Plan:
    """See the module. Raises LaunchError for what does not fit together."""
    for name in ("nodes", "gpus", "cpus", "margin"):
        if getattr(known, name) < 1:
            raise LaunchError(f"--{name}={getattr(known, name)}: at least 1")
    if not _TIME.fullmatch(known.time):
        raise LaunchError(f"--time={known.time} is no time of SLURM: 90, 24:00:00, 2-12:00:00")
    for text in (known.partition, known.account, *known.sbatch):
        if text and not _WORD.fullmatch(text):
            raise LaunchError(f"{text!r} cannot stand in a line of #SBATCH")
    where = arguments.folder(known)
    file, log = where / "job.sbatch", where / "%j.log"
    notes = (
        f"log: tail -F {where}/*.log",
        f"stop: scancel --name={known.name}",
    )
    submit = ("sbatch", str(file))
    return Plan({file: _job(known, run, str(log))}, [Step("hand in the job", submit)], notes)


def _job(known: argparse.Namespace, run: list[str], log: str) -> str:
    tasks = known.gpus if known.tasks == "gpu" else 1
    lines = [
        f"--job-name={known.name}",
        f"--nodes={known.nodes}",
        f"--ntasks-per-node={tasks}",
        f"--gpus-per-node={known.gpus}",
        f"--cpus-per-task={known.cpus * known.gpus // tasks}",
        f"--time={known.time}",
        f"--signal=TERM@{known.margin}",
        "--requeue",
        "--open-mode=append",
        f"--output={log}",
        *([f"--partition={known.partition}"] if known.partition else []),
        *([f"--account={known.account}"] if known.account else []),
        *known.sbatch,
    ]
    header = "\n".join(f"#SBATCH {line}" for line in lines)
    variables = exports(arguments.variables(known))
    setup = f"{known.setup}\n" if known.setup else ""
    return f"""\
#!/usr/bin/env bash
{header}
# Every task finds its place in what srun says (config.distributed.coordinator=auto).
cd "$SLURM_SUBMIT_DIR" || exit 1
{setup}{variables}\
srun --kill-on-bad-exit=0 --cpus-per-task="$SLURM_CPUS_PER_TASK" \\
  {shlex.join(arguments.command(run, known.python))}
code=$?
if [ "$code" -eq {RESTART_EXIT_CODE} ]; then
  echo "launch: stopped and saved; back into the queue" >&2
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
"""
