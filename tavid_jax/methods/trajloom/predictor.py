"""TrajLoom as a `Predictor`: one clip's past in pixels, K futures out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import jax
import numpy as np
from jaxtyping import Float, UInt8

from tavid_jax.methods.trajloom.forecaster import Forecaster
from tavid_jax.methods.trajloom.judging import point_major
from tavid_jax.tracks.forecasting import Future, Past
from tavid_jax.tracks.grid import to_cells


class Conditions(Protocol):
    """What encodes the flow's other inputs: the Wan VAE and umT5 for the released one."""

    def video(self, frames: UInt8[np.ndarray, "T H W 3"]) -> Float[np.ndarray, "L N C"]:
        """Latents of the past's frames, one per cell."""

    def text(self, captions: Sequence[str]) -> Float[np.ndarray, "B E"]:
        """Pooled embeddings of captions."""


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
        conditions: Conditions | None = None,
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
        """See `Predictor.predict`."""
        self._check(past, frames)
        forecast = self.forecaster(self._batch(past), jax.random.key(seed), samples)
        skipped = int(self.forecaster.settings.flow.config.use_overlap)

        def points(cells: Any) -> np.ndarray:
            return point_major(np.asarray(cells[0, :, skipped : skipped + frames]))

        tracks = points(forecast.tracks)
        if not np.isfinite(tracks).all():
            raise ValueError("the forecast is not finite: the weights or the clip are damaged")
        return Future(
            tracks=tracks,
            visible=points(forecast.visible),
            probability=_points_of(np.asarray(forecast.probability)[0], skipped, frames),
        )

    def reconstruct(self, tracks: Float[np.ndarray, "N T 2"]) -> Float[np.ndarray, "N T 2"]:
        """Tracks of one window through the VAE and back, from the posterior mean.

        Raises:
          ValueError: another number of points or frames than the VAE's.
        """
        geometry = self.forecaster.settings.geometry
        want = (geometry.num_tokens, geometry.frames)
        if tracks.shape[:2] != want:
            raise ValueError(f"tracks are {tracks.shape}: the VAE takes (N, T, 2) = {(*want, 2)}")
        cells = to_cells(tracks.astype(np.float32), geometry.grid_hw)
        return point_major(np.asarray(self.forecaster.reconstruct(cells[None]))[0])
