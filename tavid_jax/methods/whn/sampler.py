"""What `tavid_jax.load` gives for WHN: pictures in, moving points out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tavid_jax.data.clip import Clip
from tavid_jax.methods.trajloom.sampler import ClipSampler, ForecastClips
from tavid_jax.methods.whn.judging import load_scenes, run_predictor
from tavid_jax.methods.whn.predictor import WhnPredictor


class WhnSampler(ClipSampler):
    """Trained weights with `sample`; programs compile on first use and are kept.

    Attributes:
      predictor: a `tracks.forecasting.Predictor`, for arrays and other grids.
    """

    def __init__(self, predictor: WhnPredictor, inputs: Any, config: Any, provenance: Any):
        super().__init__(inputs, config, provenance)
        self.predictor = predictor

    def _forecast(
        self, clips: list[Clip], samples: int, seed: int, frames: Callable[[int], np.ndarray]
    ) -> ForecastClips:
        scenes = load_scenes(clips, self.predictor.forecaster.settings.window, known=1)
        futures = run_predictor(self.predictor, scenes, clips, samples, seed)
        settings = self._config.report
        return ForecastClips(clips, scenes, futures, frames, settings, self.provenance, main="whn")
