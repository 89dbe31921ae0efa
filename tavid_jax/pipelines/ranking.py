"""Numbers of blocks as a record and as a table, the best block first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from tavid_jax.pipelines.maps import INSIDE, IOU, MEASURES, OUTSIDE


def record_of(
    found: Mapping[str, Float[np.ndarray, "S C N"]],
    *,
    levels: Sequence[float | int],
    blocks: Sequence[int] | None = None,
    **facts: Any,
) -> dict[str, Any]:
    """What a study found, ready for JSON.

    Args:
      found: each of `MEASURES` at every level of noise, for every clip and block.
      levels: shares of noise, or steps.
      blocks: their numbers; None is 0, 1, ...
      facts: what else belongs into it.

    Returns:
      `facts`; "levels", "clips" (how many); "blocks", for each "block" its mean "iou", "inside" and
      "outside" over clips and levels, "<name>_error", the standard error over clips (None of a
      single one), and "iou_by_level"; "ranking", the blocks by their iou, the best first (equal
      ones by inside over outside).
    """
    count = found[IOU].shape[1]
    per_clip = {name: found[name].mean(0) for name in MEASURES}
    mean = {name: x.mean(0) for name, x in per_clip.items()}
    error = {name: x.std(0, ddof=1) / count**0.5 for name, x in per_clip.items() if count > 1}
    numbers = range(found[IOU].shape[2]) if blocks is None else blocks
    rows = []
    for place, block in enumerate(numbers):
        row: dict[str, Any] = {"block": int(block)}
        for name in MEASURES:
            row[name] = float(mean[name][place])
            row[f"{name}_error"] = float(error[name][place]) if error else None
        row["iou_by_level"] = [float(x) for x in found[IOU][:, :, place].mean(1)]
        rows.append(row)
    ranking = [row["block"] for row in sorted(rows, key=_rank)]
    return {**facts, "levels": list(levels), "clips": count, "blocks": rows, "ranking": ranking}


def _rank(row: Mapping[str, Any]) -> tuple[float, float, int]:
    return -row[IOU], -row[INSIDE] / max(row[OUTSIDE], 1e-30), row["block"]


def table_of(record: Mapping[str, Any]) -> str:
    """A record as lines of text."""
    rows = {row["block"]: row for row in record["blocks"]}
    lines = ["block     IoU   error    inside   outside  in/out"]
    for block in record["ranking"]:
        row = rows[block]
        error = "      -" if row["iou_error"] is None else f"{row['iou_error']:7.3f}"
        ratio = row[INSIDE] / max(row[OUTSIDE], 1e-30)
        means = f"{row[INSIDE]:9.2e} {row[OUTSIDE]:9.2e} {ratio:7.2f}"
        lines.append(f"{block:5d} {row[IOU]:7.3f} {error} {means}")
    lines.append(f"a map that knows nothing of the mask: {record['chance']:.3f}")
    return "\n".join(lines)
