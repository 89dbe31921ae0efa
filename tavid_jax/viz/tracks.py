"""Trajectories with fading trails, drawn over frames.

The look is the one of TrajLoom's benchmark renderer: a trail of 27 frames whose line thins from 3
to 1.2 px and fades with age, a dot at its head, turbo colours by the point's initial height.
"""

import dataclasses
import math

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

_FRACTION_BITS = 4  # OpenCV draws at 1/16 px
_GREY = np.array([120.0, 126.0, 138.0], np.float32)


@dataclasses.dataclass(frozen=True)
class TrailStyle:
    """How a trail looks; widths and radii in output px.

    At relative youth u = 1 - age / (trail - 1) a segment has width
    tail_width + (head_width - tail_width) * u**1.6 and opacity 0.2 + 0.7 * u**0.8.
    """

    trail: int = 27  # frames that a trail reaches back, the current one included
    head_width: float = 3.0
    tail_width: float = 1.2
    head_radius: float = 2.0
    lighten: float = 0.08  # mix of white into every colour
    scale: int = 2  # drawn this many times larger, then averaged down

    def __post_init__(self):
        if self.trail < 1 or self.scale < 1:
            raise ValueError(
                f"TrailStyle needs trail >= 1 and scale >= 1, got {self.trail}, {self.scale}"
            )

    def segment(self, age: int) -> tuple[float, float]:
        """(width in px, opacity) of the segment that ended `age` frames ago."""
        youth = max(0.0, 1.0 - age / max(self.trail - 1, 1))
        width = self.tail_width + (self.head_width - self.tail_width) * youth**1.6
        return width, 0.2 + 0.7 * youth**0.8


def track_colors(
    points: Float[np.ndarray, "N 2"], size_hw: tuple[int, int], mode: str = "y"
) -> UInt8[np.ndarray, "N 3"]:
    """One RGB colour per point by its initial place (px, xy).

    mode "y": turbo by height; "x": turbo from left to right; "xy_hsv": hue by x, brightness by y.
    Non-finite places take the colour of 0.
    """
    height, width = size_hw
    span = np.array([max(width - 1, 1), max(height - 1, 1)], np.float32)
    unit = np.clip(np.nan_to_num(points, posinf=0.0, neginf=0.0) / span, 0.0, 1.0)
    if mode == "xy_hsv":
        hsv = np.full((len(points), 1, 3), 255, np.uint8)
        hsv[:, 0, 0] = np.round(179 * unit[:, 0])
        hsv[:, 0, 2] = np.round(128 + 127 * unit[:, 1])
        return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB).reshape(-1, 3)
    if mode not in ("x", "y"):
        raise ValueError(f"unknown colour mode {mode!r}: use 'y', 'x' or 'xy_hsv'")
    level = np.round(255 * unit[:, 0 if mode == "x" else 1]).astype(np.uint8)
    bgr = cv2.applyColorMap(level.reshape(-1, 1), cv2.COLORMAP_TURBO)
    return np.ascontiguousarray(bgr.reshape(-1, 3)[:, ::-1])


def first_places(
    tracks: Float[np.ndarray, "N T 2"], visibility: Bool[np.ndarray, "N T"]
) -> Float[np.ndarray, "N 2"]:
    """Where each point is first drawn (px): its first visible finite place, else its first one."""
    shown = drawable(tracks, visibility)
    return tracks[np.arange(len(tracks)), shown.argmax(axis=1)]


def drawable(
    tracks: Float[np.ndarray, "N T 2"], visibility: Bool[np.ndarray, "N T"]
) -> Bool[np.ndarray, "N T"]:
    """Visible and finite."""
    return visibility & np.isfinite(tracks).all(axis=-1)


def subset(count: int, most: int | None) -> Int[np.ndarray, " n"]:
    """Indices of at most `most` of `count` points, spread evenly."""
    if most is None or count <= most:
        return np.arange(count)
    return np.unique(np.round(np.linspace(0, count - 1, most)).astype(int))


def draw_trails(
    backgrounds: UInt8[np.ndarray, "*B H W 3"],
    tracks: Float[np.ndarray, "N T 2"],
    visibility: Bool[np.ndarray, "N T"],
    *,
    size_hw: tuple[int, int] | None = None,
    colors: str | UInt8[np.ndarray, "M 3"] = "y",
    style: TrailStyle | None = None,
    start: int = 0,
    grey_before: int = 0,
) -> UInt8[np.ndarray, "F H W 3"]:
    """Draw tracks with trails: one picture for each of the frames start..T-1.

    Args:
      backgrounds: one picture for all frames (H W 3) or one per drawn frame (T-start H W 3).
      tracks: px xy of a frame of `size_hw`, pixel centres at integers; any value may be non-finite.
      visibility: a segment is drawn only where both ends are visible and finite.
      size_hw: frame size that the tracks refer to; default: the backgrounds' own size. Backgrounds
        of another size are drawn upon at their own resolution, so enlarge them first.
      colors: a mode of `track_colors` or one RGB per point.
      start: first drawn frame; earlier ones still leave their trail.
      grey_before: what happened before this frame is drawn in grey (the known past of a forecast).

    Raises:
      ValueError: when the number of backgrounds or of colours does not fit.
    """
    style = style or TrailStyle()
    count, frames = tracks.shape[:2]
    height, width = backgrounds.shape[-3:-1]
    source = size_hw or (height, width)
    if backgrounds.ndim == 3:
        backgrounds = np.broadcast_to(backgrounds, (frames - start, *backgrounds.shape))
    if len(backgrounds) != frames - start:
        raise ValueError(
            f"{len(backgrounds)} backgrounds for frames {start}..{frames - 1} of the tracks: "
            "give one per drawn frame, or a single picture"
        )
    if isinstance(colors, str):
        colors = track_colors(first_places(tracks, visibility), source, colors)
    if len(colors) != count:
        raise ValueError(f"{len(colors)} colours for {count} tracks")
    shown = drawable(tracks, visibility)
    zoom = (width / source[1], height / source[0])
    painter = _Painter(
        places=_fixed_point(tracks, zoom, style.scale),
        shown=shown,
        colors=colors.astype(np.float32) * (1 - style.lighten) + 255.0 * style.lighten,
        style=style,
        grey_before=grey_before,
    )
    out = np.empty((frames - start, height, width, 3), np.uint8)
    for i, t in enumerate(range(start, frames)):
        layer = painter.layer(t, (height * style.scale, width * style.scale))
        out[i] = _compose(backgrounds[i], _shrink(layer, (height, width)))
    return out


