"""Track files of any convention -> the strict one: what their arrays, axes, units and times mean.

The candidates and their scores are those of TrajLoom's inference code. Unlike it, this refuses what
two candidates fit about as well, and knows that tracks of a grid start at its points.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int, Num

from tavid_jax.data.arrays import read_npy, read_npz
from tavid_jax.data.files import some
from tavid_jax.data.official import OFFICIAL_SIZE_HW, TrackFile, TrackFileError
from tavid_jax.tracks.grid import query_points

COORDS = ("pixel", "unit", "norm", "grid", "base256_resize", "base256_letterbox")
QUERY_KEYS = ("query_xy", "query_points", "query", "queries", "grid_xy")
NONE = "none"  # as a key: the file has no such array
_MARGIN = 0.05  # of the score of two candidates that count as equally good
_SURE = 0.9  # share of points on the grid that proves a candidate
_SAMPLED = (8, 1024)  # frames and points that are scored
_NEAR = 0.25  # of a cell


class AmbiguousTracksError(TrackFileError):
    """A file can be read in more than one way; the message names the option that decides."""


@dataclasses.dataclass(frozen=True)
class Options:
    """What is known beforehand; "auto", "" and None are found out.

    Attributes:
      size_hw: frame size that the strict file's pixels refer to.
      stride, origin: the grid of its points.
      coords: one of `COORDS`; axes: "xy" | "yx"; layout: "ntc" (by point) | "tnc" (by frame).
      time0: the video's frame that the file's first frame is.
      tracks_key, visibility_key, query_key: names of arrays; "none": there is no such array.
      history: frames of a history: tracks may begin behind it, or with its last frame.
    """

    size_hw: tuple[int, int] = OFFICIAL_SIZE_HW
    stride: int = 32
    origin: str = "topleft"
    coords: str = "auto"
    axes: str = "auto"
    layout: str = "auto"
    time0: int | None = None
    tracks_key: str = ""
    visibility_key: str = ""
    query_key: str = ""
    history: int = 81


@dataclasses.dataclass(frozen=True)
class Decision:
    """How a file was read; words for a table."""

    tracks: str
    layout: str
    visibility: str
    queries: str
    coords: str
    axes: str
    score: str
    order: str
    time0: str


def convert(
    path: str | os.PathLike,
    options: Options = Options(),  # noqa: B008 (frozen)
    video_frames: int | None = None,
) -> tuple[TrackFile, Decision]:
    """Reads a .npy or .npz file of tracks of the grid, in whatever convention.

    Args:
      path: of the file.
      options: what is known.
      video_frames: length of its video, to tell which frame its first one is; None = unknown.

    Returns:
      The tracks by point, (x, y) px, row-major on the grid, from the video's frame 0 on (frames
      before its first one are not visible), and what was decided.

    Raises:
      TrackFileError: unreadable; no tracks of this grid; a query point that is missing.
      AmbiguousTracksError: two readings fit, and `options` do not say which.
    """
    try:
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is no place
            return _convert(_arrays(path), options, video_frames)
    except TrackFileError as error:
        raise type(error)(f"{path}: {error}") from error


def _convert(
    arrays: Mapping[str, np.ndarray], options: Options, video_frames: int | None
) -> tuple[TrackFile, Decision]:
    grid = query_points(options.size_hw, options.stride, options.origin)
    name, found = _tracks(arrays, len(grid), options)
    layout = _layout(found.shape, len(grid), options)
    tracks = (found if layout == "ntc" else found.swapaxes(0, 1)).astype(np.float32)
    rest = {key: array for key, array in arrays.items() if key != name}
    seen_name, seen = _visibility(rest, tracks.shape[:2], layout, options)
    queries = _queries(rest, len(grid), options)
    best, query, queries_name = _coordinates(tracks, queries, grid, options)
    tracks = best.apply(tracks)
    if seen is None:
        seen = _inside(tracks, options.size_hw)
    order, told = _order(tracks, query, grid, options.stride)
    tracks, seen = tracks[order], seen[order] & np.isfinite(tracks[order]).all(axis=-1)
    time0 = _time0(tracks.shape[1], video_frames, options)
    file = TrackFile(
        tracks=_delayed(tracks, time0),
        visibility=np.pad(seen, ((0, 0), (time0, 0))),
        size_hw=options.size_hw,
        query_xy=grid,
    )
    decision = Decision(
        tracks=name,
        layout=layout,
        visibility=seen_name,
        queries=queries_name,
        coords=best.mode,
        axes="yx" if best.swap else "xy",
        score=f"{best.score:.3f}",
        order=told,
        time0=str(time0) + ("" if video_frames else " (no video)" * (options.time0 is None)),
    )
    return file, decision


# --- arrays: which is which


def _arrays(path: str | os.PathLike) -> dict[str, np.ndarray]:
    suffix = Path(path).suffix.lower()
    if suffix not in (".npy", ".npz"):
        raise TrackFileError("is neither .npy nor .npz")
    try:
        held = read_npz(path) if suffix == ".npz" else read_npy(path)
    except ValueError as error:
        raise TrackFileError(str(error).removeprefix(f"{path}: ")) from error
    held = {"array": held} if isinstance(held, np.ndarray) else held
    if not isinstance(held, Mapping):
        raise TrackFileError(f"holds a {type(held).__name__}, no arrays")
    arrays = {str(key): np.asarray(value) for key, value in held.items()}
    return {key: a for key, a in arrays.items() if a.dtype.kind in "biuf" and a.ndim}


def _shapes(arrays: Mapping[str, np.ndarray]) -> str:
    return ", ".join(f"{key} {list(array.shape)}" for key, array in arrays.items()) or "nothing"


def _tracks(
    arrays: Mapping[str, np.ndarray], n: int, options: Options
) -> tuple[str, Num[np.ndarray, "A B 2"]]:
    """Name and values of the array of tracks."""
    fitting = {}
    for key, array in arrays.items():
        flat = array[0] if array.ndim == 4 and len(array) == 1 else array
        if flat.ndim == 3 and flat.shape[-1] == 2 and flat.dtype.kind != "b" and flat.size:
            fitting[key] = flat
    if options.tracks_key:
        if options.tracks_key not in fitting:
            raise TrackFileError(
                f"{options.tracks_key!r} is no array (N, T, 2); the file holds {_shapes(arrays)}"
            )
        return options.tracks_key, fitting[options.tracks_key]
    fitting = {key: array for key, array in fitting.items() if n in array.shape[:2]}
    if not fitting:
        raise TrackFileError(
            f"no array of tracks (N, T, 2) with N = {n}, the points of the grid; it holds "
            f"{_shapes(arrays)}. Another grid: --stride, --size, --origin"
        )

    def score(array: np.ndarray) -> int:
        return 10 * (array.shape[1] == n) + 6 * (array.shape[0] == n) + (array.dtype.kind == "f")

    return _best(fitting, lambda key, array: score(array), "arrays of tracks", "--tracks-key")


def _layout(shape: Sequence[int], n: int, options: Options) -> str:
    fits = {"ntc": shape[0] == n, "tnc": shape[1] == n}
    if options.layout != "auto":
        if not fits[options.layout]:
            raise TrackFileError(f"tracks {list(shape)} are not {options.layout} with N = {n}")
        return options.layout
    if all(fits.values()):
        raise AmbiguousTracksError(
            f"tracks {list(shape)} may be by point or by frame: say --layout ntc or tnc"
        )
    if not any(fits.values()):
        raise TrackFileError(f"tracks {list(shape)} are not those of a grid of {n} points")
    return "ntc" if fits["ntc"] else "tnc"


def _visibility(
    arrays: Mapping[str, np.ndarray], shape: tuple[int, int], layout: str, options: Options
) -> tuple[str, Bool[np.ndarray, "N T"] | None]:
    """Name and values of the visibility; None = the file has none."""
    if options.visibility_key == NONE:
        return "inside the frame", None
    fitting = {}
    for key, array in arrays.items():
        flat = array[..., 0] if array.ndim == 3 and array.shape[-1] == 1 else array
        flat = flat[0] if flat.ndim == 3 and len(flat) == 1 else flat
        flat = flat.T if layout == "tnc" and flat.shape == shape[::-1] else flat
        # Some tools write tracks by frame and visibility by point, or the other way round.
        flat = flat.T if flat.shape == shape[::-1] and shape[0] != shape[1] else flat
        if flat.shape == shape:
            fitting[key] = flat
    if options.visibility_key:
        if options.visibility_key not in fitting:
            raise TrackFileError(
                f"{options.visibility_key!r} is no visibility {list(shape)}; the file holds "
                f"{_shapes(arrays)}"
            )
        name = options.visibility_key
    else:
        named = {key: array for key, array in fitting.items() if _named(key)}
        if not named and fitting:
            raise AmbiguousTracksError(
                f"of {_shapes(fitting)} none is named as a visibility: say --visibility-key KEY, "
                f"or {NONE}"
            )
        if not named:
            return "inside the frame", None
        name, _ = _best(named, lambda key, _: _named(key), "visibilities", "--visibility-key")
    seen = fitting[name] > 0.5
    hidden = "occ" in name.lower() or "invis" in name.lower()
    return (f"not {name}", ~seen) if hidden else (name, seen)


def _named(key: str) -> int:
    """How much a name tells of a visibility."""
    key = key.lower()
    return 5 * ("vis" in key) + 3 * ("occ" in key) + 2 * ("mask" in key)


def _best(
    fitting: Mapping[str, np.ndarray],
    score: Callable[[str, np.ndarray], int],
    what: str,
    option: str,
) -> tuple[str, np.ndarray]:
    scores = {key: score(key, array) for key, array in fitting.items()}
    best = max(scores.values())
    winners = [key for key, value in scores.items() if value == best]
    same = all(np.array_equal(fitting[key], fitting[winners[0]]) for key in winners)
    if len(winners) > 1 and not same:
        raise AmbiguousTracksError(f"{what} {', '.join(winners)} fit alike: say {option} KEY")
    return winners[0], fitting[winners[0]]


def _queries(
    arrays: Mapping[str, np.ndarray], n: int, options: Options
) -> dict[str, Float[np.ndarray, "N 2"]]:
    """Readings of the points that were asked for, by name; those of a known name come alone.

    A third number is a time, before the place, which may be (y, x) or (x, y), or behind it.
    """
    if options.query_key == NONE:
        return {}
    keys = [options.query_key] if options.query_key else [k for k in QUERY_KEYS if k in arrays]
    readings: dict[str, np.ndarray] = {}
    for key in keys or list(arrays):
        array = arrays.get(key, np.empty(0))
        array = array[:, 0] if array.ndim == 3 and array.shape[1] == 1 else array
        array = array[0] if array.ndim == 3 and len(array) == 1 else array
        if array.shape == (n, 2):
            readings[key] = array
        elif array.shape == (n, 3):
            readings[f"{key} (t, y, x)"] = array[:, [2, 1]]
            readings[f"{key} (t, x, y)"] = array[:, 1:]
            readings[f"{key} (x, y, t)"] = array[:, :2]
        elif options.query_key:
            raise TrackFileError(f"{key!r} is no array of {n} points; it holds {_shapes(arrays)}")
        if readings and keys:
            break
    return {name: points.astype(np.float32) for name, points in readings.items()}


# --- coordinates


@dataclasses.dataclass(frozen=True)
class _Reading:
    """One meaning of coordinates: unit and order of axes, and how well it fits."""

    mode: str
    swap: bool
    options: Options
    score: float = 0.0
    starts: float = 0.0  # share of the grid where a track starts, or a query point lies
    placed: float = 0.0  # share of the tracks that start at the point of their number

    def apply(self, points: Float[np.ndarray, "*b 2"]) -> Float[np.ndarray, "*b 2"]:
        """To (x, y) px of the frame."""
        points = points[..., ::-1] if self.swap else points
        return _in_pixels(points.astype(np.float32), self.mode, self.options).astype(np.float32)


def _in_pixels(xy: np.ndarray, mode: str, options: Options) -> np.ndarray:
    height, width = options.size_hw
    most = np.array([width - 1, height - 1], np.float32)
    if mode == "pixel":
        return xy
    if mode == "unit":
        return xy * most
    if mode == "norm":
        return (xy + 1) * 0.5 * most
    if mode == "grid":
        half = options.stride * 0.5 if options.origin == "center" else 0.0
        return xy * np.float32(options.stride) + np.float32(half)
    if mode == "base256_resize":
        return xy * (most / 255)
    side = max(height, width)  # base256_letterbox: the frame in the middle of a square of 256
    margin = np.array([(side - width) // 2, (side - height) // 2], np.float32)
    return xy * np.float32(side / 256) - margin


def _coordinates(
    tracks: Float[np.ndarray, "N T 2"],
    queries: Mapping[str, Float[np.ndarray, "N 2"]],
    grid: Float[np.ndarray, "N 2"],
    options: Options,
) -> tuple[_Reading, Float[np.ndarray, "N 2"] | None, str]:
    """(what coordinates mean, query points in px or None, which reading of them that is)."""
    modes = COORDS if options.coords == "auto" else (options.coords,)
    swaps = (False, True) if options.axes == "auto" else (options.axes == "yx",)
    readings = [
        _scored(_Reading(mode, swap, options), tracks, queries, grid)
        for mode in modes
        for swap in swaps
    ]
    best = _chosen(readings)
    named = {name: best.apply(points) for name, points in queries.items()}
    start = best.apply(tracks[:, 0])

    def fit(name: str) -> tuple[float, float]:
        """Share of the grid that it covers, and of the tracks that start at it."""
        gaps = np.abs(named[name] - start).max(axis=-1)
        hit, _ = _on_grid(named[name], grid, options.stride)
        return hit, float((gaps <= _NEAR * options.stride).mean())

    name = max(named, key=fit, default="")
    known = bool(options.query_key) or name.split(" ")[0] in QUERY_KEYS
    # An array of another name counts as query points only if it is the grid.
    if not name or (not known and fit(name)[0] < 1):
        return best, None, "-"
    return best, named[name], name


def _scored(
    reading: _Reading,
    tracks: np.ndarray,
    queries: Mapping[str, np.ndarray],
    grid: np.ndarray,
) -> _Reading:
    n, t = tracks.shape[:2]
    frames = np.linspace(0, t - 1, min(t, _SAMPLED[0])).astype(int)
    points = np.linspace(0, n - 1, min(n, _SAMPLED[1])).astype(int)
    score = coordinate_score(reading.apply(tracks[np.ix_(points, frames)]), reading.options.size_hw)
    stride = reading.options.stride
    hit, placed = _on_grid(reading.apply(tracks[:, 0]), grid, stride)
    starts = [_on_grid(reading.apply(q), grid, stride)[0] for q in queries.values()]
    return dataclasses.replace(
        reading, score=score, starts=max([hit, placed, *starts]), placed=placed
    )


def coordinate_score(xy: Float[np.ndarray, "*b 2"], size_hw: tuple[int, int]) -> float:
    """Share of places inside the frame, and a quarter of the share of its width and height that
    those span; -1e9 if no place is finite."""
    places = xy.reshape(-1, 2)
    places = places[np.isfinite(places).all(axis=-1)]
    if not len(places):
        return -1e9
    most = np.array([size_hw[1] - 1, size_hw[0] - 1], np.float32)
    inside = ((places >= 0) & (places <= most)).all(axis=-1)
    if not inside.any():
        return 0.0
    span = np.ptp(places[inside], axis=0) / np.maximum(most, 1.0)
    return float(inside.mean() + 0.25 * span.sum())


def _chosen(readings: Sequence[_Reading]) -> _Reading:
    """The one reading that starts on the grid, else the best by score.

    Raises:
      AmbiguousTracksError: another one fits about as well.
    """
    on_grid = [reading for reading in readings if reading.starts >= _SURE]
    placed = [reading for reading in on_grid if reading.placed >= _SURE]
    for proven in (on_grid, placed):
        if len(proven) == 1:
            return proven[0]
    ranked = sorted(on_grid or readings, key=lambda reading: -reading.score)
    best = ranked[0]
    near = [reading for reading in ranked[1:] if reading.score >= best.score - _MARGIN]
    if near:
        told = ", ".join(
            f"{r.mode} {'yx' if r.swap else 'xy'} {r.score:.3f}" for r in [best, *near]
        )
        modes = sorted({reading.mode for reading in [best, *near]})
        options = [f"--coords {' or '.join(modes)}"] * (len(modes) > 1)
        options += ["--axes xy or yx"] * (len({reading.swap for reading in [best, *near]}) > 1)
        raise AmbiguousTracksError(
            f"coordinates fit more than one reading ({told}): say {', '.join(options)}"
        )
    return best


# --- order and time


def _on_grid(
    points: Float[np.ndarray, "N 2"], grid: Float[np.ndarray, "N 2"], stride: int
) -> tuple[float, float]:
    """Shares of the grid that some point is near to, and that the point of that number is."""
    finite = np.isfinite(points).all(axis=-1)
    own = finite & (np.abs(points - grid).max(axis=-1, initial=0) <= _NEAR * stride)
    cells = np.rint((points[finite] - grid[0]) / stride)
    near = np.abs(points[finite] - (cells * stride + grid[0])).max(axis=-1) <= _NEAR * stride
    last = np.rint((grid[-1] - grid[0]) / stride)
    cells = cells[near & ((cells >= 0) & (cells <= last)).all(axis=-1)]
    return len(np.unique(cells, axis=0)) / len(grid), float(own.mean())


def _order(
    tracks: Float[np.ndarray, "N T 2"],
    query: Float[np.ndarray, "N 2"] | None,
    grid: Float[np.ndarray, "N 2"],
    stride: int,
) -> tuple[Int[np.ndarray, " N"], str]:
    """Which track belongs to each point of the grid, and how that is known."""
    as_is = np.arange(len(grid))
    if query is None:
        hit, own = _on_grid(tracks[:, 0], grid, stride)
        if own >= _SURE or hit < 1:
            return as_is, "as it is"
        query = tracks[:, 0]
        tolerance, told = _NEAR * stride, "by frame 0"
    else:
        # A pixel for those who divided by W where W - 1 is multiplied by.
        tolerance, told = 1.5, "by query points"
    gaps = np.abs(query[None] - grid[:, None]).max(axis=-1)
    gaps = np.where(np.isfinite(gaps), gaps, np.inf)
    order = gaps.argmin(axis=1)
    lost = gaps[as_is, order] > tolerance
    lost |= ~lost & np.isin(order, _repeated(order[~lost]))
    if lost.any():
        names = [f"({x:g}, {y:g})" for x, y in grid[lost]]
        raise TrackFileError(
            f"{lost.sum()} of {len(grid)} points of the grid are missing ({some(names)}): other "
            "--coords, --axes or --stride, or --query-key none to ignore the query points"
        )
    return order, "as it is" if (order == as_is).all() else told


def _repeated(values: Int[np.ndarray, " N"]) -> Int[np.ndarray, " M"]:
    found, counts = np.unique(values, return_counts=True)
    return found[counts > 1]


def _inside(xy: Float[np.ndarray, "N T 2"], size_hw: tuple[int, int]) -> Bool[np.ndarray, "N T"]:
    most = np.array([size_hw[1] - 1, size_hw[0] - 1])
    return ((xy >= 0) & (xy <= most)).all(axis=-1)


def _time0(frames: int, video_frames: int | None, options: Options) -> int:
    """The video's frame that the first frame of the tracks is."""
    if options.time0 is not None:
        return options.time0
    if video_frames is None or frames == video_frames:
        return 0
    for start in (options.history, options.history - 1):
        if start > 0 and frames == video_frames - start:
            return start
    raise AmbiguousTracksError(
        f"has {frames} frames, its video {video_frames}: say --time0 N, the frame of the video "
        "that its first one is"
    )


def _delayed(tracks: Float[np.ndarray, "N T 2"], time0: int) -> Float[np.ndarray, "N T2 2"]:
    """Tracks that stand at their first place for `time0` frames before."""
    return np.concatenate([np.repeat(tracks[:, :1], time0, axis=1), tracks], axis=1)
