"""FVMD from trajectories: Frechet distance between histograms of velocity and acceleration.

Definition of Liu et al. 2024 (Frechet Video Motion Distance) as used on tracks by TrajLoom
(section 4.1): a clip's points lie on a grid, cells of `cell` x `cell` points x `cube_frames`
frames each give a histogram of 8 directions weighted by 8 levels of speed, all cells concatenated
are the clip's feature. Both variants share one formula; what differs is in `FvmdConfig`.

A grid of at least one cell is needed (5 x 5 points by default); rows, columns and frames which do
not fill a cell are dropped. On 8 x 8 points and 17 frames there is one cell of 5 x 5 points, so
that 39 of the 64 points do not count, and the feature has 2 * 4 * 8 = 64 numbers: use a smaller
`cell` to see them all. The distance depends on the number of windows; compare only equal ones.

Velocities restart at every window (its first velocity and its first two accelerations are zero),
but are otherwise those of the whole sequence. So frames are binned once, and a window's cells are
sums over frames: overlapping windows cost next to nothing.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from tavid_jax.metrics import frechet, result

NUM_ANGLES = 8
NUM_LEVELS = 8  # log2 of the 256 magnitude bins of the public code
CHUNK = 8  # videos binned at a time: what fits a cache, changes no number


@dataclasses.dataclass(frozen=True)
class FvmdConfig:
    """Settings of FVMD; the defaults are those of TrajLoom's paper (16 frames, stride 1)."""

    clip_len: int = 16  # frames of a window; 0 or less: the whole sequence (FVMD-Long)
    clip_stride: int = 1  # frames between the starts of windows (15: default of TrajLoom's script)
    cell: int = 5  # grid points along the side of a cell
    cube_frames: int = 4
    binning: Literal["exact", "float32"] = "exact"  # float32: as the public video FVMD, see `bins`
    eps: float = 1e-5
    root: frechet.Root = "auto"

    def __post_init__(self):
        for name in ("clip_stride", "cell", "cube_frames"):
            if getattr(self, name) < 1:
                raise ValueError(f"FVMD: {name} is {getattr(self, name)}, it must be at least 1")


# Video FVMD (Liu et al.): 16 frames, float32 binning. Its 20 x 20 grid is a property of the tracks.
VIDEO_FVMD = FvmdConfig(binning="float32")
# FVMD-Long of TrajLoom: every sequence is one window.
FVMD_LONG = FvmdConfig(clip_len=0)


class Features(NamedTuple):
    """One row per window, R windows; both have D = cubes * cell rows * cell columns * 8 columns."""

    velocity: Float[np.ndarray, "R D"]
    acceleration: Float[np.ndarray, "R D"]

    def combined(self) -> Float[np.ndarray, "R E"]:
        return np.concatenate([self.velocity, self.acceleration], axis=1)


def fvmd(
    prediction: Float[np.ndarray, "V N T 2"],
    truth: Float[np.ndarray, "V N T 2"],
    visibility: Bool[np.ndarray, "V N T"] | None,
    grid_hw: tuple[int, int],
    config: FvmdConfig = FvmdConfig(),
) -> dict[str, Any]:
    """FVMD between predicted and true tracks of V videos.

    Args:
      prediction, truth: pixels (x, y); points in row-major order of the grid.
      visibility: the truth's; masks both sides (the paper's choice). None: nothing is masked.
      grid_hw: rows and columns of the grid, rows * columns = N.
      config: windows, cells, binning.

    Returns:
      Record with `fvmd` (velocity and acceleration combined: the number of the paper),
      `fvmd_velocity`, `fvmd_acceleration`, `n` windows and the settings. All three are NaN with
      fewer than two windows, or when a prediction is not finite at a point that counts
      (`nonfinite` counts them).

    Raises:
      ValueError: shapes differ; the grid does not fit N or is smaller than a cell; fewer than
        `cube_frames` frames; a true coordinate that counts is not finite.
    """
    result.check_shapes(truth.shape, prediction=prediction)
    result.check_shapes(truth.shape[:-1], visibility=visibility)
    if _nonfinite(truth, visibility):
        raise ValueError("FVMD: true tracks hold NaN or infinity at points that count as visible")
    nonfinite = _nonfinite(prediction, visibility)
    num_windows = len(truth) * len(window_starts(truth.shape[2], config))
    if nonfinite or num_windows < 2:
        _cells(truth.shape[1:3], grid_hw, config)  # a wrong grid is an error in any case
        values = (math.nan,) * 3
    else:
        first = fvmd_features(prediction, visibility, grid_hw, config)
        second = fvmd_features(truth, visibility, grid_hw, config)
        values = distances(first, second, config)
    return result.record(
        dict(zip(("fvmd_velocity", "fvmd_acceleration", "fvmd"), values, strict=True)),
        n=num_windows,
        videos=len(truth),
        frames=truth.shape[2],
        grid_hw=grid_hw,
        masked=visibility is not None,
        nonfinite=nonfinite,
        **dataclasses.asdict(config),
    )


