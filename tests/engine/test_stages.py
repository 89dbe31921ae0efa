"""A run as a list of stages: finished ones are skipped, broken ones made again."""

import errno
import json
import logging
import os
import resource
import shutil
import signal
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tavid_jax.engine.checkpoint import CheckpointError
from tavid_jax.engine.placement import InitError
from tavid_jax.engine.stages import StageError, check_stages, open_results
from tavid_jax.engine.workdir import WorkdirError
from tests.engine import toy

# Failed reads and writes leave callbacks of the storage library behind that find no event loop.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("order", ("stats", "flow"), "order names stage 'flow'; stages has .*'fit', 'stats'"),
        ("stages.fit.kind", "tune", "stages.fit.kind 'tune' is none of .*'encode', 'train'"),
        ("order", ("fit", "stats"), "stage 'fit' needs 'stats', which does not come before it"),
        ("stages.fit.cached_by", ("later",), "stage 'fit' needs 'later'"),
        ("stages.fit.micro_batches", 3, "batch_size 8 is not a multiple of its micro_batches 3"),
        ("stages.fit.optimizer.warmup", 99, r"stages.fit: optimizer.warmup 99 must lie in 0\.\."),
        ("stages.fit.snapshots", (2, 9), r"fit.snapshots \[9\] lie outside of its 4 steps"),
        ("stages.fit.log_every", 0, "stages.fit.log_every is 0, must be at least 1"),
        ("stages.fit.frozen_dtype", "int4", "stages.fit: frozen_dtype 'int4' of a stage is none"),
        ("stages.fit.offload", {"ema": True}, "stages.fit: offload.ema is no field of a stage"),
    ],
)
def test_stages_that_make_no_sense_are_refused(path: str, value, message: str):
    config = toy.toy_config()
    config.update_from_flattened_dict({path: value})
    with pytest.raises(StageError, match=message):
        check_stages(config)


class Once(toy.ToySystem):
    """Fails when a stage is asked for that should not run."""

    def __init__(self, *allowed: str):
        super().__init__()
        self.allowed = allowed

    def method(self, stage: str):
        assert stage in self.allowed, stage
        return super().method(stage)


def test_finished_stages_are_skipped(tmp_path: Path):
    first = toy.run(tmp_path)
    again = toy.run(tmp_path, system=Once())
    assert again.provenance == first.provenance and again.seconds == first.seconds
    assert set(first.provenance) == {"config", "seed", "weights/stats", "weights/fit", "jax"}
    done = json.loads((tmp_path / "stages" / "fit" / "done.json").read_text())
    assert done["weights"] == first.provenance["weights/fit"]


def test_results_are_merged_and_statistics_are_right(straight: Path):
    config = toy.toy_config()
    results = open_results(config, straight, "hash")
    params = results.params("stats", "fit")
    assert set(params) == {"stats", "net"}
    x = np.stack([toy.example(i)["x"] for i in range(20)]).astype(np.float64)
    np.testing.assert_allclose(params["stats"]["mean"], x.mean(0), rtol=1e-6)
    np.testing.assert_allclose(params["stats"]["std"], x.std(0), rtol=1e-5)
    assert params["stats"]["mean"].dtype == np.float64


def test_results_of_an_unfinished_run_are_refused(tmp_path: Path):
    with pytest.raises(StageError, match="stage 'stats' in .* has not finished; run --mode=train"):
        open_results(toy.toy_config(), tmp_path, "hash")


@pytest.mark.parametrize("stage", ["stats", "fit"])
def test_damaged_result_of_a_finished_stage_is_made_again(tmp_path: Path, caplog, stage: str):
    first = toy.run(tmp_path)
    toy.damage(tmp_path / "stages" / stage / "result", "truncate")
    with pytest.raises(CheckpointError, match="is damaged"):
        open_results(toy.toy_config(), tmp_path, "hash").params(stage)
    inputs = toy.ToyInputs()
    again = toy.run(tmp_path, inputs=inputs, system=Once(stage))
    assert f"stage {stage} has to finish again" in caplog.text
    assert again.provenance == first.provenance
    # A train stage comes back from its last checkpoint, without a step.
    assert inputs.opened == (["train"] if stage == "stats" else [])
    again.params(stage)


class Gone(toy.ToyInputs):
    """The examples that a stage has left cannot be opened."""

    def open(self, name: str):
        if name == "stats":
            raise ValueError("the examples are cut off")
        return super().open(name)


def test_damaged_cache_of_a_finished_stage_is_made_again(tmp_path: Path, caplog):
    config = toy.toy_config(stats=dict(cache=True))
    toy.run(tmp_path, config)
    cache = tmp_path / "stages" / "stats" / "cache"
    shutil.rmtree(cache)
    with caplog.at_level(logging.WARNING, "absl"):
        toy.run(tmp_path, config, Gone())
    assert "stage stats has to finish again: the examples are cut off" in caplog.text
    assert cache.exists() and (tmp_path / "stages" / "stats" / "done.json").exists()


