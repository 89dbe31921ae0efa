"""Displacement errors of forecast tracks: ADE, FDE, best and mean of K samples, by group.

Every function gives one value per clip (C of them), so that clips can be resampled by
`metrics.bootstrap`. Errors are Euclidean distances in pixels; within a clip each visible sample
(point and frame) has the same weight; a clip without a visible sample is NaN. So is a clip whose
prediction is NaN where the truth is visible: a broken forecast is not left out of its mean.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from tavid_jax.metrics import result


def point_errors(
    prediction: Float[np.ndarray, "*D N T 2"], truth: Float[np.ndarray, "... 2"]
) -> Float[np.ndarray, "*D N T"]:
    """Distance in pixels between prediction and truth, float64; NaN where both are infinite.

    Raises:
      ValueError: the shapes differ.
    """
    result.check_shapes(truth.shape, prediction=prediction)
    with np.errstate(invalid="ignore"):
        difference = prediction.astype(np.float64) - truth
    return np.sqrt(np.square(difference).sum(axis=-1))


def ade(
    prediction: Float[np.ndarray, "C N T 2"],
    truth: Float[np.ndarray, "C N T 2"],
    visibility: Bool[np.ndarray, "C N T"],
) -> Float[np.ndarray, "C"]:
    """Average displacement error per clip: mean over its visible points and frames."""
    return result.masked_mean(point_errors(prediction, truth), visibility, axis=(1, 2))


def fde(
    prediction: Float[np.ndarray, "C N T 2"],
    truth: Float[np.ndarray, "C N T 2"],
    visibility: Bool[np.ndarray, "C N T"],
) -> Float[np.ndarray, "C"]:
    """Final displacement error per clip: mean over the points visible in the last frame."""
    return ade(prediction[:, :, -1:], truth[:, :, -1:], visibility[:, :, -1:])


def endpoint_error(
    prediction: Float[np.ndarray, "C N T 2"],
    truth: Float[np.ndarray, "C N T 2"],
    visibility: Bool[np.ndarray, "C N T"],
) -> Float[np.ndarray, "C"]:
    """Mean error at the last frame in which each point is visible.

    Unlike FDE it counts a point that leaves the frame or is covered at the end; points which are
    never visible do not count.
    """
    last = last_visible(visibility)
    errors = np.take_along_axis(point_errors(prediction, truth), last[..., None], axis=2)[..., 0]
    return result.masked_mean(errors, visibility.any(axis=2), axis=1)


def last_visible(visibility: Bool[np.ndarray, "C N T"]) -> Int[np.ndarray, "C N"]:
    """Index of each point's last visible frame; T - 1 for a point that is never visible."""
    return visibility.shape[2] - 1 - np.argmax(visibility[:, :, ::-1], axis=2)


def best_of_k(
    samples: Float[np.ndarray, "K C N T 2"],
    truth: Float[np.ndarray, "C N T 2"],
    visibility: Bool[np.ndarray, "C N T"],
    *,
    at: Literal["all", "last"] = "all",
    choose: Literal["joint", "marginal"] = "joint",
) -> Float[np.ndarray, "C"]:
    """Error per clip of the best of K samples (minADE_K, minFDE_K).

    Args:
      samples: K forecasts of each clip.
      at: "all" frames (ADE) or the "last" one (FDE).
      choose: "joint" takes one sample per clip, "marginal" one per point (never larger).
    """
    sums, weights = _sums_of_samples(samples, truth, visibility, at)
    if choose == "marginal":
        return result.ratio(sums.min(axis=0).sum(axis=1), weights.sum(axis=1))
    return result.ratio(sums.sum(axis=2).min(axis=0), weights.sum(axis=1))


def mean_of_k(
    samples: Float[np.ndarray, "K C N T 2"],
    truth: Float[np.ndarray, "C N T 2"],
    visibility: Bool[np.ndarray, "C N T"],
    *,
    at: Literal["all", "last"] = "all",
) -> Float[np.ndarray, "C"]:
    """Mean over K samples of their errors: the error to expect of a single sample."""
    sums, weights = _sums_of_samples(samples, truth, visibility, at)
    return result.ratio(sums.sum(axis=2).mean(axis=0), weights.sum(axis=1))


def error_of_mean(
    samples: Float[np.ndarray, "K C N T 2"],
    truth: Float[np.ndarray, "C N T 2"],
    visibility: Bool[np.ndarray, "C N T"],
    *,
    at: Literal["all", "last"] = "all",
) -> Float[np.ndarray, "C"]:
    """Error of the mean of K samples: a best guess, which no sample need resemble."""
    error: Callable = ade if at == "all" else fde
    return error(samples.mean(axis=0, dtype=np.float64), truth, visibility)


def _sums_of_samples(
    samples: np.ndarray, truth: np.ndarray, visibility: np.ndarray, at: Literal["all", "last"]
) -> tuple[np.ndarray, np.ndarray]:
    """(K, C, N) sums of errors over a point's visible frames, and (C, N) counts of these."""
    if at == "last":
        samples, truth, visibility = samples[..., -1:, :], truth[..., -1:, :], visibility[..., -1:]
    sums = [np.where(visibility, point_errors(s, truth), 0).sum(axis=-1) for s in samples]
    return np.stack(sums), visibility.sum(axis=-1)


def by_group(
    prediction: Float[np.ndarray, "C N T 2"],
    truth: Float[np.ndarray, "C N T 2"],
    visibility: Bool[np.ndarray, "C N T"],
    labels: np.ndarray,
) -> dict[str, Float[np.ndarray, "C"]]:
    """ADE per clip and group of points, e.g. by kind of motion.

    Args:
      labels: (C, N) strings, integers or bools: the group of each point.

    Returns:
      Label (as a string, sorted) -> ADE per clip; NaN in clips without a visible point of it.

    Raises:
      ValueError: labels are not of shape (C, N).
    """
    result.check_shapes(truth.shape[:2], labels=labels)
    errors = point_errors(prediction, truth)
    return {
        str(label): result.masked_mean(
            errors, visibility & (labels == label)[..., None], axis=(1, 2)
        )
        for label in np.unique(labels)
    }


def moving_points(
    truth: Float[np.ndarray, "C N T 2"],
    visibility: Bool[np.ndarray, "C N T"],
    threshold: float | int = 1.0,
) -> Bool[np.ndarray, "C N"]:
    """Points whose visible positions spread over more than `threshold` pixels in x or in y."""
    seen = visibility[..., None]
    high = np.where(seen, truth, -np.inf).max(axis=2)
    low = np.where(seen, truth, np.inf).min(axis=2)
    return (high - low > threshold).any(axis=-1)  # never visible: -inf, hence not moving
