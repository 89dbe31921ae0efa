"""The commands inspect, import, export and diff.

A checkpoint is a file (.safetensors, .pt, .pth), a folder (diffusers, original, imported), or
hf:owner/name[@revision][/subfolder]. `inspect` and `export` take LoRA adapters and FlexTraj's
files, too; `inspect` takes the file of a patch projection with further input channels.
"""

import argparse
import contextlib
import math
import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tavid_jax.weights import flextraj_cli, patch_cli
from tavid_jax.weights.compared import Difference, compare
from tavid_jax.weights.exported import SHARD_BYTES, export_checkpoint
from tavid_jax.weights.flextraj import is_flextraj
from tavid_jax.weights.imported import for_people, import_checkpoint, is_imported
from tavid_jax.weights.lazy import LazyArray
from tavid_jax.weights.model_json import PRESETS
from tavid_jax.weights.opened import open_parameters
from tavid_jax.weights.patch_embed import find_patch_embed, open_patch_embed
from tavid_jax.weights.peft import is_lora
from tavid_jax.weights.peft_cli import convert, describe
from tavid_jax.weights.problems import WeightsError
from tavid_jax.weights.progress import ProgressBar
from tavid_jax.weights.registry import CHECKPOINTS
from tavid_jax.weights.source import open_source


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code."""
    args = _parser().parse_args(argv)
    try:
        with _stoppable():
            return args.run(args)
    except (WeightsError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; nothing was left behind", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tavid_jax.weights", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(run, name: str, short: str, long: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=short, description=f"{short}. {long}")
        added.set_defaults(run=run)
        return added

    inspect = command(
        _inspect,
        "inspect",
        "Show what a checkpoint holds",
        "Prints its kind, preset and a table of parameters (path, shape, dtype, size) with "
        "totals; of adapters, their layers, ranks, scales and the models they fit; of a patch "
        "projection, the models it fits and the channels it adds. No tensor is read. Exit code 1 "
        "if it does not fit its config.",
    )
    inspect.add_argument("checkpoint")
    _identity(inspect)
    inspect.add_argument(
        "--keys", action="store_true", help="the checkpoint's own keys, read as they are"
    )

    importer = command(
        _import,
        "import",
        "Convert a published checkpoint into an Orbax folder",
        "One parameter at a time is in memory. The folder appears when it is complete; an error "
        "or Ctrl-C leaves nothing behind.",
    )
    importer.add_argument("checkpoint")
    importer.add_argument("folder", help="to be created")
    _identity(importer)
    _dtype(importer)

    exporter = command(
        _export,
        "export",
        "Convert an imported folder into PyTorch's layout",
        "Writes safetensors (sharded, with an index) and config.json, which diffusers or the "
        "original code load. A published checkpoint can be given too, to change its naming or "
        "dtype; so can adapters.",
    )
    exporter.add_argument("checkpoint")
    exporter.add_argument("folder", help="to be created")
    exporter.add_argument(
        "--naming",
        choices=("original", "diffusers", "peft"),
        help="of Wan's keys, original or diffusers (default: as they were); of adapters, any of "
        "these, original for Wan alone (default: diffusers)",
    )
    exporter.add_argument(
        "--shard-gb",
        type=_positive,
        default=SHARD_BYTES / 1e9,
        help="largest size of one file (default: %(default)g)",
    )
    _identity(exporter)
    _dtype(exporter)

    differ = command(
        _diff,
        "diff",
        "Compare two checkpoints",
        "Lists parameters that only one has, other shapes, and the largest difference of values, "
        "absolute and relative to the root mean square of the first. Namings and dtypes may "
        "differ. Exit code 0 if all are equal, 1 if not.",
    )
    differ.add_argument("first")
    differ.add_argument("second")
    differ.add_argument(
        "--tolerance",
        type=float,
        default=0.0,
        help="relative difference that counts as equal (default: %(default)g; bf16 rounds by 4e-3 "
        "of a value)",
    )
    return parser


def _identity(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--kind", metavar="KIND", help=f"default: the keys tell. {', '.join(CHECKPOINTS)}"
    )
    parser.add_argument(
        "--preset",
        metavar="PRESET",
        help=f"default: config.json or the shapes tell. {', '.join(PRESETS)}",
    )


def _dtype(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--dtype",
        choices=("keep", "bf16", "f16", "f32"),
        default="keep",
        help="of everything that is written (default: as it is stored)",
    )


def _positive(text: str) -> float:
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"must be positive, not {text}")
    return value


def _inspect(args: argparse.Namespace) -> int:
    if args.keys and not is_imported(args.checkpoint):
        source = open_source(args.checkpoint)
        print(f"checkpoint  {source.name}")
        print(f"files       {len(source.files)}")
        _print_table(source.tensors)
        return 0
    if not is_imported(args.checkpoint) and _inspect_parts(args.checkpoint, args.preset):
        return 0
    opened = open_parameters(args.checkpoint, args.kind, args.preset)
    print(f"checkpoint  {opened.origin}")
    print(f"kind        {opened.name}")
    print(f"preset      {opened.preset or 'none of the published'}")
    for name in ("source", "weights") if opened.record else ():
        print(f"{name:11} {opened.record[name]}")
    print(f"config      {opened.config}")
    _print_table(opened.leaves)
    return 0


def _inspect_parts(checkpoint: str, preset: str | None) -> bool:
    """Shows adapters and a patch projection; False if neither is what the checkpoint holds."""
    if is_flextraj(checkpoint):
        print("\n".join(flextraj_cli.describe(checkpoint, preset)))
        return True
    adapters, patch = is_lora(checkpoint), _patch_file(checkpoint)
    if adapters:
        print("\n".join(describe(checkpoint, preset)))
    if patch is not None:
        if adapters:
            print()
        print("\n".join(patch_cli.describe(patch, preset)))
        _print_table(open_patch_embed(patch)[1])
    return adapters or patch is not None


def _patch_file(checkpoint: str) -> Path | None:
    """The file of a patch projection, if there is nothing else, or adapters alone."""
    file = find_patch_embed(checkpoint)
    alone = file is not None and (is_lora(checkpoint) or open_source(checkpoint).files == (file,))
    return file if alone else None


def _print_table(leaves: Mapping[str, LazyArray]) -> None:
    rows = [
        (path, "x".join(map(str, leaf.shape)) or "scalar", str(leaf.dtype), for_people(leaf.nbytes))
        for path, leaf in leaves.items()
    ]
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    print()
    for path, shape, dtype, size in rows:
        print(f"{path:{widths[0]}}  {shape:>{widths[1]}}  {dtype:{widths[2]}}  {size:>{widths[3]}}")
    elements = sum(leaf.size for leaf in leaves.values())
    nbytes = sum(leaf.nbytes for leaf in leaves.values())
    print(f"\n{len(rows)} arrays, {elements:,} parameters, {for_people(nbytes)}")


def _import(args: argparse.Namespace) -> int:
    if is_flextraj(args.checkpoint):
        raise WeightsError(
            f"{args.checkpoint} holds FlexTraj's adapters, which are used as they are: "
            "tavid_jax.weights.load_flextraj reads them"
        )
    if is_lora(args.checkpoint):
        raise WeightsError(
            f"{args.checkpoint} holds LoRA adapters, which are used as they are: "
            "tavid_jax.weights.load_lora reads them"
        )
    if _patch_file(args.checkpoint) is not None:
        raise WeightsError(
            f"{args.checkpoint} holds a patch projection, which is used as it is: "
            "tavid_jax.weights.load_patch_embed reads it"
        )
    with ProgressBar("import") as bar:
        record = import_checkpoint(
            args.checkpoint,
            args.folder,
            name=args.kind,
            config=args.preset,
            dtype=args.dtype,
            progress=bar,
        )
    print(
        f"{os.path.abspath(args.folder)}: {record['preset'] or record['kind']}, "
        f"{record['parameters']:,} parameters, {', '.join(record['dtypes'])}, "
        f"{for_people(record['bytes'])}, weights {record['weights']}"
    )
    return 0


def _export(args: argparse.Namespace) -> int:
    if not is_imported(args.checkpoint) and is_lora(args.checkpoint):
        rewrite = flextraj_cli.convert if is_flextraj(args.checkpoint) else convert
        return _print_files(
            rewrite(args.checkpoint, args.folder, args.naming, args.preset, args.dtype)
        )
    with ProgressBar("export") as bar:
        files = export_checkpoint(
            args.checkpoint,
            args.folder,
            naming=args.naming,
            name=args.kind,
            config=args.preset,
            dtype=args.dtype,
            shard_bytes=int(args.shard_gb * 1e9),
            progress=bar,
        )
    return _print_files(files)


def _print_files(files: Sequence[Path]) -> int:
    for file in files:
        print(f"{file}  {for_people(file.stat().st_size)}")
    return 0


def _diff(args: argparse.Namespace) -> int:
    equal, different = 0, 0
    for found in compare(args.first, args.second, args.tolerance):
        if isinstance(found, Difference):
            different += 1
            print(_difference(found))
        else:
            equal += 1
    print(f"{equal} equal, {different} different")
    return 1 if different else 0


def _difference(found: Difference) -> str:
    if found.what != "values":
        return f"{found.path}: {found.what} {found.detail}".rstrip()
    if math.isnan(found.largest):
        return f"{found.path}: nan in one and not in the other"
    return f"{found.path}: largest difference {found.largest:.3g}, relative {found.relative:.3g}"


@contextlib.contextmanager
def _stoppable() -> Iterator[None]:
    """A terminating signal cleans up like Ctrl-C does."""

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGTERM, stop)
    except ValueError:  # not in the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
