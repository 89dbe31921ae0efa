"""Reports of forecasts: tables, curves and moving pictures. Fills a report that it is given.

`main` is the key of the forecast that is judged, among those in `metrics["forecast"]`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tavid_jax.data.clip import Clip
from tavid_jax.methods.trajloom.judging import Futures, Scenes
from tavid_jax.metrics.result import finite_mean
from tavid_jax.viz import curves, media, panels

NAMES = {
    "trajloom": "TrajLoom, one sample",
    "whn": "WHN, one sample",
    "stand_still": "stand still",
    "constant_velocity": "constant velocity",
    "constant_acceleration": "constant acceleration",
}
CURVES = ("loss", "vepe_px", "flow", "rollout", "endpoint", "accuracy", "grad_norm")


def label(name: str) -> str:
    """What a forecast's method is called, without the number of its samples."""
    return NAMES.get(name, name).removesuffix(", one sample")


def headline(report: Any, metrics: Mapping[str, Any], title: str, main: str = "trajloom") -> None:
    """Key numbers and verdicts, in words."""
    forecast, versus = metrics["forecast"], metrics["comparison"]
    ours = forecast[main]
    report.section(title)
    cards = [
        dict(
            label="ADE of one sample",
            value=ours["ade_px"],
            unit="px",
            interval=ours["ade_interval"],
            digits=2,
            detail=f"{ours['clips']} unseen clips",
        )
    ]
    best = next((k for k in ours if k.startswith("best_of_") and k.endswith("ade_px")), None)
    if best:
        count = best.split("_")[2]
        cards.append(dict(label=f"ADE, best of {count}", value=ours[best], unit="px", digits=2))
    if "vae" in metrics:
        cards.append(
            dict(
                label="autoencoder error",
                value=metrics["vae"]["vepe_px"],
                unit="px",
                digits=2,
                detail="VEPE of future windows",
            )
        )
    if "visibility" in metrics:
        cards.append(dict(label="visibility F1", value=metrics["visibility"]["f1"], digits=3))
    report.key_numbers(cards)
    for name, row in versus.items():
        report.verdict(
            label(main),
            NAMES.get(name, name),
            (row["ade_difference_px"], *row["interval"]),
            unit="px",
            digits=2,
            note="(ADE of one sample, paired bootstrap over clips)",
        )


def forecast_table(
    report: Any, metrics: Mapping[str, Any], note: str = "", main: str = "trajloom"
) -> None:
    """All forecasts side by side, then by kind of motion."""
    forecast, truth = metrics["forecast"], metrics["truth"]
    columns = [
        "forecast",
        dict(name="ADE", unit="px", better="lower", digits=2),
        dict(name="FDE", unit="px", better="lower", digits=2),
        dict(name="ADE, moving points", unit="px", better="lower", digits=2),
        dict(name="FVMD", better="lower", digits=0),
        dict(name="FVMD-Long", better="lower", digits=0),
        dict(name="FlowTV", unit="1e-3/frame", digits=1),
        dict(name="DivCurlE", unit="1e-3/frame²", digits=1),
    ]
    rows = [
        [
            NAMES.get(name, name),
            (row["ade_px"], *row["ade_interval"]),
            row["fde_px"],
            row["ade_moving_px"],
            row["fvmd"]["fvmd"],
            row["fvmd_long"]["fvmd"],
            1e3 * row["flow_tv"],
            1e3 * row["div_curl"],
        ]
        for name, row in forecast.items()
    ]
    rows.append(
        ["truth", None, None, None, None, None, 1e3 * truth["flow_tv"], 1e3 * truth["div_curl"]]
    )
    report.table(
        "Forecasts",
        columns,
        rows,
        note=note
        or "FlowTV and DivCurlE measure smoothness: a frozen field scores 0, so closest to the "
        "truth is best, not smallest.",
        highlight=[NAMES[main]],
        reference=["truth"],
    )


def sample_table(report: Any, ours: Mapping[str, Any], main: str = "trajloom") -> None:
    """One sample, the mean and the best of K."""
    rows = [
        [label, value]
        for label, value in (
            ("one sample", ours["ade_px"]),
            *(
                (key.removesuffix("_ade_px").replace("_", " "), value)
                for key, value in ours.items()
                if "_of_" in key and key.endswith("_ade_px")
            ),
        )
    ]
    report.table(
        "Several samples of the same clip",
        [label(main), dict(name="ADE", unit="px", better="lower", digits=2)],
        rows,
        note="The mean of several forecasts has the lowest error and moves least; a single sample "
        "is one of several possible futures.",
    )


