"""What was judged, as a table for people and as plain records for JSON."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from tavid_jax.metrics import result
from tavid_jax.metrics.comparison import Cells, Values, compare, lines
from tavid_jax.metrics.fvd import fvd
from tavid_jax.metrics.trajerr import Norm, trajectory_error
from tavid_jax.metrics.trajsim import similarity_of_sets
from tavid_jax.scoring.motion.cases import GRANULARITIES
from tavid_jax.scoring.motion.judge import GENERATED, ORACLE, STILL, CaseScores, MotionScores, Row
from tavid_jax.scoring.report import save_json

FVD, CONSISTENCY, FIRST = "FVD", "Consistency", "Consistency to frame 0"
TRAJERR, TRAJSIM = "TrajErr", "TrajSIM"
ROWS = (GENERATED, ORACLE, STILL)
_DIGITS = {FVD: 1, TRAJERR: 4}
_SHOWN = (FVD, CONSISTENCY, TRAJERR, TRAJSIM)


def measured(scores: MotionScores, norm: Norm = "wh") -> dict[str, dict[str, dict[str, Any]]]:
    """Row -> granularity -> measure -> record (value, per clip, count, settings)."""
    found: dict[str, dict[str, dict[str, Any]]] = {name: {} for name in ROWS}
    for kind, cases in _by_granularity(scores).items():
        for name in ROWS:
            records = _records(cases, name, scores, norm)
            if records:
                found[name][kind] = records
    return {name: kinds for name, kinds in found.items() if kinds}


def _by_granularity(scores: MotionScores) -> dict[str, list[CaseScores]]:
    kinds: dict[str, list[CaseScores]] = {}
    for case in scores.cases:
        kinds.setdefault(case.case.granularity, []).append(case)
    return kinds


def _records(
    cases: Sequence[CaseScores], name: str, scores: MotionScores, norm: Norm
) -> dict[str, dict[str, Any]]:
    rows = [case.rows[name] for case in cases if name in case.rows]
    records = _fvd(cases, name, scores) | _consistency(rows, scores)
    tracker = scores.judges.tracker.fingerprint
    errors = [row.error for row in rows if row.error is not None]
    if errors:
        records[TRAJERR] = trajectory_error(errors, norm=norm)
        records[TRAJERR]["settings"]["tracker"] = _tracker(cases, name, tracker)
    sets = [row.similarity for row in rows if row.similarity is not None]
    if sets:
        records[TRAJSIM] = similarity_of_sets(sets)
        records[TRAJSIM]["settings"]["tracker"] = _tracker(cases, name, tracker)
    return records


def _tracker(cases: Sequence[CaseScores], name: str, ours: str) -> str:
    """Whose tracks were judged."""
    given = {
        GENERATED: [case.case.predicted for case in cases],
        ORACLE: [case.case.predicted_real for case in cases],
    }.get(name)
    if given is None:
        return "none"
    return ours if None in given else "given in files"


def _fvd(cases: Sequence[CaseScores], name: str, scores: MotionScores) -> dict[str, dict]:
    """Real videos against themselves say nothing, so the oracle has none; it needs two videos."""
    judge = scores.judges.videos
    pairs = [
        (case.rows[name].feature, case.rows[ORACLE].feature)
        for case in cases
        if name in case.rows and ORACLE in case.rows and case.rows[name].feature is not None
    ]
    if judge is None or name == ORACLE or len(pairs) < 2:
        return {}
    generated, real = (np.stack(features) for features in zip(*pairs, strict=True))
    frames = sorted({case.num_frames for case in cases})
    convention = scores.judges.convention
    return {FVD: fvd(generated, real, convention=convention, network=judge.name, frames=frames)}


def _consistency(rows: Sequence[Row], scores: MotionScores) -> dict[str, dict[str, Any]]:
    cosines = [row.cosines for row in rows if row.cosines is not None]
    if not cosines or scores.judges.frames is None:
        return {}
    records = {}
    for name, part in ((CONSISTENCY, "before"), (FIRST, "first")):
        per_clip = np.array([getattr(clip, part).mean() for clip in cosines], np.float64)
        records[name] = result.record(
            {"consistency": float(per_clip.mean()), "per_clip": per_clip},
            n=len(per_clip),
            with_frame=part,
            network=scores.judges.frames.name,
            definition="tavid_jax",
        )
    return records


def table(found: dict[str, dict[str, dict[str, Any]]]) -> Cells:
    """The means with their intervals, see `metrics.comparison`."""

    def values(measure: str, record: dict[str, Any]) -> Values:
        return record["fvd"] if measure == FVD else np.array(record["per_clip"], np.float64)

    return compare(
        {
            name: {
                GRANULARITIES[kind]: {m: values(m, records[m]) for m in _SHOWN if m in records}
                for kind, records in kinds.items()
            }
            for name, kinds in found.items()
        }
    )


def left_out(scores: MotionScores) -> dict[str, str]:
    """Measure -> what it would need."""
    judges, needs = scores.judges, {}
    real = all(case.case.real is not None for case in scores.cases)
    if judges.frames is None:
        needs[CONSISTENCY] = "weights of CLIP (--clip)"
    if judges.videos is None:
        needs[FVD] = "weights of I3D (--i3d) and real videos (--real)"
    elif not real:
        needs[FVD] = "real videos (--real)"
    elif any(len(cases) < 2 for cases in _by_granularity(scores).values()):
        needs[FVD] = "two videos of a granularity"
    if not real:
        needs[f"row {ORACLE!r}"] = "real videos (--real)"
    elif any(not _has_foreground(case) for case in scores.cases):
        needs[f"{TRAJSIM} of {ORACLE!r}"] = "masks, or tracks of the real videos (--predicted-real)"
    return needs


def _has_foreground(scores: CaseScores) -> bool:
    """Whether the real video's points are known."""
    case = scores.case
    return case.aligned or bool(case.masks) or case.predicted_real is not None


