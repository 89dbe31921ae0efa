"""Scores videos: contact with a masked target, consistency, dynamic degree, motion smoothness.

A mask of frame 0 lies beside each video as <stem>.target.png (or <stem>.mask.png; several as
<stem>.target_2.png), masks of objects that should not be touched as <stem>.other.png,
<stem>.other_2.png. What needs weights that are not given is left out.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from tavid_jax.data import files
from tavid_jax.data.arguments import positive
from tavid_jax.metrics.contact import RULE, ContactRule
from tavid_jax.scoring import command, report
from tavid_jax.scoring.detectors import QUERIES, HOGActors, MotionActors, OwlViTActors
from tavid_jax.scoring.picture import picture
from tavid_jax.scoring.progress import ProgressLine
from tavid_jax.scoring.providers import Actors, ScoringError
from tavid_jax.scoring.score import Providers, Scores, VideoScores, score_videos
from tavid_jax.scoring.towers import CLIPFeatures, DINOFeatures
from tavid_jax.viz import media


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit code (0 = everything that was named is scored)."""
    args = _parser().parse_args(argv)

    def work(line: ProgressLine) -> int:
        rule = ContactRule(args.contact_frames, args.contact_overlap, args.contact_reach)
        scores = _run(args, rule, line)
        print(report.text(scores))
        report.write_json(args.out, scores)
        print(f"scores: {os.path.abspath(args.out)}")
        return 1 if scores.skipped else 0

    return command.run(work, "no scores were written, finished pictures stay")


def _run(args: argparse.Namespace, rule: ContactRule, line: ProgressLine) -> Scores:
    folder = Path(args.pictures) if args.pictures else Path(args.out).with_suffix("")
    providers = Providers(
        subject=DINOFeatures(args.dino) if args.dino else None,
        background=CLIPFeatures(args.clip) if args.clip else None,
        actors=_actors(args),
    )
    written = []

    def draw(video: VideoScores, frames) -> None:
        about = Scores((video,), {}, {}, (), providers.describe(), rule)
        image = picture(video, frames, about)
        if image is not None:
            folder.mkdir(parents=True, exist_ok=True)
            name = files.stem(video.info.path)
            path = folder / f"{name}.contact.png"
            if path in written:  # a video of the same name in another folder
                path = folder / f"{name}_{len(written) + 1}.contact.png"
            media.save(path, media.encode_png(image, provenance=about.providers))
            written.append(path)

    scores = score_videos(
        args.videos,
        providers,
        masks=args.masks,
        rule=rule,
        max_frames=args.frames,
        stage=line,
        seen=draw,
    )
    line.close()
    if written:
        print(f"pictures: {os.path.abspath(folder)} ({len(written)})")
    return scores


def _actors(args: argparse.Namespace) -> Actors:
    detector = args.detector or ("owlvit" if args.owlvit else "motion")
    if detector == "owlvit":
        if not args.owlvit:
            raise ScoringError("--detector owlvit needs its weights: --owlvit CHECKPOINT")
        return OwlViTActors(args.owlvit, args.actor or QUERIES, tokenizer=args.tokenizer)
    if args.actor:
        raise ScoringError(
            f"--actor {args.actor[0]!r}: only OWL-ViT looks for what a text names; give "
            "--owlvit CHECKPOINT"
        )
    return HOGActors() if detector == "hog" else MotionActors()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tavid_jax.scoring",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("videos", nargs="+", metavar="VIDEO", help="files, folders or globs")
    add("--masks", metavar="FOLDER", help="of the masks (default: beside each video)")
    add("--out", default="scores.json", metavar="JSON", help="default: %(default)s")
    add(
        "--pictures",
        metavar="FOLDER",
        help="one picture a video of targets, actor and contact (default: named as the JSON)",
    )
    add("--frames", type=positive(int), help="only so many frames of each video, from the first on")
    weights = parser.add_argument_group(
        "weights", "files, folders or hf: names; each is recorded with its fingerprint"
    )
    weights.add_argument("--dino", metavar="CKPT", help="facebook/dino-vitb16: subject consistency")
    weights.add_argument(
        "--clip", metavar="CKPT", help="openai/clip-vit-base-patch32: background consistency"
    )
    weights.add_argument(
        "--owlvit", metavar="CKPT", help="google/owlvit-base-patch32: finds the actor"
    )
    weights.add_argument(
        "--tokenizer", metavar="FOLDER", help="of OWL-ViT (default: in the checkpoint's folder)"
    )
    touch = parser.add_argument_group("contact")
    touch.add_argument(
        "--actor",
        action="append",
        metavar="TEXT",
        help=f"what OWL-ViT looks for; may be given several times (default: {QUERIES[0]!r})",
    )
    touch.add_argument(
        "--detector",
        choices=("owlvit", "motion", "hog"),
        help="what finds the actor: owlvit; or without weights and coarse: motion (whatever moves "
        "and is no target), hog (upright people). Default: owlvit if given, else motion",
    )
    touch.add_argument(
        "--contact-frames",
        type=positive(int),
        default=RULE.frames,
        metavar="N",
        help="looks in a row, about eight a second (default: %(default)s)",
    )
    touch.add_argument(
        "--contact-overlap",
        type=float,
        default=RULE.overlap,
        metavar="SHARE",
        help="of the target that the actor covers (default: %(default)s)",
    )
    touch.add_argument(
        "--contact-reach",
        type=float,
        default=RULE.reach,
        metavar="SHARE",
        help="of the frame's short side by which the actor is grown (default: %(default)s)",
    )
    return parser
