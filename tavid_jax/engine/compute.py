"""Compute stages: one pass over the data that leaves a result (statistics) and maybe a cache."""

from __future__ import annotations

import contextlib

import jax
import numpy as np

from tavid_jax.engine import telemetry
from tavid_jax.engine.job import StageJob
from tavid_jax.engine.method import Params
from tavid_jax.engine.placement import initialise
from tavid_jax.parallel.mesh import to_global
from tavid_jax.parallel.processes import exchange, gather_to_host, is_first


class Computation(StageJob):
    """One compute stage. A stage that was interrupted starts again: nothing half is kept.

    All processes work on every batch; each of them adds up the sums of all, the first one writes.
    """

    def run(self) -> Params:
        """Make the pass and return the stage's result on the host.

        Raises ValueError when there is no example, and SystemExit after a signal.
        """
        clock = telemetry.Clock(ledger=self.ledger)
        self.ledger.begin_stage(self.name, "compute")
        with jax.set_mesh(self.mesh), clock.measure("pass"):
            result = self._run()
        self.seconds = clock.total()
        return result

    def _run(self) -> Params:
        base = jax.random.key(self.seed)
        given = self.method.given
        params = {} if given else initialise(self.method, base, self.mesh, self.earlier)
        source = self.inputs.open(given or self.stage.data)
        epochs = self._epochs(len(source))
        examine = jax.jit(self.method.examine)
        batches = self.inputs.batches(
            source,
            self.method.recall if self._is_cache else self.method.prepare_at(0),
            batch_size=self.stage.batch_size,
            seed=self.seed,
            shuffle=False,
            num_epochs=epochs,
        )
        steps = -(-len(source) * epochs // self.stage.batch_size)
        progress = telemetry.Progress(self.name, steps)
        totals: Params | None = None
        with self._open_cache() as sink:
            for batch in batches:
                keys = jax.random.split(jax.random.fold_in(base, batch.step), self.stage.batch_size)
                arrays = to_global(batch.arrays, self.mesh)
                examples, sums = examine(params, arrays, keys)
                examples, sums = gather_to_host((examples if self._caches else {}, sums))
                names = [name for part in exchange(batch.ids) for name in part]
                totals = _add(totals, sums, len(names))
                if sink is not None:
                    for i, name in enumerate(names):
                        sink.write({"id": name, **{k: v[i] for k, v in examples.items()}})
                progress.show(batch.step + 1, last=batch.step + 1 == steps)
                if self.preemption.due():
                    self.preemption.exit_if_requested(
                        f"{self.name} will start from its beginning again"
                    )
            if totals is None:
                raise ValueError(f"{self.name}: the data {self.stage.data!r} have no example")
        return jax.tree.map(np.asarray, self.method.conclude(totals))

    @property
    def _is_cache(self) -> bool:
        """Whether an earlier stage has encoded the data."""
        return self.stage.data in self.stage.cached_by

    def _epochs(self, examples: int) -> int:
        """Passes over the data: as many as asked for, and enough for `min_examples`."""
        if self.method.given:
            return 1
        wanted = self.stage.get("min_examples", 0)
        return max(self.stage.epochs, -(-wanted // max(examples, 1)))

    @property
    def _caches(self) -> bool:
        return self.stage.cache and not self.method.given

    def _open_cache(self) -> contextlib.AbstractContextManager:
        if not (self._caches and is_first()):
            return contextlib.nullcontext()
        return self.inputs.cache(self.folder.cache, self.provenance)


def _add(totals: Params | None, sums: Params, real: int) -> Params:
    """Add the sums of the first `real` examples (the rest is padding) in float64."""
    part = jax.tree.map(lambda x: np.sum(x[:real], axis=0, dtype=np.float64), sums)
    return part if totals is None else jax.tree.map(np.add, totals, part)
