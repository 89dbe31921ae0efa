"""TAP-Vid metrics of point trackers: occlusion accuracy, delta_avg and average Jaccard.

Doersch et al. 2022 (TAP-Vid), section 3.3. Coordinates are raster pixels of a 256 x 256 frame, to
which the thresholds of 1, 2, 4, 8 and 16 pixels belong. The number of a benchmark is the mean over
its videos.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from tavid_jax.metrics import result

THRESHOLDS = (1, 2, 4, 8, 16)
QueryMode = Literal["first", "strided"]


class Queries(NamedTuple):
    """What a tracker is asked and the truth that it is judged by, Q queries."""

    query_points: Float[np.ndarray, "Q 3"]  # (t, y, x)
    occluded: Bool[np.ndarray, "Q T"]
    tracks: Float[np.ndarray, "Q T 2"]  # (x, y)


def tapvid_metrics(
    query_points: Float[np.ndarray, "B Q 3"],
    gt_occluded: Bool[np.ndarray, "B Q T"],
    gt_tracks: Float[np.ndarray, "B Q T 2"],
    pred_occluded: Bool[np.ndarray, "B Q T"],
    pred_tracks: Float[np.ndarray, "B Q T 2"],
    mode: QueryMode,
    *,
    trackwise: bool = False,
) -> dict[str, np.ndarray]:
    """TAP-Vid metrics of B videos with Q queries each.

    Args:
      query_points: (t, y, x); the query's own frame does not count, nor in mode "first" do the
        frames before it.
      gt_occluded, pred_occluded: True where the point is not visible.
      gt_tracks, pred_tracks: (x, y) raster pixels at 256 x 256.
      mode: how queries were chosen.
      trackwise: one value per query, shape (B, Q), instead of one per video, (B,).

    Returns:
      `occlusion_accuracy`, `average_pts_within_thresh` (delta_avg), `average_jaccard` (AJ), and
      per threshold `pts_within_1` ..., `jaccard_1` ...; NaN where nothing counts (in track-wise
      values: a track that is not visible after its query).
    """
    axis = 2 if trackwise else (1, 2)
    counted = evaluated_frames(query_points, gt_occluded.shape[2], mode)
    visible, pred_visible = ~gt_occluded, ~pred_occluded

    def count(mask: np.ndarray) -> np.ndarray:
        return (mask & counted).sum(axis=axis)

    scores = {"occlusion_accuracy": result.ratio(count(visible == pred_visible), counted.sum(axis))}
    squared = np.square(pred_tracks - gt_tracks).sum(axis=-1)
    for threshold in THRESHOLDS:
        correct = (squared < threshold**2) & visible
        positives = count(visible)
        false_positives = count(pred_visible & ~correct)
        scores[f"pts_within_{threshold}"] = result.ratio(count(correct), positives)
        scores[f"jaccard_{threshold}"] = result.ratio(
            count(correct & pred_visible), positives + false_positives
        )
    for average, name in (("average_pts_within_thresh", "pts_within"), ("average_jaccard",) * 2):
        name = name.removeprefix("average_")
        scores[average] = np.mean([scores[f"{name}_{t}"] for t in THRESHOLDS], axis=0)
    return scores


def evaluated_frames(
    query_points: Float[np.ndarray, "B Q 3"], num_frames: int, mode: QueryMode
) -> Bool[np.ndarray, "B Q T"]:
    """Frames that count: after the query ("first"), or all but the query's ("strided")."""
    query_frame = np.round(query_points[..., :1]).astype(np.int64)
    frames = np.arange(num_frames)
    return frames > query_frame if mode == "first" else frames != query_frame


def sample_queries(
    occluded: Bool[np.ndarray, "N T"],
    tracks: Float[np.ndarray, "N T 2"],
    mode: QueryMode,
    *,
    stride: int = 5,
) -> Queries:
    """Queries of a video as the benchmark chooses them.

    "first": the first visible frame of each track that is visible at all. "strided": each track
    that is visible in frame 0, `stride`, 2 `stride`, ..., once for every such frame, in that order.
    """
    if mode == "first":
        (points,) = np.nonzero(~occluded.all(axis=1))
        frames = np.argmax(~occluded[points], axis=1)
    else:
        every, points = np.nonzero(~occluded[:, ::stride].T)
        frames = every * stride
    xy = tracks[points, frames]
    query_points = np.stack([frames.astype(tracks.dtype), xy[:, 1], xy[:, 0]], axis=-1)
    return Queries(query_points, occluded[points], tracks[points])
