"""Videos from a published checkpoint, from a model that comes with the package, or your own.

    python -m tavid_jax.pipelines tiny-wan --prompt "a red disc moves left"
    python -m tavid_jax.pipelines runs/finetune_tiny_wan/model --prompt "a red disc moves left"
    python -m tavid_jax.pipelines wan2.1-t2v-1.3b Wan2.1-T2V-1.3B --prompt "a red ball rolls"
    python -m tavid_jax.pipelines cogvideox-5b-i2v CogVideoX-5b-I2V --prompt "she waves" --image a.jpg
    python -m tavid_jax.pipelines wan2.2-ti2v-5b hf:Wan-AI/Wan2.2-TI2V-5B-Diffusers --jobs jobs.jsonl

TAViD marks an object of the image by a mask, and in the prompt by the word "target" before its noun
(--noun mug writes it there). Its release is two files upon CogVideoX-5B-I2V, and was run so:

    python -m tavid_jax.pipelines cogvideox-5b-i2v CogVideoX-5b-I2V --lora tavid --patch-embed tavid \\
        --image kitchen.jpg --mask mug.png --prompt "A woman picks up the mug." --noun mug \\
        --sampler dpm --steps 50 --guidance 6 --dynamic timestep

FlexTraj makes a model follow tracks of points: of a drag over the image, of another video, of a
moving camera. Its release is one file upon CogVideoX-5B-I2V, and one upon Wan2.2-TI2V-5B:

    python -m tavid_jax.data drag cat.jpg drag.json --drag 200,300:420,260 --still 600,100
    python -m tavid_jax.pipelines cogvideox-5b-i2v CogVideoX-5b-I2V \\
        --control flextraj_cogvideox.safetensors --image cat.jpg --prompt "A cat walks." \\
        --tracks drag.json --sampler dpm --dynamic timestep
    python -m tavid_jax.data track dance.mp4 dance.npz
    ... --image robot.jpg --tracks dance.npz --unaligned given            the action of another
    ... --source dance.mp4 --tracks dance.npz --colour frame              the same video again
    ... --image town.jpg --camera orbit:3,20,0 --depth town_depth.npy     another view
    ... --image first.jpg --tracks dance.npz --keep-frames 0,24,48        what lies between
    ... --flexbench flexbench.json --root FlexBench                       FlexBench's videos

TGT makes things follow trajectories, each thing the one near which its words stand:

    python -m tavid_jax.pipelines wan2.1-t2v-14b Wan2.1-T2V-14B --laca laca.safetensors \\
        --prompt "A cat and a dog play." --tracks tracks.json --texts "a cat;a dog" \\
        --dual literal --guidance 5 --local-guidance 4 --strength 0.5
    ... --tracks tracks.json --texts "a fox;a dog"                        the same motion of a fox
    ... --motion-of dance.mp4 --texts "a robot" --segments dance.pkl      a video's motion
    ... --drag 100,200:500,220 --texts "a cat"                            drawn on the empty frame

Wan-Move moves what lies under the start of each track along it: a drag over the image, or any file
of tracks of as many frames as the video. The negative prompt is Wan's list, a word for shaking
cameras before it:

    python -m tavid_jax.pipelines wan-move-14b-480p Wan-Move-14B-480P --image cat.jpg \\
        --prompt "A cat walks." --drag 200,300:420,260 --still 600,100
    ... --tracks cat_tracks.npy --no-uncond-motion        guidance amplifies the motion too
    ... --movebench MoveBench                             MoveBench's videos
    python -m tavid_jax.pipelines wan2.1-i2v-14b Wan2.1-I2V-14B-480P --move ...    untrained for it

Longer stories: each step of --chain steps.jsonl goes on from the last frame of the one before, the
mask is carried along. {"prompt": "She walks to the target mug."}, {"prompt": "She lifts the target
mug.", "seed": 1}

A line of a file of jobs: {"prompt": "...", "image": "a.jpg", "seed": 3, "size_hw": [480, 832],
"frames": 81, "steps": 30, "guidance": 5, "name": "first"}; only the prompt is needed. There may be
"mask": "mug.png" (or a list, one for each trigger word), "modulation": 4, "tracks": "drag.json",
"source": "dance.mp4", "follow": {"colour": "frame", "keep_points": 0.1}, "texts": ["a cat"]. Files are relative to it.
Every video's file holds what made it; a model is read once for all jobs.
"""  # noqa: E501

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import logging
from PIL import Image

