"""What was judged: records, the table in the paper's form, differences, JSON."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from tavid_jax.data.video import scale_points
from tavid_jax.metrics import located, result
from tavid_jax.metrics.bootstrap import Interval, pooled_difference, pooled_interval
from tavid_jax.metrics.clip_t import summary
from tavid_jax.metrics.comparison import Cells, lines
from tavid_jax.scoring.located.judge import CaseScores, LocatedScores
from tavid_jax.scoring.located.published import SOURCE, TABLES
from tavid_jax.scoring.report import save_json

GLOBAL, LOCAL, EPE, ENTITIES = "CLIP-T global", "CLIP-T local", "EPE", "entities"
DETECT, TRACK, SWAPPED, MISSING = "detect", "track", "swapped", "missing"
PUBLISHED = "published"  # begins the name of a row; the column of values without a place beside
HIGHER = (GLOBAL, LOCAL)  # columns in which more is better
_VALUE = {GLOBAL: "clip_t", LOCAL: "local_clip_t", EPE: "epe", ENTITIES: "swapped"}
_WEIGHT = {GLOBAL: "counts", LOCAL: "counts", EPE: "pairs", ENTITIES: "judged"}
_DIGITS = {DETECT: 2, TRACK: 2}
_COUNT_AS = {
    "centre": "count as at the centre",
    "diagonal": "count as a diagonal away",
    "skip": "are left out",
}
Records = dict[str, dict[str, dict[str, dict[str, Any]]]]  # method -> column -> measure -> record


def clip_names(scores: LocatedScores) -> list[str]:
    """Names of the clips that any method has, in their order: that of `per_clip`."""
    return list(dict.fromkeys(one.case.name for one in scores.cases))


def measured(scores: LocatedScores) -> Records:
    """Method -> column -> measure -> record; `per_clip` has a value for each of `clip_names`."""
    names = clip_names(scores)
    found: Records = {}
    for method in dict.fromkeys(one.case.method for one in scores.cases):
        own = {one.case.name: one for one in scores.cases if one.case.method == method}
        found[method] = _records([own.get(name) for name in names], scores)
    return found


def _records(clips: Sequence[CaseScores | None], scores: LocatedScores) -> dict[str, dict]:
    judges = scores.judges
    records: dict[str, dict[str, dict[str, Any]]] = {}
    for network in judges.networks:
        frames = [None if one is None else one.frames.get(network) for one in clips]
        if any(one is not None for one in frames):
            values = _stacked(frames)
            records.setdefault(GLOBAL, {})[network] = summary(
                "clip_t", np.nan_to_num(values), np.isfinite(values), network=network
            )
    for network in judges.networks:
        crops = [
            np.where(one.cropped, one.crops[network], np.nan) if one and network in one.crops
            else None
            for one in clips
        ]  # fmt: skip
        if any(one is not None for one in crops):
            values = _stacked(crops)
            records.setdefault(LOCAL, {})[network] = summary(
                "local_clip_t",
                np.nan_to_num(values),
                np.isfinite(values),
                network=network,
                crop_rule=judges.crop.name,
            )
    return records | _motion(clips, scores)


def _motion(clips: Sequence[CaseScores | None], scores: LocatedScores) -> dict[str, dict]:
    judges, size_hw = scores.judges, located.REFERENCE_HW
    known = [one for one in clips if one is not None]
    about = dict(
        size_hw=size_hw,
        tracker=judges.tracker.fingerprint,
        sizes=sorted({one.given.size_hw for one in known}),
    )
    target = _stacked([one and _reference(one, one.given.tracks) for one in clips])
    seen = _stacked([one and one.given.visibility for one in clips]) == 1
    followed = _stacked([one and _reference(one, one.followed) for one in clips])
    records = {EPE: {TRACK: located.epe_track(followed, target, seen, **about)}}
    if judges.detector is None or not any(one.located for one in known):
        return records
    about |= {"detector": judges.detector.name, "look": judges.looks}
    worded = [one and one.given.visibility & one.worded[:, None] for one in clips]
    seen = _stacked(worded) == 1
    found = _stacked([one and _places(one) for one in clips])
    detected = np.isfinite(found).all(-1).any(-1)
    labels = _stacked([one and _labels(one) for one in clips])
    labels = np.nan_to_num(labels, nan=-1).astype(np.int64)
    found, detected = located.match_equals(found, target, seen, detected, labels)
    error = located.epe_detect(found, target, seen, detected, missing=judges.missing, **about)
    swaps = located.identity_swaps(
        found, target, seen, detected, labels=labels, margin=judges.margin, **about
    )
    records[EPE] = {DETECT: error, **records[EPE]}
    return records | {ENTITIES: {SWAPPED: swaps, MISSING: error}}


def _reference(one: CaseScores, xy: np.ndarray) -> np.ndarray:
    return scale_points(xy, one.given.size_hw, located.REFERENCE_HW)


def _places(one: CaseScores) -> np.ndarray:
    if one.located is None:
        return np.full(one.given.tracks.shape, np.nan)
    return _reference(one, one.located.tracks)


def _labels(one: CaseScores) -> np.ndarray:
    """Equal numbers for equal words."""
    texts = [text.lower() for text in one.given.texts or ("",) * one.given.num_points]
    return np.array([texts.index(text) for text in texts], np.float64)


def _stacked(arrays: Sequence[np.ndarray | None]) -> np.ndarray:
    """With a leading axis for clips, float64, filled up with NaN; None is NaN all over."""
    there = [array for array in arrays if array is not None]
    shape = np.max([array.shape for array in there], axis=0)
    out = np.full((len(arrays), *shape), np.nan)
    for row, array in zip(out, arrays, strict=True):
        if array is not None:
            row[tuple(slice(side) for side in array.shape)] = array
    return out


def table(found: Records, published: str | None = "methods") -> Cells:
    """Method -> column -> measure -> interval over clips, the published rows last.

    Args:
      found: see `measured`.
      published: which of `published.TABLES`; None: no such rows.
    """
    cells: Cells = {
        method: {
            column: {name: _interval(column, name, record) for name, record in records.items()}
            for column, records in columns.items()
        }
        for method, columns in found.items()
    }
    for name, values in TABLES.get(published or "", {}).items():
        row = {GLOBAL: values.clip_t, LOCAL: values.local_clip_t, EPE: values.epe}
        cells[f"{PUBLISHED}: {name}"] = {
            column: {_beside(cells, column): Interval(value, math.nan, math.nan, 0)}
            for column, value in row.items()
        }
    return cells


def _beside(cells: Cells, column: str) -> str:
    """The measure that a published value stands beside: the first one, but no EPE by tracks."""
    names = [name for row in cells.values() for name in row.get(column, {}) if name != TRACK]
    return names[0] if names else PUBLISHED


def _interval(column: str, name: str, record: dict[str, Any]) -> Interval:
    if name == MISSING:
        return Interval(record["missing"], math.nan, math.nan, 0)
    return pooled_interval(*_pooled(column, record))


def _pooled(column: str, record: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    return np.array(record["per_clip"], np.float64), np.array(record[_WEIGHT[column]], np.float64)


def differences(found: Records) -> dict[str, dict[str, dict[str, Interval]]]:
    """Of every method to the first one, over the clips of both: method -> column -> measure."""
    first, *others = found
    out: dict[str, dict[str, dict[str, Interval]]] = {}
    for method in others:
        for column, records in found[method].items():
            for name, record in records.items():
                base = found[first].get(column, {}).get(name)
                if base is not None and name != MISSING:
                    sides = (*_pooled(column, record), *_pooled(column, base))
                    out.setdefault(method, {}).setdefault(column, {})[name] = pooled_difference(
                        *sides
                    )
    return out


def left_out(scores: LocatedScores) -> dict[str, str]:
    """Column -> what it would need."""
    judges, needs = scores.judges, {}
    if not judges.pairs:
        needs |= dict.fromkeys((GLOBAL, LOCAL), "weights of a CLIP with both towers (--clip)")
    elif not any(one.case.prompt for one in scores.cases):
        needs[GLOBAL] = "prompts (jobs.jsonl or <stem>.txt beside the trajectories, --prompts)"
    worded = any(one.worded.any() for one in scores.cases)
    if judges.detector is None:
        where = f"{EPE} {DETECT}, {SWAPPED}, {MISSING}"
        needs[where] = "a detector (--owlvit, or --detector colours for synthetic scenes)"
    if not worded:
        needs["all that texts are needed for"] = 'a "text" for each point of the trajectories'
    return needs


def notes(scores: LocatedScores) -> list[str]:
    """What makes the rows hard to compare, or what a number does not say."""
    said = []
    methods: dict[str, set[str]] = {}
    for one in scores.cases:
        methods.setdefault(one.case.method, set()).add(one.case.name)
    every = set(clip_names(scores))
    for method, names in methods.items():
        if names != every:
            said.append(f"{method} has {len(names)} of {len(every)} clips: its row is of these")
    silent = {one.case.name for one in scores.cases if one.given.texts and not one.worded.all()}
    if silent:
        said.append(f"{len(silent)} clips have trajectories without words: EPE {TRACK} alone")
    if scores.judges.pairs and scores.judges.crop.around == "object":
        unknown = {one.case.name for one in scores.cases if one.case.objects is None}
        if unknown:
            said.append(
                f"{len(unknown)} clips without <stem>.objects.png: sizes of objects are unknown, "
                "their crops are the least boxes"
            )
    return said


def text(scores: LocatedScores, published: str | None = "methods") -> str:
    """The table, differences, what stands behind it, what was left out and skipped."""
    found = measured(scores)
    out = lines(table(found, published), _DIGITS, "")
    out += ["", "95 % intervals over clips, of micro averages; EPE in px of 832x480, by our own"]
    out += ["definitions (metrics.located); CLIP-T as plain cosines"]
    if published:
        out.append(f"{PUBLISHED}: {SOURCE}, on DAVIS, its CLIP and its EPE not told in full")
    first = next(iter(found))
    for method, columns in differences(found).items():
        for column, measures in columns.items():
            for name, difference in measures.items():
                digits = _DIGITS.get(name, 4)
                shown = [f"{value:+.{digits}f}" for value in difference[:3]]
                settled = "" if difference.excludes_zero else ", not settled"
                out.append(
                    f"{method} - {first}, {column} {name}: {shown[0]} [{shown[1]}, {shown[2]}] "
                    f"over {difference.n} clips{settled}"
                )
    out += [f"{method}: {line}" for method in found for line in _about(found[method])]
    out += [f"left out: {name} needs {need}" for name, need in left_out(scores).items()]
    out += [f"note: {note}" for note in notes(scores)]
    out += [f"SKIPPED {path}: {reason}" for path, reason in scores.skipped]
    return "\n".join(out)


def _about(columns: dict[str, dict[str, dict[str, Any]]]) -> list[str]:
    if DETECT not in columns[EPE]:
        return []
    error, swaps = columns[EPE][DETECT], columns[ENTITIES][SWAPPED]
    settings = error["settings"]
    count_as = _COUNT_AS[settings["missing"]]
    return [
        f"EPE {DETECT} {error['of_found']:.2f} px over what was found by {settings['detector']}; "
        f"{error['missing']:.1%} of the entities were not found and {count_as}; {swaps['n']} "
        "entities could have been swapped"
    ]


def plain(scores: LocatedScores, published: str | None = "methods") -> dict[str, Any]:
    """Everything, ready for JSON."""
    found = measured(scores)

    def flat(cells: Cells) -> dict[str, Any]:
        return {
            row: {c: {m: i._asdict() for m, i in ms.items()} for c, ms in columns.items()}
            for row, columns in cells.items()
        }

    return result.for_json(
        {
            "clips": clip_names(scores),
            "table": flat(table(found, published)),
            "differences": flat(differences(found)),
            "measures": found,
            "judges": scores.judges.describe(),
            "left_out": left_out(scores),
            "notes": notes(scores),
            "skipped": [{"video": path, "reason": reason} for path, reason in scores.skipped],
            "videos": [_files(one) for one in scores.cases],
        }
    )


def _files(one: CaseScores) -> dict[str, Any]:
    return {
        "method": one.case.method,
        "name": one.case.name,
        "video": one.case.video.path,
        "tracks": str(one.case.tracks),
        "prompt": one.case.prompt,
        "texts": one.given.texts,
        "frames": one.given.num_frames,
        "detected": None if one.located is None else one.located.detected,
    }


def write_json(
    path: str | os.PathLike, scores: LocatedScores, published: str | None = "methods"
) -> None:
    """Writes `plain(scores)`, whole or not at all."""
    save_json(path, plain(scores, published))