def test_interrupted_compute_stage_starts_again(tmp_path: Path):
    class Interrupting(toy.Statistics):
        seen = 0

        def prepare(self, clip, rng):
            return clip

        def examine(self, params, batch, rng):
            os.kill(os.getpid(), signal.SIGTERM)  # while it is traced: in the first batch
            return super().examine(params, batch, rng)

    config = toy.toy_config(stats=dict(cache=True))
    cache = tmp_path / "stages" / "stats" / "cache" / "ids.json"
    with pytest.raises(SystemExit) as left:
        toy.run(tmp_path, config, system=toy.ToySystem(stats=Interrupting()))
    assert left.value.code == 75
    assert not cache.exists() and not (tmp_path / "stages" / "stats" / "result").exists()
    results = toy.run(tmp_path, config)
    np.testing.assert_array_equal(
        results.params("stats")["stats"]["mean"],
        toy.run(tmp_path / "other").params("stats")["stats"]["mean"],
    )
    # Every example once: the padding of the last batch is not cached.
    assert json.loads(cache.read_text()) == [f"clip{i}" for i in range(20)]


class CacheOnly(toy.Statistics):
    def examine(self, params, batch, rng):
        return {"x": batch["x"]}, {}

    def conclude(self, sums):
        return {}


def test_a_compute_stage_may_leave_nothing_but_a_cache(tmp_path: Path):
    config = toy.toy_config(stats=dict(cache=True, epochs=2), init_from=())
    config.order = ("stats",)
    results = toy.run(tmp_path, config, system=toy.ToySystem(stats=CacheOnly()))
    assert results.params("stats") == {}
    ids = json.loads((tmp_path / "stages" / "stats" / "cache" / "ids.json").read_text())
    assert len(ids) == 40


def test_a_compute_stage_reads_what_is_given_once_and_caches_nothing(tmp_path: Path):
    class Given(toy.Statistics):
        given = "made_elsewhere"

        def init(self, rng):
            raise AssertionError("there is no need for parameters")

    config = toy.toy_config(stats=dict(cache=True, epochs=3, min_examples=100), init_from=())
    config.order = ("stats",)
    inputs = toy.ToyInputs()
    results = toy.run(tmp_path, config, inputs=inputs, system=toy.ToySystem(stats=Given()))
    assert inputs.opened == ["made_elsewhere"]
    assert not (tmp_path / "stages" / "stats" / "cache").exists()
    x = np.stack([toy.example(i)["x"] for i in range(20)])
    np.testing.assert_allclose(results.params("stats")["stats"]["mean"], x.mean(0), rtol=1e-5)


def test_a_compute_stage_without_data_is_an_error(tmp_path: Path):
    with pytest.raises(ValueError, match="stats: the data 'train' have no example"):
        toy.run(tmp_path, inputs=toy.ToyInputs(size=0))


def test_missing_frozen_part_stops_before_training(tmp_path: Path):
    with pytest.raises(InitError, match="stats/mean is frozen in Fit"):
        toy.run(tmp_path, toy.toy_config(init_from=()))


def test_sigterm_between_stages_leaves_with_the_restart_code(tmp_path: Path):
    class Terminating(toy.Statistics):
        def conclude(self, sums):
            os.kill(os.getpid(), signal.SIGTERM)
            return super().conclude(sums)

    with pytest.raises(SystemExit) as left:
        toy.run(tmp_path, system=toy.ToySystem(stats=Terminating()))
    assert left.value.code == 75
    assert (tmp_path / "stages" / "stats" / "done.json").exists()
    toy.run(tmp_path, system=Once("fit"))


def test_full_disk_outside_of_checkpoints_has_one_message(tmp_path: Path):
    def full(step, arrays):
        raise OSError(errno.ENOSPC, "No space left on device", "/some/metrics.jsonl")

    with pytest.raises(WorkdirError, match="No space left on device: /some/metrics.jsonl"):
        toy.run(tmp_path, inputs=toy.ToyInputs(full))


class Wide(toy.Fit):
    """Large enough that its checkpoint does not fit where its telemetry does."""

    def init(self, rng):
        params = super().init(rng)
        params["net"]["wide"] = jax.random.normal(rng, (300_000,))
        return params

    def loss(self, params, batch, rng, step):
        (total, weight), logs = super().loss(params, batch, rng, step)
        return (total + jnp.sum(params["net"]["wide"] ** 2), weight), logs


def test_disk_that_fills_up_while_saving(tmp_path: Path):
    """The earlier checkpoint stays; with space again the run goes on to the same bits."""
    system = toy.ToySystem(fit=Wide())
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(step):
        if step == 3:
            deadline = (tmp_path / "stages" / "fit" / "checkpoints" / "2").exists
            while not deadline():  # the checkpoint of step 2 is still being written
                signal.sigtimedwait([], 0.01)
            resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limits[1]))

    try:
        with pytest.raises(CheckpointError, match=r"step 4 cannot be written .*step 2 is intact"):
            toy.run(tmp_path, inputs=toy.ToyInputs(taken=fill), system=system)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert toy.saved_steps(tmp_path) == [2]
    assert not (tmp_path / "stages" / "fit" / "done.json").exists()
    toy.run(tmp_path, system=system)
    toy.run(tmp_path / "other", system=system)
    toy.assert_same_bits(toy.saved_state(tmp_path), toy.saved_state(tmp_path / "other"))
