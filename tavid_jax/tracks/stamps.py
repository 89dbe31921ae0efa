"""Points drawn as small rectangles of one colour: the pictures that tell a video model of tracks.

A stamp of half size (w, h) at (x, y) covers the columns [trunc(x - w), trunc(x + w)) and the rows
[trunc(y - h), trunc(y + h)), cut to the frame; nothing is blended. Numbers are taken as they are
(the rule of the released FlexTraj renderer), bounds are found without rounding errors.

Instead of stamping point by point, each frame notes the *rank* of each point in the drawing order
at the corner of its stamp, and takes the maximum over a window of the stamp's size: what remains in
a pixel is the point that was drawn there last. The cost hardly depends on the number of points.
`stamps_device` does the same in JAX.
"""

import math

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int, Int32, UInt8

from tavid_jax.tracks.coordinates import AnyArray, namespace

# released: largest depth on top, as the released weights know it (their depth grows with distance,
# so that far points cover near ones); near_wins: smallest depth on top; array: last point on top.
# Equal depths: last point on top.
ORDERS = ("released", "near_wins", "array")
REFERENCE_HW = (480, 720)  # the frame that the released stamp sizes were chosen for
SMALL_STAMP, LARGE_STAMP = (3.0, 2.0), (6.0, 4.0)  # half (width, height): 6 x 4 and 12 x 8 px
_FEW_POINTS, _SMALL_SHARE = 300, 0.1
_FAR = 1e6  # beyond this many pixels nothing is told apart


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
    drawn = np.empty((tracks.shape[1], *size_hw), np.int32)
    for t, rank, points in _ranks(tracks, visibility, size_hw, stamp, depth, order):
        drawn[t] = np.concatenate([[-1], points])[rank]
    return drawn


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
    video = np.empty((tracks.shape[1], *size_hw, 3), np.uint8)
    # Four bytes a colour, gathered as one number.
    palette = np.zeros((len(tracks) + 1, 4), np.uint8)
    packed = np.empty(size_hw, np.uint32)
    for t, rank, points in _ranks(tracks, visibility, size_hw, stamp, depth, order):
        palette[1:, :3] = (colours if colours.ndim == 2 else colours[:, t])[points]
        np.take(palette.view(np.uint32)[:, 0], rank, out=packed, mode="clip")
        pixels = packed.view(np.uint8).reshape(*size_hw, 4)
        cv2.mixChannels([pixels], [video[t]], [0, 0, 1, 1, 2, 2])
    return video


def _ranks(tracks, visibility, size_hw, stamp, depth, order):
    """Yields (t, rank (H, W), points (N,)): pixels show points[rank - 1], rank 0 shows none."""
    (height, width), (pad_x, pad_y) = size_hw, padding(stamp)
    corner, size = boxes(tracks, stamp)
    seen = visibility & meets(corner, size, size_hw)
    place = ((corner[..., 1] + pad_y) * (width + pad_x) + corner[..., 0] + pad_x).T
    key = sort_key(depth, order)
    # OpenCV's dilation knows 16 bits without sign, and floats for more points than that.
    ranks = np.arange(1, len(tracks) + 1, dtype=np.uint16 if len(tracks) < 2**16 else np.float32)
    board = np.empty((height + pad_y, width + pad_x), ranks.dtype)
    for t in range(tracks.shape[1]):
        points = np.arange(len(tracks)) if key is None else _stable_order(key[:, t])
        shown = None
        for columns, rows in sizes(stamp):
            alike = (size[:, t] == (columns, rows)).all(-1) & seen[:, t]
            mine = alike[points]
            board[:] = 0
            # Of several values for one place the last is kept: the highest rank.
            board.reshape(-1)[place[t, points[mine]]] = ranks[mine]
            grown = cv2.dilate(board, np.ones((rows, columns), np.uint8), anchor=(0, 0))
            grown = grown[pad_y - rows + 1 :, pad_x - columns + 1 :][:height, :width]
            shown = grown if shown is None else np.maximum(shown, grown)
        yield t, shown.astype(np.uint32, copy=False) if shown.dtype == np.float32 else shown, points


def _stable_order(key):
    """Indices that sort `key`, equal ones in array order.

    As one number of 64 bits each: the key's bits, made to count as integers do, then the index.
    Sorting whole numbers is several times faster than a stable argsort of floats.
    """
    bits = (key + np.float32(0)).view(np.uint32)  # + 0: -0 and 0 are the same
    bits = np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31)).astype(np.uint64)
    joined = np.sort(bits << np.uint64(32) | np.arange(len(key), dtype=np.uint64))
    return (joined & np.uint64(0xFFFFFFFF)).astype(np.int64)


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
    tracks: Float[AnyArray, "N T 2"], stamp: tuple[float, float]
) -> tuple[Int[AnyArray, "N T 2"], Int[AnyArray, "N T 2"]]:
    """First (column, row) and number of (columns, rows) of each stamp, before cutting.

    Raises:
      ValueError: a stamp without extent.
    """
    half = np.asarray(stamp, np.float32)
    if half.shape != (2,) or not (np.isfinite(half).all() and (half > 0).all()):
        raise ValueError(f"stamp must be half (width, height) in pixels, both > 0, got {stamp}")
    whole = np.floor(half)
    part = half - whole
    xp = namespace(tracks)
    tracks = xp.clip(tracks, np.float32(-_FAR), np.float32(_FAR))
    pixel = xp.floor(tracks)
    rest = tracks - pixel
    # floor(x - w) and floor(x + w), by comparisons, which do not round as sums do. Where trunc
    # differs from floor, the frame's border cuts the difference off.
    pixel = pixel.astype(np.int32)
    first = pixel - whole.astype(np.int32) - (rest < part)
    end = pixel + whole.astype(np.int32) + (rest >= 1 - part)
    return first, end - first


def sizes(stamp: tuple[float, float]) -> list[tuple[int, int]]:
    """The (columns, rows) of stamps before cutting: one for whole and half sizes, else up to 4."""
    columns, rows = ({math.floor(extent), math.ceil(extent)} for extent in _extent(stamp))
    return [(c, r) for c in sorted(columns) for r in sorted(rows) if c and r]


def padding(stamp: tuple[float, float]) -> tuple[int, int]:
    """(columns, rows) left and above the frame, where corners of stamps that reach it can lie."""
    columns, rows = (math.ceil(extent) - 1 for extent in _extent(stamp))
    return columns, rows


def _extent(stamp):
    """Width and height, from the same float32 numbers that `boxes` compares with."""
    return (2 * float(np.float32(half)) for half in stamp)


def meets(
    corner: Int[AnyArray, "N T 2"], size: Int[AnyArray, "N T 2"], size_hw: tuple[int, int]
) -> Bool[AnyArray, "N T"]:
    """Whether any pixel of a stamp lies in the frame. See `boxes`."""
    end = np.asarray(size_hw[::-1], np.int32)
    return ((size > 0) & (corner < end) & (corner + size > 0)).all(-1)