from tavid_jax.diffusion.guidance import BRANCHES
from tavid_jax.pipelines import options
from tavid_jax.pipelines.bases import BASES
from tavid_jax.pipelines.bench import bench_jobs
from tavid_jax.pipelines.chain import TargetLost, chain, read_steps
from tavid_jax.pipelines.finding import find_model
from tavid_jax.pipelines.follow import Follow
from tavid_jax.pipelines.follow_options import add_follow, given_tracks, job_fields
from tavid_jax.pipelines.jobs import Job, read_jobs
from tavid_jax.pipelines.laca_files import read_locate
from tavid_jax.pipelines.memory import SMALLEST, Memory
from tavid_jax.pipelines.move_bench import move_bench_jobs
from tavid_jax.pipelines.opening import open_pipeline
from tavid_jax.pipelines.pipeline import Pipeline
from tavid_jax.pipelines.settings import DYNAMIC, FITS, NULLS, PUBLISHED, Sampling
from tavid_jax.pipelines.targets import Targets, with_trigger
from tavid_jax.pipelines.video import Video
from tavid_jax.viz.media import check_mp4

INTERRUPTED = "interrupted; videos that were written are whole"


def main(argv: Sequence[str] | None = None) -> int:
    """Makes the videos; returns the exit code."""
    args = _parser().parse_args(argv)
    return options.run_command(lambda: _run(args), INTERRUPTED)


def _run(args: argparse.Namespace) -> int:
    found = find_model(args.model, args.checkpoint)
    known = found.targets
    targets = options.targets(args, known)
    check_mp4()
    steps = _steps(args)
    words = (targets or known or Targets(sentence="")).words
    located = args.laca or found.laca
    room = None if located is None else args.points or read_locate(located).points
    jobs = [] if steps else _jobs(args, words, found.published.sampling, room)
    out = Path(args.out)
    options.check_folder(out)
    names = [job.name for job in jobs] or [args.name]
    taken = [name for name in names if (out / f"{name}.mp4").exists()]
    if taken and not args.overwrite:
        raise ValueError(
            f"{out / taken[0]}.mp4 exists already: choose another --out or give --overwrite"
        )
    started = time.perf_counter()
    pipeline = open_pipeline(
        args.model,
        args.checkpoint,
        parts=options.parts(args),
        targets=targets,
        **options.additions(args),
        dtype=args.dtype,
        memory=_memory(args),
        mesh=options.mesh(args),
        negative_prompt=_negative(args),
        strict=not args.any_size,
    )
    made = [_chained(pipeline, steps, args)] if steps else pipeline.run(jobs, args.batch_size)
    for video in made:
        path = video.save(out / f"{video.name}.mp4")
        logging.info("%s after %.0f s", path, time.perf_counter() - started)
        if args.draw and video.guide is not None:
            drawn = video.save_beside_condition(out / f"{video.name}_condition.mp4")
            logging.info("%s: what it follows", drawn)
    return 0


def _chained(pipeline: Pipeline, steps: Sequence[Mapping[str, Any]], args: Any) -> Video:
    """The video of --chain; if a target is lost, what was made until then is written."""
    try:
        return chain(pipeline, steps, args.image, args.mask or (), name=args.name, **_given(args))
    except TargetLost as error:
        path = error.video.save(Path(args.out) / f"{args.name}_so_far.mp4")
        frame = path.with_suffix(".png")
        Image.fromarray(error.video.frames[-1]).save(frame)
        raise ValueError(f"{error}: {path}, its last frame {frame}") from error


