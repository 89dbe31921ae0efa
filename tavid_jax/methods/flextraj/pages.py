"""FlexTraj's report: the claims in words, tables by granularity, curves, condition videos."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tavid_jax.data.clip import Clip
from tavid_jax.methods.finetune.pages import at_height
from tavid_jax.methods.finetune.seeds import compare, measure
from tavid_jax.methods.flextraj import films, judging
from tavid_jax.pipelines.video import Video
from tavid_jax.viz import canvas, curves, media, panels

ZERO = "zero"
# Rows that are no models.
KNOWN = ("oracle", ZERO)
SCALES = {"lost": 100.0}
DIGITS = {"error": 4, "error_all": 4, "similarity": 3, "lost": 1, "first_frame": 1}
TABLE = (
    "Means over scenes; their intervals stand below, by granularity. **TrajErr**: distance from "
    "where the given points say that an object is, in sides of the frame, over the objects and "
    "frames that are given, behind the first. **TrajSIM**: cosine of an object's path with that of "
    "its points, both from where they begin; objects that stand still do not count. An object's "
    "place is the mean of the pixels of its colour; a lost one stays where it was seen last. All "
    "rows saw the same images, captions, noise and points. The definitions are ours: the paper's "
    "code of them is not public. Its FVD and Consistency are not measured here, they need the "
    "weights of I3D and CLIP: `python -m tavid_jax.scoring.motion` measures them where these are "
    "given."
)
DETAIL = (
    "The same numbers with 95 % bootstrap intervals over scenes (of several seeds, of the mean of "
    "the trainings in every scene), and more of them. Of all: over all objects and frames, whether "
    "given or not. Lost: objects that are not seen in a fifth of the frames. First frame: root "
    "mean square error against the given image. True clips: how exact the judge is."
)
GIVEN = (
    "What the models are given of every scene's points, the mean over scenes. Random points may "
    "miss an object: it does not count then, and neither does a scene all of whose objects are "
    "missed."
)
SCENES = (
    "The first scenes, not chosen. White dots in videos: where the given points say that the "
    "objects are; of objects that no point is given of, there is none."
)
SAMPLES = "The first clips, not chosen: what steers the video, what came of it, the true clip."
PAIRED = "paired bootstrap over {} scenes, the same noise"


def trial_page(config: Any, trial: Any, results: Any, report: Any) -> dict[str, Any]:
    """Claims, tables, curves and pictures of a `Trial`; returns its numbers."""
    resamples, count = config.evaluate.resamples, len(trial.clips)
    metrics: dict[str, Any] = {
        "title": trial.title,
        "scenes": count,
        "granularities": {name: _given(of) for name, of in trial.scenes.items()},
        "variants": {
            name: {
                "title": row.title,
                "stages": list(row.stages),
                "measured": {
                    column: measure(cell.values, resamples) for column, cell in row.cells.items()
                },
            }
            for name, row in trial.rows.items()
        },
        "curve": [{"stage": p.stage, "step": p.step, **p.values} for p in trial.curve],
    }
    report.section(
        f"Do videos follow? {trial.title}",
        f"{count} scenes that no training or tuning has seen, the same for all variants.",
    )
    metrics["claims"] = _claims(config, trial, report)
    _headline(config, trial, metrics, report)
    _given_table(metrics["granularities"], report)
    _curve_figure(config, trial, report)
    report.section("By granularity", DETAIL)
    for column in trial.scenes:
        _detail(config, trial, column, metrics, report)
    for column in trial.scenes:
        _gallery(config, trial, column, results, report)
    _failures(config, trial, results, report)
    return metrics


def _title(config: Any, trial: Any) -> str:
    """Of the main variant."""
    return trial.rows[config.evaluate.main].title


def _given(of: Any) -> dict[str, Any]:
    """What is given at a granularity, and how it is judged."""
    one, seen = of.granularity, [steering.visibility for steering in of.steering]
    return {
        "title": one.title,
        "measure": one.measure,
        "follow": dict(one.follow),
        "points": float(np.mean([x.any(1).sum() for x in seen])),
        "frames": float(np.mean([x.any(0).sum() for x in seen])),
        "objects": float(np.mean(np.concatenate([goal.given.any(1) for goal in of.goals]))),
    }


# ---- claims --------------------------------------------------------------------------------------


def _claims(config: Any, trial: Any, report: Any) -> dict[str, Any]:
    """Differences between the main variant and all others, whichever way they fall: granularity ->
    variant -> {"difference", "interval", "scenes"}, main minus the other."""
    main, resamples = config.evaluate.main, config.evaluate.resamples
    claims: dict[str, Any] = {}
    for column, of in trial.scenes.items():
        own = trial.rows[main].cells[column].values
        claims[column] = {
            name: compare(own, row.cells[column].values, of.granularity.value, resamples)
            for name, row in trial.rows.items()
            if name != main
        }
    plain = without(trial)
    reference = plain if plain not in ("", main) else ZERO
    for column, of in trial.scenes.items():
        _verdict(trial, main, reference, of.granularity, claims[column][reference], report)
    for name, row in trial.rows.items():
        if name not in (main, plain, *KNOWN):
            report.text(_summary(trial, main, row, [(c, claims[c][name]) for c in claims]))
    return claims


def without(trial: Any) -> str:
    """The variant that nothing trained and nothing steers; "" without one."""
    return next((name for name, row in trial.rows.items() if row.stages == ("",)), "")


def _verdict(
    trial: Any, main: str, reference: str, one: Any, found: Mapping[str, Any], report: Any
) -> None:
    report.verdict(
        f"{trial.rows[main].title}, {one.title}",
        trial.rows[reference].title,
        (found["difference"], *found["interval"]),
        unit=one.measured,
        better=one.better,
        digits=DIGITS[one.value],
        note=f"({PAIRED.format(found['scenes'])})",
    )


def _summary(
    trial: Any, main: str, row: Any, found: Sequence[tuple[str, Mapping[str, Any]]]
) -> str:
    """In how many granularities a variant is better or worse than the main one."""
    places: dict[str, list[str]] = {"better": [], "worse": [], "not told apart": []}
    for column, one in found:
        granularity = trial.scenes[column].granularity
        low, high = one["interval"]
        if not (low > 0 or high < 0):
            places["not told apart"].append(granularity.title)
        else:  # of main minus the other
            is_worse = (low > 0) == (granularity.better == "higher")
            places["worse" if is_worse else "better"].append(granularity.title)
    words = [
        f"{outcome} {'from' if outcome.startswith('not') else 'than'} it at {len(titles)} "
        f"({', '.join(titles)})"
        for outcome, titles in places.items()
        if titles
    ]
    title = trial.rows[main].title
    return f"**{row.title}** against {title}, of {len(found)} granularities: {'; '.join(words)}."


# ---- tables and curves ---------------------------------------------------------------------------


def _headline(config: Any, trial: Any, metrics: Mapping[str, Any], report: Any) -> None:
    """A row for each variant, a column for each granularity, as the paper's table has it."""
    variants = metrics["variants"]
    report.table(
        f"How well videos follow: {trial.title}",
        [
            "variant",
            *(_column(of.granularity, of.granularity.short) for of in trial.scenes.values()),
        ],
        [
            [
                found["title"],
                *(
                    _mean(found["measured"][column], of.granularity.value)
                    for column, of in trial.scenes.items()
                ),
            ]
            for found in variants.values()
        ],
        TABLE,
        highlight=[_title(config, trial)],
        reference=[trial.rows[name].title for name in KNOWN],
    )