def distances(
    first: Features, second: Features, config: FvmdConfig = FvmdConfig()
) -> tuple[float, float, float]:
    """(velocity, acceleration, combined) Frechet distances between two sets of windows."""
    parts = [slice(0, first.velocity.shape[1]), slice(first.velocity.shape[1], None), slice(None)]
    velocity, acceleration, combined = frechet.frechet_distances(
        first.combined(), second.combined(), parts, eps=config.eps, root=config.root
    )
    return velocity, acceleration, combined


def _nonfinite(
    tracks: Float[np.ndarray, "V N T 2"], visibility: Bool[np.ndarray, "V N T"] | None
) -> int:
    """Points that count and hold NaN or infinity."""
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(tracks.sum()):  # then all are; a sum may also be too large for its dtype
            return 0
    bad = ~np.isfinite(tracks).all(axis=-1)
    return int((bad if visibility is None else bad & visibility).sum())


def fvmd_features(
    tracks: Float[np.ndarray, "V N T 2"],
    visibility: Bool[np.ndarray, "V N T"] | None,
    grid_hw: tuple[int, int],
    config: FvmdConfig = FvmdConfig(),
) -> Features:
    """Histogram features of all windows of V videos (arguments as in `fvmd`), videos outermost.

    Values are multiples of 1/8 in [0, cell^2 * cube_frames]; they are not divided by counts.
    """
    _cells(tracks.shape[1:3], grid_hw, config)
    velocity, acceleration = [], []
    for start in range(0, len(tracks), CHUNK):
        chunk = tracks[start : start + CHUNK]
        seen = None if visibility is None else visibility[start : start + CHUNK]
        for order, features in ((1, velocity), (2, acceleration)):
            frames = _frame_histograms(motion(chunk, seen, order), grid_hw, config)
            features.append(_window_features(frames, order, config))
    return Features(np.concatenate(velocity), np.concatenate(acceleration))


def window_starts(num_frames: int, config: FvmdConfig) -> range:
    """First frames of the windows; one window when the sequence is not longer than `clip_len`."""
    length = _window_length(num_frames, config)
    return range(0, num_frames - length + 1, config.clip_stride)


def _window_length(num_frames: int, config: FvmdConfig) -> int:
    whole = config.clip_len <= 0 or config.clip_len >= num_frames
    return num_frames if whole else config.clip_len


def motion(
    tracks: Float[np.ndarray, "V N T 2"], visibility: Bool[np.ndarray, "V N T"] | None, order: int
) -> Float[np.ndarray, "V N T 2"]:
    """Velocity (order 1) or acceleration (order 2) per frame, zero in the first `order` frames.

    Zero also unless the point is visible in all the frames that the difference reads.
    """
    moved = np.zeros_like(tracks)
    with np.errstate(invalid="ignore"):  # inf - inf at points which are masked below
        moved[:, :, order:] = np.diff(tracks, n=order, axis=2)
    if visibility is not None:
        seen = np.logical_and.reduce(
            [visibility[:, :, k : visibility.shape[2] - order + k] for k in range(order + 1)]
        )
        moved[:, :, order:][~seen] = 0
    return moved


def levels(vectors: Float[np.ndarray, "*D 2"]) -> UInt8[np.ndarray, "*D"]:
    """Level of speed 0..8: ceil(log2(1 + |v|)) with |v| in pixels clipped to 255; 0 for NaN.

    Read off the number's bits: a log2 that returns 2.0000002 would push powers of two a level up.
    """
    x, y = vectors[..., 0], vectors[..., 1]
    size = 1 + np.minimum(np.sqrt(x * x + y * y), 255)
    size = np.where(np.isnan(size), 1, size).astype(np.result_type(size, np.float32), copy=False)
    # A float of 2^e (1 + m), m < 1, has the bits (e + bias, m): anything in m adds one to e.
    digits = np.finfo(size.dtype).nmant
    bias = 1 - np.finfo(size.dtype).minexp
    bits = size.view(f"i{size.itemsize}")
    return (((bits + ((1 << digits) - 1)) >> digits) - bias).astype(np.uint8)


