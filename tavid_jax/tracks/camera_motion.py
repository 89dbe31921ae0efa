"""How the camera moves, told from tracks, and the sentence that says so.

TrajLoom appends such sentences to its captions (appendix E.2: a robust global translation is pan
and tilt, the radial and tangential parts of the rest are zoom and roll, what jitters is shake; a
small vocabulary with coarse buckets of speed). The paper gives no constants and its code has no
such part, so every number here is ours.

Content that moves left means that the camera pans right, content that moves down that it tilts up,
content that grows that it zooms in (or moves forward: two dimensions cannot tell), content that
turns clockwise on the screen that the camera rolls counter-clockwise. Speeds of pan, tilt and shake
are diagonals of the frame per second, those of zoom 1/s (of the logarithm of size), of roll rad/s.
"""

from __future__ import annotations

import dataclasses
import math
import re

import numpy as np
from jaxtyping import Bool, Complex, Float, Num

_FARTHEST = 10  # diagonals
_SPREAD = 1.4826  # standard deviations per median absolute deviation of one Gaussian number
_GOLDEN = (math.sqrt(5) - 1) / 2  # its multiples, modulo 1, lie evenly
_SPREAD_2D = 1 / math.sqrt(2 * math.log(2))  # the same for the length of a Gaussian vector


@dataclasses.dataclass(frozen=True)
class Fitting:
    """How motion is read from tracks. [ours: the paper has no constants]

    Attributes:
      gap_seconds: time between the two frames of a pair: short enough that most points stay in
        view, long enough that a slow motion exceeds the tracker's noise.
      least_points: a pair needs as many points, visible in both frames.
      starts: similarities of two points each that are tried to begin with, besides the median
        shift: without them a zoom behind a large foreground is missed.
      probes: points that those are judged by.
      steps: rounds of reweighting.
      tukey: residual at which a point's weight reaches 0, in standard deviations; 4.685 is Tukey's
        constant for 95 % efficiency.
      noise_px: the standard deviation is never taken for less.
      inlier_px, inlier_medians, inlier_diagonals: a point belongs to the background if its residual
        is below the larger of `inlier_px` and `inlier_medians` median residuals, the latter at most
        `inlier_diagonals` of the frame (without this limit, half of the points always belong).
      least_inliers: a pair with a smaller share of such points is unreliable.
      steady_seconds: shake is the difference to the moving average over this time.
    """

    gap_seconds: float = 1 / 8
    least_points: int = 16
    starts: int = 16
    probes: int = 96
    steps: int = 10
    tukey: float = 4.685
    noise_px: float = 0.1
    inlier_px: float = 1.0
    inlier_medians: float = 2.5
    inlier_diagonals: float = 0.01
    least_inliers: float = 0.35
    steady_seconds: float = 0.5


@dataclasses.dataclass(frozen=True)
class Thresholds:
    """What is said of which motion. [ours: the paper has no constants]

    Attributes:
      pan, zoom, roll: speeds from which on a motion is slow, medium, fast; below it is not said.
        `pan` is that of tilt too.
      shake: from here on a camera that does nothing else is handheld.
      consistency: a motion is said only above it, see `Rate`.
      reliable: nothing is said of a clip with a smaller share of reliable pairs.
      most: motions said of one clip.
    """

    pan: tuple[float, float, float] = (0.010, 0.04, 0.12)
    zoom: tuple[float, float, float] = (0.03, 0.10, 0.30)
    roll: tuple[float, float, float] = (0.03, 0.10, 0.30)
    shake: float = 0.02
    consistency: float = 0.5
    reliable: float = 0.25
    most: int = 2

    def of(self, name: str) -> tuple[float, float, float]:
        """The three speeds of "pan", "tilt", "zoom" or "roll"."""
        return self.pan if name == "tilt" else getattr(self, name)


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """The words. `data.augment` turns directions round when clips are mirrored or reversed.

    Attributes:
      speeds: adverbs of slow, medium, fast.
      pan, tilt, zoom, roll: verbs of a negative and of a positive rate.
      static, handheld: sentences of a camera that does none of these.
    """

    speeds: tuple[str, str, str] = ("slowly", "steadily", "quickly")
    pan: tuple[str, str] = ("pans left", "pans right")
    tilt: tuple[str, str] = ("tilts down", "tilts up")
    zoom: tuple[str, str] = ("zooms out", "zooms in")
    roll: tuple[str, str] = ("rolls counter-clockwise", "rolls clockwise")
    static: str = "The camera is static."
    handheld: str = "The camera is handheld with slight shake."


MOTIONS = ("pan", "tilt", "zoom", "roll")
FITTING, THRESHOLDS, VOCABULARY = Fitting(), Thresholds(), Vocabulary()