def _column(one: Any, name: str) -> dict[str, Any]:
    return dict(name=name, unit=one.measured, better=one.better, digits=DIGITS[one.value])


def _mean(measured: Mapping[str, Any], value: str) -> float | None:
    found = measured[value]
    return SCALES.get(value, 1.0) * found["value"] if found["scenes"] else None


def _cell(measured: Mapping[str, Any], value: str) -> tuple[float, ...] | None:
    found = measured[value]
    return (found["value"], *found["interval"]) if found["scenes"] else None


def _given_table(granularities: Mapping[str, Any], report: Any) -> None:
    report.table(
        "What is given",
        [
            "granularity",
            dict(name="points", digits=1),
            dict(name="frames", digits=1),
            dict(name="objects", unit="%", digits=0),
            "judged by",
            "options",
        ],
        [
            [
                one["title"],
                one["points"],
                one["frames"],
                100 * one["objects"],
                judging.TITLE_OF[one["measure"]],
                ", ".join(f"`{name}={value}`" for name, value in one["follow"].items()) or "none",
            ]
            for one in granularities.values()
        ],
        GIVEN,
    )


def _detail(config: Any, trial: Any, column: str, metrics: Mapping[str, Any], report: Any) -> None:
    """All values at one granularity, and how far each variant is from the main one."""
    one, main = trial.scenes[column].granularity, config.evaluate.main
    claims, several = metrics["claims"][column], max(len(r.stages) for r in trial.rows.values()) > 1
    rest = [name for name in judging.VALUES if name != one.value]
    rows = []
    for name, found in metrics["variants"].items():
        measured = found["measured"][column]
        seeds = measured[one.value]["seeds"]
        rows.append(
            [
                found["title"],
                _cell(measured, one.value),
                _against(claims.get(name)),
                *(_mean(measured, value) for value in rest),
                *([_seeds(seeds, DIGITS[one.value])] if several else []),
            ]
        )
    digits = DIGITS[one.value]
    report.table(
        one.title,
        [
            "variant",
            _value_column(one.value),
            dict(name="main minus it", unit=one.measured, digits=digits),
            *(_value_column(value) for value in rest),
            *(["by seed"] if several else []),
        ],
        rows,
        f"{metrics['variants'][main]['measured'][column][one.value]['scenes']} scenes count. "
        f"Main minus it: {trial.rows[main].title} minus the variant of the row, paired; "
        f"{'below' if one.better == 'lower' else 'above'} zero {trial.rows[main].title} is better.",
        highlight=[trial.rows[main].title],
        reference=[trial.rows[name].title for name in KNOWN],
    )


