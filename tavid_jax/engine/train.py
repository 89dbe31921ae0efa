"""The one training loop: dispatch steps, never wait for them, save, resume to the same bits."""

from __future__ import annotations

import dataclasses
from collections import deque
from typing import Any

import jax
from absl import logging
from jax.sharding import Mesh

from tavid_jax.engine import telemetry, trees
from tavid_jax.engine.checkpoint import Checkpoints, save_result
from tavid_jax.engine.inputs import Inputs, StageFolder
from tavid_jax.engine.method import Method, Params
from tavid_jax.engine.optimizer import make_optimizer, make_schedule
from tavid_jax.engine.placement import initialise, result_of, split_trainable
from tavid_jax.engine.preemption import Preemption
from tavid_jax.engine.state import TrainState, init_state, make_train_step
from tavid_jax.parallel.mesh import to_global
from tavid_jax.parallel.sharding import PathTable, shardings_for


class NonFiniteError(RuntimeError):
    """Too many steps in a row had a loss or gradient that is not finite."""


@dataclasses.dataclass
class Training:
    """One train stage: `run()` goes from wherever it stands to its last step.

    Attributes:
      name, stage: the stage's name and config (see configs/common.py for its fields).
      earlier: results of the stages in `init_from`.
      provenance: config hash and seed, written into every checkpoint.
    """

    name: str
    stage: Any
    method: Method
    inputs: Inputs
    folder: StageFolder
    mesh: Mesh
    seed: int
    earlier: dict[str, Params]
    provenance: dict[str, Any]
    preemption: Preemption

    def run(self) -> Params:
        """Train (or go on training) and return the stage's result on the host."""
        with jax.set_mesh(self.mesh):
            return self._run()

    def _run(self) -> Params:
        state, frozen = self._start()
        checkpoints = Checkpoints(self.folder.checkpoints, keep=self.stage.keep)
        restored = checkpoints.restore_latest(state)
        clock = telemetry.Clock()
        if restored is not None:
            state, meta = restored
            clock = telemetry.Clock(meta["seconds"])
            logging.info("%s: resumed at step %d", self.name, int(state.step))
        start = int(state.step)
        if start < self.stage.steps:
            state = self._loop(state, frozen, start, checkpoints, clock)
        checkpoints.wait()
        checkpoints.close()
        self.seconds = clock.total()
        return self._result(state, frozen)

    def _start(self) -> tuple[TrainState, Params]:
        base = jax.random.key(self.seed)
        params = initialise(
            self.method, jax.random.fold_in(base, 0), self.mesh, self.earlier, PathTable()
        )
        trainable, frozen = split_trainable(self.method, params)
        optimizer = make_optimizer(self.stage.optimizer, self.stage.steps)
        ema = self.stage.ema > 0

        def build(weights):
            return init_state(weights, optimizer, jax.random.fold_in(base, 1), ema)

        self._shardings = shardings_for(jax.eval_shape(build, trainable), self.mesh, PathTable())
        return jax.jit(build, out_shardings=self._shardings)(trainable), frozen

    def _result(self, state: TrainState, frozen: Params) -> Params:
        weights = state.trainable if state.ema is None else state.ema
        return trees.to_host(result_of(self.method, trees.merge(frozen, weights)))

    def compile_step(self) -> Any:
        """The jitted step of this stage: donated state, state sharded as it was."""
        optimizer = self.stage.optimizer
        step = make_train_step(
            self.method,
            make_optimizer(optimizer, self.stage.steps),
            make_schedule(optimizer, self.stage.steps),
            encode=not self.reads_cache,
            micro_batches=self.stage.micro_batches,
            ema_decay=self.stage.ema,
        )
        return jax.jit(step, donate_argnums=0, out_shardings=(self._shardings, None))

    @property
    def reads_cache(self) -> bool:
        """Whether the data are a compute stage's encoded examples rather than clips."""
        return self.stage.data in self.stage.cached_by

    def _batches(self, start: int):
        def as_is(example: dict[str, Any], rng: Any) -> dict[str, Any]:
            del rng
            return example

        return self.inputs.batches(
            self.inputs.open(self.stage.data),
            as_is if self.reads_cache else self.method.prepare,
            batch_size=self.stage.batch_size,
            seed=self.seed,
            start_step=start,
        )

    def _loop(
        self, state: TrainState, frozen: Params, start: int, checkpoints: Checkpoints, clock: Any
    ) -> TrainState:
        step_fn = self.compile_step()
        writers = telemetry.open_writers(self.folder.path, start)
        progress = telemetry.Progress(self.name, self.stage.steps, start)
        buffer = telemetry.MetricBuffer()
        clips: deque[tuple[int, list[str]]] = deque(maxlen=256)
        batches = iter(self._batches(start))
        for step in range(start, self.stage.steps):
            with clock.measure("data"):
                batch = next(batches)
                arrays = to_global(batch.arrays, self.mesh)
            clips.append((step, batch.ids))
            with clock.measure("step"), jax.profiler.StepTraceAnnotation(self.name, step_num=step):
                state, metrics = step_fn(state, frozen, arrays)
                buffer.push(step + 1, metrics)
            done = step + 1
            last = done == self.stage.steps
            if done % self.stage.log_every == 0 or last or self.preemption.requested:
                self._log(buffer.pop(everything=last), clips, writers, progress, clock, done, last)
            if done in self.stage.snapshots:
                save_result(self.folder.snapshot(done), self._result(state, frozen))
            if done % self.stage.checkpoint_every == 0 or last or self.preemption.requested:
                with clock.measure("checkpoint"):
                    meta = {**self.provenance, "data_step": done, "seconds": clock.seconds}
                    checkpoints.save(done, state, meta, wait=self.preemption.requested)
            self.preemption.exit_if_requested(f"{self.name} saved at step {done}")
        for writer in writers:
            writer.close()
        return state

    def _log(self, entries, clips, writers, progress, clock, done, last) -> None:
        if not entries:
            return
        values = telemetry.mean_of([metrics for _, metrics in entries])
        self._check_finite(entries, clips)
        share = clock.seconds.get("data", 0.0) / max(clock.total(), 1e-9)
        seconds = {"data_share": share, "seconds": clock.total()}
        for writer in writers:
            writer.scalars(entries[-1][0], {**values, **seconds})
        text = f"| loss {values['loss']:.4g} | data {share:.0%}"
        if values["skipped"]:
            text += f" | {int(values['skipped'])} steps skipped"
        progress.show(done, text, last=last)

    def _check_finite(self, entries, clips) -> None:
        worst = max(entries, key=lambda entry: entry[1]["streak"])[1]
        if worst["streak"] < self.stage.max_bad_steps:
            return
        first, count = int(worst["streak_start"]), int(worst["streak"])
        ids = [f"step {step}: {', '.join(names)}" for step, names in clips if step >= first][:3]
        raise NonFiniteError(
            f"{self.name}: loss or gradient not finite for {count} steps in a row from step "
            f"{first}; clips of {'; '.join(ids)}. The last good weights are kept: lower "
            f"--config.stages.{self.name}.optimizer.lr or look at these clips"
        )
