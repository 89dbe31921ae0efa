"""Launching: what a dry run prints is what is done, and survives values that are hard to quote.

The programs of the clouds are replaced by ones that write down how they were called.
"""

import ast
import json
import os
import re
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from launch import __main__ as front
from launch import arguments
from launch.plan import LaunchError, Plan, Step, carry_out, script

CHECKOUT = Path(__file__).parents[1]
SCRIPT = CHECKOUT / "launch" / "until_done.sh"
NASTY = 'it\'s "$HOME" `id` \\ *; #&\nEND\n\tz'
RUN = [
    "--config=configs/trajloom.py:tiny",
    f"--config.title={NASTY}",
    "--config.stages.vae.steps=7",
    "--config.stages.flow.snapshots=(1, 2)",
]
BUCKET = ["--workdir=gs://bucket/my run"]
SOURCE = ["--repository=https://example.org/tavid_jax.git", "--branch=a branch"]
ENV = [f"--env=WORDS={NASTY}"]
POD = ["--zone=us-east5-b", "--type=v5litepod-16"]
CASES = {
    "tpu": ["tpu", *POD, "--spot", *SOURCE, *ENV, *RUN, *BUCKET],
    "tpu once": ["tpu", *POD, "--once", "--slices=2", *SOURCE, *ENV, *RUN, *BUCKET],
    "xpk": ["gke", "--cluster=c", *POD, *ENV, *RUN, *BUCKET],
    "kubectl": [
        *("gke", "--by=kubectl", "--type=v5litepod-16", "--topology=4x4", "--image=gcr.io/p/i"),
        *(*ENV, *RUN, *BUCKET),
    ],
    "slurm": ["slurm", "--nodes=2", *ENV, *RUN, *BUCKET],
    "gpu": ["gpu", "--gpus=0,1", *ENV, *RUN, *BUCKET],
    "colab": ["colab", *SOURCE, *ENV, *RUN, *BUCKET],
}
# Writes down its arguments and an environment variable, then does what $DO_<program> says.
FAKE = f"""#!{sys.executable}
import json, os, subprocess, sys
name = os.path.basename(sys.argv[0])
with open(os.environ["CALLS"], "a") as file:
    file.write(json.dumps([name, *sys.argv[1:], os.environ.get("WORDS", "")]) + "\\n")
todo = os.environ.get("DO_" + name.replace("-", "_"), "")
sys.exit(subprocess.call(["bash", "-c", todo, name, *sys.argv[1:]]) if todo else 0)
"""
FAKES = ("gcloud", "xpk", "kubectl", "sbatch", "srun", "scontrol", "nvidia-smi", "python", "pip")


