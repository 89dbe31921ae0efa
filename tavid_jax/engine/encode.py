"""Encode stages: clips through frozen encoders, once, into examples that later stages read."""

from __future__ import annotations

import contextlib

import numpy as np
from absl import logging

from tavid_jax.engine import telemetry
from tavid_jax.engine.job import StageJob
from tavid_jax.engine.method import Params


class _ToldToLeave(Exception):
    """Some process was."""


class Encoding(StageJob):
    """One encode stage. What was interrupted goes on with the shards that are missing.

    Every process makes a share of the shards on its own devices. A cache that was made before the
    run is checked, and nothing is made.
    """

    def run(self) -> Params:
        """Make what is missing; return what all examples have in common, on the host.

        Examples that no stage reads are not made.

        Raises ValueError for clips without captions, or a cache made otherwise, and SystemExit
        after a signal.
        """
        if not self._is_read():
            logging.info("%s: no stage reads it, so nothing is encoded", self.name)
            return {}
        clock, shown = telemetry.Clock(ledger=self.ledger), []
        self.ledger.begin_stage(self.name, "encode")

        def progress(done: int, total: int) -> None:
            if not shown:
                shown.append(telemetry.Progress(self.name, total))
            shown[0].show(done, last=done == total)
            if self.preemption.heard():
                raise _ToldToLeave

        with clock.measure("pass"):
            with contextlib.suppress(_ToldToLeave):
                self.inputs.encode(self.name, self.folder.cache, self.method, progress)
            # Here those that have made their share wait for the others.
            self.preemption.settle()
            self.preemption.exit_if_requested(f"{self.name} keeps the shards that are finished")
            source = self.inputs.open(self.name)
        self.seconds = clock.total()
        return {name: np.asarray(array) for name, array in source.shared.items()}

    def _is_read(self) -> bool:
        """Whether a stage of the run trains on the examples, or is validated by them."""
        stages = [self.config["stages"][name] for name in self.config["order"]]
        read = {stage["data"] for stage in stages}
        read |= {(stage.get("validate") or {}).get("data") for stage in stages}
        return self.name in read