def _steps(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Those of --chain, none without it."""
    if args.chain is None:
        return []
    other = {
        "--prompt": args.prompt,
        "--jobs": args.jobs,
        "--noun": args.noun,
        "--flexbench": args.flexbench,
        "--movebench": args.movebench,
    }
    given = [name for name, value in other.items() if value is not None] + given_tracks(args)
    if given:
        raise ValueError(f"give either {given[0]} or --chain, whose prompts stand in its lines")
    if args.image is None or args.last_image is not None:
        raise ValueError("--chain begins with --image, and has no last image")
    return read_steps(args.chain)


def _jobs(
    args: argparse.Namespace, words: Sequence[str], sampling: Sampling, room: int | None
) -> list[Job]:
    """Those of --jobs, or the one that the command line describes; `words` are the triggers, `room`
    how many trajectories have texts, None where none has."""
    if [args.prompt, args.jobs, args.flexbench, args.movebench].count(None) != 3:
        raise ValueError(
            "give either --prompt or --jobs (or --flexbench, --movebench), or steps by --chain"
        )
    given = {name: getattr(args, name) for name in _OPTIONS if getattr(args, name) is not None}
    size = None if room is None else (args.size_hw or sampling.size_hw)
    followed = job_fields(args, args.frames or sampling.frames, room, size)
    if args.prompt is None:
        own = (args.image, args.last_image, args.mask, args.noun, args.modulation)
        if any(value is not None for value in own) or given_tracks(args):
            which = (
                "--flexbench" if args.flexbench else "--movebench" if args.movebench else "--jobs"
            )
            raise ValueError(f"images, masks and tracks of {which} stand in its lines")
        if args.flexbench is not None:
            ways = Follow.of(followed.get("follow", {}))
            jobs = bench_jobs(args.flexbench, args.root, ways, args.seed or 0)
        elif args.movebench is not None:
            which = args.movebench_list.partition("/")[::2]
            jobs = move_bench_jobs(args.movebench, *which, seed=args.seed or 0)
            jobs = [dataclasses.replace(job, **followed) for job in jobs]
        elif args.seed is not None or followed:
            raise ValueError("seeds of --jobs, and how tracks are followed, stand in its lines")
        else:
            jobs = read_jobs(args.jobs)
        # What the command line says holds for lines that do not say otherwise.
        return [dataclasses.replace(j, options=given | dict(j.options)) for j in jobs]
    prompt = args.prompt
    if args.noun is not None:
        prompt = with_trigger(prompt, words[0], args.noun)
        logging.info("the prompt: %s", prompt)
    fields = {
        "prompt": prompt,
        "image": args.image,
        "last_image": args.last_image,
        "mask": args.mask,
        "modulation": args.modulation or 0.0,
        "seed": args.seed or 0,
        "name": args.name,
        **followed,
    }
    return [dataclasses.replace(Job.of(fields), options=given)]


def _given(args: argparse.Namespace) -> dict[str, Any]:
    """What the command line says for all steps of a chain."""
    fields = {name: getattr(args, name) for name in (*_OPTIONS, "seed", "modulation")}
    return {name: value for name, value in fields.items() if value is not None}


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


def _interval(text: str) -> tuple[float, float]:
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: give LOW,HIGH, such as 0.2,1") from error
    return low, high


# Options of a job that the command line sets: name -> (type, what it is).
_SAMPLING: dict[str, tuple[Any, str]] = {
    "size_hw": (options.size_hw, "height x width in pixels, such as 480x832"),
    "frames": (int, "frames of the video, 4k + 1 for Wan, 8k + 1 for CogVideoX"),
    "fps": (float, "frames per second of the file"),
    "sampler": (str, "unipc or euler for Wan, ddim or dpm for CogVideoX"),
    "steps": (int, "denoising steps"),
    "guidance": (_guidance, "scale of guidance; HIGH,LOW for two experts"),
    "guided": (_interval, "LOW,HIGH: noise levels with guidance, 1 is noise (default: 0,1)"),
    "dynamic": (str, f"CogVideoX's varying guidance: {', '.join(DYNAMIC)}"),
    "shift": (float, "of Wan's noise levels"),
    "control_guidance": (float, "how much stronger tracks act, by one more branch (default: 1)"),
    "fit": (str, f"how an image becomes the video's size: {', '.join(FITS)}"),
}
# Those of models that read texts of trajectories.
_LOCAL: dict[str, tuple[Any, str]] = {
    "dual": (str, f"how --guidance and --local-guidance act: {', '.join(BRANCHES)}"),
    "local_guidance": (float, "scale of guidance by the texts of trajectories (default: 4)"),
    "strength": (float, "lambda of these texts, 0 is the plain model (default: as trained)"),
    "null_local": (str, f"what stands for them where guidance leaves them out: {', '.join(NULLS)}"),
}
_OPTIONS = _SAMPLING | _LOCAL

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
    jobs.add_argument(
        "--chain", metavar="FILE", help="JSON lines, steps of one video that begins with --image"
    )
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
    local = parser.add_argument_group("texts of trajectories", "of models that read them (TGT)")
    for name, (kind, text) in _LOCAL.items():
        local.add_argument(f"--{name.replace('_', '-')}", type=kind, help=text)
    add_follow(parser)
    _add_targets(parser)
    _add_running(parser)
    return parser


def _add_targets(parser: argparse.ArgumentParser) -> None:
    group = options.add_targets(parser, "of models that read masks (TAViD)")
    group.add_argument(
        "--mask", nargs="+", metavar="FILE",
        help="white on the target, of the image's aspect ratio; several, one for each trigger word",
    )  # fmt: skip
    group.add_argument(
        "--noun", nargs="+", help="of the target: the trigger word is put before it in --prompt"
    )
    group.add_argument(
        "--modulation", type=float,
        help="logits added between mask and trigger word, for models that read no mask too "
        "(default: 0)",
    )  # fmt: skip


def _add_running(parser: argparse.ArgumentParser) -> None:
    running = options.add_running(parser)
    running.add_argument(
        "--batch-size", type=int, default=1, help="videos of equal options made at once"
    )
    options.add_additions(running)
    memory = options.add_memory(parser)
    memory.add_argument(
        "--sequential-guidance", action="store_true", help="branches one after the other"
    )
    memory.add_argument(
        "--int8", nargs="+", default=[], choices=("transformer", "text_encoder"),
        help="large matrices in 8 bits",
    )  # fmt: skip
