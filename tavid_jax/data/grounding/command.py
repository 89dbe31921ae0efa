"""The command `ground`: raw clips, or synthetic scenes, to a folder of grounded ones."""

from __future__ import annotations

import argparse
import ast
import os
from pathlib import Path
from typing import Any

from tavid_jax.data.arguments import positive, size
from tavid_jax.data.clip import ClipError
from tavid_jax.data.grounding.build import Summary, ground_clips
from tavid_jax.data.grounding.grounded import open_grounded
from tavid_jax.data.grounding.grounder import Grounder
from tavid_jax.data.grounding.motion import MotionRule
from tavid_jax.data.grounding.points import PointRule
from tavid_jax.data.grounding.raw import RawClips, SceneClips, fine_scenes, open_raw
from tavid_jax.data.grounding.sheet import write_pages
from tavid_jax.data.progress import Progress

_FRAMES, _SIZE_HW = 81, (480, 832)  # of TGT's clips
_EPILOG = """examples:
  python -m tavid_jax.data ground clips/ --out grounded/ --captions captions.csv --fps 16
  python -m tavid_jax.data ground clips/ --out grounded/ --segmenter moving --annotator colour \\
      --captioner joined
  python -m tavid_jax.data ground clips/ --out grounded/ --segmenter mypackage.sam:segment
  python -m tavid_jax.data ground --scenes 1000 --scene num_frames=17 --out grounded/

Beside a video <stem>.mp4: masks <stem>.mask_0.png, ... (frame 0) or <stem>.pkl (every frame), texts
of its objects <stem>.texts.json, caption <stem>.txt, tracks <stem>.npz. Train from the folder by
--config.train_clips=grounded/. How to write a provider of your own: see
tavid_jax/data/grounding/providers.py."""


