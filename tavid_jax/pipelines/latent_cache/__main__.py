"""Latents of TrajLoom as files that its own code reads, and back.

    python -m tavid_jax.pipelines.latent_cache export RUN OUT       the latents of a run as a cache
    python -m tavid_jax.pipelines.latent_cache check FOLDER         what a cache holds and lacks
    python -m tavid_jax.pipelines.latent_cache statistics FROM OUT  of a run or a cache, as JSON

Training reads a cache by --config.latents=FOLDER, and the table that standardises it by
--config.latent_statistics=FOLDER/vae_latent_stats.json (left empty, it is measured).
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from tavid_jax.data.latent_statistics import (
    StatisticsError,
    differing,
    read_statistics,
    write_statistics,
)
from tavid_jax.data.records import RecordError, RecordSource
from tavid_jax.engine.checkpoint import CheckpointError, load_result
from tavid_jax.engine.log import set_up_logging
from tavid_jax.engine.telemetry import Progress
from tavid_jax.pipelines.latent_cache.given import vae_of
from tavid_jax.pipelines.latent_cache.reader import (
    SPLITS,
    STATISTICS,
    LatentCache,
    LatentCacheError,
)
from tavid_jax.pipelines.latent_cache.writer import LatentCacheWriter
from tavid_jax.weights.lazy import to_dtype
from tavid_jax.weights.problems import WeightsError

_ERRORS = (LatentCacheError, StatisticsError, RecordError, CheckpointError, WeightsError, OSError)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code."""
    args = _parser().parse_args(argv)
    set_up_logging()
    try:
        return args.run(args)
    except _ERRORS as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def export_run(
    run: str | os.PathLike,
    out: str | os.PathLike,
    *,
    eval_share: float | int = 0.0,
    seed: int = 42,
    dtype: str = "float32",
) -> Path:
    """Writes the latents that a run has cached as a cache of TrajLoom's.

    Args:
      run: workdir whose latents stage has finished.
      out: folder to make.
      eval_share: share of the clips that go to the held-out manifest (the paper has 0.1).
      seed: of that choice.
      dtype: of floating arrays on disk, "float32", "float16" or "bfloat16".

    Raises:
      LatentCacheError: no such run, no cache in it, `out` is there already, or a share that leaves
        no training clip.
      RecordError: the cache of the run is damaged.
    """
    stage = _latents_stage(run)
    folder = Path(run) / "stages" / stage / "cache"
    if not folder.is_dir():
        raise LatentCacheError(
            f"{folder}: the run cached no latents there; set stages.{stage}.cache=True"
        )
    source = RecordSource(folder)
    held_out = _held_out(len(source), eval_share, seed)
    meta = {"vae": _vae(run, stage), "run": source.meta}
    progress = Progress("export", len(source))
    with LatentCacheWriter(out, meta, to_dtype(dtype)) as writer:
        for index in range(len(source)):
            writer.write(source[index], "eval" if index in held_out else "train")
            progress.show(index + 1, last=index + 1 == len(source))
    return Path(out)


def check_cache(folder: str | os.PathLike) -> tuple[str, int]:
    """What a cache holds, as text, and how many of its files cannot be used.

    Raises:
      LatentCacheError: no training manifest, or see `LatentCache`.
    """
    caches = [LatentCache(folder)]
    for split, words in SPLITS.items():
        if split != "train" and any((Path(folder) / f"manifest_{w}.jsonl").exists() for w in words):
            caches.append(LatentCache(folder, split))
    lines, bad = [f"{folder}", *_origin(caches[0])], []
    for cache in caches:
        kinds, progress = collections.Counter(), Progress(cache.name, len(cache))
        for index in range(len(cache)):
            try:
                example = cache[index]
                kinds[tuple((k, v.shape) for k, v in example.items() if k != "id")] += 1
            except LatentCacheError as error:
                bad.append(str(error))
            progress.show(index + 1, last=index + 1 == len(cache))
        lines.append(f"{cache.name}: {len(cache)} clips")
        for kind, count in kinds.most_common():
            lines.append(f"  {count} with " + ", ".join(f"{k} {list(shape)}" for k, shape in kind))
        if len(kinds) > 1:
            bad.append(f"{cache.name}: clips differ in what they hold; batches need all alike")
    if not bad:
        lines += _compared(caches[0])
    return "\n".join([*lines, *(f"BAD {line}" for line in bad)]), len(bad)


