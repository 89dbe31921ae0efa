"""The two videos that tell FlexTraj of points: their ids, and their colours.

Both show the same stamps on black. What differs between the released checkpoints' way of drawing
and others is in `ConditionOptions`, whose defaults are the released ones.
"""

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image

from tavid_jax.tracks import coordinates, stamps
from tavid_jax.tracks.codes import CODES, id_colours
from tavid_jax.tracks.trajectories import Trajectories

COLOURS = ("none", "frame", "point")
DRAWINGS = ("native", "resized")
STAMPS = ("released", "scaled")


@dataclasses.dataclass(frozen=True)
class ConditionOptions:
    """How points become videos.

    Attributes:
      size_hw: (H, W) of the videos; None = that of the trajectories. Trajectories of another size
        are scaled to cover it and cut around the centre.
      drawing: "native" draws at `size_hw`; "resized" draws at `canvas_hw` and resizes the pictures
        (bilinear, antialiased; then cut), which mixes ids at the borders of stamps: the released
        way of Wan.
      canvas_hw: see `drawing`.
      codes: how points are numbered, see `codes.CODES`.
      with_segment: ids tell the segment, see `codes.id_colours`.
      with_point: ids tell the point, see `codes.id_colours`.
      colour: the second video. "none": black; "frame": the video's own pixels under the stamps, in
        every frame anew (released); "point": one colour for each point (the paper's): the
        trajectories' `colour`, or if they have none the video's pixel under the point in the first
        frame that shows it.
      red_above: colours are shown where the id's red exceeds this; 20 for id videos that were
        compressed (released for rendered scenes).
      order: which point is on top, see `stamps.ORDERS`.
      stamp: "released", 6 x 4 or 12 x 8 px by the number of points (`stamps.released_stamp`);
        "scaled", the same part of the picture at any size; or half (width, height) in pixels.
      random_share: share of points that random sparsifying kept; below 0.1 stamps are large.

    Raises:
      ValueError: a value outside of its range, named.
    """

    size_hw: tuple[int, int] | None = None
    drawing: str = "native"
    canvas_hw: tuple[int, int] = stamps.REFERENCE_HW
    codes: str = "released"
    with_segment: bool = True
    with_point: bool = True
    colour: str = "frame"
    red_above: int = 0
    order: str = "released"
    stamp: str | stamps.Half = "released"
    random_share: float | int = 1.0

    def __post_init__(self):
        chosen = {"drawing": DRAWINGS, "codes": CODES, "colour": COLOURS, "order": stamps.ORDERS}
        for name, values in chosen.items():
            if getattr(self, name) not in values:
                _refuse(name, getattr(self, name), f"one of {', '.join(values)}")
        if isinstance(self.stamp, str):
            if self.stamp not in STAMPS:
                _refuse("stamp", self.stamp, f"{', '.join(STAMPS)}, or half (width, height)")
        elif len(self.stamp) != 2 or not all(half > 0 for half in self.stamp):
            _refuse("stamp", self.stamp, "half (width, height) in pixels, both > 0")
        for name in ("size_hw", "canvas_hw"):
            size = getattr(self, name)
            if size is not None and (len(size) != 2 or min(size) < 1):
                _refuse(name, size, "(height, width) in pixels")
        if not 0 <= self.red_above < 255:
            _refuse("red_above", self.red_above, "0 .. 254")
        if not 0 < self.random_share <= 1:
            _refuse("random_share", self.random_share, "above 0 and at most 1")


def condition_videos(
    trajectories: Trajectories,
    video: UInt8[np.ndarray, "T h w 3"] | None,
    options: ConditionOptions = ConditionOptions(),  # noqa: B008 (frozen)
) -> tuple[UInt8[np.ndarray, "T H W 3"], UInt8[np.ndarray, "T H W 3"]]:
    """Draws (ids, colours).

    Args:
      trajectories: the points; those that are not visible in a frame are not drawn there. Without
        segments, all are of one.
      video: frames that the colours come from, of the size that is drawn at (see
        `options.drawing`); None if nothing needs them.

    Raises:
      ValueError: a video that is needed and not there, or of another size or number of frames; what
        `codes.id_colours` and `stamps.owners` refuse.
    """
    size_hw = options.size_hw or trajectories.size_hw
    _check_video(trajectories, video, options)
    how = id_drawing(trajectories, options)
    ids = stamps.draw(**how)
    if options.colour == "frame":
        colours = colours_under(ids, video, options.red_above)
    elif options.colour == "point":
        constant = trajectories.colour
        if constant is None:
            constant = first_seen_colours(how["tracks"], trajectories.visibility, video)
        colours = stamps.draw(**{**how, "colours": constant})
        colours = colours_under(ids, colours, options.red_above)
    else:
        colours = np.zeros_like(ids)
    if options.drawing == "resized":
        ids, colours = resize_and_crop(ids, size_hw), resize_and_crop(colours, size_hw)
    return ids, colours


