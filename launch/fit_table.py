"""Which published presets fit on which TPUs: the table of the README, by the TPU's own compiler.

    python launch/fit_table.py                         # every `paper` preset on v5e, v5p and v6e
    python launch/fit_table.py --only=finetune         # those of published models, too
    python launch/fit_table.py --only=trajloom --chip=v5e
    python launch/fit_table.py --from_record           # the table as it was recorded, at once

Every train stage of every preset "paper" is compiled, an hour or two on two cores, on the smallest
of a few layouts (tavid_jax/engine/layouts.py) that holds all stages of the preset with its own
batch. What has been compiled is kept in --cache: a stopped run goes on, and after a change only
programs that changed are compiled again. A full run is recorded in launch/fit_table.json, which
tests hold.

Needs libtpu (`pip install libtpu`), no accelerator and no data. Exit code 0: the table is there; 1:
the question cannot be answered, and why.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Before jax is imported: this program runs on the host's CPU, and looks for no TPU.
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
CHECKOUT = Path(__file__).resolve().parents[1]
sys.path.append(str(CHECKOUT))  # configs lie beside this folder

import jax  # noqa: E402
from absl import app, flags, logging  # noqa: E402

from configs.common import presets_of  # noqa: E402
from tavid_jax.command_line import parse_flags  # noqa: E402
from tavid_jax.engine import fit_table  # noqa: E402
from tavid_jax.engine.fit_table import Kept, Row, search  # noqa: E402
from tavid_jax.engine.layouts import LADDERS  # noqa: E402
from tavid_jax.engine.telemetry import Progress  # noqa: E402
from tavid_jax.engine.workdir import config_hash, to_plain  # noqa: E402
from tavid_jax.methods.registry import make_system  # noqa: E402
from tavid_jax.parallel.ahead import TopologyError, compiler_versions  # noqa: E402

RECORD = CHECKOUT / "launch" / "fit_table.json"
#: Rooms of the package that programs are made of.
ROOMS = ("diffusion", "engine", "methods", "models", "parallel", "pipelines")

flags.DEFINE_multi_enum("chip", list(LADDERS), list(LADDERS), "Kinds of chips.")
flags.DEFINE_multi_string("only", [], "Presets whose name, such as tgt:paper, has this in it.")
flags.DEFINE_bool("json", False, "The rows as JSON instead of Markdown; bytes are per chip.")
flags.DEFINE_string("cache", "~/.cache/tavid_jax/fit_table.json", "Answers of the compiler.")
flags.DEFINE_string("write", "", "A document whose table, between its two marks, is replaced.")
flags.DEFINE_bool("from_record", False, f"Show {RECORD.name} beside this file; compile nothing.")


def published() -> list[tuple[str, str]]:
    """(config file, preset) of all presets whose name begins with "paper", and of a file without
    any those of published models; as the config files have them."""
    found = []
    for path in sorted((CHECKOUT / "configs").glob("*.py")):
        module = importlib.import_module(f"configs.{path.stem}")
        if not hasattr(module, "get_config"):
            continue
        presets = presets_of(module.get_config)
        papers = [preset for preset in presets if preset.startswith("paper")]
        large = [preset for preset in presets if preset in getattr(module, "LARGE", {})]
        found += [(path.stem, preset) for preset in papers or large]
    return found


def cases(chips: list[str], only: list[str]) -> list[tuple[str, str, str]]:
    """(config file, preset, chip) of all rows, chip by chip; a preset for one kind of chip is named
    so ("paper_v5e"). Without `only` the papers' presets.

    Raises ValueError where there is none.
    """
    made = [
        (name, preset, chip)
        for chip in chips
        for name, preset in published()
        if not any(preset.endswith(f"_{other}") for other in LADDERS if other != chip)
        and any(part in f"{name}:{preset}" for part in only or [":paper"])
    ]
    if not made:
        raise ValueError(f"no preset at a published size has {' or '.join(only)} in its name")
    return made


def rows_of(name: str, preset: str, chip: str, kept: Kept, tell: Any) -> list[Row]:
    """The rows of a preset on a chip, from the cache if nothing has changed since."""
    config = importlib.import_module(f"configs.{name}").get_config(preset)
    plain = to_plain(config)
    mesh = str(sorted(plain["mesh"].items()))
    key = "/".join(
        ("rows", name, preset, chip, config_hash(plain, config.volatile), mesh, source_hash())
        + compiler_versions()
    )
    if key not in kept:
        found = search(config, make_system(config), name, chip, kept, tell)
        kept[key] = fit_table.to_json(found)
    return fit_table.from_json(kept[key])


def source_hash() -> str:
    """Of all that programs are made of."""
    digest = hashlib.sha256()
    for room in ROOMS:
        for path in sorted((CHECKOUT / "tavid_jax" / room).rglob("*.py")):
            digest.update(f"{path.relative_to(CHECKOUT)}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def all_rows(chips: list[str], only: list[str], kept: Kept) -> Iterator[Row]:
    """Row by row, with a line of progress for every program."""
    made = cases(chips, only)
    progress = Progress("presets x chips", len(made))
    progress.show(0)
    for done, (name, preset, chip) in enumerate(made, start=1):
        yield from rows_of(
            name, preset, chip, kept, lambda line, d=done: logging.info("compiling %s", line)
        )
        progress.show(done, f"{name}:{preset} on {chip}", last=done == len(made))


def write_between(file: Path, text: str) -> None:
    """Replaces what a document has between the two marks of a fit table.

    Raises ValueError for a document without them.
    """
    before, begin, rest = file.read_text().partition(fit_table.BEGIN)
    _, end, after = rest.partition(fit_table.END)
    if not (begin and end):
        raise ValueError(f"{file} has no {fit_table.BEGIN} with {fit_table.END} behind it")
    file.write_text(f"{before}{begin}\n{text}\n{end}{after}")


def main(argv: list[str]) -> int:
    if len(argv) > 1:
        raise app.UsageError(f"unknown argument {argv[1]!r}; options begin with --")
    options = flags.FLAGS
    logging.set_verbosity(logging.INFO)
    if options.from_record:
        rows = fit_table.from_json(RECORD.read_text())
        rows = [row for row in rows if row.chip in options.chip]
    else:
        kept = Kept(Path(options.cache).expanduser())
        rows = list(all_rows(options.chip, options.only, kept))
        if set(options.chip) == set(LADDERS) and not options.only:
            RECORD.write_text(fit_table.to_json(rows))
    if options.write:
        write_between(Path(options.write), fit_table.markdown(rows))
    print(fit_table.to_json(rows) if options.json else fit_table.markdown(rows))
    return 0


def cli() -> None:
    """User errors become one message and exit code 1, without a traceback."""
    try:
        app.run(main, flags_parser=parse_flags)
    except (TopologyError, ValueError, OSError, jax.errors.JaxRuntimeError) as error:
        print(f"fit_table: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    cli()
