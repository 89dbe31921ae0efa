"""Where a model's attention sees the words of a prompt, and which blocks see them best.

    python -m tavid_jax.pipelines.attention tiny-cogvideox --words target box \\
        --prompt "a red disc touches the target blue box" --image first.png --mask mask.png
    python -m tavid_jax.pipelines.attention cogvideox-5b-i2v CogVideoX-5b-I2V --words target mug \\
        --prompt "she picks up the target mug" --image a.jpg --mask mug.png --blocks 5 8 11
    python -m tavid_jax.pipelines.attention wan2.1-t2v-1.3b Wan2.1-T2V-1.3B-Diffusers \\
        --words target --clips clips/ --masks beside --captions captions.csv

With --prompt a video is made as always and looked at on the way: maps.npz holds all maps
(look, block, word, frame, row, column), <word>.mp4 and .webp show each word's map over the video,
grid.png shows every block's map over the first frame. With --clips (or --jobs with images and
masks) blocks are compared on many clips: TAViD's block study. Where there are masks, blocks.json
and blocks.png say how well every block's map overlaps with them; the table is printed.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tavid_jax.data.folder import open_clips
from tavid_jax.engine.interrupt import run_to_exit
from tavid_jax.pipelines import attention_files as files
from tavid_jax.pipelines import options
from tavid_jax.pipelines.finding import find_model
from tavid_jax.pipelines.jobs import Job, read_jobs
from tavid_jax.pipelines.looking import ALL, AMONG, DIRECTIONS, V2T, Looked, look
from tavid_jax.pipelines.memory import SMALLEST, Memory
from tavid_jax.pipelines.opening import open_pipeline
from tavid_jax.pipelines.pipeline import Pipeline
from tavid_jax.pipelines.ranking import table_of
from tavid_jax.pipelines.study import SHARES, study
from tavid_jax.viz.media import check_mp4

__all__ = ["Looked", "look", "main", "study"]
INTERRUPTED = "interrupted; files that were written are whole"
# The value of --masks for those that lie beside the videos.
BESIDE = "beside"


def main(argv: Sequence[str] | None = None) -> int:
    """Looks, draws and writes; returns the exit code."""
    args = _parser().parse_args(argv)
    return options.run_command(lambda: _run(args), INTERRUPTED)


def _run(args: argparse.Namespace) -> int:
    published, out = find_model(args.model, args.checkpoint).published, Path(args.out)
    if [args.prompt, args.jobs, args.clips].count(None) != 2:
        raise ValueError("give one of --prompt (one video), --jobs and --clips (block study)")
    if args.prompt is not None and args.image and not published.images:
        raise ValueError(
            f"{args.model} makes videos from text alone: leave --image and --mask away, or study "
            "its blocks on clips with masks (--clips)"
        )
    if args.prompt is not None:
        check_mp4()
    options.check_folder(out)
    there = [name for name in files.NAMES if (out / name).exists()]
    if there and not args.overwrite:
        raise ValueError(f"{out / there[0]} exists already: choose another --out or --overwrite")
    pipeline = open_pipeline(
        args.model,
        args.checkpoint,
        parts=options.parts(args),
        **options.additions(args),
        dtype=args.dtype,
        memory=_memory(args),
        mesh=options.mesh(args),
        negative_prompt=args.negative_prompt,
        strict=not args.any_size,
    )
    records = _look(args, pipeline, out) if args.prompt is not None else _study(args, pipeline, out)
    for record in records:
        print(f"{', '.join(record['words'])}:\n{table_of(record)}")
    return 0


def _look(args: argparse.Namespace, pipeline: Pipeline, out: Path) -> list[dict[str, Any]]:
    masks = {"mask": args.mask} if args.mask else {}
    made = {"prompt": args.prompt, "image": args.image, "seed": args.seed}
    job = Job.of(made | masks | _sampling(args))
    looked = look(
        pipeline,
        job,
        args.words,
        steps=args.steps,
        frames=args.latent_frames,
        blocks=args.blocks,
        direction=args.direction,
        among=args.among,
    )
    return files.write_looked(out, looked, direction=args.direction, among=args.among)


def _study(args: argparse.Namespace, pipeline: Pipeline, out: Path) -> list[dict[str, Any]]:
    sources = read_jobs(args.jobs) if args.jobs is not None else _clips(args, pipeline)
    record = study(
        pipeline,
        sources,
        args.words,
        shares=args.shares,
        steps=args.steps,
        direction=args.direction,
        among=args.among,
        seed=args.seed,
    )
    files.write_records(out, [record])
    return [record]


def _clips(args: argparse.Namespace, pipeline: Pipeline) -> Sequence[Any]:
    if args.masks is None:
        raise ValueError(f"--clips needs their masks: --masks {BESIDE}, or --masks FOLDER")
    sampling = pipeline.published.sampling.changed(_sampling(args))
    clips = open_clips(
        args.clips,
        size_hw=sampling.size_hw,
        num_frames=sampling.frames,
        fps=sampling.fps,
        captions=args.captions,
        masks="" if args.masks == BESIDE else args.masks,
        keep_mb=0,
        track=False,
    )
    return _First(clips, args.most)


class _First(Sequence):
    """The first clips of a source, or all of them."""

    def __init__(self, clips: Any, most: int | None):
        self._clips, self._count = clips, min(len(clips), most or len(clips))

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Any:
        return self._clips[range(self._count)[index]]


def _sampling(args: argparse.Namespace) -> dict[str, Any]:
    given = {
        "size_hw": args.size_hw,
        "frames": args.frames,
        "steps": args.sampling_steps,
        "guidance": args.guidance,
    }
    return {name: value for name, value in given.items() if value is not None}


def _memory(args: argparse.Namespace) -> Memory:
    where = "cpu" if args.encoders_on_cpu else "device"
    return SMALLEST if args.smallest else Memory(args.keep, where, args.tiles)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tavid_jax.pipelines.attention",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", help="as for python -m tavid_jax.pipelines")
    parser.add_argument("checkpoint", nargs="?", help="of a published model")
    parser.add_argument(
        "--words", nargs="+", required=True,
        help="of the prompt; in a study the first one that a caption holds",
    )  # fmt: skip
    parser.add_argument("--out", default="attention", help="folder (default: %(default)s)")
    parser.add_argument("--overwrite", action="store_true", help="replace files that are there")
    parser.add_argument("--seed", type=int, default=0, help="of all randomness (default: 0)")
    _add_video(parser.add_argument_group("one video"))
    _add_study(parser.add_argument_group("block study"))
    _add_looking(parser.add_argument_group("what is looked at"))
    running = options.add_running(parser)
    options.add_additions(running)
    options.add_memory(parser)
    return parser


def _add_video(group: Any) -> None:
    group.add_argument("--prompt")
    group.add_argument("--image", help="the first frame")
    group.add_argument("--mask", nargs="+", help="of the target in it, or one for each target")
    group.add_argument("--negative-prompt", default="", help="what guidance leads away from")
    group.add_argument("--size-hw", type=options.size_hw, help="such as 480x832")
    group.add_argument("--frames", type=int, help="of the video")
    group.add_argument("--sampling-steps", type=int, help="denoising steps")
    group.add_argument("--guidance", type=float, help="scale of guidance")


def _add_study(group: Any) -> None:
    group.add_argument("--clips", metavar="FOLDER", help="videos with captions and masks")
    group.add_argument(
        "--masks", help=f"of the clips' first frames: {BESIDE!r} (the videos), or a folder"
    )
    group.add_argument("--captions", metavar="CSV", help="columns videoid, text")
    group.add_argument("--most", type=int, help="at most so many clips")
    group.add_argument("--jobs", metavar="FILE", help="JSON lines with image and mask")
    group.add_argument(
        "--shares", type=float, nargs="+", default=SHARES,
        help="of noise on the clips (default: %(default)s)",
    )  # fmt: skip


def _add_looking(group: Any) -> None:
    group.add_argument(
        "--steps", type=int, nargs="+",
        help="indices from 0 (default: the second, the middle and the last: 1 25 49 of 50)",
    )  # fmt: skip
    group.add_argument("--blocks", type=int, nargs="+", help="numbers from 0 (default: all)")
    group.add_argument("--latent-frames", type=int, nargs="+", help="numbers from 0 (default: all)")
    group.add_argument(
        "--direction", choices=DIRECTIONS, default=V2T,
        help="who asks; Wan's text does not (default: %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--among", choices=AMONG, default=ALL,
        help="over which keys attention sums to 1: all, or those of the text alone, which makes "
        "CogVideoX comparable with Wan (default: %(default)s)",
    )  # fmt: skip


if __name__ == "__main__":
    run_to_exit(main, INTERRUPTED)
