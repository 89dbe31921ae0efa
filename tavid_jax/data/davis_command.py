"""The command that makes cases of DAVIS: trajectories with words, jobs, the real videos."""

from __future__ import annotations

import argparse
import dataclasses
import io
import json
from pathlib import Path
from typing import Any

from PIL import Image

from tavid_jax.data import davis
from tavid_jax.data.arguments import positive, size
from tavid_jax.data.cache import write_whole
from tavid_jax.data.clip import ClipError
from tavid_jax.data.tracker import DISTracker, Tracker
from tavid_jax.data.trajectory_files import write_trajectories
from tavid_jax.data.video import VideoError, write_video
from tavid_jax.untrusted.errors import UnsafeNameError
from tavid_jax.untrusted.names import check_name

USUAL = davis.Protocol()


@dataclasses.dataclass(frozen=True)
class Written:
    """What became of the sequences: name -> how its case was made, or why there is none."""

    cases: dict[str, dict[str, Any]]
    skipped: dict[str, str]


def write_cases(
    root: str | Path,
    out: str | Path,
    words: dict[str, davis.Words],
    *,
    protocol: davis.Protocol = USUAL,
    tracker: Tracker = DISTracker(),  # noqa: B008 (frozen)
    names: list[str] | None = None,
) -> Written:
    """Writes a folder of cases.

        OUT/<sequence>.json          trajectories with texts
        OUT/<sequence>.objects.png   ids of the objects in frame 0
        OUT/real/<sequence>.mp4      the real video, resized and cut alike
        OUT/jobs.jsonl               a job for each, for `python -m tavid_jax.pipelines --jobs`
        OUT/davis.json               how they were made

    Args:
      root: the folder DAVIS.
      out: made if it is not there.
      words: see `davis.read_words`.
      protocol: see there.
      tracker: see `davis.read_sequence`.
      names: sequences; None: those of the split.

    Raises:
      ClipError: no list of sequences, or not one case.
      OSError: OUT cannot be written.
    """
    out, made = Path(out), Written({}, {})
    jobs = []
    for name in names or davis.sequence_names(root, protocol.split):
        try:
            check_name(name)
            if name not in words:
                raise ClipError(f"{name}: is not in the captions")
            case = davis.read_sequence(root, name, words[name], protocol, tracker)
        except (ClipError, UnsafeNameError, VideoError) as error:
            made.skipped[name] = str(error).removeprefix(f"{name}: ")
            continue
        made.cases[name] = case.about
        job = {"name": name, "prompt": case.prompt, "tracks": f"{name}.json"}
        jobs.append(job | {"size_hw": protocol.size_hw, "frames": case.about["frames"]})
        (out / "real").mkdir(parents=True, exist_ok=True)
        write_trajectories(out / f"{name}.json", case.trajectories)
        write_whole(out / f"{name}{davis.OBJECTS}", _png(case.ids))
        write_video(out / "real" / f"{name}.mp4", case.video, davis.FPS)
    if not jobs:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in made.skipped.items())
        raise ClipError(f"{root}: no case ({reasons})")
    lines = "".join(json.dumps(job) + "\n" for job in jobs)
    write_whole(out / "jobs.jsonl", lines.encode())
    about = {
        "protocol": dataclasses.asdict(protocol),
        "tracker": tracker.fingerprint,
        "cases": made.cases,
        "skipped": made.skipped,
    }
    write_whole(out / "davis.json", (json.dumps(about, indent=1) + "\n").encode())
    return made


def _png(ids) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(ids).save(buffer, "PNG")
    return buffer.getvalue()


def add(commands) -> None:
    """Adds the command `davis` to a parser's subparsers."""
    parser = commands.add_parser(
        "davis",
        help="DAVIS 2017 as cases for text-grounded trajectories",
        description=davis.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=_run)
    parser.add_argument("root", metavar="ROOT", help="the folder DAVIS")
    parser.add_argument("out", metavar="OUT", help="folder of the cases")
    parser.add_argument("--captions", required=True, metavar="FILE", help="JSON or CSV, see above")
    parser.add_argument("--sequences", nargs="+", metavar="NAME", help="default: the whole split")
    parser.add_argument("--split", default=USUAL.split, help="default: %(default)s")
    parser.add_argument(
        "--resolution", default=USUAL.resolution, help="name of a folder (default: %(default)s)"
    )
    parser.add_argument(
        "--size", type=size, default=USUAL.size_hw, metavar="HxW", help="default: 480x832"
    )
    parser.add_argument(
        "--frames", type=positive(int), default=USUAL.frames, help="1 + 4k (default: %(default)s)"
    )
    parser.add_argument(
        "--short",
        choices=davis.SHORT,
        default=USUAL.short,
        help="sequences with fewer frames: cut them to 1 + 4k, or hold the last frame (default: "
        "%(default)s)",
    )
    parser.add_argument(
        "--objects",
        type=positive(int),
        default=USUAL.most,
        metavar="N",
        help="most objects of a case (default: %(default)s)",
    )
    parser.add_argument(
        "--resize", choices=["squash", "cover"], default=USUAL.resize, help="default: %(default)s"
    )


def _run(args: argparse.Namespace) -> int:
    protocol = davis.Protocol(
        args.size, args.frames, args.short, args.objects, args.resize, args.split, args.resolution
    )
    words = davis.read_words(args.captions)
    made = write_cases(args.root, args.out, words, protocol=protocol, names=args.sequences)
    for name, about in made.cases.items():
        print(f"{name}: {_said(about, args.frames)}")
    for name, reason in made.skipped.items():
        print(f"SKIPPED {name}: {reason}")
    print(f"{len(made.cases)} cases in {Path(args.out).absolute()}")
    return 1 if made.skipped else 0


def _said(about: dict[str, Any], asked: int) -> str:
    frames, there = about["frames"], about["source_frames"]
    how = f"{frames} frames of {there}"
    if about["held"]:
        how += f", the last held for {about['held']}"
    elif frames < asked:
        how += f" (too short for {asked})"
    on = "" if about["on_object"] is None else f", {about['on_object']:.0%} of these on the object"
    left = "".join(f"; object {k} {reason}" for k, reason in about["left_out"].items())
    count = len(about["objects"])
    return f"{how}; {count} objects, visible in {about['visible']:.0%} of frames{on}{left}"
