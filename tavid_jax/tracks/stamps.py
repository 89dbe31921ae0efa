"""Points drawn as small rectangles of one colour: the pictures that tell a video model of tracks.

A stamp of half size (w, h) at (x, y) covers the columns [trunc(x - w), trunc(x + w)) and the rows
[trunc(y - h), trunc(y + h)), cut to the frame; nothing is blended. Numbers are taken as they are
(the rule of the released FlexTraj renderer), bounds are found without rounding errors.

`stamps_device` draws the same in JAX.
"""

import math

import numpy as np
from jaxtyping import Bool, Float, Int32, UInt8

from tavid_jax.tracks.coordinates import AnyArray, namespace

Half = tuple[float | int, float | int]

# released: largest depth on top, as the released weights know it (their depth grows with distance,
# so that far points cover near ones); near_wins: smallest depth on top; array: last point on top.
# Equal depths: last point on top.
ORDERS = ("released", "near_wins", "array")
REFERENCE_HW = (480, 720)  # the frame that the released stamp sizes were chosen for
SMALL_STAMP, LARGE_STAMP = (3.0, 2.0), (6.0, 4.0)  # half (width, height): 6 x 4 and 12 x 8 px
_FEW_POINTS, _SMALL_SHARE = 300, 0.1
_FAR = 2**15  # no frame is larger


def released_stamp(num_points: int, random_share: float | int = 1.0) -> Half:
    """Half size (w, h) of the released stamps: large ones where there are few.

    Args:
      num_points: all points, visible or not, also those that sparsifying hid.
      random_share: share that random sparsifying keeps, 1 where there was none.
    """
    few = num_points < _FEW_POINTS or random_share < _SMALL_SHARE
    return LARGE_STAMP if few else SMALL_STAMP


def scaled_stamp(
    stamp: Half,
    size_hw: tuple[int, int],
    reference_hw: tuple[int, int] = REFERENCE_HW,
) -> Half:
    """The stamp that covers the same part of a frame of another size; at least one pixel."""
    factor = max(size_hw[0] / reference_hw[0], size_hw[1] / reference_hw[1])
    return max(0.5, stamp[0] * factor), max(0.5, stamp[1] * factor)


def owners(
    tracks: Float[np.ndarray, "N T 2"],
    visibility: Bool[np.ndarray, "N T"],
    size_hw: tuple[int, int],
    stamp: Half,
    depth: Float[np.ndarray, "N T"] | None = None,
    order: str = "released",
) -> Int32[np.ndarray, "T H W"]:
    """Index of the point that each pixel shows, -1 where there is none.

    Args:
      tracks: (x, y) in pixels of `size_hw`, finite where visible.
      visibility: points that are drawn, for each frame.
      size_hw: (H, W) of the picture.
      stamp: half (width, height) in pixels.
      depth: see `order`.
      order: which point is on top where stamps overlap, see `ORDERS`; "released" without depth is
        "array", as released.

    Raises:
      ValueError: unknown order, near_wins without depth, or a stamp without extent.
    """
    indices = np.arange(len(tracks), dtype=np.int32)[:, None]
    return _paint(tracks, visibility, indices, size_hw, stamp, depth, order, -1)[..., 0]


def draw(
    tracks: Float[np.ndarray, "N T 2"],
    visibility: Bool[np.ndarray, "N T"],
    colours: UInt8[np.ndarray, "N 3"] | UInt8[np.ndarray, "N T 3"],
    size_hw: tuple[int, int],
    stamp: Half,
    depth: Float[np.ndarray, "N T"] | None = None,
    order: str = "released",
) -> UInt8[np.ndarray, "T H W 3"]:
    """The video of stamps on black; `colours` for each point, or for each point and frame.

    For the other arguments and errors see `owners`.
    """
    return _paint(tracks, visibility, colours, size_hw, stamp, depth, order, 0)


def _paint(tracks, visibility, values, size_hw, stamp, depth, order, background):
    """Pictures (T, H, W, C) of values (N, C) or (N, T, C), painted point over point."""
    (height, width), (pad_x, pad_y) = size_hw, padding(stamp)
    xy = np.ascontiguousarray(np.transpose(tracks, (1, 2, 0)), np.float32)
    seen = np.ascontiguousarray(visibility.T)
    key = sort_key(depth, order)
    key = None if key is None else np.ascontiguousarray(key.T, np.float32)
    pictures = np.empty((len(xy), height, width, values.shape[-1]), values.dtype)
    # Painted with a margin on all sides, so that no stamp needs cutting.
    board = np.empty((height + 2 * pad_y, width + 2 * pad_x, values.shape[-1]), values.dtype)
    runs = _runs(board, stamp)
    ink = _ink(values, runs.dtype, stamp) if values.ndim == 2 else None
    for t in range(len(xy)):
        first, count, meets = boxes(xy[t], size_hw, stamp)
        points = np.flatnonzero(meets & seen[t])
        if key is not None:
            points = points[_stable_order(key[t, points])]
        strips = _strips(first, count, board.shape[1], stamp)
        board[:] = background
        if values.ndim == 3:
            ink = _ink(values[:, t], runs.dtype, stamp)
        # Numpy assigns to a list of places in the list's order: later points cover earlier ones.
        runs[strips.take(points, axis=0).reshape(-1)] = ink.take(points, axis=0).reshape(-1)
        pictures[t] = board[pad_y : pad_y + height, pad_x : pad_x + width]
    return pictures


