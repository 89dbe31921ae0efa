"""The loop: resumed to the same bits, guarded, without waits and without recompilation."""

import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from tavid_jax.engine import monitor, train
from tavid_jax.engine.monitor import NonFiniteError
from tests.engine import toy

CHECKOUT = Path(__file__).resolve().parents[2]


def stop_at(step: int):
    """Sends SIGTERM when the loop takes the batch of `step`: it saves after that step."""

    def taken(now: int) -> None:
        if now == step:
            os.kill(os.getpid(), signal.SIGTERM)

    return taken


def nan_in(*steps: int) -> toy.ToyInputs:
    def at(step: int, arrays: dict[str, np.ndarray]) -> None:
        if step in steps:
            arrays["x"][:, 0] = np.nan

    return toy.ToyInputs(at)


@pytest.mark.parametrize("stop", [0, 1, 2])
def test_stopped_and_resumed_to_the_same_bits(tmp_path: Path, straight: Path, stop: int):
    """Stop 1 is a checkpoint of its own making, 0 and 2 lie between two regular ones."""
    with pytest.raises(SystemExit) as left:
        toy.run(tmp_path, inputs=toy.ToyInputs(taken=stop_at(stop)))
    assert left.value.code == 75
    assert toy.saved_steps(tmp_path)[-1] == stop + 1
    inputs = toy.ToyInputs()
    results = toy.run(tmp_path, inputs=inputs)
    assert inputs.opened == ["train"]  # the statistics were not made again
    toy.assert_same_bits(toy.saved_state(tmp_path), toy.saved_state(straight))
    assert toy.records(tmp_path) == toy.records(straight)
    assert results.curves["fit"][-1]["step"] == toy.STEPS
    assert results.provenance["weights/fit"]


def test_sigterm_while_a_checkpoint_is_written(
    tmp_path: Path, straight: Path, monkeypatch: pytest.MonkeyPatch
):
    real = train.Checkpoints.save

    def save(self, step, *args, **options):
        if step == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        real(self, step, *args, **options)

    monkeypatch.setattr(train.Checkpoints, "save", save)
    with pytest.raises(SystemExit) as left:
        toy.run(tmp_path)
    assert left.value.code == 75
    assert toy.saved_steps(tmp_path) == [2, 3]  # the one in the making is finished
    toy.run(tmp_path)
    toy.assert_same_bits(toy.saved_state(tmp_path), toy.saved_state(straight))


def test_state_holds_all_that_a_restart_needs(straight: Path):
    state = toy.saved_state(straight)
    names = " ".join(state)
    for part in ("trainable", "ema", "mu", "nu", "count", "rng", "step", "skipped", "streak"):
        assert f"['{part}']" in names, part
    assert state["['step']"] == toy.STEPS
    # Frozen parts and fixed tables are not in it.
    assert "stats" not in names and "table" not in names
    assert all(leaf.dtype == np.float32 for path, leaf in state.items() if "'net'" in path)


