"""Fuzzes every reader of files from elsewhere.

  python -m tests.fuzz                        100,000 inputs over all readers
  python -m tests.fuzz --inputs 5000 --only npz
  python -m tests.fuzz --seconds 60           as many as fit

Each reader gets whole files with a few nasty values in them (hypothesis), and changed bytes, of
which those that reach new ways through the code are changed further. It may accept a file, or raise
an error of a class of this package that names the file; all else is a fault, as are more than two
seconds, more than 2 GB, a warning, and a process that dies. Faulty inputs are kept in --keep.
Exit code 1 if there is one.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

MEMORY = 2 * 2**30  # bytes that reading may take, beyond what the process has at the start
_SILENT = 120.0  # seconds of the processor
_EVERY = 0.5


def main(argv: list[str] | None = None) -> int:
    """The command; returns the exit code."""
    args = _parser().parse_args(argv)
    if args.child:
        return _child(json.loads(args.child))
    keep = Path(args.keep or tempfile.mkdtemp(prefix="fuzz-faults-"))
    keep.mkdir(parents=True, exist_ok=True)
    rows = _run(args, keep)
    print(_table(rows))
    faults = [(row["reader"], fault) for row in rows for fault in row["faults"]]
    for name, (what, words, file) in faults:
        print(f"\n{name}: {what}\n    {words[:400]}\n    {file}")
    print(f"\n{len(faults)} faults" + (f", kept in {keep}" if faults else ""))
    return 1 if faults else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--inputs", type=int, default=100_000, help="of all (default: %(default)s)")
    parser.add_argument("--seconds", type=float, help="stop a reader when its share of them is up")
    parser.add_argument("--seed", type=int, default=0, help="of the inputs (default: 0)")
    parser.add_argument("--only", default="", metavar="WORD", help="readers with it in their name")
    parser.add_argument("--keep", metavar="FOLDER", help="where faulty inputs are kept")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    return parser


# --- the parent


def _run(args: argparse.Namespace, keep: Path) -> list[dict[str, Any]]:
    """A row for each reader; one whose child dies has a fault, and another child goes on."""
    rows: list[dict[str, Any]] = []
    start, died = time.perf_counter(), 0
    plan = {"inputs": args.inputs, "seconds": args.seconds, "only": args.only, "skip": 0}
    while True:
        plan |= {"seed": args.seed + 1000 * died, "keep": str(keep)}
        with tempfile.TemporaryDirectory(dir=_memory_disk()) as work:
            plan["work"] = work
            last, code = _watch(plan, rows, start)
            if code == 0:
                return rows
            if last is None:
                raise SystemExit(f"the process that fuzzes cannot start (exit code {code})")
            died += 1
            rows.append(_dead(last, code, Path(work), keep))
            plan["skip"] = last["number"] + 1


def _watch(
    plan: dict[str, Any], rows: list[dict[str, Any]], start: float
) -> tuple[dict[str, Any] | None, int]:
    """(what the child said last of a reader that it had not finished, its exit code)."""
    environment = dict(os.environ, JAX_PLATFORMS="cpu", OPENCV_LOG_LEVEL="OFF",
                       OPENCV_FFMPEG_LOGLEVEL="-8", OMP_NUM_THREADS="1")  # fmt: skip
    with open(Path(plan["work"]) / "stderr", "wb") as errors:
        child = subprocess.Popen(
            [sys.executable, "-m", "tests.fuzz", "--child", json.dumps(plan)],
            stdout=subprocess.PIPE,
            stderr=errors,
            env=environment,
            text=True,
        )
        last, watch = None, _Watchdog(child)
        for line in child.stdout:
            watch.heard()
            row = json.loads(line)
            last = None if row["done"] else row
            if row["done"]:
                rows.append(row)
            _show(row, start)
        code = child.wait()
        watch.stop()
    if code and last is None:
        print((Path(plan["work"]) / "stderr").read_text(errors="replace")[-2000:], file=sys.stderr)
    return last, code


class _Watchdog:
    """Ends a child that computes for long without a word: it hangs in a library, deaf to signals.

    What counts is its own time on the processor; a busy machine is no hang.
    """

    def __init__(self, child: subprocess.Popen):
        self._child, self._done = child, threading.Event()
        self._heard = self._used()
        threading.Thread(target=self._watch, daemon=True).start()

    def heard(self) -> None:
        """The child has said something."""
        self._heard = self._used()

    def stop(self) -> None:
        """The child has ended."""
        self._done.set()

    def _watch(self) -> None:
        while not self._done.wait(5):
            if self._used() - self._heard > _SILENT:
                self._child.kill()
                return

    def _used(self) -> float:
        """Seconds of the processor that the child has used; 0 when it is gone."""
        try:
            fields = Path(f"/proc/{self._child.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _dead(row: dict[str, Any], code: int, work: Path, keep: Path) -> dict[str, Any]:
    """The row of a reader whose process died, with the input that it was at."""
    file = keep / f"{row['number']:02d}-died"
    found = [path for path in work.rglob(row["file"]) if path.is_file()]
    if found:
        file.write_bytes(found[0].read_bytes())
    what = f"the process died (exit code {code})"
    return row | {"done": True, "faults": [*row["faults"], (what, "", str(file))]}


def _show(row: dict[str, Any], start: float) -> None:
    total, seconds = row["before"] + row["inputs"], time.perf_counter() - start
    rate = total / seconds
    left = (row["all"] - total) / max(rate, 1e-9)
    line = (f"{total}/{row['all']} inputs, {rate:.0f}/s, {left / 60:.1f} min left: "
            f"{row['reader']}, {row['edges']} edges, {len(row['faults'])} faults")  # fmt: skip
    if sys.stderr.isatty():
        print(f"\r\033[K{line}", end="\n" if row["done"] else "", file=sys.stderr, flush=True)
    elif row["done"]:
        print(line, file=sys.stderr, flush=True)


def _table(rows: list[dict[str, Any]]) -> str:
    head = ("reader", "inputs", "accepted", "refused", "edges", "faults", "inputs/s")
    cells = [
        (row["reader"], *(str(row[key]) for key in head[1:5]), str(len(row["faults"])),
         f"{row['inputs'] / max(row['seconds'], 1e-9):.0f}")
        for row in rows
    ]  # fmt: skip
    sums = [sum(row[key] for row in rows) for key in head[1:5]]
    faults, seconds = sum(len(row["faults"]) for row in rows), sum(row["seconds"] for row in rows)
    rate = f"{sums[0] / max(seconds, 1e-9):.0f}"
    cells.append((f"all {len(rows)}, {seconds / 60:.1f} min", *map(str, sums), str(faults), rate))
    return "\n".join(
        "  ".join(cell.ljust(24) if n == 0 else cell.rjust(8) for n, cell in enumerate(row))
        for row in [head, *cells]
    )


def _memory_disk() -> str | None:
    """Files are written a hundred times a second: not onto a disk where there is one of memory."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


