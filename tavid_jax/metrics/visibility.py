"""How well visibility is predicted: accuracy, and precision, recall and F1 of "visible"."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Bool

from tavid_jax.metrics import result


def visibility_scores(
    prediction: Bool[np.ndarray, "C N T"],
    truth: Bool[np.ndarray, "C N T"],
    valid: Bool[np.ndarray, "C N T"] | None = None,
) -> dict[str, Any]:
    """Scores of predicted visibility over all samples of C clips.

    Args:
      prediction, truth: True where visible (threshold probabilities before).
      valid: samples that count; None: all.

    Returns:
      Record with `accuracy`, `precision`, `recall`, `f1` (micro averages, "visible" is the
      positive class), `base_rate` (share of visible samples: the accuracy of always saying
      "visible"), `accuracy_per_clip` and `f1_per_clip` (C values each), `n` samples. A ratio
      without a case, such as the precision when nothing is predicted visible, is NaN.
    """
    result.check_shapes(truth.shape, prediction=prediction, valid=valid)
    counted = np.ones(truth.shape, bool) if valid is None else valid
    cases = {
        "hit": prediction & truth,
        "false_alarm": prediction & ~truth,
        "miss": ~prediction & truth,
        "rejection": ~prediction & ~truth,
    }
    counts = {name: (case & counted).sum(axis=(1, 2)) for name, case in cases.items()}
    totals = {name: count.sum() for name, count in counts.items()}
    per_clip = _scores(**counts)
    return result.record(
        {name: float(value) for name, value in _scores(**totals).items()}
        | {f"{name}_per_clip": per_clip[name] for name in ("accuracy", "f1")},
        n=counted.sum(),
        clips=len(truth),
        masked=valid is not None,
    )


def _scores(
    hit: result.Number,
    false_alarm: result.Number,
    miss: result.Number,
    rejection: result.Number,
) -> dict[str, np.ndarray]:
    count = hit + false_alarm + miss + rejection
    return {
        "accuracy": result.ratio(hit + rejection, count),
        "precision": result.ratio(hit, hit + false_alarm),
        "recall": result.ratio(hit, hit + miss),
        "f1": result.ratio(2 * hit, 2 * hit + false_alarm + miss),
        "base_rate": result.ratio(hit + miss, count),
    }