def program(
    folder: Path, variables: dict[str, str], *arguments: str
) -> subprocess.CompletedProcess:
    settings = {"JAX_PLATFORMS": "cpu", "JAX_DEFAULT_MATMUL_PRECISION": "highest"}
    return subprocess.run(
        [sys.executable, "-m", "tests.engine.toy", str(folder), *arguments],
        cwd=CHECKOUT,
        env=os.environ | settings | variables,
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize(
    ("fault", "code", "message"),
    [
        ("--kill=3", -signal.SIGKILL, ""),
        ("--terminate=2", 75, "SIGTERM: fit is saved at step 3; run the same command to go on"),
        pytest.param(
            *("--interrupt=2", 130, "interrupted: fit is saved at step 3; run the same command"),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_stopped_program_goes_on_to_the_same_bits(
    tmp_path: Path,
    straight: Path,
    programs: dict[str, str],
    fault: str,
    code: int,
    message: str,
):
    first = program(tmp_path, programs, fault)
    assert first.returncode == code, first.stderr[-2000:]
    assert message in first.stderr and "Traceback" not in first.stderr
    assert not (tmp_path / "stages" / "fit" / "done.json").exists()
    second = program(tmp_path, programs)
    assert second.returncode == 0, second.stderr[-2000:]
    toy.assert_same_bits(toy.saved_state(tmp_path), toy.saved_state(straight))
    assert toy.records(tmp_path) == toy.records(straight)


def test_seconds_are_carried_over_restarts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(SystemExit):
        toy.run(tmp_path, inputs=toy.ToyInputs(taken=stop_at(1)))
    real = train.Checkpoints.restore_latest
    seen = {}

    def spy(self, like):
        state, meta = real(self, like)
        seen.update(meta)
        return state, {**meta, "seconds": {"step": 1000.0, "data": 500.0}}

    monkeypatch.setattr(train.Checkpoints, "restore_latest", spy)
    results = toy.run(tmp_path)
    assert seen["data_step"] == 2 and set(seen["seconds"]) >= {"data", "compile", "step"}
    assert seen["config"]["stages"]["fit"]["steps"] == toy.STEPS
    assert seen["provenance"]["config"] == results.provenance["config"]
    assert results.seconds["fit"] > 1500
    assert 0.2 < results.curves["fit"][-1]["data_share"] < 0.4


def test_bad_steps_are_skipped_named_and_counted(tmp_path: Path, caplog):
    with caplog.at_level(logging.WARNING, "absl"):
        results = toy.run(tmp_path, toy.toy_config(steps=5), nan_in(1, 3))
    said = [r.getMessage() for r in caplog.records if "not finite" in r.getMessage()]
    assert len(said) == 2 and "1 steps skipped so far; clips of step 1: clip3008, " in said[0]
    assert "2 steps skipped so far; clips of step 3: " in said[1]
    curve = results.curves["fit"]
    assert [r["skipped"] for r in curve] == [0, 1, 1, 2, 2]
    assert np.isnan(curve[1]["loss"]) and np.isfinite(curve[2]["loss"])
    # The schedule stands still in a skipped step, as the optimizer does.
    assert curve[2]["learning_rate"] == curve[1]["learning_rate"] > curve[0]["learning_rate"]
    leaves = jax.tree.leaves(results.params("fit"))
    assert all(np.isfinite(leaf).all() for leaf in leaves)


@pytest.mark.parametrize("log_every", [1, 1000])
def test_guard_stops_a_hopeless_run(tmp_path: Path, log_every: int):
    config = toy.toy_config(steps=50, checkpoint_every=1000, log_every=log_every)
    made = []
    inputs = nan_in(*range(2, 50))
    inputs.at = lambda step, arrays, at=inputs.at: (made.append(step), at(step, arrays))
    with pytest.raises(NonFiniteError) as stopped:
        toy.run(tmp_path, config, inputs)
    message = str(stopped.value)
    assert "fit:" in message and "3 steps in a row from step 2" in message
    assert "step 2: clip3016, clip3017" in message
    assert max(made) < 2 + 3 + 3 + 3  # the row, the next look, the lag of the buffer
    assert not (tmp_path / "stages" / "fit" / "done.json").exists()


def test_guard_speaks_before_a_checkpoint_and_at_the_end(tmp_path: Path):
    config = toy.toy_config(steps=5, checkpoint_every=5, log_every=1000, max_bad_steps=3)
    with pytest.raises(NonFiniteError, match="from step 2"):
        toy.run(tmp_path, config, nan_in(2, 3, 4))
    assert toy.saved_steps(tmp_path) == []


def test_a_row_of_bad_steps_is_counted_over_a_restart(tmp_path: Path):
    config = toy.toy_config(steps=9, checkpoint_every=2)
    inputs = nan_in(2, 3, 4)
    inputs.taken = stop_at(3)
    with pytest.raises(SystemExit):
        toy.run(tmp_path, config, inputs)
    with pytest.raises(NonFiniteError, match="3 steps in a row from step 2"):
        toy.run(tmp_path, config, nan_in(4))
    # The clips mended, the same command goes on from what was saved.
    assert toy.run(tmp_path, config).curves["fit"][-1]["step"] == 9


class _Compilations(logging.Handler):
    def __init__(self):
        super().__init__()
        self.names: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if message.startswith("Compiling "):
            self.names.append(message.split()[1])


def test_nothing_compiles_after_the_second_step(tmp_path: Path):
    seen = _Compilations()
    compiled: dict[int, int] = {}
    inputs = toy.ToyInputs(taken=lambda step: compiled.update({step: len(seen.names)}))
    logger = logging.getLogger("jax")
    logger.addHandler(seen)
    try:
        with jax.log_compiles(True):
            toy.run(tmp_path, toy.toy_config(steps=8, checkpoint_every=3, log_every=2), inputs)
    finally:
        logger.removeHandler(seen)
    assert any("step" in name for name in seen.names)
    assert seen.names.count("jit(step)") == 1
    assert compiled[7] == compiled[2], seen.names[compiled[2] :]


def test_no_step_waits_for_its_own_metrics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Between two logs nothing is fetched, and no wait is for less than two steps behind."""
    events: list[tuple[str, int]] = []
    now = [0]

    def note(name, real):
        def wrapped(tree):
            leaves = jax.tree.leaves(tree)
            if leaves:
                events.append((name, now[0]))
            return real(tree)

        return wrapped

    real_push = monitor.MetricBuffer.push

    def push(self, step, metrics):
        now[0] = step
        held = len(self._entries)
        real_push(self, step, metrics)
        assert held <= 6 + self._lag  # fetched in bulk, at the logs

    fetch, wait = note("fetch", jax.device_get), note("wait", jax.block_until_ready)
    monkeypatch.setattr(monitor.jax, "device_get", fetch)
    monkeypatch.setattr(monitor.jax, "block_until_ready", wait)
    monkeypatch.setattr(monitor.MetricBuffer, "push", push)
    config = toy.toy_config(steps=12, checkpoint_every=100, log_every=6, max_bad_steps=6)
    toy.run(tmp_path, config)
    assert [step for name, step in events if name == "fetch"] == [6, 12, 12]


def test_snapshots_and_ema(tmp_path: Path):
    results = toy.run(tmp_path, toy.toy_config(snapshots=(1, 4), ema=0.5))
    early, late = results.params("fit@1"), results.params("fit@4")
    final = results.params("fit")
    np.testing.assert_array_equal(
        late["net"]["head"]["kernel"], final["net"]["head"]["kernel"], strict=True
    )
    assert np.abs(early["net"]["head"]["kernel"] - final["net"]["head"]["kernel"]).max() > 0
    # The result is the average, with what stayed fixed, and without the frozen statistics.
    state = toy.saved_state(tmp_path)
    np.testing.assert_array_equal(
        final["net"]["head"]["kernel"], state["['ema']['net']['head']['kernel']"]
    )
    np.testing.assert_array_equal(final["net"]["table"], np.arange(toy.DIM))
    assert set(final) == {"net"}


def test_without_ema_the_weights_are_the_result(tmp_path: Path):
    final = toy.run(tmp_path, toy.toy_config(ema=0.0)).params("fit")
    state = toy.saved_state(tmp_path)
    assert not any("ema" in path for path in state)
    np.testing.assert_array_equal(
        final["net"]["head"]["kernel"], state["['trainable']['net']['head']['kernel']"]
    )


def test_validation_is_logged_and_disturbs_nothing(tmp_path: Path, straight: Path):
    validate = dict(every=2, data="held_out", batches=2)
    inputs = toy.ToyInputs()
    results = toy.run(tmp_path, toy.toy_config(validate=validate), inputs)
    assert "held_out" in inputs.opened
    name = "validation/loss"
    scores = {r["step"]: r[name] for r in results.curves["fit"] if name in r}
    assert set(scores) == {2, 4} and all(np.isfinite(v) for v in scores.values())
    toy.assert_same_bits(toy.saved_state(tmp_path), toy.saved_state(straight))
    plain = [{k: v for k, v in r.items() if k != "validation/loss"} for r in toy.records(tmp_path)]
    assert plain == toy.records(straight)


class Scheduled(toy.Fit):
    scheduled = True

    def prepare(self, clip, rng, step):
        return {"step": step}


class Asked(toy.ToyInputs):
    """Notes what `prepare` of each call makes."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def batches(self, source, prepare, *, scheduled=False, start_step=0, **options):
        made = prepare(None, None, *((start_step,) if scheduled else ()))
        self.calls.append((scheduled, made and made["step"]))
        return super().batches(source, prepare, start_step=start_step, **options)


def test_a_scheduled_method_is_told_the_step(tmp_path: Path):
    config = toy.toy_config(validate=dict(every=2, data="held_out", batches=1))
    inputs = Asked()
    toy.run(tmp_path, config, inputs, toy.ToySystem(fit=Scheduled()))
    # Statistics know no steps, training begins at 0, the held-out clips are as at the last step.
    assert inputs.calls == [(False, None), (True, 0), (False, toy.STEPS - 1)]
    compute = Scheduled().prepare_at(0)
    assert compute(None, None) == {"step": 0} and toy.Fit().prepare_at(5)(7, None) == 7


def test_validation_needs_a_full_batch(tmp_path: Path):
    config = toy.toy_config(validate=dict(every=2, data="held_out", batches=2))
    with pytest.raises(ValueError, match="less than one batch of 8"):
        toy.run(tmp_path, config, toy.ToyInputs(size=5))


def test_profile_window(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    calls: list[str] = []
    monkeypatch.setattr(jax.profiler, "start_trace", lambda path: calls.append(path))
    monkeypatch.setattr(jax.profiler, "stop_trace", lambda: calls.append("stop"))
    toy.run(tmp_path, toy.toy_config(profile=(1, 2)))
    assert calls == [str(tmp_path / "stages" / "fit" / "profile"), "stop"]


def test_data_that_end_are_named(tmp_path: Path):
    inputs = toy.ToyInputs()
    endless = inputs.batches

    def short(source, prepare, *, num_epochs=None, **options):
        batches = endless(source, prepare, num_epochs=num_epochs, **options)
        yield from batches if num_epochs else [next(batches) for _ in range(2)]

    inputs.batches = short
    with pytest.raises(ValueError, match="fit: the data 'train' end before step 2"):
        toy.run(tmp_path, inputs=inputs)
