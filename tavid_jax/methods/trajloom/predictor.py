"""TrajLoom as a `Predictor`: one clip's past in pixels, K futures out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from tavid_jax.methods.trajloom.features import Encoders
from tavid_jax.methods.trajloom.forecaster import Forecaster
from tavid_jax.tracks.forecasting import Future, Past
from tavid_jax.tracks.grid import to_cells, to_points


class TrajLoomPredictor:
    """A `tracks.forecasting.Predictor` around a `Forecaster`.

    Args:
      forecaster: weights and compiled phases.
      facts: what its answers depend on that the forecaster does not know, such as hashes.
      conditions: encodes video and caption; None: the flow is run without them, as the released
        script does with `--no_video_cond --no_text_cond`.
      name: for tables.
    """

    def __init__(
        self,
        forecaster: Forecaster,
        facts: Mapping[str, Any] | None = None,
        conditions: Encoders | None = None,
        name: str = "TrajLoom",
    ):
        self.forecaster, self.conditions, self.name = forecaster, conditions, name
        settings, sampling = forecaster.settings, forecaster.sampling
        flow = settings.flow.config
        self.facts: dict[str, Any] = {
            "solver": sampling.solver,
            "steps": sampling.steps,
            "history_visibility": sampling.history_visibility if flow.use_hist_vis_cond else "none",
            "clamp": sampling.clamp,
            "threshold": sampling.threshold,
            "statistics": settings.flow_losses.statistics,
            "source": settings.flow_losses.source,
            "video": "given" if conditions and flow.use_video_cond else "none",
            "text": "given" if conditions and flow.use_text_cond else "none",
            **(facts or {}),
        }

    @property
    def frames(self) -> int:
        """The most frames that it forecasts."""
        settings = self.forecaster.settings
        return settings.geometry.frames - int(settings.flow.config.use_overlap)

    def predict(self, past: Past, frames: int, samples: int = 1, seed: int = 0) -> Future:
        """K futures of one clip; see `tracks.forecasting.Predictor`.

        Raises:
          ValueError: a past of another size, grid or length; more frames than `frames`; or a
            forecast that is not finite.
        """
        self._check(past, frames)
        forecast = self.forecaster(self._batch(past), jax.random.key(seed), samples)
        skipped = int(self.forecaster.settings.flow.config.use_overlap)

        def points(cells: Any) -> np.ndarray:
            """The one clip's (1, K, T, gh, gw, ...) as (K, N, T, ...)."""
            kept = np.asarray(cells)[0, :, skipped : skipped + frames]
            return np.stack([to_points(sample) for sample in kept])

        tracks = points(forecast.tracks)
        if not np.isfinite(tracks).all():
            raise ValueError("the forecast is not finite: the weights or the clip are damaged")
        return Future(tracks, points(forecast.visible), points(forecast.probability))

    def reconstruct(self, tracks: Float[np.ndarray, "N T 2"]) -> Float[np.ndarray, "N T 2"]:
        """Tracks of one window (pixels) through the VAE and back, from the posterior mean.

        Raises:
          ValueError: another number of points or frames than the VAE's.
        """
        geometry = self.forecaster.settings.geometry
        want = (geometry.num_tokens, geometry.frames, 2)
        if tracks.shape != want:
            raise ValueError(f"tracks are {tracks.shape}: the VAE takes (N, T, 2) = {want}")
        cells = to_cells(tracks.astype(np.float32), geometry.grid_hw)
        return to_points(np.asarray(self.forecaster.reconstruct(cells[None]))[0])

    def _check(self, past: Past, frames: int) -> None:
        geometry = self.forecaster.settings.geometry
        wanted = {
            "size_hw": (past.size_hw, geometry.size_hw),
            "grid_hw": (past.grid_hw, geometry.grid_hw),
            "points": (len(past.tracks), geometry.num_tokens),
            "frames": (past.tracks.shape[1], geometry.frames),
        }
        for name, (given, made_for) in wanted.items():
            if given != made_for:
                raise ValueError(
                    f"the past's {name} {given}: {self.name} was made for {made_for}; resize or "
                    "cut the clip, and track it again if the grid differs"
                )
        if not 1 <= frames <= self.frames:
            raise ValueError(f"{frames} frames asked for: {self.name} forecasts 1 to {self.frames}")

    def _batch(self, past: Past) -> dict[str, np.ndarray]:
        """The one clip as the forecaster reads it."""
        grid_hw, flow = past.grid_hw, self.forecaster.settings.flow.config
        batch = {
            "history_tracks": to_cells(past.tracks.astype(np.float32), grid_hw),
            "history_visibility": to_cells(past.visibility, grid_hw),
        }
        if self.conditions is not None and flow.use_video_cond and past.video is not None:
            batch["video"] = np.asarray(self.conditions.video(past.video), np.float32)
        if self.conditions is not None and flow.use_text_cond:
            batch["text"] = np.asarray(self.conditions.text([past.caption])[0], np.float32)
        return {name: array[None] for name, array in batch.items()}