def _value_column(value: str) -> dict[str, Any]:
    name, unit = {
        "error": ("TrajErr", "as given"),
        "error_all": ("TrajErr", "of all"),
        "similarity": ("TrajSIM", ""),
        "lost": ("lost", "%"),
        "first_frame": ("first frame", "1/255"),
    }[value]
    return dict(name=name, unit=unit, better=judging.BETTER[value], digits=DIGITS[value])


def _against(found: Mapping[str, Any] | None) -> Any:
    return None if found is None else (found["difference"], *found["interval"])


def _seeds(seeds: Sequence[float], digits: int) -> str:
    return " ".join(f"{seed:.{digits}f}" for seed in seeds) if len(seeds) > 1 else "one"


def _curve_figure(config: Any, trial: Any, report: Any) -> None:
    """Every granularity over the curriculum."""
    if not trial.curve:
        return
    plots: dict[str, dict[str, Any]] = {}
    for column, of in trial.scenes.items():
        one, lines = of.granularity, plots.setdefault(of.granularity.measured, {})
        means = [point.values[column] for point in trial.curve]
        lines[one.short] = [point.step for point in trial.curve], means
    ends = {p.stage: p.step for p in trial.curve}
    figure = curves.small_multiples(plots, x_label="step")
    report.figure(
        figure,
        f"Over the curriculum, on the first {config.evaluate.curve_scenes} scenes. Stages end at "
        + ", ".join(f"{step} ({stage})" for stage, step in ends.items())
        + ".",
    )


# ---- pictures ------------------------------------------------------------------------------------


