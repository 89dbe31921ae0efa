"""A folder of clips with captions, encoded once for all trainings.

    python -m tavid_jax.pipelines.encode cogvideox-5b-i2v CogVideoX-5b-I2V clips/ cache/ \\
        --captions captions.csv
    python -m tavid_jax.pipelines.encode wan2.1-t2v-14b Wan2.1-T2V-14B-Diffusers clips/ cache/ \\
        --size-hw 480x832 --frames 81 --shard 0/4
    python -m tavid_jax.pipelines.encode cogvideox-5b-i2v CogVideoX-5b-I2V clips/ cache/ \\
        --captions captions.csv --masks beside
    python -m tavid_jax.pipelines.encode wan2.1-t2v-14b Wan2.1-T2V-14B-Diffusers grounded/ cache/ \\
        --trajectories

The third one is for TAViD: the target's mask in the first frame of clips/a.mp4 lies beside it as
a.target.png (or in the folder that --masks names), and each caption gets a sentence that names the
target by the word "target". --masks makes one clip of every video, from its first frame on.

The last one is for TGT: a folder of grounded clips (`python -m tavid_jax.data ground`) has
captions, trajectories and their texts in it already.

Captions stand in a CSV with the columns videoid and text, or in <video>.txt beside each video.
What was begun goes on when the same command is run again; machines that share a disk take a share
each (--shard 0/4, 1/4, ...). Training reads the folder: --config.cache=cache/
"""

from __future__ import annotations

import argparse
import contextlib
import math
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
from absl import logging

from tavid_jax.data.folder import ClipFolder, open_clips
from tavid_jax.data.grounding.grounded import (
    GroundedClips,
    folder_list,
    is_grounded,
    open_grounded,
)
from tavid_jax.data.masks import option
from tavid_jax.data.plan import Plan
from tavid_jax.data.shards import write_shards
from tavid_jax.engine.interrupt import run_to_exit
from tavid_jax.engine.preemption import RESTART_EXIT_CODE
from tavid_jax.engine.telemetry import Progress
from tavid_jax.pipelines import options
from tavid_jax.pipelines.backbones import Geometry
from tavid_jax.pipelines.encoders import STORED, Encoders
from tavid_jax.pipelines.finding import find_model
from tavid_jax.pipelines.keeping import SOURCES, Keep
from tavid_jax.pipelines.masks import HOWS
from tavid_jax.pipelines.memory import SMALLEST, Memory
from tavid_jax.pipelines.opening import open_encoders
from tavid_jax.pipelines.recipe import POSTERIORS
from tavid_jax.pipelines.settings import PUBLISHED, Published
from tavid_jax.pipelines.targets import SENTENCE, TARGET, Targets

INTERRUPTED = "interrupted; finished shards are kept, run the same command to go on"


def main(argv: Sequence[str] | None = None) -> int:
    """Encodes this machine's share of the clips; returns the exit code."""
    args = _parser().parse_args(argv)

    def run() -> int:
        with _terminated():
            return _run(args)

    return options.run_command(run, INTERRUPTED)


def _run(args: argparse.Namespace) -> int:
    published, out = find_model(args.model, args.checkpoint).published, Path(args.out)
    options.check_folder(out)
    index, count = _share(args.shard)
    encoders = _encoders(args, published)
    clips = _clips(args, published, encoders)
    plan = Plan.of(clips, encoders.facts(), args.shard_size)
    _tell(plan, out)
    finished = write_shards(
        out, plan, clips, encoders, index=index, count=count, progress=_progress()
    )
    if finished:
        logging.info("%s is finished; train from it with --config.cache=%s", out, out)
    else:
        left = len(plan.missing(out))
        logging.info("shard %d/%d is finished; %d of %d files of %s are left to the others",
                     index, count, left, plan.shards, out)  # fmt: skip
    return 0


def _encoders(args: argparse.Namespace, published: Published) -> Encoders:
    sampling = published.sampling
    memory = Memory(args.keep, "cpu" if args.encoders_on_cpu else "device", args.tiles)
    return open_encoders(
        args.model,
        args.checkpoint,
        Geometry(args.frames or sampling.frames, args.size_hw or sampling.size_hw),
        posterior=args.posterior,
        image_noise=args.image_noise,
        stored=args.stored,
        seed=args.seed,
        parts=options.parts(args),
        dtype=args.dtype,
        memory=SMALLEST if args.smallest else memory,
        mesh=options.mesh(args),
        per_device=args.batch_size,
        targets=_targets(args),
        keep=_keep(args),
        strict=not args.any_size,
    )


