"""A whole run whose workdir lies in a bucket: the bits of a local one, one run at a time."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from absl import logging
from jax.experimental.compilation_cache import compilation_cache

from tavid_jax import places
from tavid_jax.engine import lock
from tavid_jax.engine.compile_cache import enable_compile_cache
from tavid_jax.engine.report import Report
from tavid_jax.engine.workdir import Workdir, WorkdirError, holds_run
from tests.engine import toy

RUN = "gs://bucket/runs/toy"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leases that die soon."""
    monkeypatch.setattr(lock, "BEAT", 0.05)
    monkeypatch.setattr(lock, "DEAD", 0.5)


def terminate_at(step: int) -> toy.ToyInputs:
    def taken(now):
        if now == step:
            os.kill(os.getpid(), signal.SIGTERM)

    return toy.ToyInputs(taken=taken)


def test_a_run_that_is_stopped_and_goes_on_elsewhere_has_the_bits_of_a_local_one(
    bucket, straight: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with pytest.raises(SystemExit) as stopped:
        toy.run(RUN, inputs=terminate_at(1))
    assert stopped.value.code == 75
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another machine"))
    results = toy.run(RUN)
    assert results.params("fit")["net"].keys() == {"layers", "head", "table"}
    assert [record["step"] for record in results.curves["fit"]] == [1, 2, 3, 4]
    copy = places.pull(places.place(RUN))
    assert toy.saved_steps(copy) == toy.saved_steps(straight)
    toy.assert_same_bits(toy.saved_state(copy), toy.saved_state(straight))
    assert toy.records(copy) == toy.records(straight)
    done = [json.loads((p / "stages/fit/done.json").read_text()) for p in (copy, straight)]
    assert done[0]["weights"] == done[1]["weights"]
    assert list((copy / "stages" / "fit" / "tensorboard").iterdir())
    assert "runs/toy/.lock" not in bucket.objects
    # Finished: nothing is trained again.
    inputs = toy.ToyInputs()
    toy.run(RUN, inputs=inputs)
    assert not inputs.opened


@pytest.mark.slow
def test_damaged_checkpoints_are_put_aside(bucket, straight: Path, caplog):
    with pytest.raises(SystemExit):
        toy.run(RUN, inputs=terminate_at(2))
    steps = {n.split("/")[5] for n in bucket.objects if n.startswith("runs/toy/stages/fit/checkp")}
    assert steps == {"2", "3"}
    for name in list(bucket.objects):
        if "/checkpoints/3/state/" in name:
            bucket.put(name, bucket.objects[name][0][: len(bucket.objects[name][0]) // 2])
    toy.run(RUN)
    assert "falling back to the checkpoint of step 2" in caplog.text
    assert any("/checkpoints/unusable/3/" in name for name in bucket.objects)
    copy = places.pull(places.place(RUN))
    toy.assert_same_bits(toy.saved_state(copy, 4), toy.saved_state(straight, 4))


def test_bucket_that_is_not_there_is_named(bucket):
    with pytest.raises(WorkdirError, match="gs://nowhere/run cannot be used .* the bucket's name"):
        Workdir("gs://nowhere/run", toy.toy_config())


def test_bucket_that_cannot_be_asked_for_a_run_is_named(bucket, monkeypatch):
    assert not holds_run(places.place(RUN))

    def unreachable(path):
        raise ConnectionError("no route")

    monkeypatch.setattr(type(places.place(RUN)), "exists", unreachable)
    with pytest.raises(WorkdirError, match="gs://bucket/runs/toy .*no route.* the bucket's name"):
        holds_run(places.place(RUN))


def test_report_goes_to_the_bucket(bucket):
    written = Report("A title").write(places.place(RUN) / "report")
    assert b"A title" in bucket.objects["runs/toy/report/index.html"][0]
    assert str(written) == f"{RUN}/report/index.html"


def test_second_process_is_refused_while_the_first_lives(bucket, quick):
    held = Workdir(RUN, toy.toy_config())
    with pytest.raises(WorkdirError, match=r"in use by process \d+ of .*, which is alive; wait"):
        Workdir(RUN, toy.toy_config())
    held.close()
    assert "runs/toy/.lock" not in bucket.objects
    Workdir(RUN, toy.toy_config()).close()


@pytest.mark.parametrize("host", ["this", "another"])
def test_lease_of_a_dead_process_is_taken_over(host: str, bucket, quick, caplog):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    machine = lock._machine() if host == "this" else "another"
    left = {"machine": machine, "pid": ended.pid, "id": "x", "time": lock.time.time()}
    bucket.put("runs/toy/.lock", json.dumps(left).encode())
    began = lock.time.monotonic()
    Workdir(RUN, toy.toy_config()).close()
    waited = lock.time.monotonic() - began > lock.DEAD
    assert waited == (host == "another")
    assert "which has ended: taken over" in caplog.text


def test_run_whose_lease_was_taken_stops_as_if_told_to(bucket, quick, caplog):
    told = []
    former = signal.signal(signal.SIGTERM, lambda *_: told.append(True))
    try:
        held = Workdir(RUN, toy.toy_config())
        while held._lock._thread.is_alive():  # a beat that is under way may write over it once
            bucket.put("runs/toy/.lock", b'{"host": "other", "pid": 1, "id": "y"}')
            held._lock._thread.join(0.5)
        held.close()
    finally:
        signal.signal(signal.SIGTERM, former)
    assert told and "taken over by process 1 of other" in caplog.text
    assert json.loads(bucket.objects["runs/toy/.lock"][0])["id"] == "y"


def compile_something(number: float) -> None:
    compilation_cache.reset_cache()
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.jit(lambda x: jnp.tanh(x) * number)(jnp.ones(3))


def test_compiled_programs_are_kept_in_a_bucket(bucket, programs, caplog):
    assert enable_compile_cache("gs://bucket/xla")
    compile_something(18.25)
    kept = [name for name in bucket.objects if name.endswith("-cache")]
    assert kept and all(name.startswith("xla/") for name in kept)
    bucket.read_only = True
    jax.clear_caches()
    logging.set_verbosity(logging.INFO)
    assert enable_compile_cache("gs://bucket/xla")
    assert "can be read, but not written" in caplog.text
    assert jax.config.jax_persistent_cache_min_compile_time_secs == float("inf")
    bucket.requests.clear()
    compile_something(18.25)
    assert any("alt=media" in line for line in bucket.requests)
    assert not enable_compile_cache("gs://nowhere/xla")
    assert "no compile cache: gs://nowhere/xla cannot be used" in caplog.text


@pytest.mark.slow
def test_the_command_trains_reports_and_samples_in_a_bucket(bucket, tmp_path: Path):
    """TrajLoom's smallest preset; the same command goes on; the report is that of a local run."""

    def command(workdir, *more):
        config = ["--config=configs/trajloom.py:tiny", f"--config.data_dir={tmp_path / 'data'}"]
        call = [sys.executable, "-m", "tavid_jax.main", *config, f"--workdir={workdir}", *more]
        variables = os.environ | {"FSSPEC_GCS_TOKEN": "anon"}
        root = Path(__file__).parents[2]
        done = subprocess.run(call, cwd=root, env=variables, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stderr

    command(tmp_path / "local")
    command(RUN)
    assert "stage vae is finished: skipped" in command(RUN)
    numbers = json.loads(bucket.objects["runs/toy/report/metrics.json"][0])
    local = json.loads((tmp_path / "local" / "report" / "metrics.json").read_text())
    for one in (numbers, local):
        del one["seconds"]
    assert numbers == local
    assert "runs/toy/report/index.html" in bucket.objects
    shutil.rmtree(tmp_path / "caches")  # another machine
    command(RUN, "--mode=evaluate")