def _gallery(config: Any, trial: Any, column: str, results: Any, report: Any) -> None:
    """The first scenes at a granularity: what steers them, and what every variant made of it."""
    of = trial.scenes[column]
    report.section(f"Scenes: {of.granularity.title}", SCENES)
    for i in range(min(config.report.scenes, len(of.clips))):
        _scene(config, trial, column, i, [*trial.rows], results, report)


def _scene(
    config: Any, trial: Any, column: str, i: int, names: Sequence[str], results: Any, report: Any
) -> None:
    of, height, main = trial.scenes[column], config.report.height, config.evaluate.main
    clip, goal = of.clips[i], of.goals[i]
    aimed = goal.counts & goal.given.any(1)[:, None]
    guide = trial.rows[main].cells[column].guides[i]
    controls = () if guide is None else guide.videos()
    shown = films.control_panels(clip.video[0], of.steering[i], controls, height)
    for name in names:
        if name not in KNOWN:
            frames = trial.rows[name].cells[column].frames[i]
            accent = canvas.THEME.prediction if name == main else None
            drawn = films.with_aim(frames, goal.places, aimed, height)
            shown.append(panels.Panel(trial.rows[name].short, drawn, accent=accent))
    drawn = films.with_aim(clip.video, goal.places, aimed, height)
    shown.append(panels.Panel("true clip", drawn, accent=canvas.THEME.truth))
    judged = trial.rows[main].cells[column].judged[i]
    words = f"{clip.caption} — {trial.rows[main].short}: {_verdict_words(judged, of.granularity)}"
    _film(config, shown, words, clip, results, report)


def _verdict_words(judged: judging.Judged, one: Any) -> str:
    values = judging.values_of([judged])
    value = float(values[one.value][0])
    if math.isnan(value):
        return "nothing that counts is given"
    lost = ", an object is lost" if judged.lost > 0 else ""
    return f"{one.measured} {value:.3f}{lost}"


def _film(
    config: Any, shown: Sequence[panels.Panel], words: str, clip: Clip, results: Any, report: Any
) -> None:
    strip = panels.strip(shown)
    film = media.encode_animation(
        strip,
        config.report.fps or clip.fps,
        provenance={**results.provenance, "caption": clip.caption},
    )
    report.media(film.data, words, least_width=min(strip.shape[2], 900))


def _failures(config: Any, trial: Any, results: Any, report: Any) -> None:
    """The scenes in which the main variant is farthest from what was given, each once."""
    row, worst = trial.rows[config.evaluate.main], {}
    for column, of in trial.scenes.items():
        if of.granularity.measure == judging.TRAJERR:
            errors = judging.values_of(row.cells[column].judged)["error"]
            for i in np.flatnonzero(np.isfinite(errors)).tolist():
                if i not in worst or errors[i] > worst[i][0]:
                    worst[i] = float(errors[i]), column
    chosen = sorted(worst, key=lambda i: -worst[i][0])[: config.report.failures]
    if not chosen:
        return
    report.section(
        "Worst scenes", f"Of {row.title}, by TrajErr, each scene at its worst granularity."
    )
    for i in chosen:
        column = worst[i][1]
        report.text(f"### {trial.scenes[column].granularity.title}, scene {i}")
        _scene(config, trial, column, i, [config.evaluate.main], results, report)


def show_videos(
    config: Any, clips: Sequence[Clip], videos: Sequence[Video], results: Any, report: Any
) -> None:
    """Videos beside what steered them and the true clips."""
    height = config.report.height
    for clip, video in zip(clips, videos, strict=True):
        shown = []
        for label, frames in zip(("identities", "colours"), video.guide.videos(), strict=True):
            if label == "identities" or frames.any():
                shown.append(panels.Panel(label, at_height(frames, height)))
        accents = {"sample": canvas.THEME.prediction, "true clip": canvas.THEME.truth}
        for label, frames in (("sample", video.frames), ("true clip", clip.video)):
            shown.append(panels.Panel(label, at_height(frames, height), accent=accents[label]))
        _film(config, shown, clip.caption or clip.id, clip, results, report)