class Machine:
    """A folder where commands run, with the programs of `FAKES` and nothing of the clouds."""

    def __init__(self, folder: Path):
        self.folder, self.calls = folder, folder / "calls"
        self.programs = folder / "programs"
        self.programs.mkdir()
        for name in FAKES:
            self.fake(name)
        (folder / "launch").symlink_to(CHECKOUT / "launch")
        self.environment = {
            "PATH": f"{self.programs}:/usr/bin:/bin",
            "HOME": str(folder),
            "CALLS": str(self.calls),
            "LAUNCH_POLL_SECONDS": "0",
        }

    def fake(self, name: str) -> None:
        path = self.programs / name
        path.write_text(FAKE)
        path.chmod(path.stat().st_mode | stat.S_IEXEC)

    def bash(self, text: str, **environment: str) -> subprocess.CompletedProcess:
        file = self.folder / "given.sh"
        file.write_text(text)
        return subprocess.run(
            ["bash", str(file)],
            cwd=self.folder,
            env=self.environment | environment,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def called(self, program: str) -> list[list[str]]:
        """How it was called, the last word being $WORDS."""
        lines = self.calls.read_text().splitlines() if self.calls.exists() else []
        return [call[1:] for call in map(json.loads, lines) if call[0] == program]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def planned(argv: list[str]) -> Plan:
    place = front.PLACES[argv[0]]
    return place.plan(*arguments.split(place.parser(), argv[1:]))


def dry_run(argv: list[str], capsys) -> str:
    assert front.main([*argv, "--dry-run"]) == 0
    return capsys.readouterr().out


def file_of(argv: list[str], ending: str) -> str:
    return next(text for path, text in planned(argv).files.items() if path.name.endswith(ending))


def check_run(call: list[str], workdir: str = "gs://bucket/my run") -> None:
    """That the program was called as the run, with everything that was given."""
    *words, variable = call
    assert words == ["-m", "tavid_jax.main", *RUN, f"--workdir={workdir}"]
    assert variable == NASTY


@pytest.mark.parametrize("case", CASES)
def test_dry_run_is_a_script_and_touches_nothing(case, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = dry_run(CASES[case], capsys)
    assert not list(tmp_path.iterdir())
    checked = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
    for path, content in planned(CASES[case]).files.items():
        if path.suffix in (".sh", ".sbatch"):
            checked = subprocess.run(["bash", "-n"], input=content, capture_output=True, text=True)
            assert checked.returncode == 0, f"{path}: {checked.stderr}"


@pytest.mark.parametrize("case", ["tpu once", "xpk", "kubectl", "slurm", "colab"])
def test_printed_script_does_what_the_launch_does(case, capsys, machine, monkeypatch):
    plan = planned(CASES[case])
    done = machine.bash(dry_run(CASES[case], capsys))
    assert done.returncode == 0, done.stderr
    for path, content in plan.files.items():
        assert (machine.folder / path).read_text() == content
    for step in plan.steps:
        assert machine.called(step.command[0]) == [[*step.command[1:], ""]]
    machine.calls.unlink(missing_ok=True)
    other = machine.folder / "other"
    other.mkdir()
    monkeypatch.chdir(other)
    for name, value in machine.environment.items():
        monkeypatch.setenv(name, value)
    assert front.main(CASES[case]) == 0
    assert {p: (other / p).read_text() for p in plan.files} == dict(plan.files)
    for step in plan.steps:
        assert machine.called(step.command[0]) == [[*step.command[1:], ""]]


def test_hosts_of_a_pod_install_once_and_run_the_command(machine):
    """The start-up script, at two boots; its folders and services are of this test."""
    text = file_of(CASES["tpu"], "startup.sh")
    home = machine.folder / "opt"
    text = text.replace("/opt/tavid_jax", str(home)).replace("/var/log/", f"{machine.folder}/")
    for name in ("systemctl", "systemd-run", "git", "curl", "python3"):
        machine.fake(name)
    python = home / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(machine.programs / "python")
    do = {
        "DO_systemctl": "exit 3",
        "DO_git": f'mkdir -p "{home}/part" && ln -s "{CHECKOUT}/launch" "{home}/part/launch"',
        "DO_systemd_run": 'exec bash "${!#}"',
        "DO_curl": "echo 0",
        "DO_gcloud": "cat > /dev/null",
    }
    for _ in range(2):
        done = machine.bash(text, **do)
        assert done.returncode == 0, (machine.folder / "tavid_jax.log").read_text()
    runs = machine.called("python")
    assert len(runs) == 2
    check_run(runs[0])
    assert len(machine.called("git")) == 1 and len(machine.called("python3")) == 3
    assert "--branch=a branch" in machine.called("git")[0]
    assert machine.called("gcloud")[0][:-1] == [
        *("storage", "cp", "-", "gs://bucket/my run/.launch/tavid.exit_code")
    ]


STATES = """
case "$*" in
  "storage cat"*) [ -e ended ] && echo 0 ;;
  *" describe "*)
    state=$(head -n 1 states); sed -i 1d states
    [ "$state" = ENDED ] && touch ended
    echo "$state" ;;
esac
"""


def test_machines_that_were_taken_away_are_asked_for_again(machine, capsys):
    (machine.folder / "states").write_text("\nACTIVE\nSUSPENDED\n\nACTIVE\nENDED\n")
    done = machine.bash(dry_run(CASES["tpu"], capsys), DO_gcloud=STATES)
    assert done.returncode == 0, done.stderr
    verbs = [c[3] for c in machine.called("gcloud") if c[3:4] and c[3] in ("create", "delete")]
    assert verbs == ["create", "delete", "create", "delete"]
    assert "the run has ended with exit code 0" in done.stderr


def test_refused_machines_end_the_watch(machine, capsys):
    do = 'case "$*" in *" create "*) echo "no quota" >&2; exit 1 ;; esac'
    done = machine.bash(dry_run(CASES["tpu"], capsys), DO_gcloud=do)
    assert done.returncode == 1
    assert "no quota" in done.stderr and "asking for the machines has failed" in done.stderr


def test_xpk_gets_a_line_that_hands_its_signals_to_the_run(machine):
    call = planned(CASES["xpk"]).steps[0].command
    line = next(word for word in call if word.startswith("--command=")).partition("=")[2]
    # As xpk's own shell has it: in a subshell, whose process is sent the signal.
    until = "while [ ! -e begun ]; do sleep 0.02; done"
    shell = f"({line}) & PID=$!; {until}; kill -TERM $PID; wait $PID"
    (machine.programs / "python").write_text(
        f"#!{sys.executable}\n"
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))\n"
        "import json, os\n"
        "with open(os.environ['CALLS'], 'a') as file:\n"
        "    call = ['python', *sys.argv[1:], os.environ['WORDS']]\n"
        "    file.write(json.dumps(call) + '\\n')\n"
        "open('begun', 'w').close()\n"
        "time.sleep(60)\n"
    )
    done = machine.bash(shell, WORDS=NASTY)
    assert done.returncode == 75
    check_run(machine.called("python")[0])
    assert machine.called("pip")[0][:-1] == ["install", "--quiet", "-e", ".[tpu,cloud]"]
    assert {"--restart-on-exit-codes=1,75", f"--env=WORDS={NASTY}"} <= set(call)


