"""The one training loop: dispatch steps, never wait for them, save, resume to the same bits."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from typing import Any

import jax
from absl import logging

from tavid_jax.engine import telemetry, trees
from tavid_jax.engine.checkpoint import CheckpointError, Checkpoints, save_result
from tavid_jax.engine.compiling import compile_behind
from tavid_jax.engine.feed import Feed
from tavid_jax.engine.job import StageJob, pretrained_key
from tavid_jax.engine.method import Params
from tavid_jax.engine.monitor import Monitor
from tavid_jax.engine.placement import (
    initialise,
    result_of,
    split_trainable,
)
from tavid_jax.engine.profiling import profile_window
from tavid_jax.engine.program import Program, Step, difference
from tavid_jax.engine.speed import Work
from tavid_jax.engine.state import TrainState
from tavid_jax.engine.validation import Validation
from tavid_jax.parallel.memory import check_host_memory, on_device
from tavid_jax.parallel.mesh import to_global
from tavid_jax.parallel.processes import barrier, gather_to_host


class Training(StageJob):
    """One train stage: `run()` goes from wherever it stands to its last step."""

    @functools.cached_property
    def program(self) -> Program:
        """What this stage compiles."""
        return Program(self.method, self.stage, self.mesh)

    def run(self) -> Params:
        """Train (or go on training) and return the stage's result on the host.

        Raises NonFiniteError, CheckpointError, InitError or ValueError, each with its mend, and
        SystemExit after a signal.
        """
        if any(self.stage.get("offload", {}).values()):
            check_host_memory(self.mesh.local_devices)
        checkpoints = Checkpoints(self.folder.checkpoints, keep=self.stage.keep)
        clock = telemetry.Clock(ledger=self.ledger)
        with jax.set_mesh(self.mesh), checkpoints:
            trained, frozen = self.program.abstract_params()
            like = self.program.abstract_state(trained)
            is_over = self.stage.steps in checkpoints.steps()
            ahead = None if is_over else self._compile(like, frozen, clock)
            state, frozen = self._start(like, checkpoints, clock)
            self.ledger.begin_stage(self.name, "train", int(state.step))
            if int(state.step) < self.stage.steps:
                checkpoints.make_room(state)
                ahead = ahead or self._compile(like, frozen, clock)
                state = self._loop(state, frozen, ahead, checkpoints, clock)
        self.seconds = clock.total()
        return self._result(state, frozen)

    def _compile(
        self,
        state: TrainState,
        frozen: Params,
        clock: telemetry.Clock,
        batch: Mapping[str, Any] | None = None,
    ) -> Future[jax.stages.Compiled]:
        """The step for such arrays, or shapes, and batches as the method's specs say: traced, and
        compiled behind what comes next."""
        with clock.measure("compile"):
            step = self.program.jitted_step(state)
            batch = self.program.abstract_batch() if batch is None else batch
            return compile_behind(step.lower(state, frozen, batch))

    def _compiled(
        self,
        ahead: Future[jax.stages.Compiled],
        state: TrainState,
        frozen: Params,
        batch: Mapping[str, jax.Array],
        clock: telemetry.Clock,
    ) -> Step:
        """What was compiled ahead, or is now, if the first batch is not what that was for."""
        like = self.program.abstract_batch()
        if differs := difference(batch, like):
            logging.info(
                "%s: compiled anew, as the data are not what the specs of %s say: %s",
                *(self.name, type(self.method).__name__, differs),
            )
            ahead, like = self._compile(state, frozen, clock, batch), jax.eval_shape(dict, batch)
        with clock.measure("compile"):
            compiled = ahead.result()

        def run(state: TrainState, frozen: Params, batch: Mapping[str, jax.Array]) -> Any:
            try:
                return compiled(state, frozen, batch)
            except TypeError as error:  # arguments of other types: nothing has been done
                if differs := difference(batch, like):
                    raise ValueError(f"{self.name}: batches differ, {differs}") from error
                raise

        return run

    def _start(
        self, like: TrainState, checkpoints: Checkpoints, clock: telemetry.Clock
    ) -> tuple[TrainState, Params]:
        """What to go on from, and what is frozen: the newest checkpoint, or the beginning."""
        base = jax.random.key(self.seed)
        restored = checkpoints.restore_latest(like)
        resumed = restored is not None
        if resumed:
            self._check_sources(restored[1]["provenance"])
        key = jax.random.fold_in(base, 0)
        params = initialise(
            self.method,
            key,
            self.mesh,
            self.earlier,
            frozen_only=resumed,
            on_host=self.program.on_host,
        )
        if resumed:
            state, meta = restored
            logging.info("%s: resumed at step %d", self.name, meta["data_step"])
            clock.resume(meta["seconds"])
            return state, params
        trainable, frozen = split_trainable(self.method, params)
        places = jax.tree.map(lambda leaf: leaf.sharding, like)
        build = jax.jit(self.program.build, out_shardings=places)
        return build(trainable, jax.random.fold_in(base, 1)), frozen

    def _check_sources(self, begun_with: Mapping[str, Any]) -> None:
        """A run goes on from the weights that it began with, or not at all."""
        for what, fingerprint in self.method.sources().items():
            before = begun_with.get(pretrained_key(what))
            if before != fingerprint:
                raise CheckpointError(
                    f"{self.folder.checkpoints} was begun with other pretrained weights of the "
                    f"{what} ({before}, now {fingerprint}); give it those, or choose another "
                    "--workdir"
                )

    def _weights(self, state: TrainState) -> Params:
        """What the stage is judged by and hands on: the moving average where there is one."""
        return state.trainable if state.ema is None else on_device(state.ema)

    def _result(self, state: TrainState, frozen: Params) -> Params:
        everything = trees.merge(frozen, self._weights(state))
        return gather_to_host(result_of(self.method, everything))

    def _batches(self, data: str, prepare: Callable[..., Any], **options: Any) -> Iterator[Any]:
        method = self.method  # alone: worker processes get a copy

        def recall(example: dict[str, Any], rng: np.random.Generator, *_: Any) -> dict[str, Any]:
            return method.recall(example, rng)

        return iter(
            self.inputs.batches(
                self.inputs.open(data),
                recall if self.program.is_cache(data) else prepare,
                batch_size=self.stage.batch_size,
                seed=self.seed,
                **options,
            )
        )

    def _validation(self) -> Validation | None:
        options = self.stage.get("validate")
        if not options or not options.every:
            return None
        return Validation(
            self.method,
            self.mesh,
            self._batches(
                options.data,
                self.method.prepare_at(self.stage.steps - 1),
                shuffle=False,
                num_epochs=1,
            ),
            every=options.every,
            count=options.batches,
            batch_size=self.stage.batch_size,
            rng=jax.random.fold_in(jax.random.key(self.seed), 2),
            encode=not self.program.is_cache(options.data),
        )

    def _work(self) -> Work:
        """Of one step."""
        devices = self.mesh.devices.flat
        return Work.of(self.method, self.stage.batch_size, devices, encode=self.program.encodes)

    def _loop(
        self,
        state: TrainState,
        frozen: Params,
        ahead: Future[jax.stages.Compiled],
        checkpoints: Checkpoints,
        clock: telemetry.Clock,
    ) -> TrainState:
        start = int(state.step)
        batches = self._batches(
            self.stage.data,
            self.method.prepare,
            start_step=start,
            scheduled=self.method.scheduled,
        )
        validation = self._validation()
        monitor = Monitor(self.name, self.stage, self.folder, start, clock, self._work())
        profile = profile_window(self.folder, tuple(self.stage.get("profile", ())))
        feed = Feed(batches, lambda arrays: to_global(arrays, self.mesh), self.stage.steps - start)
        with monitor, feed, profile as profile_at:
            for step in range(start, self.stage.steps):
                profile_at(step)
                with clock.measure("data"):
                    batch, arrays = self._next(feed, step)
                    if step == start:  # connections between processes do not wait for slow data
                        barrier(f"{self.name} begins")
                if step == start:
                    run = self._compiled(ahead, state, frozen, arrays, clock)
                # The host is held back two steps behind the device.
                with clock.measure("step"):
                    with jax.profiler.StepTraceAnnotation(self.name, step_num=step):
                        state, metrics = run(state, frozen, arrays)
                    feed.ask()
                    monitor.push(step + 1, metrics, batch.ids)
                self.ledger.reached(step + 1)
                self._milestones(step + 1, state, frozen, monitor, checkpoints, clock, validation)
        return state

    def _milestones(
        self,
        done: int,
        state: TrainState,
        frozen: Params,
        monitor: Monitor,
        checkpoints: Checkpoints,
        clock: telemetry.Clock,
        validation: Validation | None,
    ) -> None:
        """What happens now and then after a step: validation, snapshots, saving, leaving."""
        last = done == self.stage.steps
        stop = self.preemption.due()
        save = stop or last or done % self.stage.checkpoint_every == 0
        scores = {}
        if validation is not None and (last or done % validation.every == 0):
            with clock.measure("validation"):
                loss = validation(self._weights(state), frozen, state.step)
            scores = {"validation/loss": loss}
        if save or scores:
            # The guard has its say before anything is saved.
            with clock.measure("step"):
                monitor.flush(last=last, **scores)
        if done in self.stage.snapshots:
            with clock.measure("checkpoint"):
                result = self._result(state, frozen)
                save_result(self.folder.snapshot(done), result, self.provenance)
        if save:
            with clock.measure("checkpoint"):
                self.ledger.reached(done, saved=True)
                checkpoints.save(done, state, self._meta(done, clock), wait=stop or last)
        elif done % self.stage.log_every == 0:
            checkpoints.check()
        if stop:
            self.preemption.exit_if_requested(f"{self.name} is saved at step {done}")

    def _next(self, feed: Feed, step: int) -> tuple[Any, dict[str, Any]]:
        batch, arrays = feed.take()
        if batch is None:
            raise ValueError(f"{self.name}: the data {self.stage.data!r} end before step {step}")
        if batch.step != step:
            raise ValueError(f"{self.name}: step {step} got the data of step {batch.step}")
        return batch, arrays

    def _meta(self, done: int, clock: telemetry.Clock) -> dict[str, Any]:
        return {
            "provenance": self.provenance,
            "config": self.config,
            "data_step": done,
            "seconds": dict(clock.seconds),
        }