def draw_whole(
    background: UInt8[np.ndarray, "H W 3"],
    tracks: Float[np.ndarray, "N T 2"],
    visibility: Bool[np.ndarray, "N T"],
    *,
    size_hw: tuple[int, int] | None = None,
    colors: str | UInt8[np.ndarray, "N 3"] = "y",
    style: TrailStyle | None = None,
) -> UInt8[np.ndarray, "H W 3"]:
    """One still with the whole of every track, its end drawn strongest."""
    style = dataclasses.replace(style or TrailStyle(), trail=max(tracks.shape[1], 1))
    last = tracks.shape[1] - 1
    return draw_trails(
        background, tracks, visibility, size_hw=size_hw, colors=colors, style=style, start=last
    )[0]


def _fixed_point(
    tracks: Float[np.ndarray, "N T 2"], zoom: tuple[float, float], scale: int
) -> Int[np.ndarray, "N T 2"]:
    """Places on the enlarged canvas in 1/16 px. Pixel centre x lies at x + 1/2 of the frame."""
    factor = np.array(zoom, np.float64) * scale
    places = (np.nan_to_num(tracks, posinf=0.0, neginf=0.0) + 0.5) * factor - 0.5
    # Far outside the canvas OpenCV's integers overflow; such ends are beyond anything visible.
    return np.round(np.clip(places, -2e4, 2e4) * (1 << _FRACTION_BITS)).astype(np.int32)


@dataclasses.dataclass(frozen=True)
class _Painter:
    """Draws the trails of one frame into a layer of premultiplied RGBA.

    OpenCV blends an anti-aliased edge as (1 - coverage) * old + coverage * new on all four
    channels: on premultiplied colours that is exactly "the newer segment covers the older".
    """

    places: np.ndarray
    shown: np.ndarray
    colors: np.ndarray
    style: TrailStyle
    grey_before: int

    def layer(self, t: int, size_hw: tuple[int, int]) -> np.ndarray:
        canvas = np.zeros((*size_hw, 4), np.uint8)
        for age in range(min(self.style.trail - 1, t) - 1, -1, -1):
            self._segments(canvas, t - age, age)
        radius = self.style.head_radius * self.style.scale
        paint = self._paint(t, 1.0)
        for n in np.flatnonzero(self.shown[:, t]) if radius > 0 else ():
            centre = self.places[n, t].tolist()
            fixed = math.ceil(radius * (1 << _FRACTION_BITS))
            cv2.circle(canvas, centre, fixed, paint[n], -1, cv2.LINE_AA, _FRACTION_BITS)
        return canvas

    def _segments(self, canvas: np.ndarray, end: int, age: int) -> None:
        width, opacity = self.style.segment(age)
        thickness = max(1, round(width * self.style.scale))
        paint = self._paint(end, opacity)
        both = self.shown[:, end] & self.shown[:, end - 1]
        both &= (self.places[:, end] != self.places[:, end - 1]).any(axis=-1)
        chosen = np.flatnonzero(both)
        begins, ends = self.places[chosen, end - 1].tolist(), self.places[chosen, end].tolist()
        for n, a, b in zip(chosen, begins, ends, strict=True):
            cv2.line(canvas, a, b, paint[n], thickness, cv2.LINE_AA, _FRACTION_BITS)

    def _paint(self, end: int, opacity: float) -> list[list[float]]:
        """Premultiplied RGBA of every point's segment that ends at frame `end`."""
        known = end < self.grey_before
        colors = np.broadcast_to(_GREY, self.colors.shape) if known else self.colors
        opacity = opacity * (0.6 if known else 1.0)
        rgba = np.concatenate([colors, np.full((len(colors), 1), 255.0, np.float32)], axis=1)
        return np.round(rgba * opacity).tolist()


def _compose(background: np.ndarray, layer: np.ndarray) -> np.ndarray:
    """Premultiplied RGBA over RGB."""
    rest = 255 - layer[..., 3:].astype(np.uint16)
    under = (background.astype(np.uint16) * rest + 127) // 255
    return np.minimum(under + layer[..., :3], 255).astype(np.uint8)


def _shrink(layer: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    height, width = size_hw
    return cv2.resize(layer, (width, height), interpolation=cv2.INTER_AREA)
