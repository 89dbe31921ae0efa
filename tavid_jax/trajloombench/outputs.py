"""Folders of forecasts: where evaluation writes them, what each was made with, how to find them.

    OUT/outputs/<method>/<data set>/24f_euler-10_seed42/<clip>/   TrajLoom's files, see data
                                                       /run.json  what they were made with
    OUT/outputs/<method>/<data set>/vae_81f/<clip>/               reconstructions of the future

A folder that TrajLoom's own code wrote has no run.json: it is named on the command line.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tavid_jax.data.cache import write_whole
from tavid_jax.data.forecast_files import META
from tavid_jax.data.video import natural_key
from tavid_jax.trajloombench.protocol import BenchError
from tavid_jax.untrusted.names import safe_name
from tavid_jax.untrusted.texts import read_json

OUTPUTS, RUN = "outputs", "run.json"
FORECAST, RECONSTRUCTION = "forecast", "reconstruction"
# May differ where a folder is gone on with: weights are known by their hashes, not by their places.
_VOLATILE = ("version", "path", "release", "statistics_from")
_UNKNOWN = "not told"


@dataclasses.dataclass(frozen=True)
class Folder:
    """Clips of one method on one data set, made in one way.

    Attributes:
      path: holds a folder for each clip.
      kind: FORECAST, or RECONSTRUCTION by an autoencoder.
      method, dataset: names.
      frames: of each clip; 0 = as many as the files have.
      solver: as `methods.Solver` is written, "" for none or unknown.
      seed: of the noise, None where there is none or it is not known.
      facts: all that is known of how it was made.
    """

    path: Path
    kind: str
    method: str
    dataset: str
    frames: int = 0
    solver: str = ""
    seed: int | None = None
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def tracker(self) -> str:
        """What made the tracks that forecasts are compared with."""
        return str(self.facts.get("tracker", _UNKNOWN))


def folder_of(out: str | os.PathLike, kind: str, facts: Mapping[str, Any]) -> Folder:
    """The folder of what is made with these facts (method, dataset, frames, solver, seed, ...)."""
    if kind == FORECAST:
        parts = [f"{facts['frames']}f", facts["solver"], f"seed{facts['seed']}"]
        leaf = "_".join(part for part in parts if part)
    else:
        leaf = f"vae_{facts['frames']}f"
    path = Path(out) / OUTPUTS / _safe(facts["method"]) / facts["dataset"] / leaf
    return _folder(path, {"kind": kind, **facts})


def begin(folder: Folder) -> None:
    """Writes what a folder is made with, or finds that it is gone on with in the same way.

    Raises:
      BenchError: it holds clips that were made in another way; names the facts that differ.
    """
    file = folder.path / RUN
    if not file.is_file():
        if any(folder.path.glob(f"*/{META}")):
            raise BenchError(f"{folder.path}: holds clips without a {RUN}: give another --out")
        text = json.dumps(dict(folder.facts), indent=1, sort_keys=True, default=str)
        write_whole(file, (text + "\n").encode())
        return
    # As they look when they have been written and read.
    now = _flat(json.loads(json.dumps(dict(folder.facts), default=str)))
    before = _flat(_facts(file))
    differ = [
        f"{key}: {before.get(key)} there, {now.get(key)} now"
        for key in sorted({*before, *now})
        if before.get(key) != now.get(key) and key.rpartition(".")[2] not in _VOLATILE
    ]
    if differ:
        raise BenchError(
            f"{folder.path}: was made in another way ({'; '.join(differ)}): give another --out, or "
            "delete that folder"
        )


def is_done(folder: Folder, clip: str) -> bool:
    """Whether a clip is there; its files appear together."""
    return (folder.path / clip / META).is_file()


def find_folders(roots: Sequence[str | os.PathLike], named: Sequence[str] = ()) -> list[Folder]:
    """Every folder of outputs.

    Args:
      roots: searched for what this program wrote.
      named: those of others, METHOD:DATASET=PATH or METHOD:DATASET:vae=PATH for reconstructions;
        solver, steps and seed are read from their files.

    Raises:
      BenchError: nothing there; no METHOD:DATASET=PATH; a broken run.json.
    """
    found = [_named(text) for text in named]
    for root in roots:
        files = sorted(Path(root).rglob(RUN), key=lambda path: natural_key(str(path)))
        if not files:
            raise BenchError(
                f"{root}: no outputs below it ({RUN}); those of other programs are given as "
                "--folder METHOD:DATASET=PATH"
            )
        for file in files:
            facts = _facts(file)
            if any(file.parent.glob(f"*/{META}")):
                found.append(_folder(file.parent, facts))
    if not found:
        raise BenchError("no folder of outputs holds a clip: run evaluate first")
    return found


def _folder(path: Path, facts: Mapping[str, Any]) -> Folder:
    try:
        kind, method, dataset = facts["kind"], str(facts["method"]), str(facts["dataset"])
        frames, solver, seed = int(facts["frames"]), facts.get("solver") or "", facts.get("seed")
        if kind not in (FORECAST, RECONSTRUCTION):
            raise ValueError(f"kind {kind!r}")
    except (KeyError, TypeError, ValueError) as error:
        raise BenchError(f"{path / RUN}: is not of this program ({error})") from error
    return Folder(path, kind, method, dataset, frames, solver, seed, facts)


def _named(text: str) -> Folder:
    names, _, path = text.partition("=")
    method, _, rest = names.partition(":")
    dataset, _, kind = rest.partition(":")
    if not (method and dataset and path) or kind not in ("", "vae"):
        raise BenchError(f"--folder {text!r}: give METHOD:DATASET=PATH or METHOD:DATASET:vae=PATH")
    first = next(iter(sorted(Path(path).rglob(META))), None)
    if first is None:
        raise BenchError(f"--folder {text!r}: no clip ({META}) below {path}")
    meta = _facts(first)
    facts = {key: meta[key] for key in ("dtype", "steps", "caption", "baseline") if key in meta}
    solver = "" if kind else _solver(meta)
    return Folder(
        Path(path),
        RECONSTRUCTION if kind else FORECAST,
        method,
        dataset,
        0,
        solver,
        meta.get("noise_seed"),
        {"written by": "another program", **facts},
    )


def _solver(meta: Mapping[str, Any]) -> str:
    name = str(meta.get("solver", ""))
    return name if name in ("", "dopri5") else f"{name}-{meta.get('steps', '?')}"


def _facts(path: Path) -> dict[str, Any]:
    try:
        facts = read_json(path)
    except (OSError, ValueError) as error:
        raise BenchError(f"{path}: cannot be read as JSON ({error})") from error
    if not isinstance(facts, dict):
        raise BenchError(f"{path}: must hold an object")
    return facts


def _flat(facts: Mapping[str, Any], place: str = "") -> dict[str, Any]:
    """Nested facts by their places, such as "protocol.stride"."""
    found: dict[str, Any] = {}
    for key, value in facts.items():
        nested = isinstance(value, Mapping)
        found |= _flat(value, f"{place}{key}.") if nested else {f"{place}{key}": value}
    return found


def _safe(name: str) -> str:
    return safe_name(name)
