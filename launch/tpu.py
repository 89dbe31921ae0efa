"""A TPU pod of Cloud TPU, by a queued resource: asked for, started, and asked for again.

Every host runs the same start-up script at every boot: it installs the code, then runs the command
as a service, again as long as it ends with 75. A shut-down stops the service by SIGTERM, so the
run saves. A Spot slice that is taken away is gone; `watch.sh` deletes what is left of it and asks
for another one, until a host has written the run's exit code beside the workdir.
"""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from launch import arguments
from launch.plan import LaunchError, Plan, Step, exports, written

# Kind of TPU, as accelerator types begin -> the software of its hosts.
RUNTIMES = {
    "v4": "tpu-ubuntu2204-base",
    "v5litepod": "v2-alpha-tpuv5-lite",
    "v5p": "v2-alpha-tpuv5",
    "v6e": "v2-alpha-tpuv6e",
}
LOG = "/var/log/tavid_jax.log"
_HOME = "/opt/tavid_jax"


def parser() -> argparse.ArgumentParser:
    made = arguments.parser("tpu", __doc__)
    made.add_argument("--zone", required=True, help="such as us-east5-b")
    made.add_argument("--project", default="", help="default: the one that gcloud is set to")
    made.add_argument("--type", required=True, help="accelerator type: v5litepod-16, v6e-64, ...")
    made.add_argument("--topology", default="", help="of a --type without number: v5p and 4x4x8")
    made.add_argument("--slices", type=int, default=1, help="of that type (default: 1)")
    made.add_argument("--spot", action="store_true", help="cheaper, and may be taken away")
    made.add_argument("--reserved", action="store_true", help="from the project's reservation")
    made.add_argument("--runtime", default="", help="software version, if not the usual one")
    made.add_argument("--service-account", default="", help="whose rights the hosts have")
    made.add_argument("--once", action="store_true", help="ask once; do not watch")
    arguments.add_source(made)
    return made


def plan(known: argparse.Namespace, run: list[str]) -> Plan:
    """See the module. Raises LaunchError for what does not fit together."""
    workdir = arguments.bucket(run, "a TPU pod")
    if known.spot and known.reserved:
        raise LaunchError("--spot and --reserved exclude each other")
    if known.slices < 1:
        raise LaunchError(f"--slices={known.slices}: at least 1")
    where = arguments.folder(known)
    startup, watch = where / "startup.sh", where / "watch.sh"
    create = _create(known, startup)
    ended = f"{workdir}/.launch/{known.name}.exit_code"
    files = {startup: _startup(known, run, ended)}
    if known.once:
        steps = [Step("ask for the machines", create)]
    else:
        files[watch] = _watch(known, create, ended)
        steps = [Step("keep the machines there until the run has ended", ("bash", str(watch)))]
    ssh = ("gcloud", "compute", "tpus", "tpu-vm", "ssh", _node(known), *_place(known))
    notes = (
        f"log: {shlex.join([*ssh, '--worker=0', f'--command=tail -n 100 -f {LOG}'])}",
        f"stop: Ctrl-C here, then {shlex.join(_delete(known))}",
    )
    return Plan(files, steps, notes)


def _place(known: argparse.Namespace) -> tuple[str, ...]:
    return (f"--zone={known.zone}", *((f"--project={known.project}",) if known.project else ()))


def _node(known: argparse.Namespace) -> str:
    return known.name if known.slices == 1 else f"{known.name}-0"


def _resource(known: argparse.Namespace, verb: str) -> tuple[str, ...]:
    return ("gcloud", "compute", "tpus", "queued-resources", verb, known.name, *_place(known))


def _delete(known: argparse.Namespace) -> tuple[str, ...]:
    return (*_resource(known, "delete"), "--force", "--quiet")


def _create(known: argparse.Namespace, startup: Path) -> tuple[str, ...]:
    kind = known.type.partition("-")[0]
    runtime = known.runtime or RUNTIMES.get(kind)
    if not runtime:
        raise LaunchError(
            f"--type={known.type}: the software of such TPUs is not known here; give --runtime=..."
        )
    if known.topology:
        chips = (f"--type={kind}", f"--topology={known.topology}")
    elif "-" in known.type:
        chips = (f"--accelerator-type={known.type}",)
    else:
        raise LaunchError(f"--type={known.type} has no size: {known.type}-16, or --topology=...")
    if known.slices == 1:
        nodes = (f"--node-id={known.name}",)
    else:
        nodes = (f"--node-count={known.slices}", f"--node-prefix={known.name}")
    more = [flag for flag in ("spot", "reserved") if getattr(known, flag)]
    account = (f"--service-account={known.service_account}",) if known.service_account else ()
    return (
        *_resource(known, "create"),
        *nodes,
        *chips,
        f"--runtime-version={runtime}",
        *(f"--{flag}" for flag in more),
        *account,
        "--scopes=https://www.googleapis.com/auth/cloud-platform",
        f"--metadata-from-file=startup-script={startup}",
    )


