"""All metrics of a folder of outputs, each with everything that it depends on."""

from __future__ import annotations

from typing import Any

import numpy as np

from tavid_jax.data.forecast_files import ForecastFileError, ForecastFiles, read_forecasts
from tavid_jax.metrics import result
from tavid_jax.metrics.epe import epe
from tavid_jax.metrics.fvmd import FVMD_LONG, FvmdConfig, fvmd
from tavid_jax.metrics.smoothness import div_curl_energy, flow_tv
from tavid_jax.trajloombench.outputs import RECONSTRUCTION, Folder
from tavid_jax.trajloombench.protocol import BenchError

# Name -> (windows, whether the truth's visibility masks both sides).
FVMD_VARIANTS: dict[str, tuple[FvmdConfig, bool]] = {
    "16_1_masked": (FvmdConfig(), True),  # the paper's
    "16_15_masked": (FvmdConfig(clip_stride=15), True),
    "16_15_unmasked": (FvmdConfig(clip_stride=15), False),  # the released script's defaults
    "24_1_masked": (FvmdConfig(clip_len=24), True),  # the released README's
    "long_masked": (FVMD_LONG, True),  # FVMD-Long: the whole forecast is one window
}
MASKED, UNMASKED = "masked", "unmasked"
VEPE_FRAMES = (24, 81)
_CHUNK = 64  # videos whose smoothness is measured at a time: bounds memory, changes no number


def measure(folder: Folder) -> dict[str, Any]:
    """Metrics of one folder.

    Returns:
      "method", "dataset", "kind", "frames", "solver", "seed", "tracker", "clips" (their number),
      "facts" and "metrics". Of forecasts the latter holds
        fvmd: variant -> record of `metrics.fvmd.fvmd` ("fvmd" is velocity and acceleration);
        flow_tv, div_curl: masked, unmasked -> {"prediction", "truth", "n", "settings"};
        epe: masked -> record of `metrics.epe.epe`, for information;
      of reconstructions vepe: frames -> masked, unmasked -> such a record.
      A metric that cannot be had (one clip alone, a grid smaller than a cell) says so as "reason".

    Raises:
      BenchError: clips that cannot be read, of different sizes, grids or lengths, or of another
        length than the folder's.
    """
    clips = _clips(folder)
    facts = {
        "method": folder.method,
        "dataset": folder.dataset,
        "kind": folder.kind,
        "frames": clips[0].frames,
        "solver": folder.solver,
        "seed": folder.seed,
        "tracker": folder.tracker,
        "clips": len(clips),
        "facts": dict(folder.facts),
    }
    prediction = np.stack([clip.pred_tracks for clip in clips])
    truth = np.stack([clip.gt_tracks for clip in clips])
    seen = np.stack([clip.gt_visibility for clip in clips])
    if folder.kind == RECONSTRUCTION:
        return {**facts, "metrics": {"vepe": _vepe(prediction, truth, seen)}}
    grid_hw, spacing = clips[0].grid_hw, _spacing(clips[0])
    metrics = {
        "fvmd": {
            name: _fvmd(prediction, truth, seen if masked else None, grid_hw, config)
            for name, (config, masked) in FVMD_VARIANTS.items()
        },
        "flow_tv": _smoothness(flow_tv, prediction, truth, seen, grid_hw, spacing),
        "div_curl": _smoothness(div_curl_energy, prediction, truth, seen, grid_hw, spacing),
        "epe": {MASKED: _epe(prediction, truth, seen, None)},
    }
    return {**facts, "metrics": metrics}


def _clips(folder: Folder) -> list[ForecastFiles]:
    try:
        clips = list(read_forecasts(folder.path).values())
    except ForecastFileError as error:
        raise BenchError(str(error)) from error
    if folder.frames not in (0, clips[0].frames):
        raise BenchError(
            f"{folder.path}: its clips have {clips[0].frames} frames, it was made with "
            f"{folder.frames}"
        )
    return clips


def _spacing(clip: ForecastFiles) -> float:
    """px between neighbouring points."""
    x = np.unique(clip.query_xy[:, 0])
    return float(x[1] - x[0]) if len(x) > 1 else float(clip.meta["grid_stride"])


def _fvmd(
    prediction: np.ndarray,
    truth: np.ndarray,
    seen: np.ndarray | None,
    grid_hw: tuple[int, int],
    config: FvmdConfig,
) -> dict[str, Any]:
    try:
        record = fvmd(prediction, truth, seen, grid_hw, config)
    except ValueError as error:
        return {"fvmd": None, "reason": str(error)}
    if record["n"] < 2:
        record["reason"] = "a distribution needs at least two windows"
    elif record["settings"]["nonfinite"]:
        record["reason"] = "the prediction is not finite where it counts"
    return record


def _smoothness(
    function: Any,
    prediction: np.ndarray,
    truth: np.ndarray,
    seen: np.ndarray,
    grid_hw: tuple[int, int],
    spacing: float,
) -> dict[str, Any]:
    """Means over videos, of the forecast and of the truth."""

    def values(tracks: np.ndarray, masked: bool) -> np.ndarray:
        parts = [slice(start, start + _CHUNK) for start in range(0, len(tracks), _CHUNK)]
        return np.concatenate(
            [function(tracks[p], seen[p] if masked else None, grid_hw, spacing) for p in parts]
        )

    def record(masked: bool) -> dict[str, Any]:
        ours, theirs = values(prediction, masked), values(truth, masked)
        return result.record(
            {"prediction": result.finite_mean(ours), "truth": result.finite_mean(theirs)},
            n=np.isfinite(ours).sum(),
            masked=masked,
            grid_hw=grid_hw,
            spacing=spacing,
            frames=prediction.shape[2],
        )

    return {MASKED: record(True), UNMASKED: record(False)}


def _vepe(prediction: np.ndarray, truth: np.ndarray, seen: np.ndarray) -> dict[str, Any]:
    """By the length that counts; the window that was reconstructed is the same."""
    whole = prediction.shape[2]
    lengths = [count for count in VEPE_FRAMES if count < whole] + [whole]
    return {
        str(count): {
            MASKED: _epe(prediction, truth, seen, count),
            UNMASKED: _epe(prediction, truth, None, count),
        }
        for count in lengths
    }


def _epe(
    prediction: np.ndarray, truth: np.ndarray, seen: np.ndarray | None, frames: int | None
) -> dict[str, Any]:
    record = epe(prediction, truth, seen, num_frames=frames)
    record["window"] = prediction.shape[2]
    return record
