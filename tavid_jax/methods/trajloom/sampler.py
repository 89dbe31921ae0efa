"""What `tavid_jax.load` gives for TrajLoom: forecasts of clips, scenes and video files."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from tavid_jax.data.clip import Clip
from tavid_jax.methods.trajloom import judging, pages
from tavid_jax.methods.trajloom.forecaster import Forecaster
from tavid_jax.viz import media


class Sampler:
    """Trained weights with `sample`; the phases compile on first use and are kept.

    Attributes:
      forecaster: the compiled phases, for arrays instead of clips.
      provenance: hashes of config and weights.
    """

    def __init__(self, forecaster: Forecaster, inputs: Any, config: Any, provenance: Any):
        self.forecaster, self.provenance = forecaster, dict(provenance)
        self._inputs, self._config = inputs, config

    @property
    def settings(self) -> Any:
        return self.forecaster.settings

    def sample(
        self, clips: str | os.PathLike | Clip | list[Clip], samples: int = 1, seed: int = 0
    ) -> ForecastClips:
        """Forecast the second half of every clip from its first half.

        Args:
          clips: a video, folder or glob (tracked here, cut into windows), or prepared clips of
            2T frames.
          samples: K, different futures per clip.
          seed: the same seed gives the same futures.

        Raises ClipError for clips of another size or too few frames.
        """
        if isinstance(clips, (str, os.PathLike)):
            source = self._inputs.open_clips(os.fspath(clips))
            clips = [source[i] for i in range(len(source))]
        elif isinstance(clips, Clip):
            clips = [clips]
        s = self.settings
        scenes = judging.load_scenes(clips, s.geometry, s.video_channels)
        futures = judging.run_forecaster(
            self.forecaster, scenes, samples, self._config.evaluate.batch_size, seed
        )
        return ForecastClips(clips, scenes, futures, self._config.report, self.provenance)

    def scenes(self, count: int = 4) -> list[Clip]:
        """The first unseen synthetic scenes."""
        source = self._inputs.open("test")
        return [source[i] for i in range(min(count, len(source)))]


class ForecastClips:
    """Forecasts of C clips.

    Attributes:
      tracks: float32 (C, K, N, T, 2) pixels of `settings.geometry.size_hw`.
      visible: bool (C, K, N, T).
      history, truth: float32 (C, N, T, 2), the given half and what was tracked afterwards.
    """

    def __init__(
        self,
        clips: list[Clip],
        scenes: judging.Scenes,
        futures: judging.Futures,
        settings: Any,
        provenance: dict[str, str],
    ):
        self.clips, self._scenes, self._futures = clips, scenes, futures
        self._settings, self._provenance = settings, provenance
        self.tracks = np.swapaxes(futures.tracks, 0, 1)
        self.visible = np.swapaxes(futures.visible, 0, 1)
        self.history, self.truth = scenes.history, scenes.future

    def error_px(self) -> np.ndarray:
        """ADE (C,) of the first sample against what was tracked, in pixels."""
        return judging.errors(self._futures.tracks[0], self._scenes)

    def draw(self, index: int = 0) -> media.Media:
        """History | forecast | truth of one clip as an animation (`.data`, `.mime`)."""
        scenes = judging.select(self._scenes, np.array([index]))
        futures = judging.Futures(
            self._futures.tracks[:, index : index + 1], self._futures.visible[:, index : index + 1]
        )
        (film,) = pages.moving_pictures(
            scenes, futures, [self.clips[index]], self._settings, self._provenance
        )
        return film
