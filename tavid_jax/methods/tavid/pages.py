"""TAViD's report: the claims in words, the table behind them, moving pictures, curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, UInt8

from tavid_jax.methods.finetune import pages as finetune_pages
from tavid_jax.methods.finetune.seeds import compare, measure
from tavid_jax.methods.tavid import judging
from tavid_jax.methods.tavid.variants import lookalike
from tavid_jax.viz import curves, heat, media, panels

Frames = UInt8[np.ndarray, "T H W 3"]

TOUCHES = (
    "Percent of scenes, with 95 % bootstrap intervals over scenes (of several seeds, the mean of "
    "the trainings in every scene). A touch counts where one actor and the boxes are seen, and "
    "little else, in the last frame. *Swap*: the same image, caption and noise with the mask of a "
    "look-alike (of the first seed); the share in which each mask is followed, of the scenes in "
    "which both videos touch something. IoU: of the trigger word's attention in the "
    "first frame with the mask, the mean over blocks, noise levels and scenes."
)
CURVES = (
    "loss",
    "denoising",
    "attention",
    "attention_iou",
    "attention_inside",
    "attention_outside",
)
MASKED, OTHER = (86, 211, 150), (255, 139, 98)


def trial_page(config: Any, trial: Any, results: Any, report: Any) -> dict[str, Any]:
    """One set of scenes: claims, table, curves and pictures; returns its numbers."""
    resamples = config.evaluate.resamples
    scenes = len(trial.clips)
    report.section(trial.title, f"{scenes} scenes that no training or tuning has seen.")
    metrics: dict[str, Any] = {"title": trial.title, "scenes": scenes, "variants": {}}
    for name, row in trial.rows.items():
        metrics["variants"][name] = {
            "title": row.title,
            "stages": list(row.stages),
            "touched": measure(row.values, resamples),
            "attention": dict(row.attention),
            "curve": {step: measure([values], resamples) for step, values in row.curve.items()},
        }
    metrics["claims"] = _claims(config, trial, report)
    metrics["attention"] = _attention_claim(config, trial, report)
    _table(trial, metrics["variants"], report)
    _attention_figure(trial, report)
    _map_pictures(trial, report)
    _curve_figure(config, metrics["variants"], report)
    _show(config, trial, results, report)
    return metrics


# ---- claims --------------------------------------------------------------------------------------


def _claims(config: Any, trial: Any, report: Any) -> dict[str, Any]:
    """Differences between variants, each a line of the report, whichever way it falls."""
    resamples, rows = config.evaluate.resamples, trial.rows
    claims: dict[str, Any] = {}
    main = rows.get(config.evaluate.main)
    if main is None:
        return claims
    found = judging.against_other(main.values, resamples)
    claims["masked minus other"] = found
    _verdict(report, f"{main.title}: the masked object", "a look-alike", found, "touched")
    for name, row in rows.items():
        if name == config.evaluate.main:
            continue
        found = compare(main.values, row.values, "masked", resamples)
        claims[f"masked, minus {name}"] = found
        _verdict(report, main.title, row.title, found, "the masked object is touched")
    measured = measure(main.values, resamples)["flips_of_touching"]
    claims["flips of touching"] = measured
    if measured["scenes"]:
        low, high = (100 * x for x in measured["interval"])
        report.text(
            f"**Swapping the mask** swaps the touched object in {100 * measured['value']:.1f} % "
            f"[{low:.1f}, {high:.1f}] of the {measured['scenes']} scenes in which both videos "
            "touch something."
        )
    return claims


def _attention_claim(config: Any, trial: Any, report: Any) -> dict[str, Any]:
    """How much better attention overlaps with the mask under the loss, in the blocks it leads."""
    rows, main = trial.rows, config.evaluate.main
    if "no_loss" not in rows or main not in rows:
        return {}
    led = config.attention.blocks.chosen
    means, errors = {}, {}
    for name in (main, "no_loss"):
        blocks = [row for row in rows[name].attention["blocks"] if row["block"] in led]
        means[name] = float(np.mean([row["iou"] for row in blocks]))
        each = [row["iou_error"] or 0.0 for row in blocks]
        errors[name] = float(np.hypot.reduce(each)) / len(blocks)
    difference = means[main] - means["no_loss"]
    error = float(np.hypot(errors[main], errors["no_loss"]))
    report.verdict(
        f"{rows[main].title}: attention IoU of the led blocks",
        rows["no_loss"].title,
        (difference, difference - 1.96 * error, difference + 1.96 * error),
        better="higher",
        digits=3,
        note=f"({means[main]:.3f} against {means['no_loss']:.3f}; 1.96 standard errors)",
    )
    return {"with": means[main], "without": means["no_loss"], "difference": difference,
            "error": error}  # fmt: skip


def _verdict(
    report: Any, subject: str, reference: str, found: Mapping[str, Any], what: str
) -> None:
    report.verdict(
        subject,
        reference,
        tuple(100.0 * x for x in (found["difference"], *found["interval"])),
        unit="points",
        better="higher",
        digits=1,
        note=f"({what}: share of scenes, paired bootstrap, the same noise)",
    )


# ---- tables and curves ---------------------------------------------------------------------------


def _table(trial: Any, variants: Mapping[str, Any], report: Any) -> None:
    percent = {"unit": "%", "digits": 1}
    seeds = max(len(row.stages) for row in trial.rows.values())
    rows = [
        [
            found["title"],
            *(_cell(found["touched"][name]) for name in ("masked", "other")),
            _cell(found["touched"]["flips_of_touching"]),
            mean_iou(found["attention"]),
            *([_spread(found["touched"]["masked"]["seeds"])] if seeds > 1 else []),
        ]
        for found in variants.values()
    ]
    report.table(
        f"What is touched: {trial.title}",
        [
            "variant",
            dict(name="masked", better="higher", **percent),
            dict(name="look-alike", better="lower", **percent),
            dict(name="swap flips", better="higher", **percent),
            dict(name="IoU", digits=3),
            *(["masked, by seed"] if seeds > 1 else []),
        ],
        rows,
        TOUCHES,
        highlight=[next(iter(variants.values()))["title"]],
    )


def _cell(found: Mapping[str, Any]) -> Any:
    if not found["scenes"]:
        return None
    return tuple(100.0 * x for x in (found["value"], *found["interval"]))


def _spread(seeds: Sequence[float]) -> str:
    return " ".join(f"{100 * seed:.1f}" for seed in seeds) if len(seeds) > 1 else "one seed"


def mean_iou(attention: Mapping[str, Any]) -> float:
    """Over the blocks of a study, see `pipelines.attention.study`."""
    return float(np.mean([block["iou"] for block in attention["blocks"]]))


def _attention_figure(trial: Any, report: Any) -> None:
    """IoU by block, of every variant."""
    lines = {}
    for row in trial.rows.values():
        blocks = row.attention["blocks"]
        numbers = [block["block"] for block in blocks]
        lines[row.title] = (numbers, [block["iou"] for block in blocks])
    figure = curves.small_multiples(
        {"attention IoU by block": lines}, x_label="block", y_label="IoU"
    )
    report.figure(
        figure,
        "How well the trigger word's attention in the first frame overlaps with the mask, block by "
        "block: as many of the highest tokens as the mask has.",
    )


def _map_pictures(trial: Any, report: Any) -> None:
    """The trigger word's attention in the first scene, of the variants that were asked for."""
    for row in trial.rows.values():
        if row.maps is not None:
            picture = media.encode_animation(row.maps[None], 1.0)
            report.media(picture.data, f"{row.title}: first scene", least_width=900)


