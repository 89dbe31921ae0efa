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

# released: largest depth on top, as the released weights know it (their depth grows with distance,
# so that far points cover near ones); near_wins: smallest depth on top; array: last point on top.
# Equal depths: last point on top.
ORDERS = ("released", "near_wins", "array")
REFERENCE_HW = (480, 720)  # the frame that the released stamp sizes were chosen for
SMALL_STAMP, LARGE_STAMP = (3.0, 2.0), (6.0, 4.0)  # half (width, height): 6 x 4 and 12 x 8 px
_FEW_POINTS, _SMALL_SHARE = 300, 0.1
_FAR = 2**15  # no frame is larger


def released_stamp(num_points: int, random_share: float = 1.0) -> tuple[float, float]:
    """Half size (w, h) of the released stamps: large ones where there are few.

    Args:
      num_points: all points, visible or not, also those that sparsifying hid.
      random_share: share that random sparsifying keeps, 1 where there was none.
    """
    few = num_points < _FEW_POINTS or random_share < _SMALL_SHARE
    return LARGE_STAMP if few else SMALL_STAMP


def scaled_stamp(
    stamp: tuple[float, float],
    size_hw: tuple[int, int],
    reference_hw: tuple[int, int] = REFERENCE_HW,
) -> tuple[float, float]:
    """The stamp that covers the same part of a frame of another size; at least one pixel."""
    factor = max(size_hw[0] / reference_hw[0], size_hw[1] / reference_hw[1])
    return max(0.5, stamp[0] * factor), max(0.5, stamp[1] * factor)


def owners(
    tracks: Float[np.ndarray, "N T 2"],
    visibility: Bool[np.ndarray, "N T"],
    size_hw: tuple[int, int],
    stamp: tuple[float, float],
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
    stamp: tuple[float, float],
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
    x, y = np.ascontiguousarray(np.transpose(tracks, (2, 1, 0)))
    seen = np.ascontiguousarray(visibility.T)
    key = sort_key(depth, order)
    key = None if key is None else np.ascontiguousarray(key.T)
    pictures = np.empty((len(x), height, width, values.shape[-1]), values.dtype)
    # Painted with a margin on all sides, so that no stamp needs cutting.
    board = np.empty((height + 2 * pad_y, width + 2 * pad_x, values.shape[-1]), values.dtype)
    for t in range(len(x)):
        column, columns, row, rows, meets = boxes(x[t], y[t], size_hw, stamp)
        points = np.flatnonzero(meets & seen[t])
        if key is not None:
            points = points[_stable_order(key[t, points])]
        board[:] = background
        box = (a[points] for a in (column + pad_x, columns, row + pad_y, rows))
        _stamp(board, *box, (values if values.ndim == 2 else values[:, t])[points], stamp)
        pictures[t] = board[pad_y : pad_y + height, pad_x : pad_x + width]
    return pictures


def _stamp(board, column, columns, row, rows, values, stamp):
    """Fills rectangles of `board`, one after the other.

    A rectangle is a few strips, a strip a run of pixels which one assignment writes: `runs` is the
    board seen as the overlapping runs that start at each pixel. Numpy assigns to a list of places
    in the list's order, so that later rectangles cover earlier ones.
    """
    width = max(1, math.floor(2 * float(np.float32(stamp[0]))))
    most_columns, most_rows = (math.ceil(extent) for extent in _extent(stamp))
    pixel = board.itemsize * board.shape[-1]
    run = np.dtype((np.void, pixel * width))
    runs = np.ndarray(board.size // board.shape[-1] - width + 1, run, board, strides=(pixel,))
    # Rectangles differ by one column and one row at most: the smaller ones paint their last twice.
    down = row[:, None] + np.minimum(np.arange(most_rows), rows[:, None] - 1)
    starts = [column] if most_columns == width else [column, column + columns - width]
    places = np.stack([down * board.shape[1] + start[:, None] for start in starts], axis=-1)
    ink = np.tile(values, width).view(run)[:, 0]
    runs[places.reshape(-1)] = np.repeat(ink, places[0].size if len(places) else 0)


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
    x: Float[AnyArray, "*n"],
    y: Float[AnyArray, "*n"],
    size_hw: tuple[int, int],
    stamp: tuple[float, float],
) -> tuple[AnyArray, AnyArray, AnyArray, AnyArray, Bool[AnyArray, "*n"]]:
    """Where stamps lie, before they are cut to the frame.

    Returns:
      First column, number of columns, first row, number of rows, and whether the stamp meets the
      frame at all.

    Raises:
      ValueError: a stamp without extent.
    """
    if len(stamp) != 2 or not all(0 < half < _FAR for half in stamp):
        raise ValueError(f"stamp must be half (width, height) in pixels, both > 0, got {stamp}")
    height, width = size_hw
    column, columns = _span(x, np.float32(stamp[0]))
    row, rows = _span(y, np.float32(stamp[1]))
    meets = (column < width) & (column + columns > 0) & (row < height) & (row + rows > 0)
    return column, columns, row, rows, meets & (columns > 0) & (rows > 0)


def _span(position, half):
    """First pixel and number of pixels of [trunc(position - half), trunc(position + half))."""
    xp = namespace(position)
    position = xp.clip(position, np.float32(-_FAR), np.float32(_FAR))
    pixel = xp.floor(position)
    rest = position - pixel
    whole = np.floor(half)
    # floor(x - w) and floor(x + w) by comparisons, which do not round as sums do. Where trunc
    # differs from floor, the frame's border cuts the difference off.
    pixel = pixel.astype(np.int32)
    first = pixel - np.int32(whole) - (rest < half - whole)
    end = pixel + np.int32(whole) + (rest >= 1 - (half - whole))
    return first, end - first


def sizes(stamp: tuple[float, float]) -> list[tuple[int, int]]:
    """The (columns, rows) of stamps before cutting: one for whole and half sizes, else up to 4."""
    columns, rows = ({math.floor(extent), math.ceil(extent)} for extent in _extent(stamp))
    return [(c, r) for c in sorted(columns) for r in sorted(rows) if c and r]


def padding(stamp: tuple[float, float]) -> tuple[int, int]:
    """(columns, rows) beyond the frame that stamps which meet it can reach."""
    columns, rows = (math.ceil(extent) - 1 for extent in _extent(stamp))
    return columns, rows


def _extent(stamp):
    """Width and height, from the float32 numbers that `boxes` reads."""
    return (2 * float(np.float32(half)) for half in stamp)