def test_jobset_is_yaml_that_starts_the_run_again():
    yaml = pytest.importorskip("yaml")
    job = yaml.safe_load(file_of(CASES["kubectl"], ".yaml"))
    (slices,) = job["spec"]["replicatedJobs"]
    spec = slices["template"]["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    python, *words = container["command"]
    assert python == "python"
    check_run([*words, container["env"][0]["value"]])
    assert spec["parallelism"] == spec["completions"] == 4
    assert container["resources"]["limits"] == {"google.com/tpu": 4}
    rule = spec["podFailurePolicy"]["rules"][0]
    assert (rule["action"], rule["onExitCodes"]["values"]) == ("Ignore", [75])
    assert spec["template"]["spec"]["terminationGracePeriodSeconds"] == 120


@pytest.mark.parametrize("code", [0, 1, 75])
def test_slurm_jobs_go_back_into_the_queue_when_they_have_saved(machine, code):
    text = file_of(CASES["slurm"], ".sbatch")
    do = f'while [[ $1 == --* ]]; do shift; done; "$@"; exit {code}'
    done = machine.bash(
        text,
        DO_srun=do,
        SLURM_SUBMIT_DIR=str(machine.folder),
        SLURM_CPUS_PER_TASK="8",
        SLURM_JOB_ID="17",
    )
    assert done.returncode == code
    check_run(machine.called("python")[0])
    requeued = [call[:-1] for call in machine.called("scontrol")]
    assert requeued == ([["requeue", "17"]] if code == 75 else [])
    header = re.findall(r"^#SBATCH (.*)$", text, re.MULTILINE)
    assert {"--signal=TERM@300", "--requeue", "--ntasks-per-node=8"} <= set(header)


def test_one_slurm_task_per_host_has_all_its_cores():
    text = file_of([*CASES["slurm"], "--tasks=host", "--sbatch=--constraint=a100"], ".sbatch")
    for line in ("--ntasks-per-node=1", "--cpus-per-task=64", "--constraint=a100"):
        assert f"#SBATCH {line}\n" in text


def test_gpus_of_this_machine_run_it_again_after_75(machine, capsys):
    do = '[ -e again ] || { touch again; exit 75; }; echo "$CUDA_VISIBLE_DEVICES"'
    done = machine.bash(dry_run(CASES["gpu"], capsys), DO_python=do)
    assert done.returncode == 0 and done.stdout == "0,1\n"
    assert len(machine.called("nvidia-smi")) == 1 and len(machine.called("python")) == 2
    check_run(machine.called("python")[1])


def test_notebook_runs_the_command(machine):
    notebook = json.loads(file_of(CASES["colab"], ".ipynb"))
    assert [cell["cell_type"] for cell in notebook["cells"]] == ["markdown", *["code"] * 3]
    for cell in notebook["cells"][1:]:
        ast.parse(cell["source"])
    program = notebook["cells"][3]["source"]
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=machine.folder,
        env=machine.environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "exit code 0" in done.stdout, done.stderr
    check_run(machine.called("python")[0])


def test_the_run_understands_what_it_is_given():
    """The real parser of its flags, on the one command line that all places end in."""
    program = """
import json, sys
import tavid_jax.main
from absl import flags
from tavid_jax.command_line import let_configs_import, parse_flags
let_configs_import(sys.argv[1:])
assert parse_flags(sys.argv) == sys.argv[:1]
c = flags.FLAGS.config
print(json.dumps([flags.FLAGS.workdir, c.preset, c.title, c.stages.vae.steps,
                  list(c.stages.flow.snapshots)]))
"""
    known, run = arguments.split(front.slurm.parser(), CASES["slurm"][1:])
    del known
    words = arguments.command(run, sys.executable)
    environment = os.environ | {"PYTHONPATH": str(CHECKOUT)}
    call = [words[0], "-c", program, *words[3:]]
    done = subprocess.run(call, cwd=CHECKOUT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == ["gs://bucket/my run", "tiny", NASTY, 7, [1, 2]]


WRONG = {
    "no place 'moon'": ["moon"],
    "unknown option '--foo=1'": ["gpu", *RUN, "--foo=1"],
    "no config": ["gpu", "--workdir=x"],
    "there is no file configs/nope.py": ["gpu", "--config=configs/nope.py"],
    "no preset 'nope'; there are demo": ["gpu", "--config=configs/trajloom.py:nope"],
    "has no function get_config": ["gpu", "--config=configs/common.py"],
    "README.md is no Python file": ["gpu", "--config=README.md"],
    "--name=A b will not do": ["gpu", *RUN, "--name=A b"],
    "not of the form KEY=VALUE": ["gpu", *RUN, "--env=x"],
    "share no disk": ["tpu", *POD, *SOURCE, *RUN, "--workdir=runs/x"],
    "has no size": ["tpu", "--zone=z", "--type=v5p", *SOURCE, *RUN, *BUCKET],
    "is not known here": ["tpu", "--zone=z", "--type=v9-8", *SOURCE, *RUN, *BUCKET],
    "password or token": ["colab", "--repository=https://me:key@example.org/x", *RUN, *BUCKET],
    "xpk asks for the cluster": ["gke", "--type=v5litepod-16", *RUN, *BUCKET],
    "would be lost with the session": ["colab", *SOURCE, *RUN, "--workdir=runs/x"],
    "is no time of SLURM": ["slurm", *RUN, "--time=a day"],
    "cannot stand in a line of #SBATCH": ["slurm", *RUN, "--partition=a b"],
}


@pytest.mark.parametrize("message", WRONG)
def test_what_is_wrong_is_said_in_one_line(message, capsys):
    assert front.main(WRONG[message]) == 2
    assert message in capsys.readouterr().err


def test_missing_programs_are_named_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    file = tmp_path / "file"
    with pytest.raises(LaunchError, match="xpk is not on this machine: .pip install xpk"):
        carry_out(Plan({file: "x"}, [Step("a job", ("xpk", "workload"))]))
    assert not file.exists()


def test_a_command_that_fails_ends_the_launch(machine, monkeypatch, capsys):
    monkeypatch.setenv("PATH", machine.environment["PATH"])
    steps = [Step("first", ("bash", "-c", "exit 4")), Step("second", ("bash", "-c", "touch x"))]
    assert carry_out(Plan({}, steps)) == 4
    assert "bash has failed with exit code 4" in capsys.readouterr().err


def test_files_with_any_content_survive(machine):
    plan = Plan({Path("a b/c"): "END\nEND_\n'$x'\n"}, [])
    assert machine.bash(script(plan)).returncode == 0
    assert (machine.folder / "a b" / "c").read_text() == "END\nEND_\n'$x'\n"


def launch(command: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        ["bash", str(SCRIPT), "bash", "-c", command], capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize("stop", ["exit 75", "kill -TERM $$"])
def test_runs_again_after_a_stop_that_was_saved(tmp_path, stop):
    count = tmp_path / "count"
    done = launch(f"echo x >> {count}; [ $(wc -l < {count}) -ge 3 ] || {stop}")
    assert done.returncode == 0
    assert count.read_text().count("x") == 3
    assert done.stderr.count("starting again") == 2


@pytest.mark.parametrize("code", [0, 1, 130])
def test_other_exit_codes_are_passed_on(code):
    assert launch(f"exit {code}").returncode == code


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_what_is_sent_to_it_is_passed_on(tmp_path, number, code):
    """As the first process of a container is sent SIGTERM: the run saves, and is over."""
    saves = f"trap 'sleep 0.3; echo saved >> {tmp_path}/said; exit {code}' TERM INT"
    waits = f"echo begun >> {tmp_path}/said; while true; do sleep 0.05; done"
    script = subprocess.Popen(
        ["bash", str(SCRIPT), "bash", "-c", f"{saves}; {waits}"], stderr=subprocess.PIPE, text=True
    )
    said = tmp_path / "said"
    while not (said.exists() and "begun" in said.read_text()):
        assert script.poll() is None
        time.sleep(0.02)
    script.send_signal(number)
    _, error = script.communicate(timeout=60)
    assert (script.returncode, said.read_text()) == (code, "begun\nsaved\n")
    assert "starting again" not in error


def test_without_a_command_it_says_how_to_use_it():
    done = subprocess.run(["bash", str(SCRIPT)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and "bash launch/until_done.sh python -m" in done.stderr
