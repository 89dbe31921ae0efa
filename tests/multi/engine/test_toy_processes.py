"""Two and four processes of one run: the losses of one, and one fate."""

import json
import shutil
import signal
from pathlib import Path

import jax
import numpy as np
import pytest

from tavid_jax.data.records import RecordSource
from tavid_jax.engine.checkpoint import load_result
from tavid_jax.parallel.mesh import make_mesh
from tests.engine import toy
from tests.multi.engine import toy_process
from tests.multi.together import Ended, free_address, run_together


def together(
    folder: Path, count: int, programs: dict[str, str], *options: str, devices: int = 1
) -> list[Ended]:
    address = free_address()
    commands = [
        ["-m", "tests.multi.engine.toy_process", address, str(count), str(i), str(folder), *options]
        for i in range(count)
    ]
    return run_together(*commands, devices=devices, variables=programs)


def mesh_of(count: int):
    return make_mesh(dict(fsdp=-1), jax.devices()[:count])


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Workdir of one process with four devices."""
    folder = tmp_path_factory.mktemp("alone")
    toy_process.train(folder, mesh_of(4))
    return folder


def assert_same_curves(here: Path, there: Path, rtol: float = 1e-5) -> None:
    for mine, other in zip(toy.records(here), toy.records(there), strict=True):
        assert mine.keys() == other.keys()
        for metric in mine:
            np.testing.assert_allclose(mine[metric], other[metric], rtol=rtol, err_msg=metric)


def test_two_processes_train_as_one(tmp_path: Path, alone: Path, programs: dict[str, str]):
    ended = together(tmp_path, 2, programs, devices=2)
    assert [one.code for one in ended] == [0, 0], [one.err[-3000:] for one in ended]
    first, second = (json.loads(one.out.splitlines()[-1]) for one in ended)
    assert first["devices"] == 4
    # Losses, validation and guard are those of one process with as many devices.
    assert_same_curves(tmp_path, alone)
    assert toy.saved_steps(tmp_path) == toy.saved_steps(alone)
    # Two epochs: in each, one of the processes gets every example, once.
    seen = [a + b for a, b in zip(first["seen"], second["seen"], strict=True)]
    names = [f"e{i}" for i in range(toy_process.SIZE)]
    flat = [name for step in seen for name in step]
    assert sorted(flat[:20]) == sorted(flat[20:]) == sorted(names)
    # Another run on the same folder is refused while this one lasts.
    assert first["refused"] == second["refused"] == [True]
    # Statistics and cache, in order, are those of one process, to the bit.
    stats = [
        load_result(where / "stages" / "stats" / "result")["stats"] for where in (tmp_path, alone)
    ]
    toy.assert_same_bits(*stats)
    caches = [RecordSource(where / "stages" / "stats" / "cache") for where in (tmp_path, alone)]
    assert [caches[0][i]["id"] for i in range(len(caches[0]))] == names
    for i in range(len(names)):
        np.testing.assert_array_equal(caches[0][i]["x"], caches[1][i]["x"])
    # What the stage leaves was gathered from both.
    for name in ("result", "snapshots/2"):
        mine, other = (load_result(w / "stages" / "fit" / name)["net"] for w in (tmp_path, alone))
        np.testing.assert_allclose(mine["head"]["kernel"], other["head"]["kernel"], rtol=1e-4)
        assert mine["layers"]["kernel"].shape == (2, toy.DIM, toy.DIM)
    # The first process speaks, the other one keeps to warnings.
    assert "stage fit (2 of 2)" in ended[0].err and "stage fit" not in ended[1].err


def test_a_signal_to_one_of_four_stops_all(tmp_path: Path, alone: Path, programs: dict[str, str]):
    """All save after the same step; what four have saved one, two and eight devices go on from."""
    ended = together(tmp_path / "four", 4, programs, "--signal=TERM:2:0")
    assert [one.code for one in ended] == [75] * 4, [one.err[-3000:] for one in ended]
    saved = toy.saved_steps(tmp_path / "four")[-1]
    assert 1 <= saved < 5
    assert f"SIGTERM: fit is saved at step {saved}" in ended[0].err
    assert f"[process 2] warning: SIGTERM: fit is saved at step {saved}" in ended[2].err
    for devices in (1, 2, 8):
        folder = tmp_path / str(devices)
        shutil.copytree(tmp_path / "four", folder)
        inputs = toy_process.train(folder, mesh_of(devices))
        assert len(inputs.seen) == 5 - saved
        assert_same_curves(folder, alone)


def test_a_killed_process_ends_the_others(tmp_path: Path, programs: dict[str, str]):
    first, second = together(tmp_path, 2, programs, "--signal=KILL:1:2")
    assert second.code == -signal.SIGKILL
    assert first.code not in (0, 75)
    assert "died" in first.err or "has failed" in first.err, first.err[-3000:]
    assert not (tmp_path / "stages" / "fit" / "done.json").exists()