def _startup(known: argparse.Namespace, run: list[str], ended: str) -> str:
    package = f"{known.wheel}[tpu,cloud]" if known.wheel else f"{_HOME}/code[tpu,cloud]"
    if not known.wheel:
        package = f"-e {shlex.quote(package)}"
    elif "://" in known.wheel:
        package = shlex.quote(f"tavid_jax[tpu,cloud] @ {known.wheel}")
    else:
        package = shlex.quote(package)
    service = written(f"{_HOME}/run.sh", _service(known, run, ended))
    return f"""\
#!/usr/bin/env bash
# Every host of the pod runs this at every boot.
set -euo pipefail
exec >> {LOG} 2>&1
export HOME=/root
systemctl is-active --quiet tavid_jax && exit 0
mkdir -p {_HOME}
if [ ! -d {_HOME}/code ]; then
  rm -rf {_HOME}/part
  git clone --quiet --depth=1 --branch={shlex.quote(known.branch)} \\
    {shlex.quote(known.repository)} {_HOME}/part
  mv {_HOME}/part {_HOME}/code
fi
if [ ! -f {_HOME}/installed ]; then
  # The hosts' own Python is too old.
  python3 -m pip install --quiet uv
  python3 -m uv venv --quiet --clear --python=3.12 {_HOME}/venv
  python3 -m uv pip install --quiet --python={_HOME}/venv/bin/python {package}
  touch {_HOME}/installed
fi
{service}
# A service: at shut-down it is sent SIGTERM, and given the time to save.
systemd-run --unit=tavid_jax --collect --property=TimeoutStopSec=120 \\
  --property=StandardOutput=append:{LOG} --property=StandardError=append:{LOG} \\
  bash {_HOME}/run.sh
"""


def _service(known: argparse.Namespace, run: list[str], ended: str) -> str:
    variables = exports(arguments.variables(known))
    command = shlex.join(arguments.command(run, f"{_HOME}/venv/bin/python"))
    return f"""\
cd {_HOME}/code || exit 1
export HOME=/root
{variables}bash launch/until_done.sh {command}
code=$?
worker=$(curl -s -H 'Metadata-Flavor: Google' \\
  http://metadata.google.internal/computeMetadata/v1/instance/attributes/agent-worker-number)
if [ "$worker" = 0 ]; then
  echo "$code" | gcloud storage cp - {shlex.quote(ended)}
fi
exit "$code"
"""


def _watch(known: argparse.Namespace, create: tuple[str, ...], ended: str) -> str:
    state = (*_resource(known, "describe"), "--format=value(state.state)")
    return f"""\
#!/usr/bin/env bash
# Asks for the machines, and again when they were taken away, until the run has ended.
set -u
seconds=${{LAUNCH_POLL_SECONDS:-60}}
say() {{ echo "$(date '+%H:%M:%S') launch: $*" >&2; }}
gcloud storage rm --quiet {shlex.quote(ended)} 2> /dev/null
before= asked=
while true; do
  code=$(gcloud storage cat {shlex.quote(ended)} 2> /dev/null)
  if [ -n "$code" ]; then
    say "the run has ended with exit code $code; giving the machines back"
    {shlex.join(_delete(known))}
    exit "$code"
  fi
  state=$({shlex.join(state)} 2> /dev/null)
  [ "$state" = "$before" ] || say "{known.name} is ${{state:-not there}}"
  before=$state
  case "$state" in
    SUSPENDED | FAILED)
      say "taken away or refused: asking again"
      {shlex.join(_delete(known))} || say "cannot be deleted yet"
      ;;
    "")
      if {shlex.join(create)}; then
        asked=yes
      elif [ -z "$asked" ]; then
        say "asking for the machines has failed: see what gcloud says above"
        exit 1
      fi
      ;;
  esac
  sleep "$seconds"
done
"""
