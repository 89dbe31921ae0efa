"""What `tavid_jax.load` gives for WHN: pictures in, moving points out."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from tavid_jax.data.clip import Clip
from tavid_jax.methods.trajloom.sampler import ForecastClips
from tavid_jax.methods.whn.judging import load_scenes, run_predictor
from tavid_jax.methods.whn.predictor import WhnPredictor


class WhnSampler:
    """Trained weights with `sample`; programs compile on first use and are kept.

    Attributes:
      predictor: a `tracks.forecasting.Predictor`, for arrays and other grids.
      provenance: hashes of config and weights.
    """

    def __init__(self, predictor: WhnPredictor, inputs: Any, config: Any, provenance: Any):
        self.predictor, self.provenance = predictor, dict(provenance)
        self._inputs, self._config = inputs, config

    def sample(
        self, clips: str | os.PathLike | Clip | list[Clip], samples: int = 1, seed: int = 0
    ) -> ForecastClips:
        """What follows the first frame of every clip.

        Args:
          clips: a video, folder or glob (cut into windows), or prepared clips of F frames.
          samples: K, different futures per clip.
          seed: the same seed gives the same futures.

        Raises ClipError for clips of another size or too few frames.
        """
        if isinstance(clips, (str, os.PathLike)):
            source = self._inputs.open_clips(os.fspath(clips))
            return self._from(source, range(len(source)), samples, seed)
        clips = [clips] if isinstance(clips, Clip) else clips
        return self._forecast(clips, samples, seed, lambda i: clips[i].video)

    def sample_scenes(
        self, indices: Iterable[int] = range(4), samples: int = 1, seed: int = 0
    ) -> ForecastClips:
        """The same of some of the unseen synthetic scenes."""
        return self._from(self._inputs.open("test"), indices, samples, seed)

    def _from(self, source: Any, indices: Iterable[int], samples: int, seed: int) -> ForecastClips:
        indices, height = list(indices), self._config.report.height
        return self._forecast(
            [source[i] for i in indices],
            samples,
            seed,
            lambda i: self._inputs.frames(source, indices[i], height),
        )

    def _forecast(
        self, clips: list[Clip], samples: int, seed: int, frames: Callable[[int], np.ndarray]
    ) -> ForecastClips:
        scenes = load_scenes(clips, self.predictor.forecaster.settings.window, known=1)
        futures = run_predictor(self.predictor, scenes, clips, samples, seed)
        settings = self._config.report
        return ForecastClips(clips, scenes, futures, frames, settings, self.provenance, main="whn")
