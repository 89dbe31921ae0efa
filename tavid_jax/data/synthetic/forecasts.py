"""How well trivial forecasts do on a distribution of scenes: what a model has to beat."""

import numpy as np
from jaxtyping import Bool, Float

from tavid_jax.data.synthetic.config import SceneConfig
from tavid_jax.data.synthetic.exact import exact_tracks, query_grid
from tavid_jax.data.synthetic.scene import sample_layouts

FORECASTS = ("stand_still", "constant_velocity", "constant_acceleration")


def forecast(
    name: str, history: Float[np.ndarray, "*lead T 2"], steps: int, size_hw: tuple[int, int]
) -> Float[np.ndarray, "*lead steps 2"]:
    """Continues tracks by a formula, clipped to the frame.

    Args:
      name: one of `FORECASTS`.
      history: at least 3 frames, px.
      steps: frames to forecast.
      size_hw: frame size.
    """
    last, before, first = history[..., -1, :], history[..., -2, :], history[..., -3, :]
    ahead = np.arange(1, steps + 1, dtype=np.float32)[:, None]
    velocity = (last - before)[..., None, :]
    if name == "stand_still":
        out = np.repeat(last[..., None, :], steps, axis=-2)
    elif name == "constant_velocity":
        out = last[..., None, :] + ahead * velocity
    elif name == "constant_acceleration":
        bend = (last - 2.0 * before + first)[..., None, :]
        out = last[..., None, :] + ahead * velocity + 0.5 * ahead * (ahead + 1.0) * bend
    else:
        raise ValueError(f"unknown forecast {name!r}: use one of {FORECASTS}")
    return np.clip(out, 0.0, np.array([size_hw[1] - 1, size_hw[0] - 1], np.float32))


def _scene_mean(error: Float[np.ndarray, "B N T"], weight: Bool[np.ndarray, "B N T"]) -> float:
    """Mean over the scenes that have any weight of each scene's weighted mean."""
    total = weight.sum((1, 2))
    seen = total > 0
    if not seen.any():
        return float("nan")
    return float(((error * weight).sum((1, 2))[seen] / total[seen]).mean())


def trivial_forecast_errors(
    config: SceneConfig, seeds, history: int | None = None
) -> dict[str, dict[str, float]]:
    """Average displacement error (px) of trivial forecasts by owner of the query.

    Args:
      config: distribution of scenes.
      seeds: which scenes.
      history: frames given; the rest is forecast. Half of the clip by default.

    Returns:
      {forecast: {"all": per-scene mean over visible future samples, "fde": the same at the last
      frame, "background" and each kind: mean over all visible future samples of that owner}},
      and under "scenes" {"visible": share of visible samples, "visible_future",
      "covered": share of queries on sprites}.
    """
    history = config.num_frames // 2 if history is None else history
    layout, kind = sample_layouts(config, seeds)
    tracks, visibility, segment = exact_tracks(layout, query_grid(config), config.size_hw)
    truth, seen = tracks[:, :, history:], visibility[:, :, history:]
    kinds = np.concatenate([np.full((len(kind), 1), -1), kind], axis=1)
    owner = np.take_along_axis(kinds, segment, axis=1)

    table = {}
    for name in FORECASTS:
        guess = forecast(name, tracks[:, :, :history], truth.shape[2], config.size_hw)
        error = np.linalg.norm(guess - truth, axis=-1)
        row = {"all": _scene_mean(error, seen), "fde": _scene_mean(error[..., -1:], seen[..., -1:])}
        for index, label in enumerate(("background", *config.kinds)):
            mine = seen & (owner == index - 1)[:, :, None]
            row[label] = float(error[mine].mean()) if mine.any() else float("nan")
        table[name] = row
    table["scenes"] = {
        "visible": float(visibility.mean()),
        "visible_future": float(seen.mean()),
        "covered": float((segment > 0).mean()),
    }
    return table
