"""Which presets fit on which chips: every train stage, compiled on the smallest layout that holds
all of them."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import Any

from tavid_jax.engine.fit import fit, size
from tavid_jax.engine.layouts import chips_in, layouts
from tavid_jax.engine.method import System
from tavid_jax.parallel.ahead import GIB, Report

#: A layout is not compiled for if the estimate (engine/estimate.py) is so many times the memory
#: that a chip gives, or if what is held alone is more than that.
HOPELESS = 1.6


@dataclasses.dataclass(frozen=True)
class Row:
    """One stage of a preset on one kind of chip; bytes are per chip.

    Attributes:
      config, preset, stage, chip: what: "trajloom", "paper", "flow", "v5e".
      topology, mesh: where, "" if there is no layout at all.
      held_bytes, needed_bytes, peak_bytes, limit_bytes: as in `ahead.Report`.
      fits: whether it does; if not, this is the largest layout that was tried.
      flops: of a step, over all chips.
      estimate_bytes: the peak by engine/estimate.py, to compare with.
      note: why nothing was compiled, "" if it was.
    """

    config: str
    preset: str
    stage: str
    chip: str
    topology: str = ""
    mesh: Mapping[str, int] = dataclasses.field(default_factory=dict)
    held_bytes: int = 0
    needed_bytes: int = 0
    peak_bytes: int = 0
    limit_bytes: int = 0
    fits: bool = False
    flops: int = 0
    estimate_bytes: int = 0
    note: str = ""

    def cells(self) -> list[str]:
        """Of the Markdown table, see `HEAD`."""
        split = " ".join(f"{axis}={n}" for axis, n in self.mesh.items() if n > 1)
        where = f"{self.topology} ({chips_in(self.topology)})" if self.topology else "-"
        return [f"{self.config}:{self.preset}", self.stage, where, split, *self._memory()]

    def _memory(self) -> list[str]:
        gib = [f"{n / GIB:.2f}" for n in (self.held_bytes, self.needed_bytes, self.peak_bytes)]
        limit, work = f"{self.limit_bytes / GIB:.2f}", f"{self.flops / 1e15:.3g}"
        if self.fits:
            return [f"{gib[0]} + {gib[1]} = {gib[2]}", limit, work]
        if self.note:
            return [f"does not fit: {self.note}", limit, work]
        lacking = size(self.peak_bytes - self.limit_bytes)
        return [f"does not fit: {gib[2]}, {lacking} are missing", limit, work]


HEAD = (
    "preset",
    "stage",
    "topology (chips)",
    "mesh",
    "GiB per chip: held + needed = peak",
    "of",
    "PFLOP per step",
)
#: Around the table in a document.
BEGIN, END = "<!-- fit table: begin -->", "<!-- fit table: end -->"


def markdown(rows: Sequence[Row]) -> str:
    """The table, by preset and chip, as documents show it between `BEGIN` and `END`."""
    lines = [list(HEAD), ["---"] * len(HEAD), *(row.cells() for row in rows)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def to_json(rows: Sequence[Row]) -> str:
    """One row per line, in the order of the table."""
    return "[\n" + ",\n".join(json.dumps(dataclasses.asdict(row)) for row in rows) + "\n]\n"


def from_json(text: str) -> list[Row]:
    """The inverse of `to_json`."""
    return [Row(**fields) for fields in json.loads(text)]


class Kept(MutableMapping[str, Any]):
    """Answers by key, in a file that is replaced at every new one: a stopped search goes on.

    A damaged file counts as empty.
    """

    def __init__(self, path: Path):
        self._path, self._known = Path(path), {}
        try:
            self._known = dict(json.loads(self._path.read_text()))
        except (OSError, ValueError):
            pass

    def __getitem__(self, key: str) -> Any:
        return self._known[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self._known[key] = value
        self._path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._path.with_name(f"{self._path.name}.{os.getpid()}.tmp")
        temporary.write_text(json.dumps(self._known))
        temporary.replace(self._path)

    def __delitem__(self, key: str) -> None:
        del self._known[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)


class Reports(MutableMapping[str, Report]):
    """`Kept` reports of the compiler."""

    def __init__(self, kept: Kept):
        self._kept = kept

    def __getitem__(self, key: str) -> Report:
        return Report(**self._kept[key])

    def __setitem__(self, key: str, value: Report) -> None:
        self._kept[key] = dataclasses.asdict(value)

    def __delitem__(self, key: str) -> None:
        del self._kept[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._kept)

    def __len__(self) -> int:
        return len(self._kept)


def search(
    config: Any,
    system: System,
    name: str,
    chip: str,
    kept: Kept,
    tell: Callable[[str], None] = lambda line: None,
) -> list[Row]:
    """A row for every train stage on the smallest layout of a chip that holds all of them: a run
    goes through its stages on the same chips. If none does, the rows of the largest.

    Args:
      config, system: of the preset; its `mesh` is changed.
      name: of the config file, "trajloom".
      chip: a key of `layouts.LADDERS`.
      kept: answers of the compiler from before; new ones are added.
      tell: is told what is being compiled.
    """
    stages = [stage for stage in config.order if config.stages[stage].kind == "train"]
    rows = [Row(name, config.preset, s, chip, note="its batch has no layout") for s in stages]
    for topology, mesh in layouts(chip, config):
        config.mesh.update(mesh)
        guesses = [
            fit(config, system, topology, stage=stage, estimated=True).report for stage in stages
        ]
        rows = [
            dataclasses.replace(
                row,
                topology=topology,
                mesh=dict(mesh),
                limit_bytes=guess.limit_bytes,
                estimate_bytes=guess.peak_bytes,
            )
            for row, guess in zip(rows, guesses, strict=True)
        ]
        rows = _compiled(rows, guesses, config, system, Reports(kept), tell)
        if all(row.fits for row in rows):
            break
    return rows


def _compiled(
    rows: list[Row],
    guesses: list[Report],
    config: Any,
    system: System,
    reports: Reports,
    tell: Callable[[str], None],
) -> list[Row]:
    """The rows of one layout with the compiler's numbers; behind one that does not fit no other
    is compiled, the dearest comes first."""
    done, failed = list(rows), False
    for index in sorted(range(len(rows)), key=lambda i: -guesses[i].peak_bytes):
        row = rows[index]
        why = "another stage of the preset does not" if failed else _hopeless(guesses[index])
        if why:
            done[index] = dataclasses.replace(row, fits=False, note=why)
            failed = True
            continue
        tell(f"{row.config}:{row.preset} {row.stage} on {row.topology}")
        answer = fit(config, system, row.topology, stage=row.stage, reports=reports)
        found = answer.report
        done[index] = dataclasses.replace(
            row,
            held_bytes=found.arguments_bytes,
            needed_bytes=found.peak_bytes - found.arguments_bytes,
            peak_bytes=found.peak_bytes,
            fits=found.fits,
            flops=answer.count.flops,
            note="",
        )
        failed = not found.fits
    return done


def _hopeless(guess: Report) -> str:
    """Why a program need not be compiled to know that it does not fit; "" if it must be."""
    limit = guess.limit_bytes
    if guess.arguments_bytes > limit:
        return f"weights, state and batch alone are {size(guess.arguments_bytes)}"
    if guess.peak_bytes > HOPELESS * limit:
        return f"about {size(guess.peak_bytes)} by the estimate, it was not compiled"
    return ""
