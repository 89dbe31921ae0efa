"""Options of the command line for videos that follow tracks."""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

from tavid_jax.pipelines.follow import CHOICES, COLOURS, UNALIGNED, Follow
from tavid_jax.pipelines.move import Move
from tavid_jax.pipelines.moves import MADE, add_moves, tracks_of
from tavid_jax.pipelines.options import size_hw
from tavid_jax.tracks.codes import CODES
from tavid_jax.tracks.latent_replacement import STRATEGIES
from tavid_jax.tracks.stamps import ORDERS

# Fields of a job that are options here.
JOB = ("tracks", "texts", "segments", "control_videos", "source")
_FOLLOW = (
    "keep_points", "choose", "keep_frames", "random_frames", "unaligned", "scale", "prefix",
    "colour", "codes", "order", "stamp", "native", "stored_hw",
)  # fmt: skip


def add_follow(parser: argparse.ArgumentParser) -> None:
    """Adds all options."""
    group = parser.add_argument_group(
        "tracks", "of models that follow them (FlexTraj, TGT, Wan-Move)"
    )
    group.add_argument(
        "--tracks", metavar="FILE",
        help="points that the video follows; FORWARD,REVERSE for two files of one video",
    )  # fmt: skip
    group.add_argument(
        "--texts", metavar="TEXT;TEXT|FILE",
        help="of models that read one near each trajectory (TGT): in their order, or with "
        "--segments one for each segment; a file has one in each line",
    )  # fmt: skip
    group.add_argument("--segments", metavar="FILE", help="masks of their segments, run lengths")
    group.add_argument(
        "--control-videos", nargs="+", metavar="FILE",
        help="condition videos made elsewhere, over the tracks: identities, and perhaps colours",
    )  # fmt: skip
    group.add_argument(
        "--source", metavar="VIDEO", help="whose colours points show, and first frame"
    )
    group.add_argument("--flexbench", metavar="FILE", help="make the videos of FlexBench's list")
    group.add_argument("--root", metavar="DIR", help="what the paths of --flexbench are below")
    group.add_argument("--movebench", metavar="DIR", help="make the videos of MoveBench's list")
    group.add_argument(
        "--movebench-list", default="en/single", metavar="LANGUAGE/KIND",
        help="which list: en or zh, single or multi (default: %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--draw", action=argparse.BooleanOptionalAction, default=True,
        help="write NAME_condition.mp4: condition videos and result side by side (default: yes)",
    )  # fmt: skip
    add_moves(parser)
    _add_ways(parser.add_argument_group("how tracks are followed"))
    add_move(parser)


def _add_ways(group: Any) -> None:
    group.add_argument("--keep-points", type=float, metavar="SHARE", help="of the points")
    group.add_argument("--choose", choices=CHOICES, help="which points (default: random)")
    group.add_argument(
        "--keep-frames", type=_frames, metavar="SHARE|I,J,...",
        help="of the frames, 0 is the first and the last; or key frames, one as 24,",
    )  # fmt: skip
    group.add_argument(
        "--random-frames", action="store_true", default=None, help="instead of evenly spaced ones"
    )
    group.add_argument(
        "--unaligned", choices=UNALIGNED,
        help="points lie elsewhere than what moves: given so, or moved away",
    )  # fmt: skip
    group.add_argument("--scale", type=float, help="of distances, for --unaligned scale")
    group.add_argument("--prefix", help="of the prompt of unaligned videos")
    group.add_argument("--colour", choices=COLOURS, help="what points show (default: none)")
    group.add_argument("--codes", choices=CODES, help="colours that tell points apart")
    group.add_argument("--order", choices=ORDERS, help="which point is on top")
    group.add_argument(
        "--stamp", type=float, nargs=2, metavar=("W", "H"), help="half size of a point in px"
    )
    group.add_argument(
        "--native", action="store_true", default=None,
        help="draw at the video's size instead of resizing what is drawn at 480x720",
    )  # fmt: skip
    group.add_argument(
        "--stored-hw", type=size_hw, metavar="HxW",
        help="size that the file's pixels refer to, if it does not say",
    )  # fmt: skip


def add_move(parser: argparse.ArgumentParser) -> None:
    """Options of tracks that move an image's latent."""
    group = parser.add_argument_group(
        "how tracks move the image",
        "of Wan-Move: --tracks are of as many frames as the video, in pixels of --image; see also "
        "--keep-points, --choose, --keep-frames, --stored-hw",
    )
    group.add_argument(
        "--move", action="store_true", default=None,
        help="move it in a Wan image-to-video that was not trained so",
    )  # fmt: skip
    group.add_argument(
        "--strategy", choices=STRATEGIES,
        help="a latent frame has the place of its last frame (default), or the mean of its four",
    )  # fmt: skip
    group.add_argument(
        "--uncond-motion", action=argparse.BooleanOptionalAction, default=None,
        help="whether the branch without the prompt moves too (default: yes, as released); no: "
        "--guidance amplifies the motion",
    )  # fmt: skip
    group.add_argument(
        "--wrap-invalid-source", action="store_true", default=None,
        help="as released, tracks that are hidden at first show the image's bottom right corner, "
        "instead of being left out",
    )  # fmt: skip
    group.add_argument(
        "--rescale", action="store_true", default=None,
        help="bring tracks of another frame size to the image's",
    )  # fmt: skip


def move_fields(args: argparse.Namespace) -> dict[str, Any] | None:
    """Fields of `Move` from the options of `add_move`; None without any of them."""
    names = [field.name for field in dataclasses.fields(Move)]
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    return given if given or args.move else None


def job_fields(
    args: argparse.Namespace,
    frames: int,
    points: int | None = None,
    size_hw: tuple[int, int] | None = None,
) -> dict[str, Any]:
    """Fields of a job from the options, those that were given.

    Args:
      args: parsed.
      frames, points, size_hw: see `moves.tracks_of`.

    Raises:
      ValueError: see `moves.tracks_of` and `Follow`.
    """
    fields = {name: getattr(args, name) for name in JOB if getattr(args, name) is not None}
    made = tracks_of(args, frames, points, size_hw)
    if made is not None:
        fields["tracks"] = made
        if made.texts is not None:  # each point has that of its segment
            fields.pop("texts", None)
    ways = {name: getattr(args, name) for name in _FOLLOW if getattr(args, name) is not None}
    if "stamp" in ways:
        ways["stamp"] = tuple(ways["stamp"])
    Follow.of(ways)
    move = move_fields(args)
    fields |= {} if move is None else {"move": move}
    return fields | ({"follow": ways} if ways else {})


def given_tracks(args: argparse.Namespace) -> list[str]:
    """Which options say what is to be followed."""
    names = [name for name in (*JOB, *MADE) if getattr(args, name)]
    return [f"--{name.replace('_', '-')}" for name in names]


def _frames(text: str) -> float | tuple[int, ...]:
    try:
        if "," in text:
            return tuple(int(part) for part in text.split(",") if part)
        return float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"{text!r}: give a share such as 0.2, or frames such as 0,12,48"
        ) from error