def bins(
    vectors: Float[np.ndarray, "*D 2"], binning: Literal["exact", "float32"] = "exact"
) -> UInt8[np.ndarray, "*D"]:
    """Direction 0..7: floor((atan2(x, y) + pi) / (pi / 4)), clipped to 7; anything for (0, 0).

    "exact" decides by signs and sizes, so that motion along an axis or a diagonal, which lies on
    the edge of two bins, always falls in the upper one (as TrajLoom's code does). "float32" is the
    arithmetic of the public video FVMD, which puts (1, 0) and (-1, 1) one bin lower.
    """
    x, y = vectors[..., 0], vectors[..., 1]
    if binning == "float32":
        angle = np.arctan2(x.astype(np.float32), y.astype(np.float32)) + np.float32(np.pi)
        index = np.floor_divide(angle, np.float32(2 * np.pi / NUM_ANGLES))
        return np.clip(np.nan_to_num(index), 0, NUM_ANGLES - 1).astype(np.uint8)
    across, along = np.abs(x), np.abs(y)
    wide, tall = (across >= along).view(np.uint8), (along >= across).view(np.uint8)
    left = np.where(y < 0, wide, tall + np.uint8(2))
    right = np.where(y > 0, wide + np.uint8(4), tall + np.uint8(6))
    return np.where(x < 0, left, right)


def _cells(
    shape: tuple[int, ...], grid_hw: tuple[int, int], config: FvmdConfig
) -> tuple[int, int, int]:
    """Cells along (frames of a window, rows, columns); an error where there is none."""
    (num_points, num_frames), (rows, columns) = shape, grid_hw
    if rows * columns != num_points:
        raise ValueError(f"FVMD: {num_points} points do not fill a grid of {rows} x {columns}")
    if min(rows, columns) < config.cell:
        raise ValueError(
            f"FVMD: a grid of {rows} x {columns} points is smaller than one cell of "
            f"{config.cell} x {config.cell}: set cell to at most {min(rows, columns)}"
        )
    length = _window_length(num_frames, config)
    if length < config.cube_frames:
        raise ValueError(
            f"FVMD: windows of {length} frames are shorter than one cube of {config.cube_frames}"
        )
    return length // config.cube_frames, rows // config.cell, columns // config.cell


def _frame_histograms(
    vectors: Float[np.ndarray, "V N T 2"], grid_hw: tuple[int, int], config: FvmdConfig
) -> Int[np.ndarray, "V T M"]:
    """Sums of levels per frame and (cell row, cell column, direction), flattened to M."""
    num_videos, _, num_frames, _ = vectors.shape
    _, cell_rows, cell_columns = _cells(vectors.shape[1:3], grid_hw, config)
    # (V, rows, columns, T, 2), cropped to whole cells.
    field = vectors.reshape(num_videos, *grid_hw, num_frames, 2)
    field = field[:, : cell_rows * config.cell, : cell_columns * config.cell]
    cell = (np.arange(field.shape[1]) // config.cell)[:, None] * cell_columns
    cell = cell + (np.arange(field.shape[2]) // config.cell)[None, :]
    frame = np.arange(num_videos)[:, None, None, None] * num_frames + np.arange(num_frames)
    num_cells = cell_rows * cell_columns
    index = (frame * num_cells + cell[:, :, None]) * NUM_ANGLES + bins(field, config.binning)
    sums = np.bincount(
        index.ravel(),
        weights=levels(field).ravel(),
        minlength=num_videos * num_frames * num_cells * NUM_ANGLES,
    )
    return sums.reshape(num_videos, num_frames, num_cells * NUM_ANGLES).astype(np.int32)


def _window_features(
    frames: Int[np.ndarray, "V T M"], order: int, config: FvmdConfig
) -> Float[np.ndarray, "R D"]:
    """Sums frames into the cubes of every window; a window's first `order` frames count nothing."""
    num_videos, num_frames, _ = frames.shape
    starts = np.array(window_starts(num_frames, config))
    cubes = _window_length(num_frames, config) // config.cube_frames
    summed = np.lib.stride_tricks.sliding_window_view(frames, config.cube_frames, axis=1)
    summed = summed.sum(axis=-1, dtype=np.int32)  # cube that begins at each frame
    windows = summed[:, starts[:, None] + config.cube_frames * np.arange(cubes)]  # (V, R, Q, M)
    for k in range(order):
        if k // config.cube_frames < cubes:
            windows[:, :, k // config.cube_frames] -= frames[:, starts + k]
    return windows.reshape(num_videos * len(starts), -1).astype(np.float32) / NUM_LEVELS
