"""Judges whether the entities that texts name follow their trajectories (text-grounded motion).

Each METHOD is a folder of videos, or NAME=FOLDER; several are compared with the first one, clip by
clip. In --tracks (or beside each video) lie <stem>.json with a trajectory and a "text" for each
entity, jobs.jsonl or <stem>.txt with the prompts, and perhaps <stem>.objects.png with the objects
of frame 0: what `python -m tavid_jax.data davis` writes.

EPE "detect": where the words' entity is found, against its trajectory; "track": the point that is
where the trajectory starts, followed. What needs weights that are not given is left out.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from tavid_jax.data.arguments import positive
from tavid_jax.data.tracker import DISTracker
from tavid_jax.metrics.crops import RULES
from tavid_jax.metrics.located import MARGIN, MISSING
from tavid_jax.scoring import command
from tavid_jax.scoring.located import page, report
from tavid_jax.scoring.located.cases import find_cases
from tavid_jax.scoring.located.entities import ColourEntities, Detector, Look, OwlViTEntities
from tavid_jax.scoring.located.judge import Judges, judge_located
from tavid_jax.scoring.located.published import TABLES
from tavid_jax.scoring.owlvit import OwlViTBoxes
from tavid_jax.scoring.progress import ProgressLine
from tavid_jax.scoring.providers import ScoringError
from tavid_jax.scoring.towers import CLIPPair


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit code (0 = everything that was named is judged)."""
    args = _parser().parse_args(argv)
    # Toy videos stand in no row of the paper.
    asked = args.published or ("none" if args.detector == "colours" else "methods")
    published = None if asked == "none" else asked

    def work(line: ProgressLine) -> int:
        methods = named(args.methods)
        cases, skipped = find_cases(methods, tracks=args.tracks, prompts=args.prompts)
        judges = _judges(args)
        scores = judge_located(cases, judges, skipped=skipped, max_frames=args.frames, stage=line)
        line.close()
        html = Path(args.html or Path(args.out).with_suffix(".html"))
        page.write_page(html, scores, published=published, films=args.films)
        report.write_json(args.out, scores, published)
        print(report.text(scores, published))
        print(f"scores: {os.path.abspath(args.out)}")
        print(f"report: {html.absolute()}")
        return 1 if scores.skipped else 0

    return command.run(work, "nothing was written")


def named(methods: Sequence[str]) -> dict[str, str]:
    """Name -> folder, of "NAME=FOLDER" or folders, which are called by their last part.

    Raises:
      ScoringError: two of one name.
    """
    found: dict[str, str] = {}
    for text in methods:
        name, sign, folder = text.partition("=")
        if not sign or Path(text).exists():
            name, folder = Path(text).resolve().name, text
        if name in found:
            raise ScoringError(f"{text}: {found[name]} is called {name!r} too; give NAME=FOLDER")
        found[name] = folder
    return found


def _judges(args: argparse.Namespace) -> Judges:
    return Judges(
        DISTracker(preset=args.flow),
        _detector(args),
        args.look,
        tuple(CLIPPair(path, tokenizer=args.tokenizer) for path in args.clip),
        RULES[args.crop],
        args.missing,
        args.margin,
    )


def _detector(args: argparse.Namespace) -> Detector | None:
    kind = args.detector or ("owlvit" if args.owlvit else None)
    if kind == "colours":
        return ColourEntities()
    if kind is None:
        return None
    if not args.owlvit:
        raise ScoringError("--detector owlvit needs its weights: --owlvit CHECKPOINT")
    boxes = OwlViTBoxes(args.owlvit, tokenizer=args.tokenizer)
    return OwlViTEntities(boxes, threshold=args.threshold)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tavid_jax.scoring.located",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("methods", nargs="+", metavar="METHOD", help="folder of videos, or NAME=FOLDER")
    add("--tracks", metavar="FOLDER", help="of the trajectories (default: beside the videos)")
    add("--prompts", metavar="FILE", help="jobs (.jsonl) or captions (.csv)")
    add("--out", default="located.json", metavar="JSON", help="default: %(default)s")
    add("--html", metavar="HTML", help="the report (default: named as the JSON)")
    add("--films", type=int, default=6, metavar="N", help="cases shown (default: %(default)s)")
    add("--frames", type=positive(int), help="only so many frames of each video")
    add(
        "--published",
        choices=(*TABLES, "none"),
        help="rows of the paper that are shown beside (default: methods; none with colours)",
    )
    weights = parser.add_argument_group(
        "weights", "files, folders or hf: names; each is recorded with its fingerprint"
    )
    weights.add_argument(
        "--clip",
        action="append",
        default=[],
        metavar="CKPT",
        help="CLIP-T, a column for each: openai/clip-vit-large-patch14, then "
        "laion/CLIP-ViT-H-14-laion2B-s32B-b79K, ...",
    )
    weights.add_argument("--owlvit", metavar="CKPT", help="google/owlvit-base-patch32: entities")
    weights.add_argument(
        "--tokenizer", metavar="FOLDER", help="of all of them (default: in each one's folder)"
    )
    _add_rules(parser.add_argument_group("rules"))
    return parser


def _add_rules(rules: argparse._ArgumentGroup) -> None:
    rules.add_argument(
        "--detector",
        choices=("owlvit", "colours"),
        help="what finds entities: owlvit, or colours (synthetic scenes; no weights). Default: "
        "owlvit if given",
    )
    rules.add_argument(
        "--look",
        choices=get_args(Look),
        help="entities are found in the first frame and followed, or found anew in every frame. "
        "Default: first for owlvit, every for colours",
    )
    rules.add_argument(
        "--threshold",
        type=float,
        default=0.1,
        metavar="SCORE",
        help="least score of a box (default: %(default)s)",
    )
    rules.add_argument(
        "--missing",
        choices=MISSING,
        default="centre",
        help="an entity that is not found counts as at the frame's centre, a diagonal away, or not "
        "at all (default: %(default)s)",
    )
    rules.add_argument(
        "--margin",
        type=float,
        default=MARGIN,
        metavar="PX",
        help="of 832x480; trajectories nearer together cannot be swapped (default: %(default)s)",
    )
    rules.add_argument(
        "--crop",
        choices=tuple(RULES),
        default="object",
        help="of local CLIP-T: as large as the object in frame 0, or one square for all (default: "
        "%(default)s)",
    )
    rules.add_argument(
        "--flow",
        choices=("ultrafast", "fast", "medium", "fine"),
        default="medium",
        help="of the tracker (default: %(default)s)",
    )
