"""Command line of what is done to a folder of clips before it is trained on:

python -m tavid_jax.data check FOLDER             what is there, and what is broken
python -m tavid_jax.data select FOLDER            which clips show an interaction
python -m tavid_jax.data ground FOLDER --out DIR  points on objects, a text each, as ArrayRecord
python -m tavid_jax.data import-behave ROOT OUT   BEHAVE as such a folder
python -m tavid_jax.data import-egoexo ROOT OUT   Ego-Exo4D as such a folder
python -m tavid_jax.data import-tracks SRC DST    track files of any convention as TrajLoom's
python -m tavid_jax.data magicdata ROOT OUT       which clips of MagicData TrajLoom trains on

and to tracks that steer a video:

python -m tavid_jax.data drag IMAGE OUT --drag x,y:x,y   tracks that a person draws
python -m tavid_jax.data track VIDEO OUT                 tracks of a video's points
python -m tavid_jax.data tracks IN [OUT]                 what a file of tracks holds; convert it
python -m tavid_jax.data davis ROOT OUT --captions FILE  DAVIS as cases: tracks, words, jobs

and to tracks that are forecast:

python -m tavid_jax.data camera PATH...     captions that say how the camera moves
python -m tavid_jax.data variance TRACKS... how much of them their place in the frame explains
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from tavid_jax.data import (
    camera_command,
    davis_command,
    foreign_command,
    magicdata,
    masks,
    track_commands,
    variance_command,
)
from tavid_jax.data.arguments import positive, size
from tavid_jax.data.behave import import_behave
from tavid_jax.data.check import check_folder, contact_sheet, write_sheet
from tavid_jax.data.clip import ClipError
from tavid_jax.data.egoexo import import_egoexo
from tavid_jax.data.folder import open_clips
from tavid_jax.data.grounding import command as grounding
from tavid_jax.data.imported import Imported
from tavid_jax.data.selecting import select_folder
from tavid_jax.data.selection import Rule
from tavid_jax.data.verdicts import write_verdicts
from tavid_jax.data.video import VideoError
from tavid_jax.tracks.trajectories import TrajectoryError


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code (0 = something is usable)."""
    args = _parser().parse_args(argv)
    try:
        return args.run(args)
    except (ClipError, OSError, TrajectoryError, VideoError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _check(args: argparse.Namespace) -> int:
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
    return 0 if report.usable else 1


def _select(args: argparse.Namespace) -> int:
    clips = open_clips(
        args.paths,
        size_hw=args.size,
        num_frames=args.frames,
        fps=args.fps,
        resize=args.resize,
        track=False,
        keep_mb=0,
        masks=masks.option(args.masks),
    )
    rule = Rule(hold=args.hold, reach=args.reach)
    pictures = Path(args.pictures) if args.pictures else None
    selection = select_folder(clips, rule, pictures=pictures, progress=_progress)
    write_verdicts(args.out, selection.verdicts)
    print(selection.text())
    print(f"list of clips: {os.path.abspath(args.out)} (read it by --config.data.clips.selected)")
    return 0 if selection.kept else 1


def _behave(args: argparse.Namespace) -> int:
    return _told(import_behave(args.root, args.out, hop=args.hop, captions=args.captions))


def _egoexo(args: argparse.Namespace) -> int:
    return _told(
        import_egoexo(args.root, args.out, seconds=args.seconds, short_side=args.short_side)
    )


def _told(imported: Imported) -> int:
    for name, reason in imported.skipped:
        print(f"SKIPPED {name}: {reason}")
    print(f"{imported.count} clips in {os.path.abspath(imported.folder)}, "
          f"{len(imported.skipped)} skipped")  # fmt: skip
    print(f"select those with an interaction: python -m tavid_jax.data select {imported.folder}")
    return 0


def _progress(done: int, total: int) -> None:
    if sys.stderr.isatty():
        print(f"\r{done} of {total} clips", end="\n" if done == total else "", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tavid_jax.data",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_check(commands)
    _add_select(commands)
    grounding.add(commands)
    _add_imports(commands)
    foreign_command.add(commands)
    magicdata.add(commands)
    track_commands.add(commands)
    davis_command.add(commands)
    camera_command.add(commands)
    variance_command.add(commands)
    return parser


def _add_check(commands) -> None:
    check = commands.add_parser(
        "check",
        help="list the clips of a folder, name what is broken, draw a contact sheet",
        description=(
            "Decodes every video that the paths name, prints its frames, size and rate, names "
            "broken and too short files with the reason, and draws one contact sheet. "
            "Exit code 1 if nothing is usable."
        ),
    )
    check.set_defaults(run=_check)
    _add_paths(check)
    check.add_argument(
        "--out", default="contact_sheet.png", metavar="PNG", help="default: %(default)s"
    )
    _add_window(check, 34, "frames of a window, history and future together")
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


def _add_select(commands) -> None:
    select = commands.add_parser(
        "select",
        help="list the clips in which an actor comes to the target and touches it",
        description=(
            "Keeps the clips whose actor is seen and apart from the target in the first frame and "
            "touches it later. Masks of the first frame lie beside the videos: <stem>.target.png, "
            "and <stem>.actor.png if the actor is known; they are carried through the video by "
            "optical flow. Without an actor's mask the judgement is coarse. Writes a list that "
            "training reads by --config.data.clips.selected. Exit code 1 if nothing is kept."
        ),
    )
    select.set_defaults(run=_select)
    _add_paths(select)
    select.add_argument(
        "--masks",
        default="beside",
        metavar="FOLDER",
        help="folder of the masks (default: beside the videos)",
    )
    select.add_argument(
        "--out",
        default="selected.csv",
        metavar="FILE",
        help="CSV with verdicts and reasons, or .txt with the names of those kept "
        "(default: %(default)s)",
    )
    select.add_argument(
        "--pictures", metavar="FOLDER", help="one picture of each clip kept, with outlines"
    )
    _add_window(select, 49, "frames of a clip")
    select.add_argument(
        "--size",
        type=size,
        default=(480, 720),
        metavar="HxW",
        help="size that clips are judged at, in px (default: 480x720)",
    )
    select.add_argument(
        "--resize", choices=["cover", "squash"], default="cover", help="default: %(default)s"
    )
    rule = Rule()
    select.add_argument(
        "--hold",
        type=positive(int),
        default=rule.hold,
        help="frames in a row that a contact lasts (default: %(default)s)",
    )
    select.add_argument(
        "--reach",
        type=positive(float),
        default=rule.reach,
        help="distance that counts as touching, as a share of the shorter side "
        "(default: %(default)s)",
    )


def _add_imports(commands) -> None:
    behave = commands.add_parser(
        "import-behave",
        help="make a folder of clips from the BEHAVE data set",
        description=(
            "One clip per sequence and camera: a folder of links to the colour images, the masks "
            "of object and person in its first frame, and a caption made from the sequence's name."
        ),
    )
    behave.set_defaults(run=_behave)
    _add_places(behave, "folder that holds sequences/")
    behave.add_argument(
        "--hop",
        type=positive(int),
        help="start another clip every so many frames (default: one clip a sequence)",
    )
    behave.add_argument(
        "--no-captions", dest="captions", action="store_false", help="write no captions"
    )
    egoexo = commands.add_parser(
        "import-egoexo",
        help="make a folder of clips from the Ego-Exo4D data set",
        description=(
            "Cuts clips out of the static views of takes whose objects have masks (relations "
            "annotations): one at every atomic description that names an object, or one per object "
            "and camera without descriptions."
        ),
    )
    egoexo.set_defaults(run=_egoexo)
    _add_places(egoexo, "folder that holds takes.json, takes/ and annotations/")
    egoexo.add_argument(
        "--seconds",
        type=positive(float),
        default=6.0,
        help="length of a clip (default: %(default)s)",
    )
    egoexo.add_argument(
        "--short-side",
        type=positive(int),
        default=720,
        help="frames are shrunk to this shorter side, in px (default: %(default)s)",
    )


def _add_paths(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "paths",
        nargs="+",
        metavar="FOLDER",
        help="folders, globs or single files (mp4, avi, webm, mkv, folders of png or jpg)",
    )


def _add_places(parser: argparse.ArgumentParser, root: str) -> None:
    parser.add_argument("root", metavar="ROOT", help=root)
    parser.add_argument("out", metavar="OUT", help="folder to make; must not be there yet")


def _add_window(parser: argparse.ArgumentParser, frames: int, words: str) -> None:
    parser.add_argument(
        "--frames", type=positive(int), default=frames, help=f"{words} (default: %(default)s)"
    )
    parser.add_argument(
        "--fps", type=positive(float), help="rate to resample to (default: each video's own)"
    )


if __name__ == "__main__":
    sys.exit(main())