def _targets(args: argparse.Namespace) -> Targets | None:
    """What the options say of targets; None for clips without masks."""
    fields = {
        "words": args.trigger,
        "objects": args.objects,
        "latent": args.latent_mask,
        "aim": args.aim,
        "sentence": args.sentence,
        "nouns": args.nouns,
    }
    given = {name: value for name, value in fields.items() if value is not None}
    if args.masks is None:
        if given:
            raise ValueError(
                f"{_OF_TARGETS[next(iter(given))]} is of clips with masks: give --masks beside, or "
                "their folder"
            )
        return None
    if args.trigger is not None and len(args.trigger) == 1:
        given.setdefault("sentence", SENTENCE.replace(TARGET, args.trigger[0]))
    return Targets.of(given)


def _keep(args: argparse.Namespace) -> Keep | None:
    """What the options say of trajectories; None for examples without any."""
    if args.trajectories is None:
        if args.text_positions is not None:
            raise ValueError(
                "--text-positions is of trajectories' texts: give --trajectories beside"
            )
        return None
    if not _is_grounded(args):
        raise ValueError(
            f"--trajectories are those of grounded clips, {args.clips} holds none: make some of "
            "them by python -m tavid_jax.data ground"
        )
    given = {} if args.text_positions is None else {"text_positions": args.text_positions}
    return Keep(args.trajectories, **given)


def _is_grounded(args: argparse.Namespace) -> bool:
    return any(map(is_grounded, folder_list(args.clips)))


def _clips(
    args: argparse.Namespace, published: Published, encoders: Encoders
) -> ClipFolder | GroundedClips:
    geometry = encoders.recipe.backbone.geometry
    how = dict(
        size_hw=geometry.size_hw,
        num_frames=geometry.frames,
        fps=(published.sampling.fps if args.fps is None else args.fps) or None,
        hop=args.hop,
        resize=args.resize,
    )
    if _is_grounded(args):
        given = [name for name in _OF_VIDEOS if getattr(args, name)]
        if given:
            raise ValueError(
                f"--{given[0].replace('_', '-')} is for videos; {args.clips} holds grounded clips, "
                "which have their own: leave it out"
            )
        return open_grounded(args.clips, **how)
    clips = open_clips(
        args.clips,
        **how,
        captions=args.captions,
        keep_mb=0,
        track=False,
        masks=option(args.masks),
        selected=args.selected,
        spare_captions=True,  # told below, with videos that have none
    )
    if args.skip_unmatched:
        clips = clips.captioned()
    else:
        _check_captions(clips)
    _check_words(clips, encoders)
    return clips


def _check_captions(clips: ClipFolder) -> None:
    try:
        clips.check_captions()
    except ValueError as error:
        raise ValueError(
            f"{error}; complete them, or go on without these: --skip-unmatched"
        ) from error


def _check_words(clips: ClipFolder, encoders: Encoders) -> None:
    """Every caption names its target, or will: told now, not after hours."""
    reader = encoders.reader
    for file in clips.files if reader is not None else ():
        try:
            reader.columns(reader.prompt(file.caption), reader.targets.mentions)
        except ValueError as error:
            raise ValueError(f"{file.path}: {error}") from error


def _tell(plan: Plan, out: Path) -> None:
    arrays = plan.facts["arrays"]
    stored = {name: plan.facts["stored"] for name in arrays if name not in ("text", "clip")}
    sizes = [
        math.prod(one["shape"]) * jnp.dtype(stored.get(name, one["dtype"])).itemsize
        for name, one in arrays.items()
    ]
    missing = len(plan.missing(out))
    logging.info("%d clips in %d files, %d of them to make; %.1f MB per clip, %.1f GB in all",
                 len(plan.clips), plan.shards, missing, sum(sizes) / 1e6,
                 sum(sizes) * len(plan.clips) / 1e9)  # fmt: skip


def _progress() -> Callable[[int, int], None]:
    shown: list[Progress] = []

    def show(done: int, total: int) -> None:
        if not shown:
            shown.append(Progress("encode", total))
        shown[0].show(done, last=done == total)

    return show


@contextlib.contextmanager
def _terminated() -> Iterator[None]:
    """SIGTERM leaves as Ctrl-C does, with the code that asks for another start."""

    def leave(number: int, frame: Any) -> None:
        raise SystemExit(RESTART_EXIT_CODE)

    former = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)


