"""What `tavid_jax.load` gives for TrajLoom: forecasts of clips, scenes and video files."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from jaxtyping import UInt8

from tavid_jax.data.clip import Clip
from tavid_jax.methods.trajloom import judging, pages
from tavid_jax.methods.trajloom.forecaster import Forecaster
from tavid_jax.viz import media


class ClipSampler:
    """Where clips come from; subclasses say how they are forecast.

    Attributes:
      provenance: hashes of config and weights.
    """

    def __init__(self, inputs: Any, config: Any, provenance: Any):
        self.provenance = dict(provenance)
        self._inputs, self._config = inputs, config

    def sample(
        self, clips: str | os.PathLike | Clip | list[Clip], samples: int = 1, seed: int = 0
    ) -> ForecastClips:
        """What follows the part of every clip that is given: its first half, or its first frame.

        Args:
          clips: a video, folder or glob (tracked here, cut into windows), or prepared clips as
            long as those that were trained on.
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
        """The same of some of the unseen synthetic scenes; arguments as in `sample`."""
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
        raise TypeError(f"{type(self).__name__} does not say how clips are forecast")


class Sampler(ClipSampler):
    """Trained weights with `sample`; the phases compile on first use and are kept.

    Attributes:
      forecaster: the compiled phases, for arrays instead of clips.
    """

    def __init__(self, forecaster: Forecaster, inputs: Any, config: Any, provenance: Any):
        super().__init__(inputs, config, provenance)
        self.forecaster = forecaster

    @property
    def settings(self) -> Any:
        return self.forecaster.settings

    def _forecast(
        self, clips: list[Clip], samples: int, seed: int, frames: Callable[[int], np.ndarray]
    ) -> ForecastClips:
        s = self.settings
        scenes = judging.load_scenes(clips, s.geometry, s.features())
        futures = judging.run_forecaster(
            self.forecaster, scenes, samples, self._config.evaluate.batch_size, seed
        )
        settings = self._config.report
        return ForecastClips(clips, scenes, futures, frames, settings, self.provenance)


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
        frames: Callable[[int], np.ndarray],
        settings: Any,
        provenance: dict[str, str],
        main: str = "trajloom",
    ):
        self.clips, self._scenes, self._futures = clips, scenes, futures
        self._frames, self._settings, self._provenance = frames, settings, provenance
        self._main = main
        self.tracks = np.swapaxes(futures.tracks, 0, 1)
        self.visible = np.swapaxes(futures.visible, 0, 1)
        self.history, self.truth = scenes.history, scenes.future

    def error_px(self) -> np.ndarray:
        """ADE (C,) of the first sample against what was tracked, in pixels."""
        return judging.errors(self._futures.tracks[0], self._scenes)

    def frames(self, index: int = 0) -> UInt8[np.ndarray, "T H W 3"]:
        """History | forecast | truth of one clip as frames."""
        place = np.array([index])
        (strip,) = pages.strips(
            judging.select(self._scenes, place),
            judging.Futures(self._futures.tracks[:, place], self._futures.visible[:, place]),
            [self._frames(index)],
            self._settings.height,
            main=self._main,
        )
        return strip

    def draw(self, index: int = 0) -> media.Media:
        """The same as an animation (`.data`, `.mime`)."""
        provenance = {**self._provenance, "clip": self.clips[index].id}
        return media.encode_animation(self.frames(index), self._settings.fps, provenance=provenance)
