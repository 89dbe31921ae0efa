"""TrajLoom as a whole: its stages' methods, its judging, its samples and its pictures."""

from __future__ import annotations

import functools
import time
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from tavid_jax.data.clip import Clip
from tavid_jax.data.latent_statistics import read_statistics
from tavid_jax.engine.method import Method, Results, System
from tavid_jax.methods.trajloom import ablations, judging, pages
from tavid_jax.methods.trajloom.conditions import conditions_method, features_at_hand
from tavid_jax.methods.trajloom.flow import FlowMethod
from tavid_jax.methods.trajloom.forecaster import Forecaster, Sampling
from tavid_jax.methods.trajloom.latents import GivenLatents, LatentsMethod
from tavid_jax.methods.trajloom.outputs import write_samples
from tavid_jax.methods.trajloom.released import named_paths, read_forecaster, released_settings
from tavid_jax.methods.trajloom.sampler import Sampler
from tavid_jax.methods.trajloom.settings import Settings, build, read_settings
from tavid_jax.methods.trajloom.vae import VAEMethod
from tavid_jax.methods.trajloom.visibility import VisibilityMethod
from tavid_jax.pipelines.trajloom_release import ReleasedTracks, open_released_tracks
from tavid_jax.viz import media

METHODS = ("vae", "conditions", "latents", "flow", "visibility")
MAIN = "trajloom"