def kind_table(report: Any, metrics: Mapping[str, Any], main: str = "trajloom") -> None:
    """ADE by kind of motion of the object that a point belongs to."""
    forecast = metrics["forecast"]
    kinds = sorted(forecast[main]["ade_by_kind_px"])
    report.table(
        "ADE by kind of motion",
        ["motion", *(dict(name=NAMES[n], unit="px", digits=2) for n in forecast)],
        [[kind, *(forecast[n]["ade_by_kind_px"][kind] for n in forecast)] for kind in kinds],
        note="The background moves with the camera alone. `accelerate` is a parabola: constant "
        "acceleration continues it exactly.",
    )


def clip_table(report: Any, errors: Mapping[str, np.ndarray], files: list[str]) -> dict[str, Any]:
    """Mean ADE over the windows of every file, against the tracker; returns the same numbers."""
    metrics: dict[str, Any] = {"files": {}, "forecast": {}}
    rows = []
    for file in dict.fromkeys(files):
        places = np.array([name == file for name in files])
        means = {name: finite_mean(values[places]) for name, values in errors.items()}
        metrics["files"][file] = {
            "windows": int(places.sum()),
            **{name: {"ade_px": value} for name, value in means.items()},
        }
        rows.append([file, int(places.sum()), *means.values()])
    overall = {name: finite_mean(values) for name, values in errors.items()}
    metrics["forecast"] = {name: {"ade_px": value} for name, value in overall.items()}
    rows.append(["all windows", len(files), *overall.values()])
    columns = [dict(name=NAMES[name], unit="px", digits=2) for name in errors]
    report.table(
        "ADE against the tracker", ["clip", dict(name="windows", digits=0), *columns], rows
    )
    return metrics


def training_curves(report: Any, results: Any) -> None:
    """What each stage logged."""
    report.section("Training")
    seconds = results.seconds
    report.table(
        "Time by stage",
        ["stage", dict(name="time", unit="s", digits=0)],
        [[stage, value] for stage, value in seconds.items()],
    )
    for stage, records in results.curves.items():
        names = [n for n in CURVES if records and n in records[0]]
        if len(records) > 1 and names:
            # Few records are hardly smoothed: the average would lag behind the curve.
            decay = max(0.0, min(0.9, 1 - 10 / len(records)))
            figure = curves.loss_curves(records, names, title=stage, decay=decay)
            report.figure(figure, f"Stage `{stage}`")


def prepared_clip(report: Any, clip: Clip, settings: Any) -> None:
    """A clip with its tracks, as models see it; `settings` is the config's `report`."""
    strip = panels.track_panel(
        clip.video,
        clip.tracks,
        clip.visibility,
        size_hw=clip.size_hw,
        out_height=settings.height,
    )
    film = media.encode_animation(strip, settings.fps)
    report.media(film.data, clip.caption or clip.id, least_width=260)


def moving_pictures(
    scenes: Scenes,
    futures: Futures,
    frames: list[np.ndarray],
    settings: Any,
    provenance: Mapping[str, str],
    truth: str = "truth",
    main: str = "trajloom",
) -> list[media.Media]:
    """`strips` as animations; `settings` is `config.report`."""
    return [
        media.encode_animation(strip, settings.fps, provenance={**provenance, "clip": name})
        for name, strip in zip(
            scenes.ids, strips(scenes, futures, frames, settings.height, truth, main), strict=True
        )
    ]


def strips(
    scenes: Scenes,
    futures: Futures,
    frames: list[np.ndarray],
    height: int,
    truth: str = "truth",
    main: str = "trajloom",
) -> list[np.ndarray]:
    """One film per clip: history | first forecast | truth, trails over the frames.

    Args:
      frames: uint8 (T + T2, H', W', 3) per clip, of any size.
      height: of each picture in px.
      truth: what the last panel is called.
    """
    split, future = scenes.history.shape[2], scenes.geometry.frames
    return [
        panels.forecast_panel(
            video[:split],
            scenes.history[i],
            scenes.history_visible[i],
            futures.tracks[0, i],
            futures.visible[0, i],
            scenes.future[i],
            scenes.future_visible[i],
            size_hw=scenes.geometry.size_hw,
            out_height=height,
            future_frames=video[split : split + future],
            prediction_labels=label(main),
            truth_label=truth,
        )
        for i, video in enumerate(frames)
    ]
