"""The bench's command line; see the package."""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from tavid_jax import __version__
from tavid_jax.data.arguments import positive, size
from tavid_jax.data.cache import write_whole
from tavid_jax.engine.log import set_up_logging
from tavid_jax.engine.report import write_metrics
from tavid_jax.engine.telemetry import Progress, duration
from tavid_jax.metrics.result import for_json
from tavid_jax.tracks.grid import ORIGINS
from tavid_jax.trajloombench import methods, outputs, page, pictures, tables, trackers
from tavid_jax.trajloombench.evaluation import Evaluated, Job, evaluate
from tavid_jax.trajloombench.measuring import measure
from tavid_jax.trajloombench.preparing import Rules, prepare
from tavid_jax.trajloombench.protocol import Protocol
from tavid_jax.trajloombench.sources import SOURCES


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code: 1 after an error, 130 when interrupted."""
    args = _parser().parse_args(argv)
    if not flags.FLAGS.is_parsed():  # else absl complains of lines that come before
        flags.FLAGS.mark_as_parsed()
    set_up_logging()
    try:
        return args.run(args)
    except (ValueError, OSError) as error:  # all of ours are ValueErrors
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; what is finished stays: the same command goes on", file=sys.stderr)
        return 130


def _prepare(args: argparse.Namespace) -> int:
    usual = Rules.aspect if args.kind == "magicdata" else math.inf
    rules = Rules(
        protocol=_protocol(args),
        # The paper filters MagicData alone; what a benchmark has of other shapes is squashed.
        aspect=usual if args.aspect is None else args.aspect,
        least_height=args.least_height,
        resize=args.resize,
        fps=args.fps,
    )
    tracker = trackers.named_tracker(args.tracker)
    print(f"tracker: {tracker.fingerprint} (the paper's is AllTracker)")
    began = time.monotonic()

    def told(done: int, share: float | int, text: str) -> None:
        gone = max(time.monotonic() - began, 1e-9)
        left = duration(gone * (1 - share) / share) if share else "?"
        print(f"{done:5d} ({done / gone:.2f}/s, ETA {left})  {text}", flush=True)

    made = prepare(
        args.kind, args.source, args.destination, tracker, rules, args.name, args.limit, told
    )
    print(f"{made.name}: {len(made.clips)} clips, {len(made.skipped)} videos skipped")
    print(f"manifest: {made.manifest}")
    return 0


def _evaluate(args: argparse.Namespace) -> int:
    done = _evaluated(args)
    print(f"outputs: {os.path.abspath(Path(args.out) / outputs.OUTPUTS)}")
    return 0 if done.made + done.kept else 1


def _evaluated(args: argparse.Namespace) -> Evaluated:
    job = Job(
        datasets=args.datasets,
        out=args.out,
        methods=tuple(methods.read_methods(args.method, args.encoders)),
        protocol=_protocol(args),
        solvers=tuple(map(methods.read_solver, args.solver)),
        seeds=tuple(args.seed),
        only=tuple(args.only or ()),
        limit=args.limit,
        captions=not args.no_captions,
        reconstructions=not args.no_reconstructions,
    )
    done = evaluate(job)
    print(f"{done.made} outputs made, {done.kept} were there")
    for video, reason in done.skipped:
        print(f"SKIPPED {video}: {reason}")
    return done


def _tables(args: argparse.Namespace) -> int:
    roots = args.outputs or ([] if args.folder else [args.out])
    _report(outputs.find_folders(roots, args.folder), args)
    return 0


def _run(args: argparse.Namespace) -> int:
    _evaluated(args)
    given = [method.label for method in methods.read_methods(args.method)]
    found = outputs.find_folders([Path(args.out) / outputs.OUTPUTS])
    # As they were given; others that lie there come after.
    found.sort(key=lambda folder: given.index(folder.method) if folder.method in given else 99)
    _report(found, args)
    return 0


def _report(folders: Sequence[outputs.Folder], args: argparse.Namespace) -> None:
    """Measures, prints, and writes tables.json, the page and its pictures."""
    out = Path(args.out)
    records = _each("measured", folders, measure)
    made = tables.build_tables(records)
    for table in made:
        if table.measured or table.missing:
            print(tables.to_text(table) + "\n")
    for sentence in tables.doubts(records):
        print(f"note: {sentence}")
    content = {"version": __version__, "source": tables.published.SOURCE, "folders": records}
    write_metrics(out / "tables.json", {**content, "tables": [_plain(t) for t in made]})
    drawn = []
    if args.pictures:
        pair = args.pair.split(",") if args.pair else ()
        for found in pictures.pairs(folders, pair).values():
            drawn += pictures.draw(found, args.pictures)
    for picture in drawn:
        stem = out / "report" / f"{picture.dataset}_{picture.clip}"
        write_whole(stem.with_name(stem.name + ".webp"), picture.film.data)
        write_whole(stem.with_name(stem.name + ".png"), picture.still.data)
    provenance = {"version": __version__, "outputs": [str(folder.path) for folder in folders]}
    path = page.build_page(made, records, drawn, provenance).write(out / "report")
    print(f"tables: {os.path.abspath(out / 'tables.json')}\nreport: {os.path.abspath(path)}")


def _each(name: str, items: Sequence[Any], work: Callable[[Any], Any]) -> list[Any]:
    progress, done = Progress(name, len(items)), []
    for number, item in enumerate(items, start=1):
        done.append(work(item))
        progress.show(number, last=number == len(items))
    return done


def _plain(table: tables.Table) -> dict[str, Any]:
    rows = [
        {
            "label": row.label,
            "origin": row.origin,
            "values": {f"{metric} {dataset}": v for (metric, dataset), v in row.values.items()},
        }
        for row in table.rows
    ]
    return for_json(
        {
            "number": table.number,
            "title": table.title,
            "rows": rows if table.measured else [],
            "note": table.note,
            "missing": table.missing,
            "scales": {m.key: m.unit for m in table.metrics},
        }
    )


def _protocol(args: argparse.Namespace) -> Protocol:
    given = getattr(args, "frames", None)
    horizons = tuple(given) if given else tuple(n for n in (24, 81) if n <= args.future)
    sizes = (args.size, args.stride, args.origin, args.history, args.future)
    return Protocol(*sizes, horizons or (args.future,))


def _parser() -> argparse.ArgumentParser:
    from tavid_jax import trajloombench

    parser = argparse.ArgumentParser(
        prog="python -m tavid_jax.trajloombench",
        description=trajloombench.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_prepare(commands)
    evaluating = commands.add_parser("evaluate", help="forecasts of every clip of every data set")
    evaluating.set_defaults(run=_evaluate)
    _add_evaluation(evaluating)
    tabling = commands.add_parser(
        "tables", help="Tables 1-6 and a report of outputs, ours or those of TrajLoom's own code"
    )
    tabling.set_defaults(run=_tables)
    tabling.add_argument(
        "outputs", nargs="*", metavar="OUTPUTS", help="folders that evaluate wrote (default: --out)"
    )
    tabling.add_argument(
        "--folder", action="append", default=[], metavar="METHOD:DATASET=PATH",
        help="outputs of another program; METHOD:DATASET:vae=PATH for reconstructions",
    )  # fmt: skip
    tabling.add_argument("--out", default="bench", metavar="OUT", help="default: %(default)s")
    _add_report(tabling)
    running = commands.add_parser("run", help="evaluate, then tables")
    running.set_defaults(run=_run)
    _add_evaluation(running)
    _add_report(running)
    return parser


def _add_prepare(commands: Any) -> None:
    parser = commands.add_parser(
        "prepare",
        help="videos as published -> a data set with tracks",
        description="Resizes the first frames of every fitting video, follows the grid's points "
        "through them, and writes both with a manifest of every rule.",
    )
    parser.set_defaults(run=_prepare)
    add = parser.add_argument
    add("kind", choices=SOURCES, metavar="KIND", help=", ".join(SOURCES))
    add("source", metavar="SRC", help="folder or file of that kind")
    add("destination", metavar="DST", help="folder of data sets")
    add("--name", help="of the data set (default: the paper's name for that kind)")
    add(
        "--tracker", default=trackers.EMBEDDED, metavar="NAME",
        help="dis (embedded optical flow), dis:fine, or module:function of your own",
    )  # fmt: skip
    add(
        "--aspect", type=_share, metavar="SHARE",
        help=f"most that the aspect ratio may be off, or 'any' (default: {Rules.aspect} for "
        "magicdata, else any)",
    )  # fmt: skip
    add("--resize", choices=("squash", "cover"), default=Rules.resize, help="default: %(default)s")
    add("--least-height", type=positive(int), default=0, metavar="ROWS", help="of a source video")
    add("--fps", type=positive(float), help="thin videos to this rate (default: as they are)")
    add("--limit", type=positive(int), metavar="N", help="stop at so many clips")
    _add_sizes(parser)


def _share(text: str) -> float:
    value = math.inf if text == "any" else float(text)
    if not value >= 0:
        raise argparse.ArgumentTypeError(f"must not be negative, got {text}")
    return value


def _add_evaluation(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--datasets", required=True, metavar="DIR", help="folder of data sets")
    add(
        "--method", action="append", required=True, metavar="NAME=PATH",
        help="a trained run, released weights, module:function, or stand_still, "
        "constant_velocity, constant_acceleration; several times",
    )  # fmt: skip
    add("--out", required=True, metavar="OUT", help="outputs, tables.json and report go there")
    add(
        "--encoders", metavar="WAN", help="folder of a Wan 2.1 checkpoint: its autoencoder and "
        "text encoder make what TrajLoom's released weights read besides tracks",
    )  # fmt: skip
    add("--only", nargs="+", metavar="DATASET", help="these data sets (default: all)")
    add(
        "--solver", nargs="+", default=["euler-10", "dopri5"], metavar="SOLVER",
        help="of methods that integrate a flow (default: euler-10 dopri5)",
    )  # fmt: skip
    add("--seed", nargs="+", type=int, default=[42], help="of the noise (default: 42)")
    add("--frames", nargs="+", type=positive(int), metavar="N", help="lengths (default: 24 81)")
    add("--limit", type=positive(int), metavar="N", help="the first clips of each data set")
    add("--no-captions", action="store_true", help="give none, as the released script")
    add("--no-reconstructions", action="store_true", help="leave the autoencoders out")
    _add_sizes(parser)


def _add_sizes(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("sizes", "those of the paper by default")
    paper = Protocol()
    group.add_argument("--size", type=size, default=paper.size_hw, metavar="HxW", help="480x832")
    group.add_argument("--stride", type=positive(int), default=paper.stride, help="%(default)s")
    group.add_argument("--origin", choices=ORIGINS, default=paper.origin, help="%(default)s")
    group.add_argument("--history", type=positive(int), default=paper.history, help="%(default)s")
    group.add_argument("--future", type=positive(int), default=paper.future, help="%(default)s")


def _add_report(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--pictures", type=int, default=2, metavar="N", help="films of each data set, 0 = none"
    )
    parser.add_argument(
        "--pair", metavar="A,B", help="methods of the films (default: the first two)"
    )
