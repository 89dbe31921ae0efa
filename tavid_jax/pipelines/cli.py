"""Videos from a published checkpoint, from a model that comes with the package, or your own.

    python -m tavid_jax.pipelines tiny-wan --prompt "a red disc moves left"
    python -m tavid_jax.pipelines runs/finetune_tiny_wan/model --prompt "a red disc moves left"
    python -m tavid_jax.pipelines wan2.1-t2v-1.3b Wan2.1-T2V-1.3B --prompt "a red ball rolls"
    python -m tavid_jax.pipelines cogvideox-5b-i2v CogVideoX-5b-I2V --prompt "she waves" --image a.jpg
    python -m tavid_jax.pipelines wan2.2-ti2v-5b hf:Wan-AI/Wan2.2-TI2V-5B-Diffusers --jobs jobs.jsonl

A line of a file of jobs: {"prompt": "...", "image": "a.jpg", "seed": 3, "size_hw": [480, 832],
"frames": 81, "steps": 30, "guidance": 5, "name": "first"}; only the prompt is needed, images are
relative to the file. Every video's file holds what made it; a model is read once for all jobs.
"""  # noqa: E501

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import logging

from tavid_jax.engine.log import set_up_logging
from tavid_jax.engine.preemption import INTERRUPT_EXIT_CODE
from tavid_jax.pipelines import options
from tavid_jax.pipelines.bases import BASES
from tavid_jax.pipelines.finding import find_model
from tavid_jax.pipelines.jobs import Job, read_jobs
from tavid_jax.pipelines.memory import SMALLEST, Memory
from tavid_jax.pipelines.opening import open_pipeline
from tavid_jax.pipelines.settings import DYNAMIC, FITS, PUBLISHED
from tavid_jax.viz.media import check_mp4

INTERRUPTED = "interrupted; videos that were written are whole"


def main(argv: Sequence[str] | None = None) -> int:
    """Makes the videos; returns the exit code."""
    args = _parser().parse_args(argv)
    set_up_logging()
    try:
        return _run(args)
    except (ValueError, OSError, RuntimeError) as error:
        logging.debug("where it happened", exc_info=True)
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(INTERRUPTED, file=sys.stderr)
        return INTERRUPT_EXIT_CODE


def _run(args: argparse.Namespace) -> int:
    find_model(args.model, args.checkpoint)
    check_mp4()
    jobs = _jobs(args)
    out = Path(args.out)
    options.check_folder(out)
    taken = [job.name for job in jobs if (out / f"{job.name}.mp4").exists()]
    if taken and not args.overwrite:
        raise ValueError(
            f"{out / taken[0]}.mp4 exists already: choose another --out or give --overwrite"
        )
    started = time.perf_counter()
    pipeline = open_pipeline(
        args.model,
        args.checkpoint,
        parts=options.parts(args),
        lora=args.lora,
        dtype=args.dtype,
        memory=_memory(args),
        mesh=options.mesh(args),
        negative_prompt=_negative(args),
        strict=not args.any_size,
    )
    for video in pipeline.run(jobs, args.batch_size):
        path = video.save(out / f"{video.name}.mp4")
        logging.info("%s after %.0f s", path, time.perf_counter() - started)
    return 0


def _jobs(args: argparse.Namespace) -> list[Job]:
    if (args.jobs is None) == (args.prompt is None):
        raise ValueError("give either --prompt or --jobs")
    given = {name: getattr(args, name) for name in _SAMPLING if getattr(args, name) is not None}
    if args.jobs is not None:
        if args.image or args.last_image or args.seed is not None:
            raise ValueError("images and seeds of --jobs stand in its lines")
        jobs = read_jobs(args.jobs)
        # What the command line says holds for lines that do not say otherwise.
        return [dataclasses.replace(j, options=given | dict(j.options)) for j in jobs]
    images = {"image": args.image, "last_image": args.last_image}
    job = Job.of({"prompt": args.prompt, "seed": args.seed or 0, "name": args.name} | images)
    return [dataclasses.replace(job, options=given)]


def _memory(args: argparse.Namespace) -> Memory:
    if args.smallest:
        return SMALLEST
    return Memory(
        keep=args.keep,
        encoders_on="cpu" if args.encoders_on_cpu else "device",
        tiles=args.tiles,
        sequential_guidance=args.sequential_guidance,
        int8=tuple(args.int8),
    )


def _negative(args: argparse.Namespace) -> str:
    if args.negative_prompt_file is None:
        return args.negative_prompt
    return Path(args.negative_prompt_file).read_text(encoding="utf-8-sig").strip()


def _guidance(text: str) -> float | tuple[float, ...]:
    try:
        scales = tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: give a scale, or HIGH,LOW") from error
    return scales[0] if len(scales) == 1 else scales


# Options of a job that the command line sets: name -> (type, what it is).
_SAMPLING: dict[str, tuple[Any, str]] = {
    "size_hw": (options.size_hw, "height x width in pixels, such as 480x832"),
    "frames": (int, "frames of the video, 4k + 1 for Wan, 8k + 1 for CogVideoX"),
    "fps": (float, "frames per second of the file"),
    "sampler": (str, "unipc or euler for Wan, ddim or dpm for CogVideoX"),
    "steps": (int, "denoising steps"),
    "guidance": (_guidance, "scale of guidance; HIGH,LOW for two experts"),
    "dynamic": (str, f"CogVideoX's varying guidance: {', '.join(DYNAMIC)}"),
    "shift": (float, "of Wan's noise levels"),
    "fit": (str, f"how an image becomes the video's size: {', '.join(FITS)}"),
}


_MODELS = (
    f"a model of this package ({', '.join(BASES)}), the folder of one that was trained with it, or "
    f"a published one ({', '.join(PUBLISHED)})"
)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tavid_jax.pipelines",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", help=_MODELS)
    parser.add_argument(
        "checkpoint", nargs="?",
        help="of a published model: folder of the whole of it, or hf:owner/name",
    )  # fmt: skip
    jobs = parser.add_argument_group("what to make")
    jobs.add_argument("--prompt")
    jobs.add_argument("--jobs", metavar="FILE", help="JSON lines, one video each")
    jobs.add_argument("--image", help="the first frame")
    jobs.add_argument("--last-image", help="the last frame")
    jobs.add_argument("--seed", type=int, help="of all randomness (default: 0)")
    jobs.add_argument("--name", default="video", help="of the file (default: %(default)s)")
    jobs.add_argument("--negative-prompt", default="", help="what guidance leads away from")
    jobs.add_argument("--negative-prompt-file", metavar="FILE", help="the same, from a text file")
    jobs.add_argument("--out", default="videos", help="folder (default: %(default)s)")
    jobs.add_argument("--overwrite", action="store_true", help="replace videos that are there")
    sampling = parser.add_argument_group("how (default: as published)")
    for name, (kind, text) in _SAMPLING.items():
        sampling.add_argument(f"--{name.replace('_', '-')}", type=kind, help=text)
    _add_running(parser)
    return parser


def _add_running(parser: argparse.ArgumentParser) -> None:
    running = options.add_running(parser)
    running.add_argument(
        "--batch-size", type=int, default=1, help="videos of equal options made at once"
    )
    running.add_argument("--lora", help="adapters of the transformer")
    memory = options.add_memory(parser)
    memory.add_argument(
        "--sequential-guidance", action="store_true", help="branches one after the other"
    )
    memory.add_argument(
        "--int8", nargs="+", default=[], choices=("transformer", "text_encoder"),
        help="large matrices in 8 bits",
    )  # fmt: skip
