"""Fine-tuning's report: what is right, where it fails, moving pictures. Fills a given report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt8

from tavid_jax.methods.finetune.judging import (
    ALL,
    ATTRIBUTES,
    CHOICES,
    CONTACT,
    MEASURED,
    MORE,
    ONE,
    TWO,
    Judged,
)
from tavid_jax.viz import canvas, curves, media, panels, sheets

Frames = UInt8[np.ndarray, "T H W 3"]
Picture = UInt8[np.ndarray, "t h w 3"]  # of Frames, of another size

SAMPLE, BASE, TRUTH, STILL = "sample", "base", "truth", "still"
MODELS = {
    SAMPLE: "samples",
    BASE: "the base alone",
    TRUTH: "true clips: the judge",
    STILL: "the image, repeated",
}
WORDS = {
    "colour": "colour",
    "motion": "motion",
    "shape": "silhouette",
    "clean": "nothing else",
    "all": "all of it",
    "touched": "a target touched",
    "target": "the true clip's target touched",
    "lookalike": "its look-alike touched",
    "none": "nothing touched",
    "actor": "the actor is there, once",
    "first_frame": "error of the first frame",
    "balance": "the true clip's target",
    "left": "the left one",
    "nearer": "the nearer one",
}
# What is right or wrong of every object.
THINGS = ("colour", "motion", "shape")
GROUPS = {ONE: "one object", TWO: "two objects", MORE: "three objects and more", ALL: "all scenes"}
CURVES = ("loss", "validation/loss", "grad_norm")
RIGHT_DOT, WRONG_DOT = canvas.THEME.truth, (255, 139, 98)
SHARES_NOTE = (
    "Percent of scenes in which every object is right, with 95 % bootstrap intervals over scenes; "
    "an interval without width says that all scenes agreed, not that the share is certain. A model "
    "that ignores a word scores **below** chance on triples of colour, silhouette and motion that "
    "it has never seen."
)
TOUCHES_NOTE = (
    "Percent of scenes, with 95 % bootstrap intervals over scenes. A touch counts where the boxes "
    "are seen, one actor, and little else. Neither image nor caption tells which of the two "
    "look-alikes is meant: a model of what may happen touches each about equally often. The error "
    "of the first frame is the root mean square against the given image; a video that copies the "
    "image has none, and touches nothing."
)
_LEVEL_UNIT = "1/255"


# ---- goals and tables ----------------------------------------------------------------------------


def goal_words(group: str, name: str) -> str:
    """What a goal is about, e.g. "colour, one object"."""
    if name in CHOICES:
        return f"of the touches: {WORDS[name]}"
    return WORDS[name] if group == ALL else f"{WORDS[name]}, {GROUPS[group]}"


def headline(report: Any, goals: Sequence[Mapping[str, Any]], scenes: int) -> None:
    """Which goals are reached, first in a sentence, then number by number."""
    if not goals:
        return
    missed = [goal for goal in goals if not goal["reached"]]
    if not missed:
        all_of_them = f"All {len(goals)} goals are" if len(goals) > 1 else "The goal is"
        verdict = f"**{all_of_them} reached** on {scenes} unseen scenes."
    else:
        names = "; ".join(goal_words(goal["group"], goal["name"]) for goal in missed)
        count = len(goals) - len(missed)
        verdict = f"**{count} of {len(goals)} goals are reached** on {scenes} unseen scenes. "
        verdict += f"Not reached: {names}."
    report.text(verdict)
    report.key_numbers([_goal_card(goal) for goal in goals])


def _goal_card(goal: Mapping[str, Any]) -> dict[str, Any]:
    is_level = goal["name"] == "first_frame"
    scale, unit = (1.0, _LEVEL_UNIT) if is_level else (100.0, "%")
    asked = goal["goal"]
    if isinstance(asked, list):
        words = f"goal {scale * asked[0]:g} to {scale * asked[1]:g} {unit}"
    else:
        words = f"goal {scale * asked:g} {unit}"
    outcome = "reached" if goal["reached"] else "not reached"
    if not goal["certain"]:
        outcome += ", but not beyond doubt"
    return dict(
        label=goal_words(goal["group"], goal["name"]),
        value=scale * goal["value"],
        unit=unit,
        interval=[scale * end for end in goal["interval"]],
        digits=1,
        detail=f"{words}: {outcome} ({goal['scenes']} scenes)",
    )


def share_table(report: Any, trial: Mapping[str, Any]) -> None:
    """Shares right of everything that was judged by objects, side by side.

    Args:
      trial: {"title", model: {group: {name: measure}}}.
    """
    wanted = [(group, name) for group in (ONE, TWO, MORE) for name in (*THINGS, "all")]
    wanted += [(ALL, name) for name in ATTRIBUTES]
    rows = [(goal_words(*place), *place) for place in wanted if place[0] in trial[TRUTH]]
    _result_table(report, trial, rows, SHARES_NOTE)


def touch_table(report: Any, trial: Mapping[str, Any]) -> None:
    """What is touched, which of the two, and whether the given picture was kept."""
    rows = [(goal_words(ALL, name), ALL, name) for name in MEASURED[CONTACT]]
    _result_table(report, trial, rows, TOUCHES_NOTE)


def _result_table(
    report: Any, trial: Mapping[str, Any], rows: Sequence[tuple[str, str, str]], note: str
) -> None:
    models = [model for model in MODELS if model in trial]
    cells = []
    for label, group, name in rows:
        found = [trial[model][group][name] for model in models]
        scale, unit = (1.0, f", {_LEVEL_UNIT}") if name == "first_frame" else (100.0, "")
        cells.append([label + unit, *(_cell(one, scale) for one in found)])
    report.table(
        f"{trial['title']} ({trial['scenes']} scenes, {trial['captions']} different captions)",
        ["what", *(dict(name=MODELS[model], unit="%", digits=1) for model in models)],
        cells,
        note,
    )


def _cell(found: Mapping[str, Any] | None, scale: float) -> Any:
    if found is None or not found["scenes"]:
        return None
    return tuple(scale * x for x in (found["value"], *found["interval"]))


def failure_tables(report: Any, table: Mapping[str, Mapping[str, Mapping[str, float]]]) -> None:
    """Shares right by what was asked for: where it fails."""
    for attribute, rows in table.items():
        report.table(
            f"By {WORDS[attribute]}",
            [
                f"asked for: {WORDS[attribute]}",
                dict(name="objects", digits=0),
                *(dict(name=WORDS[name], unit="% right", digits=0) for name in THINGS),
            ],
            [
                [word, row["objects"], *(100.0 * row[name] for name in THINGS)]
                for word, row in rows.items()
            ],
        )


def comparison(report: Any, trials: Mapping[str, Mapping[str, Any]], names: Sequence[str]) -> None:
    """What training has changed against the base, in words."""
    for trial in trials.values():
        for name in names:
            change = trial["change"][ALL][name]
            report.verdict(
                f"{trial['title']}, {WORDS[name]}: the fine-tuned model",
                "the base alone",
                tuple(100.0 * x for x in (change["difference"], *change["interval"])),
                unit="points",
                better="higher",
                digits=1,
                note="(share of scenes, paired bootstrap, the same noise)",
            )


def probe_table(report: Any, found: Mapping[str, Any]) -> None:
    """Errors with the right and with another caption."""
    rows = [
        [f"{sigma:g}", right, permuted, (gap, *ends), permuted / right if right else None]
        for sigma, right, permuted, gap, ends in zip(
            *(found[k] for k in ("sigma", "right", "permuted", "difference", "interval")),
            strict=True,
        )
    ]
    report.table(
        "Does it read its text?",
        [
            "share of noise",
            dict(name="right caption", unit="x0 error, 1e-3", digits=2),
            dict(name="another scene's caption", unit="x0 error, 1e-3", digits=2),
            dict(name="difference", unit="1e-3", digits=2),
            dict(name="ratio", digits=2),
        ],
        rows,
        "Mean squared error of the clean latent that one evaluation implies, under the same noise. "
        "Without a gap the text is not used.",
    )


def training_curves(report: Any, results: Any, shown: Sequence[str] = CURVES) -> None:
    """What each stage logged, and how long it took."""
    report.section("Training")
    report.table(
        "Time by stage",
        ["stage", dict(name="time", unit="s", digits=0)],
        [[stage, value] for stage, value in results.seconds.items()],
    )
    for stage, records in results.curves.items():
        known = {name for record in records for name in record}
        names = [name for name in shown if name in known]
        if len(records) > 1 and names:
            # Few records are hardly smoothed: the average would lag behind the curve.
            decay = max(0.0, min(0.9, 1 - 10 / len(records)))
            figure = curves.loss_curves(records, names, title=stage, decay=decay)
            report.figure(figure, f"Stage `{stage}`")


# ---- pictures ------------------------------------------------------------------------------------


def at_height(frames: Frames, height: int) -> Picture:
    """At least so high and not blurred if it was smaller, else exactly so high."""
    if frames.shape[1] <= height:
        return canvas.enlarge(frames, height)
    width = round(frames.shape[2] * height / frames.shape[1])
    return canvas.resize_clip(frames, (height, width))


def side_by_side(films: Mapping[str, Frames], height: int) -> Picture:
    """Videos of one scene under their labels."""
    accents = {"sample": canvas.THEME.prediction, "truth": canvas.THEME.truth}
    length = min(len(frames) for frames in films.values())
    counters = [f"{t + 1} / {length}" for t in range(length)]
    return panels.side_by_side(
        [
            panels.Panel(
                label, at_height(frames[:length], height), counters, accent=accents.get(label)
            )
            for label, frames in films.items()
        ]
    )


def verdict_words(found: Judged) -> str:
    """What is right about one video, e.g. "✓ colour ✗ motion ✓ silhouette ✓ nothing else"."""
    if "touched" in found.values:
        name = next(n for n in ("target", "lookalike", "none") if found.values[n])
        return f"{'✗' if name == 'none' else '✓'} {WORDS[name]}"
    return " ".join(
        f"{'✓' if found.values[name] else '✗'} {WORDS[name]}" for name in ATTRIBUTES[:-1]
    )


def is_right(found: Judged) -> bool:
    """Whether nothing is wrong with a video."""
    return bool(found.values["touched" if "touched" in found.values else "all"])


def show(
    report: Any,
    films: Sequence[Mapping[str, Frames]],
    captions: Sequence[str],
    settings: Any,
    fps: float | int,
    provenance: Mapping[str, Any],
) -> None:
    """Moving pictures, one per scene, with the caption beneath."""
    for shown, caption in zip(films, captions, strict=True):
        strip = side_by_side(shown, settings.height)
        film = media.encode_animation(strip, fps, provenance={**provenance, "caption": caption})
        report.media(film.data, caption, least_width=min(strip.shape[2], 760))


def sheet(
    videos: Sequence[Frames],
    captions: Sequence[str],
    marks: Sequence[bool] = (),
    *,
    height: int = 144,
    columns: int = 6,
) -> Picture:
    """Many videos at once, each above its caption; with `marks` a dot tells right from wrong."""
    return sheets.moving_sheet(
        [at_height(video, height) for video in videos],
        captions,
        accents=[RIGHT_DOT if mark else WRONG_DOT for mark in marks],
        columns=columns,
    )
