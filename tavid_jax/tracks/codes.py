"""Which point is which, as a colour: red names the segment, green and blue the point in it.

Segments count from 1 here and 0 is "in none", so the released code's segment s is s + 1.
"""

import numpy as np
from jaxtyping import Bool, Float, Int, Int32, UInt8

from tavid_jax.tracks.trajectories import Trajectories

# released: points count up within their segment; two_way: the same with the palette of clips
# tracked forward and backward, where points in no segment are black; spread: released, but the
# numbers of a segment are spread over the square of green and blue, so that neighbours differ by
# more than an autoencoder blurs; global: points count up through the clip.
CODES = ("released", "two_way", "spread", "global")
MAX_SEGMENTS = 254  # with more, two segments would have the same red, or one that of the background
MAX_POINTS = 2**16  # what green and blue can count


def segments_at(
    xy: Float[np.ndarray, "N 2"], masks: Bool[np.ndarray, "S H W"]
) -> Int32[np.ndarray, " N"]:
    """Segment of each position: k for the first mask k that holds it (counted from 1), 0 for none.

    Positions are rounded to pixels (halves to the even one) and moved into the frame.

    Raises:
      ValueError: a position is not finite.
    """
    if not np.isfinite(xy).all():
        raise ValueError("positions are not finite: leave out points that the frame does not show")
    count, height, width = masks.shape
    if not count:
        return np.zeros(len(xy), np.int32)
    column, row = np.clip(np.rint(xy), 0, (width - 1, height - 1)).astype(np.int64).T
    inside = masks[:, row, column]
    return np.where(inside.any(0), inside.argmax(0) + 1, 0).astype(np.int32)


def segment_reds(segments: int, codes: str = "released") -> UInt8[np.ndarray, "{segments}+1"]:
    """Red of segments 0 (none) .. S; it depends on how many segments a clip has.

    Raises:
      ValueError: unknown codes, or more than 254 segments.
    """
    if codes not in CODES:
        raise ValueError(f"no codes {codes!r}: use one of {', '.join(CODES)}")
    if segments > MAX_SEGMENTS:
        raise ValueError(
            f"{segments} segments: red tells at most {MAX_SEGMENTS} apart; merge or leave out some"
        )
    if codes == "two_way":
        reds = np.linspace(1, 255, segments + 1).astype(np.uint8)
        reds[0] = 0
        return reds
    return np.linspace(0, 255, segments + 2).astype(np.uint8)[1:]


def id_colours(
    segment: Int[np.ndarray, " N"],
    segments: int,
    codes: str = "released",
    with_segment: bool = True,
    with_point: bool = True,
) -> UInt8[np.ndarray, "N 3"]:
    """The colour of each point in the id video.

    Args:
      segment: segment of each point, 0 = none.
      segments: S, how many the clip has.
      codes: see `CODES`.
      with_segment: False leaves segments out (for ablations): red is 255, and points count up
        through the clip, since the count within a segment means nothing without it.
      with_point: False leaves points out (for ablations): green and blue are 0.

    Raises:
      ValueError: see `segment_reds`; a segment outside 0 .. S; or more points in one count than 16
        bits hold.
    """
    reds = segment_reds(segments, codes)
    if segment.size and not 0 <= segment.min() <= segment.max() <= segments:
        raise ValueError(
            f"segment outside 0 .. {segments}: found {segment.min()} .. {segment.max()}"
        )
    together = codes == "global" or not with_segment
    number, total = _count(np.zeros_like(segment) if together else segment)
    if with_point and total.size and total.max() > MAX_POINTS:
        raise ValueError(
            f"{total.max()} points are counted together, green and blue hold {MAX_POINTS}: "
            "take fewer points or more segments"
        )
    colours = np.zeros((len(segment), 3), np.uint8)
    colours[:, 0] = reds[segment] if with_segment else 255
    if with_point:
        digits = _spread(number, total) if codes == "spread" else np.divmod(number, 256)
        colours[:, 1], colours[:, 2] = digits
    if codes == "two_way" and with_segment:
        colours[segment == 0] = 0
    return colours


def _count(group):
    """(number of each element within its group in array order, size of its group)."""
    order = np.argsort(group, kind="stable")
    counts = np.bincount(group) if group.size else np.zeros(0, np.int64)
    starts = np.cumsum(counts) - counts
    number = np.empty(len(group), np.int64)
    number[order] = np.arange(len(group)) - starts[group[order]]
    return number, counts[group]


def _spread(number, total):
    """Green and blue of number k of n: k in base m on m even steps from 0 to 255, m*m >= n."""
    base = np.maximum(2, np.ceil(np.sqrt(total)).astype(np.int64))
    return tuple(digit * 255 // (base - 1) for digit in np.divmod(number, base))


def segmented(
    trajectories: Trajectories, masks: Bool[np.ndarray, "S H W"], frame: int = 0
) -> Trajectories:
    """Trajectories with the segments that their positions in one frame lie in.

    Positions of points that are not visible in that frame count too, as released.

    Args:
      masks: segments 1 .. S of that frame.
      frame: 0 for tracks that start in the first frame, -1 for those tracked backward.

    Raises:
      ValueError: masks of another size than the trajectories.
    """
    if masks.shape[1:] != tuple(trajectories.size_hw):
        raise ValueError(
            f"masks are {masks.shape[1:]}, the trajectories are of {trajectories.size_hw}: resize "
            "the masks"
        )
    segment = segments_at(trajectories.tracks[:, frame], masks)
    return trajectories.replace(segment=segment, segments=len(masks))
