"""Forecasts as files in TrajLoom's layout: a folder per clip, a root per sample."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from tavid_jax.data.clip import Clip
from tavid_jax.data.forecast_files import FULL_TRACKS, ForecastFiles, write_forecasts
from tavid_jax.data.official import TrackFile
from tavid_jax.methods.trajloom.forecaster import Forecaster
from tavid_jax.methods.trajloom.judging import Futures, Scenes
from tavid_jax.tracks.grid import query_points


def write_samples(
    root: Path,
    name: str,
    clip: Clip,
    scenes: Scenes,
    futures: Futures,
    forecaster: Forecaster,
    facts: Mapping[str, Any],
) -> list[Path]:
    """Writes every sample of one clip: the first to `root/name`, sample k to `root_k/name`.

    So each root holds one forecast of each clip, as benchmarks want it. The tracks of the whole
    window lie beside each.

    Args:
      scenes, futures: of this one clip.
      facts: of the clip and the run, for meta.json: "video_path", "start" (the window's first frame
        in the video), "seed", and anything else.

    Returns:
      The folders.
    """
    g = forecaster.settings.geometry
    full = TrackFile(clip.tracks[:, : 2 * g.frames], clip.visibility[:, : 2 * g.frames], g.size_hw)
    forecasts = []
    for k in range(len(futures.tracks)):
        forecast = ForecastFiles(
            query_xy=query_points(g.size_hw, g.stride, g.origin).astype(np.int64),
            gt_tracks=scenes.future[0],
            gt_visibility=scenes.future_visible[0],
            pred_tracks=futures.tracks[k, 0],
            pred_visibility=futures.visible[k, 0],
            pred_probability=None if futures.probability is None else futures.probability[k, 0],
            meta=_meta(clip, forecaster, facts) | {"sample": k},
        )
        forecasts.append(forecast)
    return write_forecasts(root, name, forecasts, full)


def _meta(clip: Clip, forecaster: Forecaster, facts: Mapping[str, Any]) -> dict[str, Any]:
    """The official keys, and below "tavid_jax" what the official runner does not know."""
    settings, sampling = forecaster.settings, forecaster.sampling
    g, start = settings.geometry, int(facts["start"])
    rest = {k: v for k, v in facts.items() if k not in ("video_path", "start", "seed")}
    return {
        "video_path": str(facts["video_path"]),
        "video_len": start + clip.num_frames,
        "H": g.size_hw[0],
        "W": g.size_hw[1],
        "cond_index": start + g.frames,
        "hist_len": g.frames,
        "future_len": g.frames,
        "use_overlap": False,
        "save_offset": 0,
        "pred_len": g.frames,
        "grid_stride": g.stride,
        "grid_border": 0,
        "grid_origin": g.origin,
        "num_points": g.num_tokens,
        "dtype": np.dtype(settings.flow.dtype).name,
        "device": jax.devices()[0].platform,
        "noise_seed": int(facts["seed"]),
        "solver": sampling.solver,
        "steps": sampling.steps,
        "fix_first_frame": settings.flow_losses.fix_first,
        "vis_threshold": sampling.threshold,
        "vis_patch_size": g.stride,
        "vis_temp_stride": g.temporal_stride,
        "caption": clip.caption,
        "gt_meta": {
            "path": FULL_TRACKS,
            "tracks_key": "trajectory",
            "vis_key": "visibility",
            "gt_coord_mode": "pixel",
            "gt_swap_xy": False,
            "gt_grid_origin_used": g.origin,
            "gt_time0_used": start,
            "gt_hist_slice": [0, g.frames],
            "gt_fut_slice": [g.frames, 2 * g.frames],
            "gt_eval_slice": [g.frames, 2 * g.frames],
        },
        "tavid_jax": rest | {"history_visibility": sampling.history_visibility},
    }
