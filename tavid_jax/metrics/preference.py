"""GSB: which of two systems people prefer, as TGT reports it."""

from __future__ import annotations

import math
from typing import Any

from tavid_jax.metrics import result


def gsb(good: int, same: int, bad: int, *, question: str = "") -> dict[str, Any]:
    """100 (good - bad) / (good + same + bad), in [-100, 100]; positive: ours is preferred.

    Args:
      good, same, bad: judgements for ours, for neither, for the other.
      question: what was asked, e.g. "motion control".

    Returns:
      Record with `gsb` (NaN without judgements), `n` judgements.

    Raises:
      ValueError: a negative count.
    """
    counts = (good, same, bad)
    if min(counts) < 0:
        raise ValueError(f"counts of judgements must not be negative, got {counts}")
    total = sum(counts)
    value = 100 * (good - bad) / total if total else math.nan
    return result.record({"gsb": value}, n=total, question=question)