@dataclasses.dataclass(frozen=True, eq=False)
class Rate:
    """One kind of motion over a clip.

    Attributes:
      value: median over reliable pairs, NaN without one.
      typical: median of the absolute value: large beside a small `value` where a motion turns back.
      consistency: |median| / (|median| + 1.4826 MAD), 0 to 1.
      series: of every pair, NaN where it is unreliable.
    """

    value: float
    typical: float
    consistency: float
    series: Float[np.ndarray, " P"]


@dataclasses.dataclass(frozen=True, eq=False)
class CameraMotion:
    """What the camera does over a clip. P pairs of frames, F frame-to-frame steps.

    Attributes:
      pan: diagonals/s, positive to the right.
      tilt: diagonals/s, positive up.
      zoom: 1/s, positive in.
      roll: rad/s, positive clockwise.
      shake: root mean square of `shakes`, diagonals/s; NaN without a reliable step.
      reliable: share of pairs that are reliable.
      inliers: share of every pair's points that move with the background; NaN with too few points.
      seconds: middle of each pair.
      shakes: speed of every step beyond the moving average, NaN where it is unreliable.
      shake_seconds: middle of each step.
    """

    pan: Rate
    tilt: Rate
    zoom: Rate
    roll: Rate
    shake: float
    reliable: float
    inliers: Float[np.ndarray, " P"]
    seconds: Float[np.ndarray, " P"]
    shakes: Float[np.ndarray, " F"]
    shake_seconds: Float[np.ndarray, " F"]


def estimate(
    tracks: Num[np.ndarray, "N T 2"],
    visibility: Bool[np.ndarray, "N T"],
    size_hw: tuple[int, int],
    fps: float | int,
    fitting: Fitting = FITTING,
) -> CameraMotion:
    """Reads the camera's motion from the dominant motion of tracks.

    Every pair of frames `gap_seconds` apart gets a similarity (shift, zoom and turn about the
    frame's centre) by iteratively reweighted least squares, so that things that move by themselves
    have no weight as long as they hold less than half of the points.

    Args:
      tracks: (x, y) px, pixel centres at integers; points that are not finite, or
        farther than ten diagonals from the frame's centre, count as invisible.
      visibility: which points are seen.
      size_hw: (H, W) of the frame in px.
      fps: frames per second.

    Raises:
      ValueError: a rate that is not positive.
    """
    if not (fps > 0 and math.isfinite(fps)):
        raise ValueError(f"fps must be a positive number, got {fps}")
    diagonal = math.hypot(*size_hw)
    centre = (np.array(size_hw[::-1]) - 1) / 2
    near = np.abs(tracks - centre) < _FARTHEST * diagonal  # which NaN is not
    seen = (visibility & near.all(axis=-1)).T
    places = np.where(seen[..., None], tracks.swapaxes(0, 1) - centre, 0) / diagonal
    places = np.ascontiguousarray(np.moveaxis(places, -1, 0), np.float32)
    gap = max(1, round(fps * fitting.gap_seconds))
    far = _pairs(places, seen, gap, diagonal, fitting)
    near = far if gap == 1 else _pairs(places, seen, 1, diagonal, fitting)
    return _summary(far, near, gap, float(fps), fitting)


def describe(
    motion: CameraMotion,
    thresholds: Thresholds = THRESHOLDS,
    vocabulary: Vocabulary = VOCABULARY,
) -> str:
    """The sentence: at most two motions, the strongest (in multiples of its threshold) first.

    "" where nothing can be told: too few reliable pairs, or a motion that is no steady one, as a
    pan to and fro, of which "static" would be as wrong.
    """
    if not motion.reliable >= thresholds.reliable:
        return ""
    said, unsteady = [], False
    for name in MOTIONS:
        rate, speeds = getattr(motion, name), thresholds.of(name)
        if abs(rate.value) >= speeds[0] and rate.consistency > thresholds.consistency:
            bucket = sum(abs(rate.value) >= speed for speed in speeds) - 1
            verb = getattr(vocabulary, name)[int(rate.value > 0)]
            said.append((abs(rate.value) / speeds[0], vocabulary.speeds[bucket], verb))
        unsteady |= rate.typical >= speeds[0]
    if not said:
        still = "" if unsteady else vocabulary.static
        return vocabulary.handheld if motion.shake > thresholds.shake else still
    said = sorted(said, key=lambda one: -one[0])[: thresholds.most]
    words, before = [], ""
    for _, speed, verb in said:
        words.append(verb if speed == before else f"{speed} {verb}")
        before = speed
    return f"The camera {' and '.join(words)}."


_TOLD = re.compile(
    r"\bcamera (?:\w+ly )*(?:is |stays |remains )?"
    r"(?:static|still|fixed|handheld|pan|tilt|zoom|roll|drift|shak)",
    re.IGNORECASE,
)