def _curve_figure(config: Any, variants: Mapping[str, Any], report: Any) -> None:
    """Share of masked touches over the training, where snapshots were judged."""
    lines = {}
    for found in variants.values():
        if not found["curve"]:
            continue
        last = config.stages[found["stages"][0]].steps
        shares = {int(step): one["masked"]["value"] for step, one in found["curve"].items()}
        shares[last] = found["touched"]["masked"]["seeds"][0]
        lines[found["title"]] = ([*shares], [100 * share for share in shares.values()])
    if lines:
        figure = curves.small_multiples(
            {"the masked object is touched": lines}, x_label="step", y_label="% of scenes"
        )
        report.figure(figure, "Learning curves of the first seed.")


def training(config: Any, results: Any, report: Any) -> None:
    """Time and losses of every stage."""
    del config
    finetune_pages.training_curves(report, results, CURVES)


# ---- pictures ------------------------------------------------------------------------------------


def _show(config: Any, trial: Any, results: Any, report: Any) -> None:
    """The first scenes: the masked image, and what every variant made of it."""
    report.text(
        "The first scenes, not chosen. Green: the object whose mask was given, and what came of "
        "it; orange: the look-alike whose mask was given instead, with nothing else changed. "
        "Without a colour: models that read no mask."
    )
    fps = config.report.fps or trial.clips[0].fps
    for i, clip in enumerate(trial.clips[: config.report.scenes]):
        height = config.report.height
        marked = outlined(clip.video[:1], clip.masks[clip.target - 1], height, MASKED)
        marked = outlined(marked, clip.masks[lookalike(clip) - 1], height, OTHER)
        shown = [panels.Panel("image, masks", np.repeat(marked, len(clip.video), axis=0))]
        for row in trial.rows.values():
            for mask, videos in row.shown.items():
                reads = len(row.shown) > 1
                accent = {"own": MASKED, "other": OTHER}[mask] if reads else None
                frames = finetune_pages.at_height(videos[i], height)
                shown.append(panels.Panel(row.short, frames, accent=accent))
        shown.append(panels.Panel("true clip", finetune_pages.at_height(clip.video, height)))
        strip = panels.side_by_side(shown, columns=min(5, len(shown)))
        film = media.encode_animation(
            strip, fps, provenance={**results.provenance, "caption": clip.caption}
        )
        report.media(film.data, clip.caption, least_width=min(strip.shape[2], 900))


def outlined(
    frames: Frames, mask: Bool[np.ndarray, "Y X"], height: int, colour: tuple[int, int, int]
) -> UInt8[np.ndarray, "T h w 3"]:
    """Frames enlarged to a height, with a line around a mask.

    Args:
      frames: to draw on; they may be enlarged already.
      mask: of the object.
      height: of the result, in pixels.
      colour: of the border.
    """
    large = finetune_pages.at_height(frames, height)
    edge = heat.mask_brought(mask.astype(np.float32), large.shape[1:3])
    return np.stack([heat.outlined(frame, edge, colour) for frame in large])