def _origin(cache: LatentCache) -> list[str]:
    if not cache.meta:
        return ["  no meta.json: not said of which VAE"]
    return [f"  VAE {cache.meta.get('vae') or 'unknown'}, {cache.meta.get('dtype', '?')} on disk"]


def _compared(cache: LatentCache) -> list[str]:
    """The cache's own table beside what its training clips have."""
    measured, path = cache.statistics(), cache.folder / STATISTICS
    table = measured["all"]
    lines = [
        f"  all latents: mean {table['mean'].mean():.6g}, from {table['min'].min():.6g} to "
        f"{table['max'].max():.6g}, {table['count']} tokens"
    ]
    if path.is_file():
        told = differing(read_statistics(path), measured)
        lines.append(f"  {path.name}: " + (f"DIFFERS, {told}" if told else "agrees"))
    return lines


def _export(args: argparse.Namespace) -> int:
    export_run(args.run_folder, args.out, eval_share=args.eval_share, seed=args.seed,
               dtype=args.dtype)  # fmt: skip
    print(f"{os.path.abspath(args.out)}; its statistics: {Path(args.out) / STATISTICS}")
    return 0


def _check(args: argparse.Namespace) -> int:
    text, bad = check_cache(args.folder)
    print(text)
    return 1 if bad else 0


def _statistics(args: argparse.Namespace) -> int:
    source = Path(args.source)
    if (source / "config.json").is_file():
        stage = _latents_stage(source)
        statistics = load_result(source / "stages" / stage / "result")["statistics"]
        meta = {"run": str(source), "vae": _vae(source, stage)}
        print("a run keeps means and deviations alone: counts and extremes are left out")
    else:
        cache = LatentCache(source)
        statistics = cache.statistics()
        meta = {"cache_dir": str(source), "split": "train", "num_files": len(cache)}
    write_statistics(args.out, statistics, meta)
    print(os.path.abspath(args.out))
    return 0


def _latents_stage(run: str | os.PathLike) -> str:
    """Name of the finished stage of a run that measures latents."""
    try:
        config = json.loads((Path(run) / "config.json").read_text())
    except (OSError, ValueError) as error:
        raise LatentCacheError(f"{run}: holds no run (config.json: {error})") from error
    for name in config["order"]:
        stage = config["stages"][name]
        if stage["kind"] == "compute" and stage["method"] == "latents":
            if not (Path(run) / "stages" / name / "done.json").is_file():
                raise LatentCacheError(f"{run}: its stage {name!r} has not finished; train first")
            if config.get("latents"):
                raise LatentCacheError(f"{run}: its latents are those of {config['latents']}")
            return name
    raise LatentCacheError(f"{run}: is no run of TrajLoom, none of its stages measures latents")


def _vae(run: str | os.PathLike, stage: str) -> str:
    """Fingerprint of the VAE of a run's latents."""
    config = ConfigDict(json.loads((Path(run) / "config.json").read_text()))
    return vae_of(config, Path(run), stage)


def _held_out(count: int, share: float | int, seed: int) -> set[int]:
    if not 0 <= share < 1:
        raise LatentCacheError(f"--eval-share {share} is not in [0, 1)")
    order = np.random.default_rng(seed).permutation(count)
    return set(order[: round(share * count)].tolist())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tavid_jax.pipelines.latent_cache",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    export = commands.add_parser("export", help="write a run's cached latents for TrajLoom's code")
    export.set_defaults(run=_export)
    export.add_argument("run_folder", metavar="RUN", help="workdir of the run")
    export.add_argument("out", metavar="OUT", help="folder to make; must not be there yet")
    export.add_argument(
        "--eval-share",
        type=float,
        default=0.0,
        help="share of the clips for manifest_eval.jsonl (default: %(default)s; the paper: 0.1)",
    )
    export.add_argument("--seed", type=int, default=42, help="of that choice (default: 42)")
    export.add_argument(
        "--dtype",
        choices=["float32", "float16", "bfloat16"],
        default="float32",
        help="of latents on disk (default: %(default)s; the released cache seems to be bfloat16)",
    )
    check = commands.add_parser("check", help="read every file of a cache, say what is wrong")
    check.set_defaults(run=_check)
    check.add_argument("folder", metavar="FOLDER", help="that holds manifest_train.jsonl")
    statistics = commands.add_parser("statistics", help="write latent statistics as JSON")
    statistics.set_defaults(run=_statistics)
    statistics.add_argument("source", metavar="FROM", help="a run, or a cache")
    statistics.add_argument("out", metavar="OUT", help="JSON file to write")
    return parser


if __name__ == "__main__":
    sys.exit(main())
