"""Forecasting whole sources and measuring it: the same arrays for all that is compared."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, Float, Int

from tavid_jax.data.clip import Clip, ClipError
from tavid_jax.methods.trajloom.examples import Features, Geometry, example_of
from tavid_jax.methods.trajloom.forecaster import Forecaster
from tavid_jax.metrics import bootstrap, epe, forecast, fvmd, smoothness
from tavid_jax.metrics.result import finite_mean
from tavid_jax.metrics.visibility import visibility_scores
from tavid_jax.tracks import baselines

BASELINES = baselines.BASELINES


@dataclasses.dataclass
class Scenes:
    """C clips as arrays: N points, T frames of past and F of future, pixels.

    Attributes:
      labels: (C, N) what each point belongs to: "background", or its object's kind of motion.
      arrays: the examples as the models read them, stacked.
    """

    ids: list[str]
    geometry: Geometry
    history: Float[np.ndarray, "C N T 2"]
    history_visible: Bool[np.ndarray, "C N T"]
    future: Float[np.ndarray, "C N F 2"]
    future_visible: Bool[np.ndarray, "C N F"]
    labels: np.ndarray
    arrays: dict[str, np.ndarray]


@dataclasses.dataclass
class Futures:
    """K futures of C clips."""

    tracks: Float[np.ndarray, "K C N T 2"]
    visible: Bool[np.ndarray, "K C N T"]
    probability: Float[np.ndarray, "K C N T"] | None = None


def load_scenes(clips: list[Clip], geometry: Geometry, features: Features | None) -> Scenes:
    """Prepare clips for judging, in order.

    Raises ClipError when there are none, or one that does not fit the geometry.
    """
    if not clips:
        raise ClipError("no clips: at least one is needed")
    examples = [example_of(clip, geometry, features) for clip in clips]
    ids = [example.pop("id") for example in examples]
    arrays = {name: np.stack([e[name] for e in examples]) for name in examples[0]}
    return Scenes(
        ids=ids,
        geometry=geometry,
        history=point_major(arrays["history_tracks"]),
        history_visible=point_major(arrays["history_visibility"]),
        future=point_major(arrays["future_tracks"]),
        future_visible=point_major(arrays["future_visibility"]),
        labels=np.stack([labels_of(clip) for clip in clips]),
        arrays=arrays,
    )


def point_major(x: np.ndarray) -> np.ndarray:
    """(..., T, gh, gw[, 2]) -> (..., N, T[, 2]), row-major points."""
    grid_at = x.ndim - 3 if x.dtype != np.bool_ else x.ndim - 2
    flat = x.reshape(*x.shape[:grid_at], -1, *x.shape[grid_at + 2 :])
    return np.moveaxis(flat, grid_at, grid_at - 1)


def labels_of(clip: Clip) -> np.ndarray:
    """What each point belongs to, (N,): "background", its object's kind of motion, or "all"."""
    count = clip.tracks.shape[0]
    if clip.segment is None or not clip.kinds:
        return np.full(count, "all")
    names = np.array(["background", *clip.kinds])
    return names[clip.segment]


def select(scenes: Scenes, index: np.ndarray) -> Scenes:
    """Some of the scenes, by their places."""
    stacked = ("history", "history_visible", "future", "future_visible", "labels")
    return dataclasses.replace(
        scenes,
        ids=[scenes.ids[i] for i in index],
        arrays={name: value[index] for name, value in scenes.arrays.items()},
        **{name: getattr(scenes, name)[index] for name in stacked},
    )


def errors(tracks: Float[np.ndarray, "C N T 2"], scenes: Scenes) -> Float[np.ndarray, "C"]:
    """ADE per clip in pixels; NaN where nothing is seen."""
    return forecast.ade(tracks, scenes.future, scenes.future_visible)


def most_moving(
    motion: Float[np.ndarray, "C"], files: list[str], per_file: int
) -> Int[np.ndarray, "S"]:
    """Places of the windows of every file in which the most moves, files in order."""
    chosen: list[int] = []
    for file in dict.fromkeys(files):
        places = [i for i, name in enumerate(files) if name == file]
        ranked = sorted(places, key=lambda i: -np.nan_to_num(motion[i], nan=-1.0))
        chosen += sorted(ranked[:per_file])
    return np.array(chosen, np.int64)


def run_forecaster(
    forecaster: Forecaster,
    scenes: Scenes,
    samples: int,
    batch_size: int,
    seed: int,
    first: int = 0,
) -> Futures:
    """K futures of every scene, in batches of one size (the last one is padded).

    Scene i draws its noise as clip number `first + i` of (seed): its futures depend neither on the
    batch size nor on which scenes are forecast with it.
    """
    count = len(scenes.ids)
    batch_size = min(batch_size, count)
    parts = []
    for start in range(0, count, batch_size):
        index = np.arange(start, start + batch_size) % count
        batch = {name: value[index] for name, value in scenes.arrays.items()}
        futures = forecaster(batch, jax.random.key(seed), samples, first + index)
        parts.append(jax.device_get((futures.tracks, futures.visible, futures.probability)))
    tracks, visible, probability = (np.concatenate(x)[:count] for x in zip(*parts, strict=True))
    broken = [name for name, x in zip(scenes.ids, tracks, strict=True) if not np.isfinite(x).all()]
    if broken:
        raise ValueError(
            f"the forecast of {len(broken)} of {count} clips is not finite, first {broken[0]!r}: "
            "the weights or the clip are damaged"
        )
    return Futures(
        tracks=np.swapaxes(point_major(tracks), 0, 1),
        visible=np.swapaxes(point_major(visible), 0, 1),
        probability=np.swapaxes(point_major(probability[..., None])[..., 0], 0, 1),
    )


