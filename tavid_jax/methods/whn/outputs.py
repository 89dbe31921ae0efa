"""Forecasts as files in TrajLoom's layout: a folder per clip, a root per sample."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tavid_jax.data.clip import Clip
from tavid_jax.data.forecast_files import ForecastFiles, write_forecasts
from tavid_jax.data.official import TrackFile
from tavid_jax.methods.trajloom.judging import Futures, Scenes
from tavid_jax.methods.whn.predictor import WhnPredictor


def write_samples(
    root: Path,
    name: str,
    clip: Clip,
    scenes: Scenes,
    futures: Futures,
    predictor: WhnPredictor,
    facts: Mapping[str, Any],
) -> list[Path]:
    """Writes every sample of one clip: the first to `root/name`, sample k to `root_k/name`.

    Args:
      scenes, futures: of this one clip, whose first frame is the picture.
      facts: of the clip and the run, for meta.json.

    Returns:
      The folders.
    """
    window = predictor.forecaster.settings.window
    frames, ahead = window.frames, window.frames - 1
    full = TrackFile(clip.tracks[:, :frames], clip.visibility[:, :frames], window.size_hw)
    forecasts = []
    for k in range(len(futures.tracks)):
        meta = {
            "H": window.size_hw[0],
            "W": window.size_hw[1],
            "hist_len": 1,
            "future_len": ahead,
            "pred_len": ahead,
            "grid_stride": window.stride,
            "grid_origin": window.origin,
            "caption": clip.caption,
            "tavid_jax": {**facts, "sample": k, "predictor": dict(predictor.facts)},
        }
        forecast = ForecastFiles(
            query_xy=window.start.reshape(-1, 2).astype(np.int64),
            gt_tracks=scenes.future[0],
            gt_visibility=scenes.future_visible[0],
            pred_tracks=futures.tracks[k, 0],
            pred_visibility=futures.visible[k, 0],
            pred_probability=None,
            meta=meta,
        )
        forecasts.append(forecast)
    return write_forecasts(root, name, forecasts, full)