# --- the child


def _child(plan: dict[str, Any]) -> int:
    from tests.fuzz.campaign import Campaign, Tally
    from tests.fuzz.readers import READERS

    _limit_memory()
    chosen = [reader for reader in READERS if plan["only"].lower() in reader.name.lower()]
    shares = [reader.weight / sum(reader.weight for reader in chosen) for reader in chosen]
    before = 0
    for number, (reader, share) in enumerate(zip(chosen, shares, strict=True)):
        count = max(1, math.ceil(plan["inputs"] * share))
        if number < plan["skip"]:
            before += count
            continue
        facts = {"reader": reader.name, "number": number, "file": reader.file, "before": before,
                 "all": plan["inputs"]}  # fmt: skip
        start = last = time.perf_counter()
        _tell(facts, Tally(), 0.0, Path(plan["keep"]))

        def told(tally: Tally, facts=facts, start=start) -> None:
            nonlocal last
            now = time.perf_counter()
            if now - last > _EVERY:
                last = now
                _tell(facts, tally, now - start, Path(plan["keep"]))

        campaign = Campaign(reader, Path(plan["work"]) / f"{number}", plan["seed"], told)
        seconds = plan["seconds"] * share if plan["seconds"] else None
        tally = campaign.run(count, seconds)
        _tell(facts, tally, time.perf_counter() - start, Path(plan["keep"]), done=True)
        campaign.close()
        before += count
    return 0


def _tell(
    facts: dict[str, Any], tally: Any, seconds: float, keep: Path, done: bool = False
) -> None:
    faults = []
    for number, (place, (result, data)) in enumerate(tally.faults.items()):
        file = keep / f"{facts['number']:02d}-{number}-{facts['file']}"
        if done:
            file.write_bytes(data)
        faults.append((place, ascii(result.words), str(file)))
    row = facts | {"inputs": tally.inputs, "accepted": tally.accepted, "refused": tally.refused,
                   "edges": tally.edges, "faults": faults, "seconds": seconds,
                   "done": done}  # fmt: skip
    print(json.dumps(row), flush=True)


def _limit_memory() -> None:
    """What reading asks for beyond it is a MemoryError, which is a fault."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


if __name__ == "__main__":
    sys.exit(main())