def _notes(scores: MotionScores) -> list[str]:
    """What makes rows hard to compare."""
    cases = [case.case for case in scores.cases if case.case.real is not None]
    if all((case.predicted is None) == (case.predicted_real is None) for case in cases):
        return []
    return [
        "the tracks of generated and of real videos come from different trackers: the oracle "
        "says what this is worth only if both are given (--predicted, --predicted-real) or neither"
    ]


def text(scores: MotionScores, norm: Norm = "wh") -> str:
    """The table in the paper's form, then what stands behind it, what was left out and skipped."""
    found = measured(scores, norm)
    out = lines(table(found), _DIGITS, "")
    out += ["", f"95 % intervals over clips; TrajErr ({norm}) and TrajSIM are our definitions"]
    for kind, cases in _by_granularity(scores).items():
        out.append(f"{GRANULARITIES[kind]}: {len(cases)} clips")
        out += [f"  {name}: {line}" for name in found for line in _about(found[name].get(kind, {}))]
    out += [f"left out: {name} needs {need}" for name, need in left_out(scores).items()]
    out += [f"note: {note}" for note in _notes(scores)]
    out += [f"SKIPPED {path}: {reason}" for path, reason in scores.skipped]
    return "\n".join(out)


def _about(records: dict[str, dict[str, Any]]) -> list[str]:
    said = []
    if TRAJERR in records:
        record = records[TRAJERR]
        pooled, pck = record["pooled"], record["pck"]
        shares = ", ".join(f"{value:.1%} < {limit} px" for limit, value in pck.items())
        seen = record["seen"]
        said.append(
            f"{pooled['pixels']:.2f} px ({pooled['wh']:.4f} wh, {pooled['diag']:.4f} diagonal) "
            f"over {record['settings']['samples']} samples; {shares}"
            + ("" if np.isnan(seen) else f"; seen in {seen:.1%}")
        )
    if TRAJSIM in records:
        said.append(f"TrajSIM of {records[TRAJSIM]['matched']:.1%} of the moving points")
    if FIRST in records:
        said.append(f"consistency to frame 0 {records[FIRST]['consistency']:.3f}")
    if FVD in records:
        settings = records[FVD]["settings"]
        said.append(
            f"FVD by {settings['network']} ({settings['convention']}) of {records[FVD]['n']} "
            f"videos of {'/'.join(map(str, settings['frames']))} frames"
        )
    return said


def plain(scores: MotionScores, norm: Norm = "wh") -> dict[str, Any]:
    """Everything, ready for JSON."""
    found = measured(scores, norm)
    cells = {
        name: {kind: {m: i._asdict() for m, i in c.items()} for kind, c in kinds.items()}
        for name, kinds in table(found).items()
    }
    return result.for_json(
        {
            "table": cells,
            "measures": found,
            "judges": scores.judges.describe(),
            "left_out": left_out(scores),
            "notes": _notes(scores),
            "skipped": [{"video": path, "reason": reason} for path, reason in scores.skipped],
            "videos": [_files(case) for case in scores.cases],
        }
    )


def _files(scores: CaseScores) -> dict[str, Any]:
    """In the order of `per_clip`."""
    case = scores.case
    return {
        "granularity": case.granularity,
        "video": case.video.path,
        "tracks": str(case.tracks),
        "real": None if case.real is None else case.real.path,
        "predicted": None if case.predicted is None else str(case.predicted),
        "frames": scores.num_frames,
    }


def write_json(path: str | os.PathLike, scores: MotionScores, norm: Norm = "wh") -> None:
    """Writes `plain(scores)`, whole or not at all."""
    save_json(path, plain(scores, norm))