def baseline(name: str, scenes: Scenes) -> Float[np.ndarray, "C N T 2"]:
    """A trivial forecast from the last frames of the history, clipped to the frame."""
    return BASELINES[name](scenes.history, scenes.geometry.frames, clip_hw=scenes.geometry.size_hw)


def reconstruct(
    forecaster: Forecaster, scenes: Scenes, half: str, batch_size: int
) -> dict[str, Any]:
    """VEPE of one half of every scene through the VAE (TrajLoom, eq. 17)."""
    tracks = scenes.arrays[f"{half}_tracks"]
    count = len(tracks)
    batch_size = min(batch_size, count)
    parts = [
        jax.device_get(forecaster.reconstruct(tracks[np.arange(start, start + batch_size) % count]))
        for start in range(0, count, batch_size)
    ]
    predicted = point_major(np.concatenate(parts)[:count])
    truth = scenes.history if half == "history" else scenes.future
    seen = scenes.history_visible if half == "history" else scenes.future_visible
    record = epe.epe(predicted, truth, seen)
    return {
        "vepe_px": record["epe"],
        "vepe_interval": _interval(bootstrap.mean_interval(np.asarray(record["per_video"]))),
        **smooth(predicted, scenes, seen),
    }


def measure(tracks: Float[np.ndarray, "C N T 2"], scenes: Scenes) -> dict[str, Any]:
    """Every number of one forecast: errors in px, smoothness, Frechet motion distances."""
    truth, seen = scenes.future, scenes.future_visible
    grid = scenes.geometry.grid_hw
    cell = min(fvmd.FvmdConfig().cell, *grid)  # a small grid has smaller cells
    ade = errors(tracks, scenes)
    moving = forecast.moving_points(truth, seen)
    by_kind = forecast.by_group(tracks, truth, seen, scenes.labels)
    objects = scenes.labels != "background"
    return {
        "ade_px": finite_mean(ade),
        "ade_interval": _interval(bootstrap.mean_interval(ade)),
        "fde_px": finite_mean(forecast.fde(tracks, truth, seen)),
        "endpoint_px": finite_mean(forecast.endpoint_error(tracks, truth, seen)),
        "ade_moving_px": finite_mean(forecast.ade(tracks, truth, seen & moving[..., None])),
        "ade_objects_px": finite_mean(forecast.ade(tracks, truth, seen & objects[..., None])),
        "ade_by_kind_px": {kind: finite_mean(values) for kind, values in by_kind.items()},
        "vepe_px": epe.epe(tracks, truth, seen)["epe"],
        **smooth(tracks, scenes, seen),
        "fvmd": fvmd.fvmd(tracks, truth, seen, grid, fvmd.FvmdConfig(cell=cell)),
        "fvmd_long": fvmd.fvmd(tracks, truth, seen, grid, fvmd.FvmdConfig(clip_len=0, cell=cell)),
        "clips": len(scenes.ids),
    }


def smooth(
    tracks: Float[np.ndarray, "C N T 2"], scenes: Scenes, seen: Bool[np.ndarray, "C N T"]
) -> dict[str, float]:
    """FlowTV (1/frame) and DivCurlE (1/frame^2), masked by true visibility (eqs. 15, 16)."""
    g = scenes.geometry
    return {
        "flow_tv": finite_mean(smoothness.flow_tv(tracks, seen, g.grid_hw, g.stride)),
        "div_curl": finite_mean(smoothness.div_curl_energy(tracks, seen, g.grid_hw, g.stride)),
    }


def measure_samples(futures: Futures, scenes: Scenes) -> dict[str, float]:
    """What K samples of a clip say together."""
    truth, seen = scenes.future, scenes.future_visible
    k = len(futures.tracks)
    return {
        f"best_of_{k}_ade_px": finite_mean(forecast.best_of_k(futures.tracks, truth, seen)),
        f"best_of_{k}_fde_px": finite_mean(
            forecast.best_of_k(futures.tracks, truth, seen, at="last")
        ),
        f"average_of_{k}_ade_px": finite_mean(forecast.mean_of_k(futures.tracks, truth, seen)),
        f"mean_forecast_of_{k}_ade_px": finite_mean(
            forecast.error_of_mean(futures.tracks, truth, seen)
        ),
    }


def compare(
    first: Float[np.ndarray, "C N T 2"],
    second: Float[np.ndarray, "C N T 2"],
    scenes: Scenes,
    resamples: int,
) -> dict[str, Any]:
    """Paired bootstrap over clips of the difference in ADE (px); negative: the first is better."""
    difference = bootstrap.paired_difference(
        errors(first, scenes),
        errors(second, scenes),
        num_resamples=resamples,
    )
    return {
        "ade_difference_px": difference.mean,
        "interval": [difference.low, difference.high],
        "clips": difference.n,
        "better": difference.high < 0,
    }


def measure_visibility(visible: Bool[np.ndarray, "C N T"], scenes: Scenes) -> dict[str, Any]:
    """Accuracy and F1 of predicted visibility, beside the guess that nothing changes."""
    truth = scenes.future_visible
    frozen = np.broadcast_to(scenes.history_visible[..., -1:], truth.shape).copy()
    names = ("accuracy", "precision", "recall", "f1", "base_rate")
    ours, last = visibility_scores(visible, truth), visibility_scores(frozen, truth)
    return {
        **{name: ours[name] for name in names},
        "as_in_last_frame": {name: last[name] for name in names},
    }


def _interval(interval: bootstrap.Interval) -> list[float]:
    return [interval.low, interval.high]
