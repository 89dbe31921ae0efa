"""launch/fit.py as a user calls it: the engine's own step, compiled for absent TPUs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("libtpu", reason="the TPU compiler: pip install libtpu")
pytestmark = pytest.mark.aot

CHECKOUT = Path(__file__).resolve().parents[2]
FIELDS = {
    "chips",
    "arguments_bytes",
    "host_bytes",
    "temporaries_bytes",
    "peak_bytes",
    "limit_bytes",
    "fits",
    "flops_per_step",
    "collectives",
    "compile_seconds",
    "estimated",
}


def launch_fit(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "launch/fit.py", "--config=configs/trajloom.py:tiny", *arguments]
    drop = ("XLA_FLAGS", "JAX_PLATFORMS")  # it sets for itself what it needs
    variables = {k: v for k, v in os.environ.items() if k not in drop}
    return subprocess.run(
        command, cwd=CHECKOUT, env=variables, capture_output=True, text=True, timeout=300
    )


@pytest.fixture(scope="module")
def trained() -> dict:
    done = launch_fit("--stage=visibility", "--topology=v5e:2x4", "--json")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # the TPU compiler's complaints about the missing TPU are no news
    (line,) = done.stdout.splitlines()
    return json.loads(line)


def test_one_line_of_json(trained: dict):
    assert set(trained) == FIELDS
    assert trained["chips"] == 8 and trained["fits"] is True
    assert trained["limit_bytes"] == int(15.75 * 2**30)
    assert 0 < trained["arguments_bytes"] < trained["peak_bytes"] < trained["limit_bytes"]
    assert trained["flops_per_step"] > 0 and trained["compile_seconds"] > 0
    assert trained["collectives"]["all-reduce"] >= 1  # gradients of eight chips


@pytest.mark.slow
def test_sampling_step_of_the_demo_as_a_table():
    done = launch_fit("--what=sample", "--stage=flow", "--topology=v5e:2x2", "--batch_per_chip=2")
    assert done.returncode == 0, done.stderr
    rows = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    assert rows["step"] == "sample, stage flow"
    assert rows["batch"].startswith("8 examples, 2 on each of 4 data ways")
    assert rows["fits"].startswith("yes") and "of 15.75 GiB" in rows["peak"]


def test_too_large_is_reported_with_what_is_missing():
    # Not a sensible batch: one that no v5e chip holds.
    large = ("--stage=visibility", "--topology=v5e:2x2", "--batch_per_chip=262144")
    done = launch_fit(*large)
    assert done.returncode == 3, done.stderr
    rows = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    assert rows["fits"].startswith("NO: ") and rows["fits"].endswith("per chip are missing")
    answer = json.loads(launch_fit(*large, "--json").stdout)
    assert set(answer) == FIELDS and answer["fits"] is False
    assert answer["peak_bytes"] > answer["limit_bytes"] > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--topology=v9:2x4"], "no topology 'v9:2x4': write chip:AxB"),
        (["--topology=v5e:3x3"], "knows no topology 'v5e:3x3'"),
        (["--topology=v5e:2x4", "--stage=flwo"], "no train stage 'flwo': choose of vae, flow"),
        (["--topology=v5e:2x4", "--what=sample", "--stage=vae"], "choose of flow, on_policy"),
        (["--topology=v5e:2x4", "--config.mesh.context=3"], "--config.mesh.context=1"),
        (["--topology=v5e:4x4", "--stage=flow"], "a multiple of 16"),
        (["--topology=v5e:2x4", "--config.nothing=1"], "no key 'nothing'"),
        ([], "topology"),
    ],
)
def test_what_is_wrong_is_one_sentence(arguments: list[str], message: str):
    done = launch_fit(*arguments)
    assert done.returncode == 1
    assert message in done.stderr and "Traceback" not in done.stderr
