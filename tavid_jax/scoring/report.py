"""Scores as a table for people, and as plain records for JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tavid_jax.data import files
from tavid_jax.metrics import contact
from tavid_jax.metrics.result import for_json
from tavid_jax.scoring.score import Scores, VideoScores

# Metric -> (heading, which provider's name stands beside it).
_NAMED = {
    "contact_score": ("contact", "actor"),
    "target_alignment": ("alignment", "actor"),
    "subject_consistency": ("subject", "network"),
    "background_consistency": ("background", "network"),
    "dynamic_degree": ("dynamic", "flow"),
    "motion_smoothness": ("smoothness", "midpoint"),
}


def text(scores: Scores) -> str:
    """A row a video, then what comes of all, what was left out and what was skipped."""
    headings = ["video", "frames", *(heading for heading, _ in _NAMED.values())]
    names = files.names([video.info.path for video in scores.videos])
    rows = [
        [name, str(video.info.num_frames), *_cells(video, scores)]
        for name, video in zip(names, scores.videos, strict=True)
    ]
    lines = _aligned([headings, *rows])
    lines.append("")
    for metric, (_, key) in _NAMED.items():
        if metric in scores.metrics:
            record = scores.metrics[metric]
            lines.append(f"{metric:24}{_all(metric, record):>8}  {_about(metric, record, key)}")
    lines += [f"left out: {metric} needs {need}" for metric, need in scores.left_out.items()]
    lines += [f"SKIPPED {path}: {reason}" for path, reason in scores.skipped]
    lines += [f"note: {note}" for v in scores.videos if v.objects for note in v.objects.notes]
    return "\n".join(lines)


def _all(metric: str, record: dict[str, Any]) -> str:
    value = record[metric]
    return "-" if value is None or np.isnan(value) else f"{value:.4f}"


def _about(metric: str, record: dict[str, Any], key: str) -> str:
    items = {"subject_consistency": "frames", "background_consistency": "frames"}
    items |= {"contact_score": "targets"}
    about = f"by {record['settings'][key]}, {record['n']} {items.get(metric, 'videos')}"
    if metric == "target_alignment":
        about += f"; {_all('of_touching', record)} of the {record['touching']} that touch anything"
        about += f"; by chance {record['chance']:.2f}"
    return about


def _cells(video: VideoScores, scores: Scores) -> list[str]:
    mean = {
        name: "-" if values is None else f"{values.mean():.4f}"
        for name, values in (("subject", video.subject), ("background", video.background))
    }
    dynamic = "-" if video.dynamic is None else ("yes" if video.dynamic.dynamic else "no")
    smooth = "-" if video.smoothness is None else f"{video.smoothness:.4f}"
    return [
        *_touch_cells(video, scores), mean["subject"], mean["background"], dynamic, smooth
    ]  # fmt: skip


def _touch_cells(video: VideoScores, scores: Scores) -> list[str]:
    found = verdict(video, scores)
    if found is None:
        return ["-", "-"]
    said = ["no" if frame < 0 else f"frame {frame}" for frame in found["first_frame"]]
    aligned = {None: "-", True: "target", False: "other"}[found["aligned"]]
    return [", ".join(said), "nothing" if found["touched"] is None else aligned]


def verdict(video: VideoScores, scores: Scores) -> dict[str, Any] | None:
    """Contact in one video; None if it was not looked for.

    Returns:
      `first_frame` (of each target, a frame of the video, -1: no contact), `touched` (name of the
      mask that is touched first, None: nothing), `aligned` (whether that is the target; None where
      nothing is touched or there is no choice).
    """
    if video.touches is None or video.objects is None:
        return None
    count, names = video.objects.num_targets, video.objects.names
    first = contact.first_contact(video.touches.shares, scores.rule)
    frames = np.where(first >= 0, video.touches.frames[first], -1)
    which = contact.touched(video.touches.shares, scores.rule)
    choice = count == 1 and len(names) > 1 and which >= 0
    return {
        "first_frame": frames[:count].tolist(),
        "touched": names[which] if which >= 0 else None,
        "aligned": which == 0 if choice else None,
    }


def plain(scores: Scores) -> dict[str, Any]:
    """Everything but pictures, ready for JSON."""
    videos = []
    for video in scores.videos:
        entry: dict[str, Any] = {
            "video": video.info.path,
            "frames": video.info.num_frames,
            "fps": video.info.fps,
            "size_hw": video.info.size_hw,
        }
        if video.subject is not None:
            entry["subject_consistency"] = video.subject.mean()
        if video.background is not None:
            entry["background_consistency"] = video.background.mean()
        if video.dynamic is not None:
            entry["dynamic_degree"] = video.dynamic._asdict()
        if video.smoothness is not None:
            entry["motion_smoothness"] = video.smoothness
        if video.touches is not None and video.objects is not None:
            entry["contact"] = {
                "masks": video.objects.names,
                "targets": video.objects.num_targets,
                **(verdict(video, scores) or {}),
                "sampled_frames": video.touches.frames,
                "shares": np.round(video.touches.shares, 5),
            }
        videos.append(entry)
    return for_json(
        {
            "metrics": scores.metrics,
            "providers": scores.providers,
            "left_out": scores.left_out,
            "skipped": [{"video": path, "reason": reason} for path, reason in scores.skipped],
            "videos": videos,
        }
    )


def write_json(path: str | os.PathLike, scores: Scores) -> None:
    """Writes `plain(scores)`, whole or not at all."""
    save_json(path, plain(scores))


def save_json(path: str | os.PathLike, content: Any) -> None:
    """Writes a file, whole or not at all."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if number == 0 else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
