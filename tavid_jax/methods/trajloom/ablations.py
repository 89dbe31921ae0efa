"""The paper's ablations at small scale: what each part of the recipe does to the same scenes.

`config.ablations` holds three lists of rows: `vae` of (label, stage) for the autoencoder's
encoding and regulariser, `boundary` and `on_policy` of (label, variant) for the flow. The first row
of each is the full recipe; the others are compared with it, paired over scenes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tavid_jax.engine.method import Params, Results
from tavid_jax.methods.trajloom import judging, pages
from tavid_jax.methods.trajloom.forecaster import Forecaster
from tavid_jax.methods.trajloom.latents import blank_statistics
from tavid_jax.methods.trajloom.settings import read_settings
from tavid_jax.metrics import bootstrap, forecast

ONE_SEED = "One training seed: the intervals cover scenes, not training runs."


def evaluate(system: Any, results: Results, inputs: Any, report: Any) -> dict[str, Any]:
    """Judge every row on the same unseen scenes; one table per list."""
    config = system.config
    source = inputs.open("test")
    clips = [source[i] for i in range(len(source))]
    settings = system.settings(config.main_variant)
    scenes = judging.load_scenes(clips, settings.geometry, settings.features())
    report.section("Ablations", f"{len(clips)} unseen scenes; intervals are 95 % over scenes.")
    metrics = {
        "vae": _vae_table(config, results, scenes, report),
        "truth": judging.smooth(scenes.future, scenes, scenes.future_visible),
    }
    cache: dict[str, dict[str, Any]] = {}
    for name, title in (("boundary", "Boundary hints"), ("on_policy", "On-policy fine-tuning")):
        rows = {
            label: _judge_variant(system, results, scenes, variant, cache)
            for label, variant in config.ablations[name]
        }
        metrics[name] = _flow_table(report, title, rows, metrics["truth"], results, config, name)
    pages.training_curves(report, results)
    report.provenance(dict(results.provenance))
    metrics["seconds"] = dict(results.seconds)
    metrics["provenance"] = dict(results.provenance)
    return metrics


def _vae_table(config: Any, results: Results, scenes: Any, report: Any) -> dict[str, Any]:
    """The paper's ablation of the autoencoder: encoding and regulariser, by what is rebuilt."""
    rows, metrics = [], {}
    truth = judging.smooth(scenes.future, scenes, scenes.future_visible)
    for label, stage in config.ablations.vae:
        settings = read_settings(config, config.stages[stage].options)
        channels = settings.vae.config.latent_channels
        params: Params = {**results.params(stage), "statistics": blank_statistics(channels)}
        model = Forecaster(settings, params)
        future, history = (
            judging.reconstruct(model, scenes, half, config.evaluate.batch_size)
            for half in ("future", "history")
        )
        metrics[label] = {"future": future, "history": history}
        rows.append(
            [
                label,
                (future["vepe_px"], *future["vepe_interval"]),
                (history["vepe_px"], *history["vepe_interval"]),
                1e3 * future["flow_tv"],
                1e3 * future["div_curl"],
            ]
        )
    rows.append(["truth", None, None, 1e3 * truth["flow_tv"], 1e3 * truth["div_curl"]])
    report.table(
        "Autoencoder: offsets and regulariser",
        [
            "autoencoder",
            dict(name="VEPE future", unit="px", better="lower", digits=2),
            dict(name="VEPE history", unit="px", better="lower", digits=2),
            dict(name="FlowTV", unit="1e-3/frame", digits=1),
            dict(name="DivCurlE", unit="1e-3/frame²", digits=1),
        ],
        rows,
        note=ONE_SEED,
        highlight=[config.ablations.vae[0][0]],
        reference=["truth"],
    )
    return metrics


def _judge_variant(
    system: Any, results: Results, scenes: Any, variant: str, cache: dict[str, Any]
) -> dict[str, Any]:
    if variant not in cache:
        evaluate = system.config.evaluate
        forecaster = system.forecaster(results, variant)
        futures = judging.run_forecaster(
            forecaster, scenes, evaluate.samples, evaluate.batch_size, evaluate.seed
        )
        samples = [judging.measure(tracks, scenes) for tracks in futures.tracks]
        cache[variant] = {
            # Smoothness and distances as the mean over samples: one sample's are noisy.
            **{
                name: float(np.mean([sample[name] for sample in samples]))
                for name in ("ade_px", "fde_px", "ade_moving_px", "flow_tv", "div_curl")
            },
            **{
                name: float(np.mean([sample[name]["fvmd"] for sample in samples]))
                for name in ("fvmd", "fvmd_long")
            },
            **judging.measure_samples(futures, scenes),
            "ade_per_clip": forecast.mean_of_k(
                futures.tracks, scenes.future, scenes.future_visible
            ),
        }
    return cache[variant]


def _flow_table(
    report: Any,
    title: str,
    rows: dict[str, dict[str, Any]],
    truth: dict[str, float],
    results: Results,
    config: Any,
    name: str,
) -> dict[str, Any]:
    """Boundary hints or on-policy steps, as the paper ablates them; time is of the flow stages."""
    full = next(iter(rows.values()))["ade_per_clip"]
    metrics: dict[str, Any] = {}
    cells = []
    for label, row in rows.items():
        difference = bootstrap.paired_difference(
            row["ade_per_clip"], full, num_resamples=config.evaluate.resamples
        )
        seconds = _flow_seconds(results, config, dict(config.ablations[name])[label])
        apart = row["ade_per_clip"] is not full
        metrics[label] = {k: v for k, v in row.items() if k != "ade_per_clip"} | {
            "ade_minus_full_px": [difference.mean, difference.low, difference.high],
            "flow_seconds": seconds,
        }
        cells.append(
            [
                label,
                row["ade_px"],
                (difference.mean, difference.low, difference.high) if apart else None,
                row["fvmd"],
                row["fvmd_long"],
                1e3 * row["flow_tv"],
                1e3 * row["div_curl"],
                seconds,
            ]
        )
    cells.append(
        ["truth", None, None, None, None, 1e3 * truth["flow_tv"], 1e3 * truth["div_curl"], None]
    )
    report.table(
        title,
        [
            "flow",
            dict(name="ADE", unit="px", better="lower", digits=2),
            dict(name="ADE minus full", unit="px", digits=2),
            dict(name="FVMD", better="lower", digits=0),
            dict(name="FVMD-Long", better="lower", digits=0),
            dict(name="FlowTV", unit="1e-3/frame", digits=1),
            dict(name="DivCurlE", unit="1e-3/frame²", digits=1),
            dict(name="training", unit="s", digits=0),
        ],
        cells,
        note=f"Means over {config.evaluate.samples} samples of every scene. {ONE_SEED}",
        highlight=[next(iter(rows))],
        reference=["truth"],
    )
    return metrics


def _flow_seconds(results: Results, config: Any, variant: str) -> float:
    """Training time of a variant's flow: its own stage and the flow stages it started from."""
    stage, _, step = config.variants[variant][2].partition("@")
    share = int(step) / config.stages[stage].steps if step else 1.0
    own = results.seconds[stage] * share
    parents = [s for s in config.stages[stage].init_from if config.stages[s].method == "flow"]
    return own + sum(results.seconds[parent] for parent in parents)
