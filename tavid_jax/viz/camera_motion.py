"""How the camera moves, as a picture: its tracks, its speeds over time and what is said of them."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, UInt8
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from tavid_jax.tracks.camera_motion import (
    MOTIONS,
    THRESHOLDS,
    VOCABULARY,
    CameraMotion,
    Thresholds,
    Vocabulary,
)
from tavid_jax.viz import canvas
from tavid_jax.viz.curves import PALETTE, figure_bytes, styled
from tavid_jax.viz.tracks import TrailStyle, draw_whole

_UNITS = {"pan": "diagonals/s", "tilt": "diagonals/s", "zoom": "1/s", "roll": "rad/s"}
_BANDS = (0.08, 0.17, 0.28)  # opacity of slow, medium, fast
_FADE = 0.25  # of the frame under its tracks
_THIN = TrailStyle(head_width=1.6, tail_width=0.8, head_radius=2.0)


def frame_with_tracks(
    tracks: Float[np.ndarray, "N T 2"],
    visibility: Bool[np.ndarray, "N T"],
    size_hw: tuple[int, int],
    frame: UInt8[np.ndarray, "H W 3"] | None = None,
) -> UInt8[np.ndarray, "H W 3"]:
    """The first frame of `size_hw` (None: white) under the whole of every visible track."""
    ground = canvas.white(size_hw) if frame is None else canvas.blend_white(frame, _FADE)
    return draw_whole(ground, tracks, visibility, style=_THIN)


@styled
def camera_figure(
    picture: UInt8[np.ndarray, "H W 3"],
    motion: CameraMotion,
    phrase: str,
    name: str = "",
    thresholds: Thresholds = THRESHOLDS,
    vocabulary: Vocabulary = VOCABULARY,
) -> bytes:
    """PNG: the picture at the left, speeds over time at the right, the sentence as title.

    Bands are slow, medium and fast; between them, white, a motion is not said. A dashed line is the
    median over the clip, which decides.

    Args:
      picture: see `frame_with_tracks`.
      motion: to draw.
      phrase: what is said of it.
      name: of the clip.
    """
    figure = Figure((13.2, 7.2), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subfigures(1, 2, width_ratios=[1, 1.05])
    axis = left.subplots()
    axis.imshow(picture)
    axis.set_axis_off()
    axis.set_anchor("N")
    axis.set_title(f"{name}\n{_facts(motion, thresholds)}", fontsize=9.5)
    axes = right.subplots(len(MOTIONS) + 1, sharex=True)
    for index, (kind, axis) in enumerate(zip(MOTIONS, axes[:-1], strict=True)):
        _draw_rate(axis, kind, motion, thresholds, vocabulary, PALETTE[index])
    _draw_shake(axes[-1], motion, thresholds)
    axes[-1].set_xlabel("seconds")
    figure.suptitle(phrase or "(nothing can be told of the camera)", x=0.01, ha="left", fontsize=14)
    return figure_bytes(figure, "png")


def _facts(motion: CameraMotion, thresholds: Thresholds) -> str:
    known = motion.inliers[np.isfinite(motion.inliers)]
    inliers = f"{np.median(known):.0%}" if len(known) else "-"
    return (
        f"{motion.reliable:.0%} of {len(motion.seconds)} pairs of frames are reliable "
        f"(at least {thresholds.reliable:.0%} needed)\n{inliers} of points move with the background"
    )


def _draw_rate(
    axis: Axes,
    kind: str,
    motion: CameraMotion,
    thresholds: Thresholds,
    vocabulary: Vocabulary,
    colour: str,
) -> None:
    rate, speeds = getattr(motion, kind), thresholds.of(kind)
    limit = _limit(rate.series, speeds[0])
    for low, high, opacity in zip(speeds, (*speeds[1:], np.inf), _BANDS, strict=True):
        for sign in (-1, 1):
            edges = sign * min(low, limit), sign * min(high, limit)
            axis.axhspan(*edges, color=colour, alpha=opacity, linewidth=0)
    axis.plot(motion.seconds, rate.series, color=colour, linewidth=1.5)
    if np.isfinite(rate.value):
        axis.axhline(rate.value, color=colour, linewidth=1.2, linestyle=(0, (4, 3)))
    backward, forward = getattr(vocabulary, kind)
    axis.set_ylim(-limit, limit)
    axis.set_ylabel(_UNITS[kind], fontsize=8)
    axis.set_title(
        f"{kind}  {rate.value:+.3f}   consistency {rate.consistency:.2f}   "
        f"(above: {forward}, below: {backward})",
        fontsize=9,
    )


def _draw_shake(axis: Axes, motion: CameraMotion, thresholds: Thresholds) -> None:
    colour = PALETTE[len(MOTIONS)]
    limit = _limit(motion.shakes, thresholds.shake)
    axis.axhspan(min(thresholds.shake, limit), limit, color=colour, alpha=_BANDS[1], linewidth=0)
    axis.plot(motion.shake_seconds, motion.shakes, color=colour, linewidth=1.0)
    if np.isfinite(motion.shake):
        axis.axhline(motion.shake, color=colour, linewidth=1.2, linestyle=(0, (4, 3)))
    axis.set_ylim(0, limit)
    axis.set_ylabel(_UNITS["pan"], fontsize=8)
    axis.set_title(f"shake  {motion.shake:.3f}  (root mean square)", fontsize=9)


def _limit(series: Float[np.ndarray, " n"], threshold: float) -> float:
    """Height of a plot: of nearly all values, and never less than shows the first band."""
    known = np.abs(series[np.isfinite(series)])
    return max(1.25 * float(np.percentile(known, 99)) if len(known) else 0.0, 1.6 * threshold)