def id_drawing(
    trajectories: Trajectories,
    options: ConditionOptions = ConditionOptions(),  # noqa: B008 (frozen)
) -> dict[str, Any]:
    """The arguments with which `stamps.draw` and `stamps_device.draw` draw the id video.

    With `options.drawing` "resized" it still has to be resized, see `resize_and_crop`.

    Raises:
      ValueError: see `codes.id_colours`.
    """
    canvas_hw = _canvas(trajectories, options)
    segment, segments = trajectories.segment, trajectories.segments
    if segment is None:
        segment, segments = np.ones(trajectories.num_points, np.int32), 1
    return {
        "tracks": cover(trajectories.tracks, trajectories.size_hw, canvas_hw),
        "visibility": trajectories.visibility,
        "colours": id_colours(
            segment, segments, options.codes, options.with_segment, options.with_point
        ),
        "size_hw": canvas_hw,
        "stamp": _stamp(trajectories, options),
        "depth": trajectories.depth,
        "order": options.order,
    }


def nothing_visible(
    trajectories: Trajectories,
    options: ConditionOptions = ConditionOptions(),  # noqa: B008 (frozen)
) -> bool:
    """Whether no stamp would meet the picture in any frame, so that the points steer nothing."""
    canvas_hw = _canvas(trajectories, options)
    xy = cover(trajectories.tracks, trajectories.size_hw, canvas_hw)
    *_, meets = stamps.boxes(np.moveaxis(xy, -1, 0), canvas_hw, _stamp(trajectories, options))
    return not bool((meets & trajectories.visibility).any())


def colours_under(
    ids: UInt8[np.ndarray, "T H W 3"], video: UInt8[np.ndarray, "T H W 3"], red_above: int = 0
) -> UInt8[np.ndarray, "T H W 3"]:
    """The video where the id video's red exceeds `red_above`, else black.

    Raises:
      ValueError: two videos of different size.
    """
    if ids.shape != video.shape:
        raise ValueError(f"ids {ids.shape} and video {video.shape} differ in size or frames")
    return video * (ids[..., :1] > red_above)


def first_seen_colours(
    tracks: Float[np.ndarray, "N T 2"],
    visibility: Bool[np.ndarray, "N T"],
    video: UInt8[np.ndarray, "T H W 3"],
) -> UInt8[np.ndarray, "N 3"]:
    """The video's pixel under each point in the first frame that shows it; black if none does."""
    first = visibility.argmax(axis=1)
    xy = np.take_along_axis(tracks, first[:, None, None], axis=1)[:, 0]
    column, row = np.clip(np.rint(xy), 0, (video.shape[2] - 1, video.shape[1] - 1)).astype(int).T
    return video[first, row, column] * visibility.any(axis=1)[:, None]


def cover(
    tracks: Float[np.ndarray, "*n 2"], from_hw: tuple[int, int], to_hw: tuple[int, int]
) -> Float[np.ndarray, "*n 2"]:
    """Moves points as `resize_and_crop` moves pixels; the same numbers if sizes are the same."""
    if tuple(from_hw) == tuple(to_hw):
        return tracks
    resized_hw, top_left = _cover(from_hw, to_hw)
    return coordinates.crop(coordinates.resize(tracks, from_hw, resized_hw), top_left)


def resize_and_crop(
    video: UInt8[np.ndarray, "T h w 3"], size_hw: tuple[int, int]
) -> UInt8[np.ndarray, "T H W 3"]:
    """Scales a video to cover (H, W), bilinear and antialiased, and cuts it around the centre."""
    (height, width), (left, top) = _cover(video.shape[1:3], size_hw)
    frames = []
    for frame in video:
        frame = Image.fromarray(frame).resize((width, height), Image.Resampling.BILINEAR)
        frames.append(np.asarray(frame)[top : top + size_hw[0], left : left + size_hw[1]])
    return np.stack(frames)


def _cover(from_hw, to_hw):
    """(size after scaling, (x, y) of the first pixel kept); the roundings are the released ones."""
    scale = max(to / of for to, of in zip(to_hw, from_hw, strict=True))
    height, width = (round(of * scale) for of in from_hw)
    return (height, width), (round((width - to_hw[1]) / 2), round((height - to_hw[0]) / 2))


def _canvas(trajectories, options):
    if options.drawing == "resized":
        return options.canvas_hw
    return options.size_hw or trajectories.size_hw


def _stamp(trajectories, options):
    if not isinstance(options.stamp, str):
        return options.stamp
    stamp = stamps.released_stamp(trajectories.num_points, options.random_share)
    if options.stamp == "scaled":
        return stamps.scaled_stamp(stamp, _canvas(trajectories, options))
    return stamp


def _check_video(trajectories, video, options):
    if video is None:
        if options.colour == "frame" or (options.colour == "point" and trajectories.colour is None):
            raise ValueError(
                f"colour {options.colour!r} is taken from a video, and there is none: give the "
                "video, or choose colour 'none'"
            )
        return
    expected = (trajectories.num_frames, *_canvas(trajectories, options), 3)
    if video.shape != expected:
        raise ValueError(
            f"video is {video.shape}, the points are drawn on {expected} (T, H, W, 3): cut and "
            "resize the video, or take a window of the trajectories"
        )


def _refuse(name, value, allowed):
    raise ValueError(f"condition videos: {name} must be {allowed}, got {value!r}")
