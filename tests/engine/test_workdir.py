"""A run's folder: one process, one config, errors that say what to do."""

import errno
import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from tavid_jax.engine.workdir import (
    Workdir,
    WorkdirError,
    config_hash,
    raise_if_disk,
    strip,
    write_json,
)

VOLATILE = ("report", "stages.*.log_every")


def config(**changes) -> ConfigDict:
    base = ConfigDict(
        dict(
            seed=0,
            order=("a", "b"),
            report=dict(clips=3),
            stages=dict(a=dict(lr=0.1, log_every=5), b=dict(lr=0.2, log_every=5)),
        )
    )
    base.update_from_flattened_dict(changes)
    return base


def test_config_is_written_and_the_same_one_comes_back(tmp_path: Path):
    first = Workdir(tmp_path / "new" / "run", config(), VOLATILE)
    written = json.loads((tmp_path / "new" / "run" / "config.json").read_text())
    assert written["stages"]["a"]["lr"] == 0.1 and written["order"] == ["a", "b"]
    assert first.stage("a") == tmp_path / "new" / "run" / "stages" / "a"
    first.close()
    again = Workdir(tmp_path / "new" / "run", config(), VOLATILE)
    assert again.fingerprint == first.fingerprint == config_hash(config(), VOLATILE)
    again.close()


def test_another_config_is_refused_with_the_keys_that_differ(tmp_path: Path):
    begun = Workdir(tmp_path, config(), VOLATILE)
    begun.stage("a").mkdir(parents=True)
    begun.close()
    changed = config(**{"seed": 1, "stages.b.lr": 0.3})
    changed.stages.b.more = "x"
    with pytest.raises(WorkdirError) as refused:
        Workdir(tmp_path, changed, VOLATILE)
    assert str(refused.value) == (
        f"workdir {tmp_path} belongs to a run of another config; these keys differ:\n"
        "  seed: 0 there, 1 now\n"
        "  stages.b.lr: 0.2 there, 0.3 now\n"
        "  stages.b.more: '(absent)' there, 'x' now\n"
        "Set them back, or choose another --workdir"
    )
    assert json.loads((tmp_path / "config.json").read_text())["seed"] == 0


def test_before_the_first_stage_any_config_may_come(tmp_path: Path):
    Workdir(tmp_path, config(), VOLATILE).close()
    Workdir(tmp_path, config(seed=1), VOLATILE).close()
    assert json.loads((tmp_path / "config.json").read_text())["seed"] == 1


def test_volatile_keys_may_change(tmp_path: Path):
    first = Workdir(tmp_path, config(), VOLATILE)
    first.close()
    other = Workdir(tmp_path, config(**{"report.clips": 9, "stages.a.log_every": 50}), VOLATILE)
    other.close()
    assert other.fingerprint == first.fingerprint
    assert json.loads((tmp_path / "config.json").read_text())["report"]["clips"] == 9


def test_strip_takes_whole_keys():
    leaves = strip({"report": {"x": 1}, "reporter": 2, "a": {"report": 3}}, ("report",))
    assert leaves == {"reporter": 2, "a.report": 3}


def test_second_process_is_refused(tmp_path: Path):
    held = Workdir(tmp_path, config(), ())
    program = (
        "from tavid_jax.engine.workdir import Workdir\n"
        f"Workdir({str(tmp_path)!r}, {config().to_dict()!r}, ())"
    )
    second = [sys.executable, "-c", program]
    refused = subprocess.run(second, capture_output=True, text=True)
    assert refused.returncode != 0
    assert f"workdir {tmp_path} is in use by another process" in refused.stderr
    held.close()
    assert subprocess.run(second, capture_output=True).returncode == 0


def test_file_systems_without_locks_are_used_with_a_warning(tmp_path: Path, monkeypatch, caplog):
    def flock(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    Workdir(tmp_path, config(), ()).close()
    assert "cannot be locked (No locks available)" in caplog.text


@pytest.mark.parametrize("place", ["file/run", "/proc/nothing/run"])
def test_unwritable_workdir_is_named(tmp_path: Path, place: str):
    (tmp_path / "file").write_text("")
    folder = tmp_path / place  # an absolute place stays as it is
    with pytest.raises(WorkdirError, match="cannot be written .*choose another one by --workdir"):
        Workdir(folder, config(), ())


def test_damaged_config_is_named(tmp_path: Path):
    (tmp_path / "stages").mkdir()
    (tmp_path / "config.json").write_text('{"seed"')
    with pytest.raises(WorkdirError, match=r"config\.json is damaged"):
        Workdir(tmp_path, config(), ())


def test_json_is_replaced_in_one_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "a" / "x.json"
    write_json(path, {"v": 1})

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_json(path, {"v": 2})
    assert json.loads(path.read_text()) == {"v": 1}
    assert list(path.parent.iterdir()) == [path]


def test_disk_errors_get_a_mend_and_others_pass(tmp_path: Path):
    with pytest.raises(WorkdirError, match="takes no more .No space.* free space"):
        raise_if_disk(OSError(errno.ENOSPC, "No space left on device"), tmp_path)
    raise_if_disk(OSError(errno.ENOENT, "No such file"), tmp_path)


def test_what_a_killed_process_left_is_swept(tmp_path: Path):
    stage = tmp_path / "stages" / "fit"
    for folder in (stage / ".cache.7.part", stage / "result.orbax-checkpoint-tmp-1"):
        folder.mkdir(parents=True)
    for file in (tmp_path / ".config.json.x1.part", stage / ".done.json.x2.part"):
        file.write_text("{")
    (stage / "done.json").write_text("{}")
    Workdir(tmp_path, {"seed": 1}).close()
    left = {path.name for path in tmp_path.rglob("*")}
    assert left == {".lock", "config.json", "stages", "fit", "done.json"}


def test_facts_of_the_beginning_are_kept(tmp_path: Path):
    workdir = Workdir(tmp_path, {"seed": 1})
    workdir.keep("clips", {"train": "3 clips, aa"}, "put them back")
    # Until a stage has begun there is nothing that others could spoil.
    workdir.keep("clips", {"train": "4 clips, bb"}, "put them back")
    (tmp_path / "stages").mkdir()
    workdir.keep("clips", {"train": "4 clips, bb"}, "put them back")
    expected = r"other clips \(train: 4 clips, bb then, 3 clips, aa now\): put them back"
    with pytest.raises(WorkdirError, match=expected):
        workdir.keep("clips", {"train": "3 clips, aa"}, "put them back")
    (tmp_path / "clips.json").write_text("[")
    with pytest.raises(WorkdirError, match="clips.json is damaged"):
        workdir.keep("clips", {"train": "3 clips, aa"}, "put them back")
    workdir.close()