def add(commands) -> None:
    """Adds the command to a parser's subparsers."""
    ground = commands.add_parser(
        "ground",
        help="make text-grounded trajectories of clips: points on objects, a text each",
        description=(
            "Finds objects in the first frame of every clip, lays points on them by their size, "
            "follows them, keeps the clips in which something moves, finds words for every object, "
            "and writes ArrayRecord shards. A shard is whole or not there; the same command goes "
            "on where it was stopped. Exit code 1 if nothing is kept."
        ),
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    ground.set_defaults(run=_ground)
    ground.add_argument("paths", nargs="*", metavar="CLIPS", help="folders, globs, single files")
    ground.add_argument("--out", required=True, metavar="DIR", help="folder of the shards")
    _add_sources(ground)
    _add_providers(ground)
    _add_rules(ground)
    _add_work(ground)


def _add_sources(ground: argparse.ArgumentParser) -> None:
    some = ground.add_argument_group("what clips are made of")
    some.add_argument("--scenes", type=positive(int), metavar="N", help="scenes instead of CLIPS")
    some.add_argument(
        "--scene", action="append", default=[], metavar="FIELD=VALUE",
        help="of the scenes, see data.synthetic.SceneConfig; may be repeated",
    )  # fmt: skip
    some.add_argument(
        "--split", choices=["train", "test"], default="train",
        help="of the scenes (default: %(default)s)",
    )  # fmt: skip
    some.add_argument(
        "--size", type=size, metavar="HxW", help="of the clips (default: {}x{})".format(*_SIZE_HW)
    )
    some.add_argument("--frames", type=positive(int), help=f"of a clip (default: {_FRAMES})")
    some.add_argument("--fps", type=positive(float), help="default: each video's own")
    some.add_argument(
        "--hop", type=positive(int), help="frames between clips of a video (default: --frames)"
    )
    some.add_argument(
        "--resize", choices=["cover", "squash"], default="cover", help="default: %(default)s"
    )
    some.add_argument("--masks", metavar="FOLDER", help="default: beside the videos")
    some.add_argument("--texts", metavar="FILE", help="of objects, .json or .csv of all clips")
    some.add_argument("--captions", metavar="CSV", help="columns text, and videoid or video_path")
    some.add_argument("--tracks", metavar="FOLDER", help="default: beside the videos")
    some.add_argument(
        "--track-suffix", nargs="+", metavar="SUFFIX", help="such as .npz, after the video's stem"
    )
    some.add_argument(
        "--tracks-size", type=size, metavar="HxW", help="that the pixels of track files refer to"
    )


def _add_providers(ground: argparse.ArgumentParser) -> None:
    some = ground.add_argument_group("who finds what: a name below, or module:function")
    for kind, names, what in (
        ("segmenter", "clip, moving", "objects in the first frame"),
        ("annotator", "clip, colour", "a text for each object"),
        ("tracker", "clip, dis", "where points go; clip: the tracks there are, else dis"),
        ("captioner", "clip, joined", "the text of the whole clip"),
    ):
        some.add_argument(
            f"--{kind}", default="clip", metavar="NAME", help=f"{what}: {names} (default: clip)"
        )


def _add_rules(ground: argparse.ArgumentParser) -> None:
    points, motion = PointRule(), MotionRule()
    some = ground.add_argument_group("how many points, and which clips are kept")
    for name, kind, default, words in (
        ("share", float, points.share, "of the frame: a mask has one point, and one more for each"),
        ("each", int, points.each, "most points of an object"),
        ("total", int, points.total, "most points of a clip"),
        ("objects", int, points.objects, "most objects of a clip, the largest"),
        ("smallest", float, points.least, "share of the frame; smaller masks are left out"),
        ("largest", float, points.most, "share of the frame; larger masks are left out"),
    ):
        some.add_argument(
            f"--{name}", type=positive(kind), default=default, help=f"{words} (default: {default})"
        )
    for name, default, words in (
        ("motion", motion.least, "least median way of a clip's points, as a share of the diagonal"),
        ("furthest", motion.furthest, "least way of the one that goes furthest"),
        ("seen", motion.seen, "least share of (point, frame) places that are visible"),
    ):
        some.add_argument(
            f"--{name}", type=float, default=default, help=f"{words} (default: {default})"
        )
    some.add_argument(
        "--compensate", action="store_true", help="take the camera's motion off first"
    )


def _add_work(ground: argparse.ArgumentParser) -> None:
    some = ground.add_argument_group("how it is written")
    some.add_argument("--strict", action="store_true", help="bad input ends the work")
    some.add_argument(
        "--codec", choices=["jpeg", "png"],
        help="of frames (default: png, which is exact, for scenes; jpeg for videos)",
    )  # fmt: skip
    some.add_argument(
        "--shard-size", type=positive(int), default=64, help="clips a file (default: %(default)s)"
    )
    some.add_argument(
        "--shard", default="0/1", metavar="I/N", help="this machine's share (default: 0/1, all)"
    )
    some.add_argument(
        "--pictures", type=int, default=24, metavar="N",
        help="clips shown on the page DIR/sheet/index.html, 0 = no page (default: %(default)s)",
    )  # fmt: skip


def _ground(args: argparse.Namespace) -> int:
    try:
        index, count = _share(args.shard)
        source = _source(args)
        grounder = _grounder(args)
        print(f"{len(source)} clips to look at, {len(source.skipped)} files cannot be used")
        for path, reason in source.skipped:
            print(f"SKIPPED {path}: {reason}")
        summary = ground_clips(
            source,
            grounder,
            args.out,
            codec=args.codec or ("png" if args.scenes else "jpeg"),
            shard_size=args.shard_size,
            strict=args.strict,
            index=index,
            count=count,
            progress=Progress(),
        )
    except ClipError:
        raise
    except ValueError as error:
        raise ClipError(str(error)) from error
    except KeyboardInterrupt:
        print("\ninterrupted; finished shards are kept, run the same command to go on")
        return 130
    return _told(args, summary)


def _told(args: argparse.Namespace, summary: Summary | None) -> int:
    out = os.path.abspath(args.out)
    if summary is None:
        print(f"this share is done; shards of other machines are missing in {out}")
        return 0
    print(summary.text())
    if not summary.kept:
        return 1
    if args.pictures > 0:
        entry = summary.kept[0]
        clips = open_grounded(args.out, size_hw=tuple(entry["size_hw"]), num_frames=entry["frames"])
        page = write_pages(Path(args.out) / "sheet", clips, summary, args.pictures)
        print(f"look at them: {page.absolute()}")
    print(f"grounded clips: {out} (train from them by --config.train_clips={args.out})")
    return 0


def _source(args: argparse.Namespace) -> RawClips | SceneClips:
    if bool(args.scenes) == bool(args.paths):
        raise ClipError("give either CLIPS or --scenes N")
    if args.scenes:
        fields = dict(map(_field, args.scene))
        for name, value in (("size_hw", args.size), ("num_frames", args.frames), ("fps", args.fps)):
            fields |= {} if value is None else {name: value}
        return SceneClips(fine_scenes(fields), args.scenes, args.split)
    if args.scene:
        raise ClipError("--scene is of scenes: give --scenes N instead of CLIPS")
    return open_raw(
        args.paths,
        size_hw=args.size or _SIZE_HW,
        num_frames=args.frames or _FRAMES,
        masks=(args.masks or "") if args.segmenter == "clip" else args.masks,
        texts=args.texts,
        fps=args.fps,
        hop=args.hop,
        resize=args.resize,
        captions=args.captions,
        tracks=args.tracks,
        track_suffixes=args.track_suffix,
        tracks_size_hw=args.tracks_size,
        track=args.tracker == "clip",
    )


def _grounder(args: argparse.Namespace) -> Grounder:
    points = PointRule(
        share=args.share,
        each=args.each,
        total=args.total,
        least=args.smallest,
        most=args.largest,
        objects=args.objects,
    )
    motion = MotionRule(args.motion, args.furthest, args.seen, args.compensate)
    return Grounder(
        args.segmenter, args.annotator, args.tracker, args.captioner, points=points, motion=motion
    )


def _field(text: str) -> tuple[str, Any]:
    """A field of a scene and its value: numbers, tuples and words as in Python."""
    name, equals, value = text.partition("=")
    if not equals:
        raise ClipError(f"--scene {text}: write FIELD=VALUE, such as max_objects=5")
    try:
        return name.strip(), ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name.strip(), value.strip()


def _share(text: str) -> tuple[int, int]:
    index, slash, count = text.partition("/")
    if not (slash and index.isdigit() and count.isdigit() and int(index) < int(count)):
        raise ClipError(f"--shard {text}: write 0/4, 1/4, 2/4 and 3/4 on four machines")
    return int(index), int(count)