def _runs(board, stamp):
    """`board` seen as the overlapping runs of pixels that start at each pixel.

    A stamp is a few strips, and a strip is one run, which one assignment writes.
    """
    pixel = board.itemsize * board.shape[-1]
    length = max(1, _least_and_most(stamp[0])[0])
    run = np.dtype((np.void, pixel * length))
    return np.ndarray(board.shape[0] * board.shape[1] - length + 1, run, board, strides=(pixel,))


def _ink(values, run, stamp):
    """(N, K) runs filled with each point's value, one for each strip of a stamp."""
    pixels = run.itemsize // (values.itemsize * values.shape[-1])
    return np.tile(values, pixels * math.prod(_strip_grid(stamp))).view(run)


def _strip_grid(stamp):
    """Numbers of strips below and beside each other; their product is K."""
    (least_wide, most_wide), (_, most_high) = map(_least_and_most, stamp)
    return most_high, 1 + (most_wide > least_wide > 0)


def _strips(first, count, stride, stamp):
    """(N, K) places of the runs that fill each stamp; small stamps have some of them twice."""
    (least_wide, _), (least_high, most_high) = map(_least_and_most, stamp)
    (column, row), (columns, rows), (pad_x, pad_y) = first, count, padding(stamp)
    place = (row + pad_y) * stride + (column + pad_x)
    strips = np.empty((len(place), *_strip_grid(stamp)), np.intp)
    for i in range(most_high):
        strips[:, i, 0] = place + stride * (i if i < least_high else np.minimum(i, rows - 1))
    # Widths differ by one pixel at most: the second run ends where the stamp does.
    strips[..., 1:] = strips[..., :1] + (columns - least_wide)[:, None, None]
    return strips.reshape(len(place), math.prod(strips.shape[1:]))


def _stable_order(key):
    """Indices that sort `key` along its last axis, equal ones in array order.

    As one number of 64 bits each: the key's bits, made to count as integers do, then the index.
    Sorting whole numbers is several times faster than a stable argsort of floats.
    """
    bits = (key + np.float32(0)).view(np.uint32)  # + 0: -0 and 0 are the same
    bits = np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31)).astype(np.uint64)
    unique = bits << np.uint64(32) | np.arange(key.shape[-1], dtype=np.uint64)
    unique.sort(axis=-1)
    return (unique & np.uint64(0xFFFFFFFF)).astype(np.int64)


def sort_key(depth: Float[AnyArray, "N T"] | None, order: str) -> Float[AnyArray, "N T"] | None:
    """What points are sorted by, ascending, to be drawn in turn; None: array order.

    Raises:
      ValueError: unknown order, or near_wins without depth.
    """
    if order not in ORDERS:
        raise ValueError(f"no drawing order {order!r}: use one of {', '.join(ORDERS)}")
    if order == "near_wins" and depth is None:
        raise ValueError("order near_wins needs the tracks' depth: give it, or use order array")
    if order == "array" or depth is None:
        return None
    return -depth if order == "near_wins" else depth


def boxes(
    xy: Float[AnyArray, "2 *n"], size_hw: tuple[int, int], stamp: Half
) -> tuple[Int32[AnyArray, "2 *n"], Int32[AnyArray, "2 *n"], Bool[AnyArray, "*n"]]:
    """Where stamps lie, before they are cut to the frame.

    Returns:
      First (column, row), number of (columns, rows), and whether the stamp meets the frame at all.

    Raises:
      ValueError: a stamp without extent.
    """
    if len(stamp) != 2 or not all(0 < half < _FAR for half in stamp):
        raise ValueError(f"stamp must be half (width, height) in pixels, both > 0, got {stamp}")
    xp = namespace(xy)
    side = (2,) + (1,) * (xy.ndim - 1)
    half = np.asarray(stamp, np.float32).reshape(side)
    whole = np.floor(half)
    xy = xp.minimum(xp.maximum(xy, np.float32(-_FAR)), np.float32(_FAR))
    pixel = xp.floor(xy)
    rest = xy - pixel
    # floor(x - w) and floor(x + w) by comparisons, which do not round as sums do. Where trunc
    # differs from floor, the frame's border cuts the difference off.
    pixel = pixel.astype(np.int32)
    first = pixel - whole.astype(np.int32) - (rest < half - whole)
    end = pixel + whole.astype(np.int32) + (rest >= 1 - (half - whole))
    border = np.asarray(size_hw[::-1], np.int32).reshape(side)
    return first, end - first, ((first < border) & (end > 0) & (end > first)).all(axis=0)


def sizes(stamp: Half) -> list[tuple[int, int]]:
    """The (columns, rows) of stamps before cutting: one for whole and half sizes, else up to 4."""
    columns, rows = ({*_least_and_most(half)} for half in stamp)
    return [(c, r) for c in sorted(columns) for r in sorted(rows) if c and r]


def padding(stamp: Half) -> tuple[int, int]:
    """(columns, rows) beyond the frame that stamps which meet it can reach."""
    return _least_and_most(stamp[0])[1] - 1, _least_and_most(stamp[1])[1] - 1


def _least_and_most(half):
    """How many pixels a stamp of that half size covers: from the float32 that `boxes` reads."""
    extent = 2 * float(np.float32(half))
    return math.floor(extent), math.ceil(extent)
