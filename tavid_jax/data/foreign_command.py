"""The command that brings track files of any convention into the strict one."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from tavid_jax.data import files
from tavid_jax.data.arguments import positive, size
from tavid_jax.data.clip import ClipError
from tavid_jax.data.foreign_tracks import COORDS, Decision, Options, convert
from tavid_jax.data.official import TrackFileError, write_tracks
from tavid_jax.data.video import VideoError, natural_key, probe
from tavid_jax.tracks.grid import ORIGINS

_COLUMNS = Decision.__dataclass_fields__
_SUFFIXES = (".npz", ".npy")


def import_tracks(
    source: str | os.PathLike,
    out: str | os.PathLike,
    options: Options = Options(),  # noqa: B008 (frozen)
    videos: str | os.PathLike | None = None,
    show: Callable[[int, int, str, Decision | str], None] = lambda *_: None,
) -> tuple[dict[str, Decision], dict[str, str]]:
    """Writes every track file of a folder as a strict one, `<stem>.npz`.

    Args:
      source: a .npy or .npz file, or a folder of such.
      out: folder to write to, another one; each file appears whole or not at all.
      options: what is known of the files.
      videos: folder of the videos that they belong to, by stem; None = unknown.
      show: called with (number, total, file name, `Decision` or reason) as files are done.

    Returns:
      ({name: decision}, {name: reason}) of files written and refused.

    Raises:
      ClipError: no such file or folder, nothing in it, or two files of one stem.
    """
    paths = _paths(Path(source))
    out = Path(out)
    if out.resolve() in {path.parent.resolve() for path in paths}:
        raise ClipError(f"{out}: holds the files to import; name another folder")
    lengths = _lengths(videos)
    made: dict[str, Decision] = {}
    refused: dict[str, str] = {}
    for number, path in enumerate(paths, 1):
        try:
            if lengths is not None and path.stem not in lengths:
                raise TrackFileError(f"{path}: no video of this name in {videos}")
            frames = probe(lengths[path.stem]).num_frames if lengths is not None else None
            file, made[path.name] = convert(path, options, frames)
            write_tracks(out / f"{path.stem}.npz", file)
        except (TrackFileError, VideoError) as error:
            refused[path.name] = str(error).removeprefix(f"{path}: ")
        show(number, len(paths), path.name, made.get(path.name) or refused[path.name])
    return made, refused


def _paths(source: Path) -> list[Path]:
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise ClipError(f"{source}: no such file or folder")
    paths = sorted(
        (p for p in source.iterdir() if p.suffix.lower() in _SUFFIXES and p.is_file()),
        key=lambda path: natural_key(path.name),
    )
    if not paths:
        raise ClipError(f"{source}: holds no .npz or .npy file")
    stems = [path.stem for path in paths]
    twice = sorted({stem for stem in stems if stems.count(stem) > 1})
    if twice:
        raise ClipError(f"{source}: holds two files of the name {files.some(twice)}; keep one")
    return paths


def _lengths(videos: str | os.PathLike | None) -> dict[str, Path] | None:
    """Stem -> video."""
    if videos is None:
        return None
    return {files.stem(path): path for path in files.find_videos(videos)}


def add(commands) -> None:
    """Adds the command `import-tracks` to a parser's subparsers."""
    usual = Options()
    parser = commands.add_parser(
        "import-tracks",
        help="bring track files of any convention into TrajLoom's strict one",
        description=(
            "Finds out which arrays of a .npz or .npy file are tracks, visibility and query "
            "points, whether they are by point or by frame, what their coordinates mean, and in "
            "which order the points are; writes DST/<stem>.npz: trajectory (N, T, 2) in (x, y) "
            "px, visibility (N, T), row-major. Prints what was decided, with the score. A file "
            "that fits two readings is refused; the message names the option that decides. Exit "
            "code 1 if a file was refused."
        ),
    )
    parser.set_defaults(run=_run)
    parser.add_argument("source", metavar="SRC", help="a file, or a folder of .npz and .npy files")
    parser.add_argument("out", metavar="DST", help="folder to write to")
    parser.add_argument(
        "--size", type=size, default=usual.size_hw, metavar="HxW",
        help="frames that the written pixels refer to (default: 480x832)",
    )  # fmt: skip
    parser.add_argument(
        "--stride", type=positive(int), default=usual.stride, help="of the grid, px (default: 32)"
    )
    parser.add_argument(
        "--origin", choices=ORIGINS, default=usual.origin,
        help="where in its cell a track starts (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--coords", choices=["auto", *COORDS], default="auto",
        help="pixel: px of --size; unit: 0..1; norm: -1..1; grid: cells; base256: px of a frame "
        "that was squashed into 256x256, or put into the middle of it (default: auto)",
    )  # fmt: skip
    parser.add_argument("--axes", choices=["auto", "xy", "yx"], default="auto")
    parser.add_argument(
        "--layout", choices=["auto", "ntc", "tnc"], default="auto", help="by point, or by frame"
    )
    parser.add_argument(
        "--time0", type=_time0, default=None, metavar="auto|N",
        help="the video's frame that the first frame of the tracks is (default: auto: by the "
        "lengths of tracks and video if --videos is given, else 0)",
    )  # fmt: skip
    parser.add_argument("--videos", metavar="FOLDER", help="videos that the files belong to")
    parser.add_argument(
        "--history", type=positive(int), default=usual.history,
        help="frames of a history, behind which tracks may begin (default: %(default)s)",
    )  # fmt: skip
    for name in ("tracks", "visibility", "query"):
        extra = "" if name == "tracks" else "; none: there is no such array"
        parser.add_argument(
            f"--{name}-key", default="", metavar="KEY",
            help=f"name of the array of {name} (default: by name and shape{extra})",
        )  # fmt: skip


def _time0(text: str) -> int | None:
    if text == "auto":
        return None
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"must be auto, or a frame 0, 1, 2, ..., got {text}")
    return int(text)


def _run(args: argparse.Namespace) -> int:
    fields = ("stride", "origin", "coords", "axes", "layout", "time0", "history")
    keys = ("tracks_key", "visibility_key", "query_key")
    options = Options(size_hw=args.size, **{name: getattr(args, name) for name in fields + keys})
    width = max((len(path.name) for path in _paths(Path(args.source))), default=4)
    print(_row("file", width, tuple(_COLUMNS)))

    def show(number: int, total: int, name: str, told: Decision | str) -> None:
        if isinstance(told, str):
            print(f"{name:{width}}  REFUSED: {told}", flush=True)
        else:
            print(_row(name, width, [getattr(told, field) for field in _COLUMNS]), flush=True)

    made, refused = import_tracks(args.source, args.out, options, args.videos, show)
    print(f"{len(made)} files in {os.path.abspath(args.out)}, {len(refused)} refused")
    kinds = {(d.layout, d.coords, d.axes) for d in made.values()}
    if len(kinds) > 1:
        told = "; ".join(" ".join(kind) for kind in sorted(kinds))
        print(f"NOTE the files are of {len(kinds)} conventions: {told}")
    return 1 if refused else 0


def _row(name: str, width: int, cells: Sequence[str]) -> str:
    widths = (10, 6, 16, 20, 17, 4, 5, 15, 5)
    return f"{name:{width}}  " + "  ".join(
        f"{cell:{side}}" for cell, side in zip(cells, widths, strict=True)
    )