def captioned(caption: str, phrase: str) -> str:
    """A caption with the sentence behind it; a full stop between them if there is none.

    A caption that tells what the camera does already is left alone, as by a phrase "".
    """
    caption = caption.strip()
    if not phrase or _TOLD.search(caption):
        return caption
    if not caption:
        return phrase
    return f"{caption if caption[-1] in '.!?' else caption + '.'} {phrase}"


@dataclasses.dataclass(frozen=True, eq=False)
class _Pairs:
    """Fitted pairs of frames: content moves by `shift` + `growth` * place, in diagonals."""

    shift: Complex[np.ndarray, " P"]
    growth: Complex[np.ndarray, " P"]
    inliers: Float[np.ndarray, " P"]
    reliable: Bool[np.ndarray, " P"]


def _pairs(
    places: Float[np.ndarray, "2 T N"],
    seen: Bool[np.ndarray, "T N"],
    gap: int,
    diagonal: float,
    fitting: Fitting,
) -> _Pairs:
    """Similarities between frames t and t + gap."""
    both = seen[:-gap] & seen[gap:]
    usable = both.sum(axis=1) >= fitting.least_points
    shift, growth = np.zeros(len(both), complex), np.zeros(len(both), complex)
    inliers = np.full(len(both), np.nan)
    if usable.any():
        start = places[:, :-gap]
        move = places[:, gap:] - start
        found = _fit(start[:, usable], move[:, usable], both[usable], diagonal, fitting)
        shift[usable], growth[usable], inliers[usable] = found
    return _Pairs(shift, growth, inliers, np.nan_to_num(inliers) >= fitting.least_inliers)


def _fit(
    start: Float[np.ndarray, "2 P N"],
    move: Float[np.ndarray, "2 P N"],
    both: Bool[np.ndarray, "P N"],
    diagonal: float,
    fitting: Fitting,
) -> tuple[Complex[np.ndarray, " P"], Complex[np.ndarray, " P"], Float[np.ndarray, " P"]]:
    """(shift, growth, inliers) of pairs that all have points.

    A vector (x, y) is the number x + iy here, so that zoom and turn are one complex factor. The
    deviation of residuals is measured from 0, not from their median, so that at least half of the
    points keep a weight.
    """
    (x, y), (u, v) = start, move
    shift, growth = _begin(start, move, both, fitting)
    terms = np.stack([np.ones_like(x), x, y, u, v, x * x + y * y, x * u + y * v, x * v - y * u], 1)
    for _ in range(fitting.steps):
        square = _squares(start, move, shift, growth)
        reach = (fitting.tukey * _SPREAD_2D) ** 2 * _median(square, both)
        reach = np.maximum(reach, (fitting.tukey * fitting.noise_px / diagonal) ** 2)
        weight = np.maximum(1 - square / reach[:, None].astype(np.float32), 0)
        weight = weight * weight * both
        before = shift, growth
        shift, growth = _solved((terms @ weight[..., None])[..., 0].astype(np.float64))
        if max(np.abs(shift - before[0]).max(), np.abs(growth - before[1]).max()) < 1e-6:
            break
    square = _squares(start, move, shift, growth)
    reach = np.sqrt(_median(square, both)) * fitting.inlier_medians
    reach = np.minimum(reach, fitting.inlier_diagonals)
    reach = np.maximum(reach, fitting.inlier_px / diagonal)
    inside = (square < reach[:, None] ** 2) & both
    return shift, growth, inside.sum(axis=1) / both.sum(axis=1)