class TrajLoom(System):
    """Built from a config: see configs/trajloom.py.

    `config.variants` maps a name to the stages that make it up; `config.main_variant` names the
    one that is judged in full, the others are ablations of it. With `config.released` the weights
    are those of the authors' checkpoints, and there are no stages.
    """

    def __init__(self, config: Any):
        self.config = config
        self.sampling = build(Sampling, "sampling", **config.sampling)
        if config.main_variant not in config.variants:
            raise ValueError(
                f"main_variant {config.main_variant!r} is none of {sorted(config.variants)}"
            )
        for name, stages in config.variants.items():
            for stage in stages:
                if stage.split("@")[0] not in config.stages:
                    raise ValueError(f"variants.{name} names stage {stage!r}, which is not there")

    def method(self, stage: str) -> Method:
        """The method of a stage; its `method` is one of `METHODS`."""
        wanted = self.config.stages[stage]
        s = read_settings(self.config, wanted.options)
        cached = wanted.data in wanted.cached_by
        if wanted.method not in METHODS:
            raise ValueError(f"stages.{stage}.method {wanted.method!r} is none of {METHODS}")
        return {
            "vae": lambda: VAEMethod(s.vae, s.geometry, s.vae_losses),
            "conditions": lambda: conditions_method(self.config, wanted, s),
            "latents": lambda: self._latents(stage, s),
            "flow": lambda: FlowMethod(s.vae, s.flow, s.geometry, s.flow_losses, cached),
            "visibility": lambda: VisibilityMethod(
                s.vae, s.visibility, s.geometry, s.visibility_losses, cached
            ),
        }[wanted.method]()

    def _latents(self, stage: str, s: Settings) -> Method:
        """What encodes and measures latents, or only measures those of `config.latents`."""
        sizes = s.vae, s.geometry, s.features()
        if not self.config.get("latents"):
            return LatentsMethod(*sizes)
        table = self.config.get("latent_statistics")
        return GivenLatents(*sizes, stage, read_statistics(table) if table else None)

    def settings(self, variant: str) -> Settings:
        """The settings under which a variant samples: those of its stages, in order."""
        stages = [name.split("@")[0] for name in self.config.variants[variant]]
        return read_settings(self.config, *(self.config.stages[name].options for name in stages))

    def forecaster(self, results: Results, variant: str = "") -> Forecaster:
        """The trained sampler of a variant ("" = the main one), or the released one."""
        if self._released is not None:
            return self._read_released(self._released)
        variant = variant or self.config.main_variant
        params = results.params(*self.config.variants[variant])
        return Forecaster(self.settings(variant), params, self.sampling)

    def sampler(self, results: Results, inputs: Any) -> Sampler:
        """The main variant, for Python and notebooks."""
        results = self._named(results)
        return Sampler(self.forecaster(results), inputs, self.config, results.provenance)

    @functools.cached_property
    def _released(self) -> ReleasedTracks | None:
        """The authors' checkpoints, where the config names some; no weight is read."""
        if "released" not in self.config:
            return None
        if not self.config.released:
            raise ValueError(
                "no weights: give the folder of trajloom_vae.pt, trajloom_generator.pt and "
                "visibility_predictor.pt by --config.released=FOLDER"
            )
        return open_released_tracks(named_paths(self.config.released))

    def _read_released(self, opened: ReleasedTracks) -> Forecaster:
        geometry, data = released_settings(opened).geometry, self.config.data
        for name in ("size_hw", "stride", "origin", "frames"):
            here, there = getattr(geometry, name), data[name]
            if here != (tuple(there) if name == "size_hw" else there):
                raise ValueError(
                    f"{self.config.released} was made for {name} {here}, data.{name} is {there}: "
                    f"set --config.data.{name}={here}"
                )
        features = "encoders" if self.config.checkpoint else "none"
        if features == "none":
            logging.info("no --config.checkpoint: the flow is given neither video nor captions")
        return read_forecaster(opened, self.sampling, self.config.model.dtype, features)

    def _named(self, results: Results) -> Results:
        """The results with the hashes of the weights that are no stage's."""
        if self._released is None:
            return results
        marks = {f"weights/{k}": v for k, v in self._released.fingerprints().items()}
        return results._replace(provenance={**results.provenance, **marks})

    def _scenes(self, clips: list[Clip], settings: Settings) -> judging.Scenes:
        """Clips with all that the flow reads of them."""

        def captions() -> list[str]:
            return [clip.caption for clip in clips]

        with features_at_hand(self.config, settings, captions) as features:
            return judging.load_scenes(clips, settings.geometry, features)

    def evaluate(self, results: Results, inputs: Any, report: Any) -> dict[str, Any]:
        """Judge on unseen scenes (and held-out and given clips), fill the report."""
        if "ablations" in self.config:
            return ablations.evaluate(self, results, inputs, report)
        results = self._named(results)
        forecaster = self.forecaster(results)
        data, metrics = self.config.data, {}
        holds_out = bool(self.config.train_clips and data.clips.holdout)
        if not (data.scenes.test or self.config.clips or holds_out):
            told = (
                "nothing to judge on: this preset has no synthetic scenes, give videos by "
                "--config.clips=FOLDER"
            )
            if self._released is not None:
                raise ValueError(told)
            logging.warning(told)  # what was trained stays, and may be judged later
            report.text(told)
        if data.scenes.test:
            metrics |= self._judge(results, forecaster, inputs, "test", report)
        if holds_out:
            held_out = self._judge(results, forecaster, inputs, "held_out", report)
            metrics["held_out"] = held_out
        if self.config.clips:
            metrics["clips"] = self._forecast_clips(results, forecaster, inputs, report)
        pages.training_curves(report, results)
        report.provenance(dict(results.provenance))
        metrics["seconds"] = dict(results.seconds)
        metrics["provenance"] = dict(results.provenance)
        return metrics

    def _all_forecasts(
        self, forecaster: Forecaster, source: Any
    ) -> tuple[list[Clip], judging.Scenes, judging.Futures, dict[str, np.ndarray]]:
        """Every clip of a source, and its forecasts: the first sample's and the baselines'."""
        settings, evaluate = forecaster.settings, self.config.evaluate
        clips = [source[i] for i in range(len(source))]
        scenes = self._scenes(clips, settings)
        futures = judging.run_forecaster(
            forecaster, scenes, evaluate.samples, evaluate.batch_size, evaluate.seed
        )
        baselines = {name: judging.baseline(name, scenes) for name in judging.BASELINES}
        return clips, scenes, futures, {MAIN: futures.tracks[0], **baselines}

    def _judge(
        self, results: Results, forecaster: Forecaster, inputs: Any, name: str, report: Any
    ) -> dict[str, Any]:
        """One source: all forecasts, comparisons, tables, and pictures of the first clips."""
        evaluate, started = self.config.evaluate, time.perf_counter()
        source = inputs.open(name)
        clips, scenes, futures, forecasts = self._all_forecasts(forecaster, source)
        metrics: dict[str, Any] = {
            "forecast": {k: judging.measure(v, scenes) for k, v in forecasts.items()},
            "comparison": {
                b: judging.compare(forecasts[MAIN], forecasts[b], scenes, evaluate.resamples)
                for b in judging.BASELINES
            },
            "truth": judging.smooth(scenes.future, scenes, scenes.future_visible),
            "vae": {
                **judging.reconstruct(forecaster, scenes, "future", evaluate.batch_size),
                "history": judging.reconstruct(forecaster, scenes, "history", evaluate.batch_size),
            },
        }
        metrics["forecast"][MAIN] |= judging.measure_samples(futures, scenes)
        if "visibility" in forecaster.params:
            metrics["visibility"] = judging.measure_visibility(futures.visible[0], scenes)
        title = "Unseen scenes" if name == "test" else "Held-out parts of the training clips"
        pages.headline(report, metrics, title)
        pages.forecast_table(report, metrics)
        pages.sample_table(report, metrics["forecast"][MAIN])
        if name == "test":
            pages.kind_table(report, metrics)
        shown = np.arange(min(self.config.report.scenes, len(clips)))
        self._show(
            report,
            results,
            judging.select(scenes, shown),
            judging.Futures(futures.tracks[:, shown], futures.visible[:, shown]),
            [clips[i] for i in shown],
            "truth" if name == "test" else "tracker",
            [inputs.frames(source, int(i), self.config.report.height) for i in shown],
        )
        logging.info(
            "judged %d clips of %s in %.0f s", len(clips), name, time.perf_counter() - started
        )
        return metrics

    def _forecast_clips(
        self, results: Results, forecaster: Forecaster, inputs: Any, report: Any
    ) -> dict[str, Any]:
        """The user's videos: errors over all windows, pictures of those that move most."""
        source = inputs.open("clips")
        clips, scenes, futures, forecasts = self._all_forecasts(forecaster, source)
        errors = {name: judging.errors(tracks, scenes) for name, tracks in forecasts.items()}
        files = [source.files[window.file].name for window in source.windows]
        report.section(
            "Your clips",
            "History, forecast, and what the tracker saw afterwards, in the window of every clip "
            "that moves most. The tracker is no ground truth: it loses points.",
        )
        metrics = pages.clip_table(report, errors, files)
        shown = judging.most_moving(errors["stand_still"], files, self.config.report.windows)
        self._show(
            report,
            results,
            judging.select(scenes, shown),
            judging.Futures(futures.tracks[:, shown], futures.visible[:, shown]),
            [clips[i] for i in shown],
            "tracker",
            [inputs.frames(source, int(i), self.config.report.height) for i in shown],
        )
        if source.skipped:
            report.details(
                f"{len(source.skipped)} files skipped",
                "\n".join(f"{path}: {reason}" for path, reason in source.skipped),
            )
        metrics["skipped"] = [f"{path}: {reason}" for path, reason in source.skipped]
        return metrics

    def _show(
        self,
        report: Any,
        results: Results,
        scenes: judging.Scenes,
        futures: judging.Futures,
        clips: list[Clip],
        truth: str,
        frames: list[np.ndarray],
    ) -> None:
        films = pages.moving_pictures(
            scenes, futures, frames, self.config.report, results.provenance, truth
        )
        for film, clip in zip(films, clips, strict=True):
            report.media(film.data, f"`{clip.id}` {clip.caption}")

    def sample(self, results: Results, inputs: Any, out_dir: Path) -> list[Path]:
        """Forecast `config.clips`: per window an animation, and files in TrajLoom's layout.

        The first sample of a window is in `out_dir/<window>`, sample k in `out_dir_k/<window>`.
        """
        results = self._named(results)
        source = inputs.open("clips")
        forecaster = self.forecaster(results)
        settings = forecaster.settings

        def captions() -> list[str]:
            return [source.files[window.file].caption for window in source.windows]

        written = []
        with features_at_hand(self.config, settings, captions) as features:
            for i in range(len(source)):
                clip = source[i]
                scenes = judging.load_scenes([clip], settings.geometry, features)
                written += self._sample_clip(
                    results, inputs, forecaster, source, i, clip, scenes, Path(out_dir)
                )
        return written

    def _sample_clip(
        self,
        results: Results,
        inputs: Any,
        forecaster: Forecaster,
        source: Any,
        number: int,
        clip: Clip,
        scenes: judging.Scenes,
        out_dir: Path,
    ) -> list[Path]:
        """Window `number` of a source; returns the animation and the folders."""
        evaluate = self.config.evaluate
        futures = judging.run_forecaster(
            forecaster, scenes, self.config.sampling.samples, 1, evaluate.seed, first=number
        )
        window, name = source.windows[number], clip.id.replace("/", "_")
        facts = {
            **results.provenance,
            "video_path": source.files[window.file].path,
            "start": window.start,
            "fps": clip.fps,
            "seed": evaluate.seed,
            "clip": clip.id,
            "number": number,
        }
        folders = write_samples(out_dir, name, clip, scenes, futures, forecaster, facts)
        frames = [inputs.frames(source, number, self.config.report.height)]
        (film,) = pages.moving_pictures(
            scenes, futures, frames, self.config.report, results.provenance, "tracker"
        )
        media.save(folders[0] / "forecast.webp", film)
        logging.info("%s (%d of %d)", folders[0], number + 1, len(source))
        return [folders[0] / "forecast.webp", *folders]

    def preview(self, inputs: Any, report: Any) -> dict[str, Any]:
        """What the models will see: clips with their tracks, before any training."""
        if self._released is None:
            settings, sources = read_settings(self.config), {"train": inputs.open("train")}
        else:
            settings, sources = released_settings(self._released), {}
        if self.config.clips:
            sources["clips"] = inputs.open("clips")
        counts: dict[str, Any] = {}
        for name, source in sources.items():
            counts[name] = len(source)
            report.section(f"Data set {name}", f"{len(source)} clips.")
            clips = [source[i] for i in range(min(self.config.report.scenes * 2, len(source)))]
            if clips:
                self._scenes(clips, settings)  # what is wrong with one is said
            for clip in clips:
                pages.prepared_clip(report, clip, self.config.report)
        return {"clips": counts}
