"""What every kind of stage is given to do its work."""

from __future__ import annotations

import dataclasses
from typing import Any

from jax.sharding import Mesh

from tavid_jax.engine.goodput import Ledger
from tavid_jax.engine.inputs import Inputs, StageFolder
from tavid_jax.engine.method import Params
from tavid_jax.engine.preemption import Preemption

PRETRAINED = "pretrained/"


def pretrained_key(what: str) -> str:
    """Name in provenance of the fingerprint of outside weights."""
    return f"{PRETRAINED}{what}"


@dataclasses.dataclass
class StageJob:
    """One stage of a run; subclasses define `run()`, which returns its result on the host.

    Attributes:
      name, stage: the stage's name and config (see configs/common.py for its fields).
      method: what it trains or computes.
      earlier: results of the stages in `init_from`.
      provenance: config hash and seed, written into everything that is saved.
      config: the whole resolved config, written into every checkpoint.
      ledger: of the run's time.
      seconds: time spent so far, also before restarts; known when `run` is over.
    """

    name: str
    stage: Any
    method: Any
    inputs: Inputs
    folder: StageFolder
    mesh: Mesh
    seed: int
    earlier: dict[str, Params]
    provenance: dict[str, Any]
    config: dict[str, Any]
    preemption: Preemption
    ledger: Ledger = dataclasses.field(default_factory=Ledger)
    seconds: float = 0.0

    def run(self) -> Params:
        """Do the stage's work, or what is left of it."""
        raise TypeError(f"{type(self).__name__} defines no run")
