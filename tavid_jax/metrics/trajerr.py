"""TrajErr: how far the points of a generated video lie from the trajectories that it was given.

FlexTraj reports it without publishing code. This is our definition, chosen so that the magnitudes
fit and named in the settings of every result; it is not comparable to the digit. A point counts in
the frames in which it was given and visible, behind the frame in which the tracker was told where
it is. Whether the tracker still sees it there does not matter, else a lost object would be
rewarded; how often it does is reported beside.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from jaxtyping import Bool, Float, Int

from tavid_jax.metrics import result
from tavid_jax.metrics.forecast import point_errors

# "wh" divides x by the width and y by the height, "diag" both by the diagonal.
Norm = Literal["wh", "diag", "pixels"]
THRESHOLDS = (2.0, 4.0, 8.0, 16.0)  # px, of PCK


class ErrorSums(NamedTuple):
    """What one clip adds to TrajErr; our definition.

    Attributes:
      totals: norm -> sum of the errors of all counted samples.
      count: counted samples.
      within: threshold in px -> counted samples that are nearer than that.
      seen: counted samples in which the predicted point is visible; None if that is unknown.
    """

    totals: dict[str, float]
    count: int
    within: dict[float, int]
    seen: int | None


def query_frames(visibility: Bool[np.ndarray, "N T"]) -> Int[np.ndarray, " N"]:
    """The first frame in which each point is given and visible: where a tracker starts.

    -1: never.
    """
    return np.where(visibility.any(axis=1), visibility.argmax(axis=1), -1)


def counted_samples(
    visibility: Bool[np.ndarray, "N T"],
    conditioned: Bool[np.ndarray, " T"] | Bool[np.ndarray, "N T"] | None = None,
) -> Bool[np.ndarray, "N T"]:
    """Samples that count: given, visible, and behind the point's query frame; our definition.

    Args:
      visibility: of the reference.
      conditioned: frames (or samples) that were given to the model; None: all.
    """
    given = visibility if conditioned is None else visibility & conditioned
    return given & (np.arange(visibility.shape[1]) > query_frames(given)[:, None])


def stand_still(
    truth: Float[np.ndarray, "N T 2"], query: Int[np.ndarray, " N"]
) -> Float[np.ndarray, "N T 2"]:
    """The zero-motion baseline: every point stays where it is in its query frame.

    Args:
      truth: px.
      query: frames; of a point without one (-1), which counts nowhere, frame 0 is taken.
    """
    places = truth[np.arange(len(truth)), np.maximum(query, 0)]
    return np.broadcast_to(places[:, None], truth.shape).copy()


def clip_error(
    prediction: Float[np.ndarray, "N T 2"],
    truth: Float[np.ndarray, "N T 2"],
    counted: Bool[np.ndarray, "N T"],
    size_hw: tuple[int, int],
    *,
    seen: Bool[np.ndarray, "N T"] | None = None,
    thresholds: Sequence[float | int] = THRESHOLDS,
) -> ErrorSums:
    """One clip's part of TrajErr; our definition.

    Args:
      prediction: tracks of the generated video, px (x, y). NaN where it counts makes the clip NaN.
      truth: the given trajectories, in the same px.
      counted: see `counted_samples`.
      size_hw: of the frame that the px refer to.
      seen: where the tracker says that the predicted point is visible.
      thresholds: px of PCK; nearer is right, as near is not.

    Raises:
      ValueError: shapes that differ.
    """
    result.check_shapes(truth.shape[:2], counted=counted, seen=seen)
    height, width = size_hw
    pixels = point_errors(prediction, truth)[counted]
    shares = np.array([width, height], np.float64)
    totals = {
        "wh": point_errors(prediction / shares, truth / shares)[counted].sum(),
        "diag": pixels.sum() / np.hypot(height, width),
        "pixels": pixels.sum(),
    }
    return ErrorSums(
        {norm: float(total) for norm, total in totals.items()},
        int(counted.sum()),
        {float(limit): int((pixels < limit).sum()) for limit in thresholds},
        None if seen is None else int((seen & counted).sum()),
    )


def trajectory_error(clips: Sequence[ErrorSums], *, norm: Norm = "wh") -> dict[str, Any]:
    """TrajErr of a data set: the mean over its clips, all of the same weight; our definition.

    Args:
      clips: see `clip_error`.
      norm: of the error.

    Returns:
      Record with `trajectory_error`, `per_clip` (NaN where nothing counts), `pooled` (norm -> mean
      over all samples of all clips), `pck` (threshold in px -> share of all samples), `seen` (share
      of all samples in which the tracker sees the point, NaN if unknown), `n` clips that count.
    """
    counts = np.array([clip.count for clip in clips], np.float64)
    per_clip = result.ratio(np.array([clip.totals[norm] for clip in clips], np.float64), counts)
    told = [clip for clip in clips if clip.seen is not None]
    samples = counts.sum()
    limits = clips[0].within if clips else {}
    return result.record(
        {
            "trajectory_error": _mean(per_clip[counts > 0]),
            "per_clip": per_clip,
            "pooled": {
                name: float(result.ratio(sum(clip.totals[name] for clip in clips), samples))
                for name in get_args(Norm)
            },
            "pck": {
                f"{limit:g}": float(result.ratio(sum(c.within[limit] for c in clips), samples))
                for limit in limits
            },
            "seen": float(result.ratio(sum(c.seen for c in told), sum(c.count for c in told))),
        },
        n=int((counts > 0).sum()),
        norm=norm,
        samples=int(samples),
        definition="tavid_jax",
    )


def _mean(values: Float[np.ndarray, " C"]) -> float:
    """NaN of an empty set, and of a set with NaN."""
    return float(values.mean()) if len(values) else float("nan")
