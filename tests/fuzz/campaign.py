"""Many inputs for one reader: whole files with nasty values in them, then changes led by edges."""

from __future__ import annotations

import contextlib
import dataclasses
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import hypothesis
from hypothesis import HealthCheck, Phase

from tests.fuzz.codecs import CODECS
from tests.fuzz.edges import Edges
from tests.fuzz.mutations import mutated
from tests.fuzz.nasty import changed
from tests.fuzz.oracle import ACCEPTED, Outcome, outcome
from tests.fuzz.readers import Reader

_STRUCTURED = 0.4  # share of the inputs
_KEPT = 400  # inputs that reached new edges, at most


@dataclasses.dataclass
class Tally:
    """What came of the inputs of a reader.

    Attributes:
      inputs, accepted, refused, edges: counts.
      faults: place -> (outcome, the shortest input that gave it).
    """

    inputs: int = 0
    accepted: int = 0
    refused: int = 0
    edges: int = 0
    faults: dict[str, tuple[Outcome, bytes]] = dataclasses.field(default_factory=dict)


class Campaign:
    """The inputs of one reader.

    Args:
      reader: to try.
      folder: to work in.
      seed: of everything random.
      told: called after every input.
    """

    def __init__(self, reader: Reader, folder: Path, seed: int, told: Callable[[Tally], None]):
        self.reader, self.tally, self._told = reader, Tally(), told
        self._path = folder / reader.folder / reader.file
        self._rng, self._edges = random.Random(f"{seed} {reader.name}"), Edges()
        self._path.parent.mkdir(parents=True)
        self._folder, self._seed = folder, seed
        self.seeds = reader.seeds(self._path.parent)
        self._corpus: list[bytes] = []
        self._until = float("inf")

    def run(self, count: int, seconds: float | None = None) -> Tally:
        """That many inputs, or as many as fit into the seconds; whole files first.

        A whole file that is refused is a fault.
        """
        if seconds is not None:
            self._until = time.perf_counter() + seconds
        for data in self.seeds:
            self._seeded(data)
        self._structured(round(count * _STRUCTURED))
        while self.tally.inputs < count and time.perf_counter() < self._until:
            self._led()
        return self.tally

    def close(self) -> None:
        """Takes away what was written."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _seeded(self, data: bytes) -> None:
        before = self.tally.accepted
        self._try(data, traced=True)
        self._corpus.append(data)
        if self.reader.name not in _ALWAYS_REFUSED and self.tally.accepted == before:
            self.tally.faults.setdefault("seed", (Outcome("a whole file is refused"), data))

    def _structured(self, count: int) -> None:
        """By hypothesis: trees of whole files, changed at a few places."""
        codec = CODECS[self.reader.codec]
        if self.reader.codec in ("raw", "text", "zip") or count < 1:
            return
        with contextlib.suppress(hypothesis.errors.Unsatisfiable):
            given = hypothesis.given(changed(self.seeds, codec, self.reader.pickled))
            settings = hypothesis.settings(
                max_examples=count,
                deadline=None,
                database=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            hypothesis.seed(self._seed)(settings(given(self._within)))()

    def _within(self, data: bytes) -> None:
        if time.perf_counter() < self._until:
            self._try(data)

    def _led(self) -> None:
        """A change of an input that reached something new, most often of a late one."""
        corpus, rng = self._corpus, self._rng
        at = max(rng.randrange(len(corpus)), rng.randrange(len(corpus)))
        data = mutated(rng, corpus[at], rng.choice(corpus), CODECS[self.reader.codec])
        if self._try(data, traced=True):
            if len(corpus) >= _KEPT:
                corpus.pop(rng.randrange(len(self.seeds), len(corpus)))
            corpus.append(data)

    def _try(self, data: bytes, traced: bool = False) -> bool:
        """Whether it reached new edges."""
        tally = self.tally
        if traced:
            with self._edges:
                result = outcome(self.reader, self._path, data)
        else:
            result = outcome(self.reader, self._path, data)
        tally.inputs += 1
        tally.edges = len(self._edges.known)
        if result.is_fault:
            known = tally.faults.get(f"{result.kind}: {result.place}")
            if known is None or len(data) < len(known[1]):
                tally.faults[f"{result.kind}: {result.place}"] = (result, data)
        elif result.kind == ACCEPTED:
            tally.accepted += 1
        else:
            tally.refused += 1
        self._told(tally)
        return traced and self._edges.new > 0


# Readers whose whole files lack what only a large download has.
_ALWAYS_REFUSED = ("Ego-Exo4D",)
