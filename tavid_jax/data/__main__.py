"""Command line: `python -m tavid_jax.data check FOLDER`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from tavid_jax.data.check import check_folder, contact_sheet, write_sheet
from tavid_jax.data.clip import ClipError


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code (0 = something is usable)."""
    args = _parser().parse_args(argv)
    try:
        report = check_folder(
            args.paths,
            num_frames=args.frames,
            fps=args.fps,
            tracks=args.tracks,
            track_suffixes=args.track_suffix,
        )
        print(report.text())
        if report.videos:
            write_sheet(args.out, contact_sheet(report.videos))
            print(f"contact sheet: {os.path.abspath(args.out)}")
    except (ClipError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0 if report.usable else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tavid_jax.data", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    check = commands.add_parser(
        "check",
        help="list the clips of a folder, name what is broken, draw a contact sheet",
        description=(
            "Decodes every video that the paths name, prints its frames, size and rate, names "
            "broken and too short files with the reason, and draws one contact sheet. "
            "Exit code 1 if nothing is usable."
        ),
    )
    check.add_argument(
        "paths",
        nargs="+",
        metavar="FOLDER",
        help="folders, globs or single files (mp4, avi, webm, mkv, folders of png or jpg)",
    )
    check.add_argument(
        "--out", default="contact_sheet.png", metavar="PNG", help="default: %(default)s"
    )
    check.add_argument(
        "--frames",
        type=_positive(int),
        default=34,
        help="frames of a window, history and future together (default: %(default)s)",
    )
    check.add_argument(
        "--fps", type=_positive(float), help="rate to resample to (default: each video's own)"
    )
    check.add_argument(
        "--tracks", metavar="FOLDER", help="folder of track files (default: beside the videos)"
    )
    check.add_argument(
        "--track-suffix",
        nargs="+",
        default=[".npz"],
        metavar="SUFFIX",
        help="endings after the video's stem that name a track file (default: .npz)",
    )
    return parser


def _positive(kind: type):
    def parse(text: str):
        value = kind(text)
        if not value > 0:
            raise argparse.ArgumentTypeError(f"must be positive, got {text}")
        return value

    return parse


if __name__ == "__main__":
    sys.exit(main())
