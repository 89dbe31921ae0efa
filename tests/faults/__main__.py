"""Faults done to the real program; each must cost nothing, or stop with its name and then nothing.

    python -m tests.faults                        # all of them: 15 minutes on 2 cores
    python -m tests.faults --only kills,disk-full
    python -m tests.faults --list

A small TrajLoom (three stages, one of which leaves a cache) is trained by `python -m
tavid_jax.main` in processes of its own. Signals, files and mounts do the faults, from outside.
After each the same command is given again, and the final parameters of all stages are compared, to
the bit, with those of a run that nothing disturbed. Prints a Markdown table, and writes it as JSON
beside the runs. Exit code 1 if any fault had another outcome.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")  # of this process, which reads weights

from tavid_jax.engine.telemetry import duration  # noqa: E402
from tests.faults import (  # noqa: E402, F401
    damage,
    disks,
    feeds,
    kills,
    numbers,
    sharing,
    signals,
)
from tests.faults.lab import FAILED, FAULTS, Fault, Found, Lab  # noqa: E402

# Characters of a message in the table; the JSON has all of it.
_WIDEST = 240


def main(argv: list[str] | None = None) -> int:
    """The command line; the exit code."""
    args = parse(argv)
    if args.list:
        print("\n".join(f"{fault.name:24}{fault.about}" for fault in FAULTS))
        return 0
    chosen = choose(args.only)
    folder = args.workdir or Path(tempfile.mkdtemp(prefix="tavid_faults_"))
    lab, began = Lab(folder, args.seed), time.monotonic()
    found = []
    for number, fault in enumerate(chosen, 1):
        found.append(lab.run(fault))
        spent = time.monotonic() - began
        left = spent / number * (len(chosen) - number)
        one = found[-1]
        print(
            f"{number}/{len(chosen)} {one.fault}: {one.outcome} in {duration(one.seconds)}, "
            f"{duration(left)} left",
            file=sys.stderr,
            flush=True,
        )
    print(table(found, lab.folder))
    print(f"\n{len(found)} faults in {duration(time.monotonic() - began)}; seed {args.seed}")
    record = folder / "faults.json"
    record.write_text(json.dumps([dataclasses.asdict(one) for one in found], indent=1) + "\n")
    print(f"written to {record}; what the programs said lies beside it", file=sys.stderr)
    return int(any(one.outcome == FAILED for one in found))


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", default="", help="names with commas between; default: all")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments")
    parser.add_argument("--workdir", type=Path, help="folder of all runs; default: a temporary one")
    parser.add_argument("--list", action="store_true", help="names what there is, and ends")
    return parser.parse_args(argv)


def choose(only: str) -> list[Fault]:
    """The named faults, in their order.

    Raises SystemExit for a name that there is not.
    """
    wanted = [name.strip() for name in only.split(",") if name.strip()]
    names = [fault.name for fault in FAULTS]
    unknown = [name for name in wanted if name not in names]
    if unknown:
        raise SystemExit(f"no fault {unknown[0]!r}; there are {', '.join(names)}")
    return [fault for fault in FAULTS if not wanted or fault.name in wanted]


def table(found: list[Found], folder: Path) -> str:
    """Markdown; files are named as they lie below the folder of all runs."""
    header = ["fault", "what was done", "what the run said", "outcome", "seconds"]
    rows = [
        [
            f.fault,
            f.done,
            _short(f.said.replace(f"{folder}/", "")) or "-",
            f.outcome,
            f"{f.seconds:.0f}",
        ]
        for f in found
    ]
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in line) + " |"
        for line in lines
    )


def _short(said: str) -> str:
    return said if len(said) <= _WIDEST else said[: _WIDEST - 4].rstrip() + " ..."


if __name__ == "__main__":
    sys.exit(main())
