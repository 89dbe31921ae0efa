"""Judges generated videos of MoveBench by EPE: how far points are from the tracks that were given.

GENERATED holds ID.mp4 of the list's clips, as `python -m tavid_jax.pipelines ... --movebench` makes
them. Points start at all tracks' places in frame 0 and are followed by optical flow; for numbers
beside the paper's give CoTracker's tracks of the same points (--predicted).
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence

from tavid_jax.data.movebench import KINDS, LANGUAGES, read_movebench
from tavid_jax.data.tracker import DISTracker
from tavid_jax.scoring import command
from tavid_jax.scoring.movebench.judge import judge, summary
from tavid_jax.scoring.progress import ProgressLine
from tavid_jax.scoring.report import save_json


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit code (0 = every clip of the list is judged)."""
    args = _parser().parse_args(argv)

    def work(line: ProgressLine) -> int:
        clips, tracker = read_movebench(args.root, args.language, args.kind), DISTracker()
        scores, skipped = judge(args.generated, clips, tracker, args.predicted, line)
        line.close()
        found = summary(scores)
        by = tracker.fingerprint if args.predicted is None else "given in files"
        about = {"language": args.language, "kind": args.kind, "tracker": by}
        told = [{"video": name, "reason": reason} for name, reason in skipped]
        save_json(args.out, {"settings": about, **found, "skipped": told})
        for name, words in (
            ("masked", "EPE where tracks are visible"),
            ("unmasked", "EPE in all frames"),
            ("still", "EPE of points that stand still"),
        ):
            one = found[name]
            print(f"{words:32}{one['pooled']:8.2f} px pooled, {one['mean']:8.2f} px mean of videos")
        print(f"{len(scores)} videos; tracker: {by}")
        for name, reason in skipped:
            print(f"SKIPPED {name}: {reason}")
        print(f"scores: {os.path.abspath(args.out)}")
        return 1 if skipped else 0

    return command.run(work, "nothing was written")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tavid_jax.scoring.movebench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("generated", metavar="GENERATED", help="folder of generated videos")
    add("root", metavar="MOVEBENCH", help="its folder")
    add("--language", choices=LANGUAGES, default="en", help="default: %(default)s")
    add("--kind", choices=KINDS, default="single", help="default: %(default)s")
    add("--predicted", metavar="FOLDER", help="ID_tracks.npy found in the generated videos")
    add("--out", default="movebench.json", metavar="JSON", help="default: %(default)s")
    return parser