def _share(text: str) -> tuple[int, int]:
    index, slash, count = text.partition("/")
    if not (slash and index.isdecimal() and count.isdecimal() and int(index) < int(count)):
        raise ValueError(f"--shard {text}: write 0/4, 1/4, 2/4 and 3/4 on four machines")
    return int(index), int(count)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tavid_jax.pipelines.encode",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", help=f"one of {', '.join(PUBLISHED)}")
    parser.add_argument(
        "checkpoint",
        help="folder of the whole model, hf:owner/name or a packaged base; no transformer is read",
    )
    parser.add_argument(
        "clips",
        help="folders, globs or single videos, with commas between; or folders of images; or of "
        "grounded clips",
    )
    parser.add_argument("out", help="folder of the encoded clips")
    _add_clips(parser.add_argument_group("clips"))
    _add_examples(parser.add_argument_group("what is kept"))
    _add_trajectories(parser.add_argument_group("trajectories", "for TGT"))
    _add_targets(parser)
    running = options.add_running(parser)
    running.add_argument(
        "--batch-size", type=int, default=1, help="clips at once, of each device (default: 1)"
    )
    running.add_argument(
        "--shard", default="0/1", metavar="I/N", help="this machine's share (default: 0/1, all)"
    )
    options.add_memory(parser)
    return parser


def _add_clips(group: Any) -> None:
    group.add_argument("--captions", metavar="CSV", help="columns videoid, text")
    group.add_argument(
        "--skip-unmatched", action="store_true",
        help="go on without videos that have no caption, and captions that have no video",
    )  # fmt: skip
    group.add_argument(
        "--size-hw", type=options.size_hw, help="height x width (default: as published)"
    )
    group.add_argument("--frames", type=int, help="of a clip, 4k + 1 (default: as published)")
    group.add_argument(
        "--fps", type=float, help="rate to read at, 0 for each video's own (default: as published)"
    )
    group.add_argument(
        "--hop", type=int, help="frames between clips of one video (default: as many as a clip has)"
    )
    group.add_argument(
        "--resize", choices=("cover", "squash"), default="cover",
        help="cut what stands out, or change the aspect ratio (default: %(default)s)",
    )  # fmt: skip


def _add_examples(group: Any) -> None:
    group.add_argument(
        "--posterior", choices=POSTERIORS,
        help="a latent drawn once, the mean, or both moments so that training draws anew "
        "(default: as published, sample for CogVideoX and mode for Wan)",
    )  # fmt: skip
    group.add_argument(
        "--image-noise", action=argparse.BooleanOptionalAction,
        help="on CogVideoX's first frame (default: as published, yes)",
    )  # fmt: skip
    group.add_argument(
        "--stored", choices=STORED, default="float32", help="type of latents (default: %(default)s)"
    )
    group.add_argument(
        "--shard-size", type=int, default=64, help="clips per file (default: %(default)s)"
    )
    group.add_argument("--seed", type=int, default=0, help="of what is drawn (default: 0)")


def _add_trajectories(group: Any) -> None:
    group.add_argument(
        "--trajectories", nargs="?", choices=SOURCES, const=SOURCES[0],
        help="of grounded clips, kept with their texts' features: points, the tracks as they are "
        "(default), or objects, one for each, the way of its middle",
    )  # fmt: skip
    group.add_argument(
        "--text-positions", type=int,
        help=f"of each text, one of them padding (default: {Keep.text_positions}); training has to "
        "be told the same",
    )  # fmt: skip


def _add_targets(parser: argparse.ArgumentParser) -> None:
    group = options.add_targets(parser, "for TAViD; training has to be told the same")
    group.add_argument(
        "--masks", metavar="beside|DIR",
        help="of the targets in first frames: <video>.target.png (and <video>.actor.png) beside "
        "the videos, or in a folder",
    )  # fmt: skip
    group.add_argument(
        "--selected", metavar="FILE",
        help="list of clips to keep, as `python -m tavid_jax.data select` writes it",
    )  # fmt: skip
    group.add_argument(
        "--objects", nargs="+", type=options.target_object, metavar="OBJECT",
        help="which mask each trigger word stands for: target, actor or a number (default: target)",
    )  # fmt: skip
    group.add_argument(
        "--sentence",
        help=f'appended to each caption (default: "{SENTENCE}"); "" for captions with the words',
    )
    group.add_argument(
        "--nouns", nargs="+", metavar="NOUN",
        help="the trigger word is put before the first of these that a caption holds",
    )  # fmt: skip
    group.add_argument("--aim", choices=HOWS, help="of masks on tokens (default: area)")


# Options that grounded clips leave no room for.
_OF_VIDEOS = ("captions", "skip_unmatched", "masks", "selected")
# Field of `Targets` -> its option.
_OF_TARGETS = {
    "words": "--trigger",
    "objects": "--objects",
    "latent": "--latent-mask",
    "aim": "--aim",
    "sentence": "--sentence",
    "nouns": "--nouns",
}

if __name__ == "__main__":
    run_to_exit(main, INTERRUPTED)
