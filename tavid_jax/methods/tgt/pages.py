"""TGT's report: the claims in words, the paper's tables, videos under their trajectories."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tavid_jax.data.clip import Clip
from tavid_jax.data.synthetic import located_judging as judging
from tavid_jax.methods.finetune.seeds import compare, measure
from tavid_jax.methods.tgt import films
from tavid_jax.methods.tgt.variants import read_tables
from tavid_jax.tracks.trajectories import Trajectories
from tavid_jax.viz import curves, media, panels

ORACLE = "oracle"
# Value -> its column: name, unit, which is better, factor, digits.
COLUMNS: dict[str, tuple[str, str, str, float, int]] = {
    "epe": ("EPE", "px", "lower", 1.0, 2),
    "swap": ("swapped", "%", "lower", 100.0, 1),
    "missing": ("missing", "%", "lower", 100.0, 1),
    "colours": ("colours", "%", "higher", 100.0, 1),
    "clean": ("clean", "%", "higher", 100.0, 1),
    "spread": ("spread", "", "lower", 1.0, 2),
}
TABLE = (
    "Means over scenes with 95 % bootstrap intervals (of several seeds, of the mean of the "
    "trainings in every scene). **EPE**: distance of the middle of the pixels of an entity's "
    "colour from its trajectory, px of a {height}x{width} frame, over the frames in which the "
    "trajectory is visible; a colour that is gone stays where it was last. **Swapped**: "
    "entities nearer to another one's trajectory than to their own. **Missing**: entities whose "
    "colour is not seen in half of the frames in which it should be. **Colours**: videos that show "
    "all of them. **Clean**: share of what is not background that has a named colour. **Spread**: "
    "of an entity's pixels, over the true one's: the middle of a torn blob flatters EPE. All rows "
    "saw the same captions, noise and trajectories."
)
SCENES = (
    "The first scenes, not chosen. Lines: the trajectories that were given, each in a colour of "
    "its own (not that of its entity), the same over every video. The text-only base never saw "
    "them."
)
PAIRED = "paired bootstrap over {} scenes, the same noise"
CLAIMED = ("epe", "swap", "missing")
# Columns that have room for their intervals; metrics.json has all of them.
DETAILED = ("epe", "swap", "missing")


def trial_page(config: Any, trial: Any, results: Any, report: Any) -> dict[str, Any]:
    """Claims, tables, curves and pictures of a `Trial`; returns its numbers."""
    resamples = config.evaluate.resamples
    size = trial.targets[0].size_hw
    variants = {
        name: {
            "title": row.title,
            "stages": list(row.stages),
            "options": dict(row.options),
            "measured": measure(row.values, resamples),
        }
        for name, row in trial.rows.items()
    }
    metrics: dict[str, Any] = {
        "title": config.evaluate.title,
        "scenes": len(trial.clips),
        "entities": int(sum(t.num_points for t in trial.targets)),
        "size_hw": list(size),
        "variants": variants,
        "tables": {},
    }
    for name, options in read_tables(config).items():
        report.section(
            options.title,
            f"{len(trial.clips)} scenes with {metrics['entities']} entities that no training or "
            "tuning has seen.",
        )
        metrics["tables"][name] = _claims(config, trial, options, report)
        _table(trial, options, variants, size, report)
        _figure(options, variants, report)
    _gallery(config, trial, results, report)
    _failures(config, trial, results, report)
    return metrics


def _claims(config: Any, trial: Any, options: Any, report: Any) -> dict[str, Any]:
    """Main minus each other variant of a table, whichever way it falls: variant -> value ->
    {"difference", "interval", "scenes"}."""
    resamples, main = config.evaluate.resamples, trial.rows[options.main]
    claims: dict[str, Any] = {}
    for name in options.order:
        if name == options.main:
            continue
        other = trial.rows[name]
        claims[name] = {
            value: compare(main.values, other.values, value, resamples) for value in judging.VALUES
        }
        for value in CLAIMED if name == options.get("against", "") else CLAIMED[:1]:
            _verdict(report, main, other, value, claims[name][value])
    return {"main": options.main, "claims": claims}


def _verdict(report: Any, main: Any, other: Any, value: str, found: Mapping[str, Any]) -> None:
    name, unit, better, factor, digits = COLUMNS[value]
    if not found["scenes"]:
        return
    report.verdict(
        f"{main.title}: {name}",
        other.title,
        tuple(factor * x for x in (found["difference"], *found["interval"])),
        unit="points" if unit == "%" else unit,
        better=better,
        digits=digits,
        note=f"({PAIRED.format(found['scenes'])})",
    )


# ---- tables and curves ---------------------------------------------------------------------------


def _table(
    trial: Any,
    options: Any,
    variants: Mapping[str, Any],
    size_hw: tuple[int, int],
    report: Any,
) -> None:
    names = [ORACLE, *options.order]
    several = max(len(trial.rows[name].stages) for name in names) > 1
    rows = [
        [
            variants[name]["title"],
            *(_cell(variants[name]["measured"], value) for value in COLUMNS),
            *([_seeds(variants[name]["measured"]["epe"]["seeds"])] if several else []),
        ]
        for name in names
    ]
    report.table(
        options.title,
        [
            "variant",
            *(
                dict(name=name, unit=unit, better=better, digits=digits)
                for name, unit, better, _, digits in COLUMNS.values()
            ),
            *(["EPE by seed"] if several else []),
        ],
        rows,
        TABLE.format(height=size_hw[0], width=size_hw[1]),
        highlight=[trial.rows[options.main].title],
        reference=[trial.rows[ORACLE].title],
    )


def _cell(measured: Mapping[str, Any], value: str) -> tuple[float, ...] | float | None:
    found, factor = measured[value], COLUMNS[value][3]
    if not found["scenes"]:
        return None
    mean = factor * found["value"]
    return (mean, *(factor * x for x in found["interval"])) if value in DETAILED else mean


def _seeds(seeds: Sequence[float]) -> str:
    return " ".join(f"{seed:.2f}" for seed in seeds) if len(seeds) > 1 else "one"


def _figure(options: Any, variants: Mapping[str, Any], report: Any) -> None:
    """Values over an option of sampling, where a table sweeps one."""
    swept = options.get("over", "")
    if not swept:
        return
    places = [float(variants[name]["options"][swept]) for name in options.order]
    order = np.argsort(places)
    lines: dict[str, Any] = {}
    for value, (name, unit, _, factor, _) in COLUMNS.items():
        ys = [factor * variants[n]["measured"][value]["value"] for n in options.order]
        axis = f"{name}, {unit}"
        lines[axis] = {"": ([places[i] for i in order], [ys[i] for i in order])}
    figure = curves.small_multiples(lines, x_label=options.get("over_label", swept))
    report.figure(figure, f"{options.title}: means over scenes.")


# ---- pictures ------------------------------------------------------------------------------------


def _gallery(config: Any, trial: Any, results: Any, report: Any) -> None:
    for options in list(read_tables(config).values())[:1]:
        report.section("Scenes", SCENES)
        names = [options.main, *(name for name in options.order if name != options.main)]
        for i in range(min(config.report.scenes, len(trial.clips))):
            _scene(config, trial, names, i, results, report)


def _scene(
    config: Any, trial: Any, names: Sequence[str], i: int, results: Any, report: Any
) -> None:
    clip, targets = trial.clips[i], trial.targets[i]
    videos = [(trial.rows[name].short, trial.rows[name].frames[i]) for name in names]
    main = trial.rows[names[0]]
    values = judging.values_of([main.judged[i]])
    words = f"{clip.caption} — {main.short}: {_words(values)}"
    shown = films.sample_panels(clip.video, targets, videos, config.report.height)
    _film(config, shown, words, clip, results.provenance, report)


def _words(values: Mapping[str, np.ndarray]) -> str:
    error, swapped, missing = (float(values[name][0]) for name in ("epe", "swap", "missing"))
    said = "no target is visible" if math.isnan(error) else f"EPE {error:.2f} px"
    said += ", swapped" if swapped > 0 else ""
    return said + (", one is missing" if missing > 0 else "")


def _failures(config: Any, trial: Any, results: Any, report: Any) -> None:
    """The scenes in which the main variant of the first table is farthest from its targets."""
    main = next(iter(read_tables(config).values())).main
    row = trial.rows[main]
    errors = row.values[0]["epe"]
    known = np.flatnonzero(np.isfinite(errors))
    worst = known[np.argsort(-errors[known])][: config.report.failures]
    if not len(worst):
        return
    report.section("Worst scenes", f"Of {row.title}, by EPE.")
    for i in worst.tolist():
        _scene(config, trial, [main], i, results, report)


def samples_page(
    config: Any,
    title: str,
    clips: Sequence[Clip],
    targets: Sequence[Trajectories],
    videos: Sequence[films.Frames],
    report: Any,
) -> None:
    """Videos of clips beside the true ones, with the trajectories over both; no numbers."""
    report.section(title, "The first clips, not chosen, with the trajectories that were given.")
    for clip, aim, frames in zip(clips, targets, videos, strict=True):
        shown = films.sample_panels(clip.video, aim, [("sample", frames)], config.report.height)
        _film(config, shown, text_of(clip, aim), clip, {}, report)


def text_of(clip: Clip, targets: Trajectories) -> str:
    """The caption and the texts of the trajectories."""
    texts = ", ".join(f'"{text}"' for text in dict.fromkeys(targets.texts))
    return f"{clip.caption or clip.id} — {texts or 'no trajectory'}"


def _film(
    config: Any,
    shown: Sequence[Any],
    words: str,
    clip: Clip,
    provenance: Mapping[str, Any],
    report: Any,
) -> None:
    strip = panels.strip(shown)
    film = media.encode_animation(
        strip, config.report.fps or clip.fps, provenance={**provenance, "caption": clip.caption}
    )
    report.media(film.data, words, least_width=min(strip.shape[2], 900))
