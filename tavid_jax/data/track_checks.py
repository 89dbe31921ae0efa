"""Track files that can be read but mean something else: other conventions, other grids."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

from tavid_jax.data.files import some
from tavid_jax.data.official import TrackFile, TrackFileError
from tavid_jax.data.regrid import infer_grid

MEND = "python -m tavid_jax.data import-tracks FOLDER OUT"
# A grid of points that covers less of its frame along a side is not in pixels of it.
_COVERED = 0.5
# Tracks of a grid start this near to its points, as a share of a cell.
_NEAR = 0.25


class ConventionError(TrackFileError):
    """A track file holds other things than (x, y) in pixels by point."""


def check_convention(path: str, file: TrackFile, size_hw: tuple[int, int]) -> None:
    """Refuses tracks that are implausible as (N, T, 2), (x, y) in pixels of `size_hw`.

    Where the points of frame 0 form a grid, it tells order of axes and unit for sure; else only
    numbers that are far too small are refused.

    Raises:
      ConventionError: they seem to be by frame, (y, x), or in another unit.
    """
    told = _oddity(file.tracks, file.visibility, size_hw)
    if told:
        raise ConventionError(f"{path}: {told}")


def check_grid(
    path: str,
    file: TrackFile,
    start_xy: Float[np.ndarray, "N 2"],
    query_xy: Float[np.ndarray, "Q 2"],
    stride: int,
) -> None:
    """Refuses tracks that are not those of a grid, point by point in its order.

    Args:
      path: of the file.
      file: what it holds.
      start_xy: its points in frame 0, (x, y) px of the clip.
      query_xy: the grid, px of the clip.
      stride: side of a cell.

    Raises:
      TrackFileError: another grid, or points that are missing, which are named.
    """
    seen = file.visibility[:, 0] & np.isfinite(start_xy).all(axis=-1)
    if len(start_xy) != len(query_xy):
        raise TrackFileError(
            f"{path}: holds {len(start_xy)} tracks, the grid of {stride} px has {len(query_xy)}"
            f"{_missing(start_xy[seen], query_xy, stride)}; track the video again on that grid, "
            f"or bring other grids to it: data.clips.regrid=True"
        )
    gap = np.abs(start_xy - query_xy).max(axis=-1)[seen]
    if gap.size and np.median(gap) > _NEAR * stride:
        orders = _missing(start_xy[seen], query_xy, stride) == ""
        raise TrackFileError(
            f"{path}: its tracks start {np.median(gap):.1f} px (median) away from the points of "
            f"the grid of {stride} px"
            + (f", in another order: `{MEND}` sorts them" if orders else
               "; track the video again on that grid, or bring other grids to it: "
               "data.clips.regrid=True")
        )  # fmt: skip


def check_length(path: str, frames: int, video_frames: int) -> None:
    """Refuses tracks that go on where their video has ended.

    Raises:
      TrackFileError: with both counts.
    """
    if frames > video_frames:
        raise TrackFileError(
            f"{path}: has {frames} frames, its video {video_frames}; they do not belong together"
        )


def mixed(odd: Sequence[tuple[str, str]], count: int) -> str:
    """An error about files of other conventions among `count` files of tracks.

    Args:
      odd: (path, what is odd about it).
      count: of all files of tracks.
    """
    told = "; ".join(f"{path}: {reason}" for path, reason in odd[:3])
    more = f"; and {len(odd) - 3} more" if len(odd) > 3 else ""
    share = f"{len(odd)} of {count} track files have other conventions than (N, T, 2), (x, y) px"
    return f"{share}: {told}{more}. `{MEND}` writes all of them alike"


def _oddity(
    tracks: Float[np.ndarray, "N T 2"], visibility: Bool[np.ndarray, "N T"], size_hw
) -> str:
    seen = visibility & np.isfinite(tracks).all(axis=-1)
    places = tracks[seen]
    if not len(places) or not np.ptp(places, axis=0).any():
        return ""
    largest = float(np.abs(places).max())
    if largest <= 1.5 and min(size_hw) > 4:
        return f"coordinates lie within {largest:.2g} of 0: normalised, not pixels"
    layouts = {
        "": tracks[:, 0],
        "its first axis counts frames, not points (T, N, 2)": tracks[0],
        "coordinates are (y, x)": tracks[:, 0, ::-1],
        "its first axis counts frames, not points (T, N, 2), and coordinates are (y, x)": tracks[
            0, :, ::-1
        ],
    }
    for told, start in layouts.items():
        grid_hw = _grid(start)
        if grid_hw is not None:
            return told or _unit(start, grid_hw, size_hw)
    return ""


def _grid(start: Float[np.ndarray, "N 2"]) -> tuple[int, int] | None:
    """(gh, gw) of points that form a row-major grid, the more than one point along both sides."""
    if len(start) < 4 or not np.isfinite(start).all():
        return None
    grid_hw = infer_grid(start)
    return grid_hw if grid_hw and min(grid_hw) > 1 else None


def _unit(
    start: Float[np.ndarray, "N 2"], grid_hw: tuple[int, int], size_hw: tuple[int, int]
) -> str:
    """What is wrong with the extent of a grid of points in px of a frame, "" = nothing."""
    span = np.ptp(start, axis=0)
    counts = np.array(grid_hw[::-1])
    covered = span * counts / (counts - 1) / np.array(size_hw[::-1])
    if covered.min() >= _COVERED and covered.max() < 1.1:
        return ""
    return (
        f"its grid of {grid_hw[1]}x{grid_hw[0]} points spans {span[0]:.4g}x{span[1]:.4g} where the "
        f"frame has {size_hw[1]}x{size_hw[0]} px: another unit, or another size of frames (say "
        "which by size_hw in the file, or tracks_size_hw)"
    )


def _missing(
    start: Float[np.ndarray, "M 2"], query_xy: Float[np.ndarray, "Q 2"], stride: int
) -> str:
    """The points of a grid that no track starts at, as words; "" = none."""
    if not len(start):
        return ""
    gaps = np.abs(query_xy[:, None] - start[None]).max(axis=-1).min(axis=1)
    lost = [f"({x:g}, {y:g})" for x, y in query_xy[gaps > _NEAR * stride]]
    if not lost:
        return ""
    return f", of which {len(lost)} are missing: {some(lost)}"