def _begin(
    start: Float[np.ndarray, "2 P N"],
    move: Float[np.ndarray, "2 P N"],
    both: Bool[np.ndarray, "P N"],
    fitting: Fitting,
) -> tuple[Complex[np.ndarray, " P"], Complex[np.ndarray, " P"]]:
    """(shift, growth) to begin with: the median shift alone, or what two points tell if the median
    of squared residuals is smaller with it. Points are told by their rank among the visible ones.
    """
    pair, order = np.arange(len(both))[:, None], np.argsort(~both, axis=1, kind="stable")
    count = both.sum(axis=1, keepdims=True)
    number = np.arange(fitting.starts)
    first = number * _GOLDEN % 1
    second = (first + 0.3 + 0.4 * (number * _GOLDEN**2 % 1)) % 1  # elsewhere in the frame
    probes = (np.arange(fitting.probes) + 0.5) / fitting.probes
    ranks = (np.concatenate([first, second, probes]) * count).astype(int)
    chosen = order[pair, ranks]
    place = start[0][pair, chosen] + 1j * start[1][pair, chosen]
    moved = move[0][pair, chosen] + 1j * move[1][pair, chosen]
    (a, b, place), (c, d, moved) = (
        np.split(part, [fitting.starts, 2 * fitting.starts], axis=1) for part in (place, moved)
    )
    apart = np.abs(b - a) > 1e-2
    growth = np.where(apart, (d - c) / np.where(apart, b - a, 1), 0)
    median = _median(move[0], both) + 1j * _median(move[1], both)
    shift = np.concatenate([median[:, None], c - growth * a], axis=1).astype(np.complex64)
    growth = np.concatenate([np.zeros_like(median)[:, None], growth], axis=1).astype(np.complex64)
    off = moved[:, None] - shift[..., None] - growth[..., None] * place[:, None]
    square = off.real**2 + off.imag**2
    middle = np.partition(square, fitting.probes // 2, axis=-1)[..., fitting.probes // 2]
    best = middle.argmin(axis=1)[:, None]
    return shift[pair, best][:, 0].astype(complex), growth[pair, best][:, 0].astype(complex)


def _solved(
    sums: Float[np.ndarray, "P 8"],
) -> tuple[Complex[np.ndarray, " P"], Complex[np.ndarray, " P"]]:
    """(shift, growth) of least weighted squares from weighted sums of the terms in `_fit`."""
    _, x, y, u, v, square, along, across = (sums / sums[:, :1]).T
    mean, moved = x + 1j * y, u + 1j * v
    extent = np.maximum(square - np.abs(mean) ** 2, 0)
    growth = (along + 1j * across - mean.conj() * moved) / (extent + 1e-6)  # 0 if all in one place
    return moved - growth * mean, growth


def _squares(
    start: Float[np.ndarray, "2 P N"],
    move: Float[np.ndarray, "2 P N"],
    shift: Complex[np.ndarray, " P"],
    growth: Complex[np.ndarray, " P"],
) -> Float[np.ndarray, "P N"]:
    """Squared residuals."""
    (x, y), (u, v) = start, move
    right, down, wider, turned = (
        part.astype(np.float32)[:, None]
        for part in (shift.real, shift.imag, growth.real, growth.imag)
    )
    off_x = u - right - wider * x + turned * y
    off_y = v - down - turned * x - wider * y
    return off_x * off_x + off_y * off_y


def _median(
    values: Float[np.ndarray, "P N"], mask: Bool[np.ndarray, "P N"]
) -> Float[np.ndarray, " P"]:
    """Lower median of each row's values where the mask holds, which it does somewhere."""
    ordered = np.sort(np.where(mask, values, np.float32(np.inf)), axis=1)
    middle = (mask.sum(axis=1) - 1) // 2
    return ordered[np.arange(len(ordered)), middle].astype(np.float64)


def _summary(far: _Pairs, near: _Pairs, gap: int, fps: float, fitting: Fitting) -> CameraMotion:
    """Rates from pairs `gap` frames apart, shake from steps of one frame, which a longer gap would
    smooth away."""
    per_second = fps / gap
    turned = np.log(1 + far.growth)  # exact for a pure turn, which log(1 + zoom) would call a zoom
    shakes = _unsteady(near, fps, fitting)
    known = np.isfinite(shakes)
    return CameraMotion(
        pan=_rate(-far.shift.real * per_second, far.reliable),
        tilt=_rate(far.shift.imag * per_second, far.reliable),
        zoom=_rate(turned.real * per_second, far.reliable),
        roll=_rate(-turned.imag * per_second, far.reliable),
        shake=float(np.sqrt(np.mean(shakes[known] ** 2))) if known.any() else math.nan,
        reliable=float(far.reliable.mean()) if len(far.reliable) else 0.0,
        inliers=far.inliers,
        seconds=(np.arange(len(far.shift)) + gap / 2) / fps,
        shakes=shakes,
        shake_seconds=(np.arange(len(near.shift)) + 0.5) / fps,
    )


def _rate(series: Float[np.ndarray, " P"], reliable: Bool[np.ndarray, " P"]) -> Rate:
    held = series[reliable]
    series = np.where(reliable, series, np.nan)
    if not len(held):
        return Rate(math.nan, math.nan, 0.0, series)
    middle = float(np.median(held))
    spread = _SPREAD * float(np.median(np.abs(held - middle)))
    size = abs(middle) + spread
    typical = float(np.median(np.abs(held)))
    return Rate(middle, typical, abs(middle) / size if size > 0 else 0.0, series)


def _unsteady(near: _Pairs, fps: float, fitting: Fitting) -> Float[np.ndarray, " F"]:
    """Speed of every step beyond the moving average of the reliable ones around it."""
    known = near.reliable.astype(float)
    speed = np.where(near.reliable, near.shift * fps, 0)
    window = np.ones(2 * round(fps * fitting.steady_seconds / 2) + 1)
    if not len(speed):
        return np.zeros(0)
    half = len(window) // 2
    total = np.convolve(speed, window)[half : half + len(speed)]
    count = np.convolve(known, window)[half : half + len(speed)]
    around = total / np.maximum(count, 1)
    return np.where(near.reliable, np.abs(speed - around), np.nan)
