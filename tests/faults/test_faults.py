"""The command itself: that it sees differences, names failures, and can do a fault."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.faults import __main__ as command
from tests.faults.lab import BIT_EQUAL, FAILED, NOT_DONE, Fault, Found, Lab
from tests.faults.program import Failed, Program, Refused, complaint
from tests.faults.weights import check_clean, curves, differing


def test_a_single_bit_of_the_weights_is_seen():
    a = {"vae/w": np.ones((2, 3), np.float32), "flow/b": np.zeros(2, np.float32)}
    assert differing(a, {name: array.copy() for name, array in a.items()}) == []
    changed = a["vae/w"].copy()
    changed.view(np.uint32)[1, 2] ^= 1
    assert differing(a, a | {"vae/w": changed}) == ["vae/w"]
    assert differing(a, a | {"flow/b": -a["flow/b"]}) == ["flow/b"]  # -0.0
    assert differing(a, a | {"vae/w": a["vae/w"].astype(np.float64)}) == ["vae/w"]
    assert differing(a, {"vae/w": a["vae/w"]}) == ["flow/b"]


def test_litter_is_seen(tmp_path: Path):
    (tmp_path / "stages" / "vae").mkdir(parents=True)
    check_clean(tmp_path)
    (tmp_path / "stages" / "vae" / ".cache.7.part").mkdir()
    with pytest.raises(Failed, match=r"left behind: stages/vae/\.cache\.7\.part"):
        check_clean(tmp_path)


def test_curves_are_compared_without_what_the_machine_did(tmp_path: Path):
    file = tmp_path / "stages" / "vae" / "metrics.jsonl"
    file.parent.mkdir(parents=True)
    file.write_text('{"step": 1, "loss": 2.5, "seconds": 7}\n')
    assert curves(tmp_path) == {"vae": [{"step": 1, "loss": 2.5}]}


def test_the_message_of_a_program_is_found():
    said = "log\nTraceback\ntavid_jax: no disk,\nor so\n(--verbosity=1 shows where it happened)\n"
    assert complaint(said) == "no disk,\nor so"
    assert complaint("12:00:00 all is well\n") == ""


def test_what_a_fault_comes_to(tmp_path: Path):
    def fails(lab: Lab):
        """Does this."""
        raise Failed("other weights")

    def cannot(lab: Lab):
        """Does that."""
        raise Refused("no right to mount")

    lab = Lab(tmp_path)
    found = lab.run(Fault("one", fails))
    assert (found.done, found.said, found.outcome) == ("Does this.", "other weights", FAILED)
    assert lab.run(Fault("two", cannot)).outcome == NOT_DONE
    assert lab.run(Fault("three", lambda lab: ("a", "b", BIT_EQUAL))).outcome == BIT_EQUAL


def test_table_and_exit_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    outcomes = iter([BIT_EQUAL, FAILED])

    def run(lab: Lab, fault: Fault) -> Found:
        return Found(fault.name, "done", f"{lab.folder}/a|b", next(outcomes), 1.6)

    monkeypatch.setattr(Lab, "run", run)
    arguments = ["--only=sigterm,ctrl-c", f"--workdir={tmp_path}"]
    assert command.main(arguments) == 1
    table = capsys.readouterr().out.splitlines()
    assert table[2:4] == [
        "| sigterm | done | a\\|b | bit-equal | 2 |",
        "| ctrl-c | done | a\\|b | FAILED | 2 |",
    ]
    assert (tmp_path / "faults.json").exists()
    with pytest.raises(SystemExit, match="no fault 'typo'; there are kills, "):
        command.main(["--only=typo"])


def test_moments_are_the_same_for_the_same_seed(tmp_path: Path):
    def drawn(seed: int) -> float:
        lab = Lab(tmp_path, seed)
        lab._current = "kills"
        return lab.rng.random()

    assert drawn(1) == drawn(1) != drawn(2)


@pytest.mark.slow
def test_one_fault_from_its_beginning_to_its_end(tmp_path: Path):
    """The config of another run in the folder: the real program refuses, before any work."""
    program = Program(tmp_path / "run", shared=tmp_path, logs=tmp_path)
    (program.workdir / "stages").mkdir(parents=True)
    shutil.copy(command.__file__, program.workdir / "config.json")
    said = program.start().refuses(f"{program.workdir}/config.json is damaged", "--workdir")
    assert "Traceback" not in said


@pytest.mark.slow
def test_all_faults(tmp_path: Path):
    assert command.main([f"--workdir={tmp_path}"]) == 0
