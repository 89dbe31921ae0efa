"""The command `variance`: how much of tracks is explained by their place in the frame (TrajLoom
equation 18 and appendix B.1)."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tavid_jax.data.arguments import positive, size
from tavid_jax.data.cache import write_whole
from tavid_jax.data.clip import ClipError
from tavid_jax.data.official import OFFICIAL_SIZE_HW, TrackFile, TrackFileError, read_tracks
from tavid_jax.data.progress import Progress
from tavid_jax.data.track_sources import find_track_files
from tavid_jax.metrics import result
from tavid_jax.metrics.location_variance import Anchor, LocationVariance, Sums
from tavid_jax.tracks.grid import grid_shape, row_major_order
from tavid_jax.viz.location_variance import mean_maps, variance_bars

_CLIPS, _STRIDE = 128, 32  # of the paper's analysis
_NAMES: dict[Anchor, str] = {"none": "absolute", "cell": "offset", "pixel": "offset (pixel)"}
Found = dict[Anchor, LocationVariance]


def add(commands) -> None:
    """Adds the command to a parser's subparsers."""
    variance = commands.add_parser(
        "variance",
        help="how much of tracks is explained by their place in the frame, absolute and as offsets",
        description=(
            "Explained variance by location (TrajLoom equation 18) of clips of every data set: of "
            "absolute coordinates, and of offsets from the centre of each track's cell. Every "
            "folder (or glob) is a data set of track files in TrajLoom's npz layout. Exit code 1 "
            "if a data set has no usable clip."
        ),
    )
    variance.set_defaults(run=_variance)
    variance.add_argument(
        "tracks", nargs="+", metavar="TRACKS", help="a folder of track files for each data set"
    )
    variance.add_argument(
        "--clips",
        type=positive(int),
        default=_CLIPS,
        help="clips of a data set, drawn by --seed (default: %(default)s)",
    )
    variance.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    variance.add_argument(
        "--frames", type=positive(int), help="of a clip, from the first on (default: all)"
    )
    variance.add_argument(
        "--anchor",
        choices=["cell", "pixel"],
        default="cell",
        help="what offsets are measured from: the centre of the cell as in the paper's analysis, "
        "or every pixel's own as in its code (default: %(default)s)",
    )
    variance.add_argument(
        "--tracks-size",
        type=size,
        metavar="HxW",
        help="frame size of track files that state none (default: 480x832)",
    )
    variance.add_argument(
        "--out", metavar="DIR", help="write variance.json, bars.png and maps.png there"
    )


def _variance(args: argparse.Namespace) -> int:
    chosen = {}
    for path in args.tracks:
        name = os.path.basename(os.path.normpath(path))
        if name in chosen:
            raise ClipError(f"two data sets have the name {name!r}: rename a folder")
        chosen[name] = _draw(find_track_files(path), args.clips, args.seed)
    anchors: tuple[Anchor, Anchor] = ("none", args.anchor)
    total, progress, done = sum(map(len, chosen.values())), Progress(), 0
    found: dict[str, Found] = {}
    used: dict[str, list[str]] = {}
    for name, paths in chosen.items():
        sums, used[name] = None, []
        for path in paths:
            done += 1
            try:
                file = _ordered(path, args.frames, args.tracks_size)
                sums = sums or Sums(*file[1:])
                _add(sums, path, *file)
                used[name].append(str(path))
            except ClipError as error:
                print(f"SKIPPED {error}")
            progress(done, total)
        if sums is not None and used[name]:
            found[name] = {anchor: sums.result(anchor) for anchor in anchors}
    if found:
        print(table(found))
        if args.out:
            _write(Path(args.out), found, used, args)
    return 0 if len(found) == len(chosen) else 1


def table(found: dict[str, Found]) -> str:
    """A line for every data set and kind of coordinates."""
    width = max(map(len, [*found, "data set"]))
    lines = [
        f"{'data set':{width}}  {'coordinates':14}  clips   R x %   R y %   "
        "per clip x %   per clip y %"
    ]
    for name, kinds in found.items():
        for anchor, one in kinds.items():
            lines.append(
                f"{name:{width}}  {_NAMES[anchor]:14}  {one.clips:5d}  {one.explained[0]:6.2f}  "
                f"{one.explained[1]:6.2f}  {one.per_clip[0]:13.2f}  {one.per_clip[1]:13.2f}"
            )
    return "\n".join(lines)


def _draw(paths: Sequence[Path], count: int, seed: int) -> list[Path]:
    """At most so many, each equally likely, in the old order."""
    if len(paths) <= count:
        return list(paths)
    drawn = np.random.default_rng(seed).choice(len(paths), count, replace=False)
    return [paths[index] for index in sorted(drawn)]


def _ordered(
    path: Path, frames: int | None, size_hw: tuple[int, int] | None
) -> tuple[TrackFile, tuple[int, int], tuple[int, int]]:
    """(file with row-major tracks, its frame size, its grid)."""
    file = read_tracks(path)
    size_hw = file.size_hw or size_hw or OFFICIAL_SIZE_HW
    try:
        if file.query_xy is None:
            order, grid_hw = np.arange(len(file.tracks)), grid_shape(size_hw, _STRIDE)
        else:
            order, grid_hw = row_major_order(file.query_xy)
    except ValueError as error:
        raise TrackFileError(f"{path}: {error}") from error
    if len(file.tracks) != grid_hw[0] * grid_hw[1]:
        raise TrackFileError(
            f"{path}: has {len(file.tracks)} tracks, a grid of {grid_hw[0]}x{grid_hw[1]} cells of "
            f"{_STRIDE} px in {size_hw[0]}x{size_hw[1]} (HxW) is wanted"
        )
    tracks, seen = file.tracks[order, :frames], file.visibility[order, :frames]
    return TrackFile(tracks, seen, size_hw), size_hw, grid_hw


def _add(
    sums: Sums, path: Path, file: TrackFile, size_hw: tuple[int, int], grid_hw: tuple[int, int]
) -> None:
    if (size_hw, grid_hw) != (sums.size_hw, sums.grid_hw):
        raise TrackFileError(
            f"{path}: a grid of {grid_hw[0]}x{grid_hw[1]} in {size_hw[0]}x{size_hw[1]} (HxW), the "
            f"files before it have {sums.grid_hw[0]}x{sums.grid_hw[1]} in "
            f"{sums.size_hw[0]}x{sums.size_hw[1]}"
        )
    if not file.visibility.any():
        raise TrackFileError(f"{path}: no track is ever visible")
    sums.add(file.tracks, file.visibility)


def _write(
    folder: Path, found: dict[str, Found], used: dict[str, list[str]], args: argparse.Namespace
) -> None:
    records = [
        one.record(dataset=name, frames=args.frames, seed=args.seed, asked=args.clips)
        | {"clips": used[name]}
        for name, kinds in found.items()
        for one in kinds.values()
    ]
    write_whole(
        folder / "variance.json", (json.dumps(result.for_json(records), indent=1) + "\n").encode()
    )
    bars = {
        name: {_NAMES[anchor]: one.explained for anchor, one in kinds.items()}
        for name, kinds in found.items()
    }
    maps = {
        name: {_NAMES[anchor]: one.mean for anchor, one in kinds.items()}
        for name, kinds in found.items()
    }
    write_whole(folder / "bars.png", variance_bars(bars))
    write_whole(folder / "maps.png", mean_maps(maps))
    print(f"numbers and pictures: {folder.absolute()}")
