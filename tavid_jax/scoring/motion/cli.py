"""Judges how well generated videos follow the trajectories that they were given.

GENERATED holds videos, or a folder for each granularity: dense, spatial, temporal, unaligned.
Beside each <stem>.mp4, or in --tracks, lies what the model was given: <stem>.tracks.npz or
<stem>.npz with tracks (points, frames, 2) in pixels, visibility (points, frames), size_hw, and
segment (points,) where some points are background (0). A point that was given in some frames only
is visible in those. Unaligned videos need <stem>.mask.png, the foreground in frame 0.

Always shown beside: the oracle (the tracker on the real video) and zero motion (all points stand
still). What needs weights or real videos that are not given is left out.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from typing import get_args

from tavid_jax.data.arguments import positive
from tavid_jax.data.tracker import DISTracker
from tavid_jax.metrics.fvd import Convention
from tavid_jax.metrics.trajerr import Norm
from tavid_jax.scoring import command
from tavid_jax.scoring.i3d import WHERE, I3DFeatures
from tavid_jax.scoring.motion import report
from tavid_jax.scoring.motion.cases import GRANULARITIES, Folders, find_cases
from tavid_jax.scoring.motion.judge import Judges, MotionScores, judge_motion
from tavid_jax.scoring.progress import ProgressLine
from tavid_jax.scoring.towers import CLIPFeatures


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit code (0 = everything that was named is judged)."""
    args = _parser().parse_args(argv)

    def work(line: ProgressLine) -> int:
        scores = _run(args, line)
        report.write_json(args.out, scores, args.norm)
        print(report.text(scores, args.norm))
        print(f"scores: {os.path.abspath(args.out)}")
        return 1 if scores.skipped else 0

    return command.run(work, "nothing was written")


def _run(args: argparse.Namespace, line: ProgressLine) -> MotionScores:
    folders = Folders(args.tracks, args.real, args.predicted, args.predicted_real, args.masks)
    cases, skipped = find_cases(args.generated, folders, granularity=args.granularity)
    judges = Judges(
        DISTracker(preset=args.flow),
        CLIPFeatures(args.clip) if args.clip else None,
        I3DFeatures(args.i3d) if args.i3d else None,
        args.fvd,
    )
    scores = judge_motion(cases, judges, skipped=skipped, max_frames=args.frames, stage=line)
    line.close()
    return scores


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tavid_jax.scoring.motion",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("generated", metavar="GENERATED", help="folder of generated videos")
    add("--tracks", metavar="FOLDER", help="of the given trajectories (default: beside the videos)")
    add("--real", metavar="FOLDER", help="of real videos, for FVD and the oracle")
    add("--masks", metavar="FOLDER", help="of the masks (default: beside the videos)")
    add(
        "--granularity",
        choices=tuple(GRANULARITIES),
        default="dense",
        help="of videos in no folder of that name (default: %(default)s)",
    )
    add("--out", default="motion.json", metavar="JSON", help="default: %(default)s")
    add("--frames", type=positive(int), help="only so many frames of each video, from the first on")
    add(
        "--norm",
        choices=get_args(Norm),
        default="wh",
        help="of TrajErr: by width and height, by the diagonal, or none (default: %(default)s)",
    )
    tracking = parser.add_argument_group(
        "tracking",
        "the built-in tracker chains optical flow; better ones give tracks in files",
    )
    tracking.add_argument(
        "--flow",
        choices=("ultrafast", "fast", "medium", "fine"),
        default="medium",
        help="its quality (default: %(default)s)",
    )
    tracking.add_argument(
        "--predicted",
        metavar="FOLDER",
        help="of the same points, found in the generated videos",
    )
    tracking.add_argument(
        "--predicted-real", metavar="FOLDER", help="the same of the real videos, by that tracker"
    )
    weights = parser.add_argument_group(
        "weights", "files, folders or hf: names; each is recorded with its fingerprint"
    )
    weights.add_argument("--clip", metavar="CKPT", help="openai/clip-vit-base-patch32: consistency")
    weights.add_argument("--i3d", metavar="CKPT", help=f"FVD. {WHERE}")
    weights.add_argument(
        "--fvd",
        choices=get_args(Convention),
        default="stylegan-v",
        metavar="NAME",
        help="convention of FVD: stylegan-v (covariances by n) or videogpt (by n - 1); default: "
        "%(default)s",
    )
    return parser
