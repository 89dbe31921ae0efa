"""WHN as a whole: its stages' methods, its judging, its samples and its pictures."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from tavid_jax.data.clip import Clip
from tavid_jax.engine.method import Method, Results, System
from tavid_jax.methods.trajloom import judging, pages
from tavid_jax.methods.trajloom.settings import as_fields, build
from tavid_jax.methods.whn.examples import example_of
from tavid_jax.methods.whn.flow import FlowMethod
from tavid_jax.methods.whn.forecaster import Sampling
from tavid_jax.methods.whn.judging import baselines, load_scenes, run_predictor
from tavid_jax.methods.whn.latents import LatentsMethod
from tavid_jax.methods.whn.outputs import write_samples
from tavid_jax.methods.whn.predictor import WhnPredictor
from tavid_jax.methods.whn.sampler import WhnSampler
from tavid_jax.methods.whn.settings import Settings, read_settings
from tavid_jax.methods.whn.trained import trained_predictor
from tavid_jax.methods.whn.vae import VAEMethod
from tavid_jax.metrics import bootstrap, epe
from tavid_jax.viz import media

METHODS = ("vae", "latents", "flow")
MAIN = "whn"


class WhnSystem(System):
    """Built from a config: see configs/whn.py."""

    def __init__(self, config: Any):
        self.config = config
        self.sampling = build(Sampling, "sampling", **as_fields(config.sampling))

    def method(self, stage: str) -> Method:
        """The method of a stage; its `method` is one of `METHODS`."""
        wanted = self.config.stages[stage]
        s = read_settings(self.config, wanted.options)
        cached = wanted.data in wanted.cached_by
        if wanted.method not in METHODS:
            raise ValueError(f"stages.{stage}.method {wanted.method!r} is none of {METHODS}")
        if wanted.method == "flow":
            return FlowMethod(s.space, s.flow, s.features, s.flow_losses, cached)
        if wanted.method == "latents":
            return LatentsMethod(s.space, s.features, s.flow_losses.limit)
        if s.space.vae is None:
            raise ValueError(f"stages.{stage} trains a VAE, and model.raw leaves it out")
        return VAEMethod(s.space.vae, s.window, s.features, s.vae_losses)

    def settings(self) -> Settings:
        """The settings under which it samples: those of its stages, in order."""
        options = (self.config.stages[name].options for name in self.config.order)
        return read_settings(self.config, *options)

    def sampler(self, results: Results, inputs: Any) -> WhnSampler:
        """For Python and notebooks."""
        predictor = trained_predictor(self, results)
        return WhnSampler(predictor, inputs, self.config, results.provenance)

    def evaluate(self, results: Results, inputs: Any, report: Any) -> dict[str, Any]:
        """Judge on unseen scenes, or with training clips on their held-out parts; without those on
        `config.clips`. Fill the report."""
        predictor, metrics = trained_predictor(self, results), {}
        name, title = self._judged()
        if name:
            metrics["first_frame"] = self._judge(predictor, inputs, report, results, name, 1, title)
        else:
            logging.warning(title)
            report.text(title)
        if not self.config.train_clips and self.config.evaluate.history > 1:
            metrics["last_frame"] = self._judge(
                predictor,
                inputs,
                report,
                results,
                "test",
                self.config.evaluate.history,
                "As TrajLoom is judged: from the last frame of a history",
            )
        pages.training_curves(report, results)
        report.provenance(dict(results.provenance))
        metrics["facts"] = dict(predictor.facts)
        metrics["seconds"] = dict(results.seconds)
        metrics["provenance"] = dict(results.provenance)
        return metrics

    def _judged(self) -> tuple[str, str]:
        """(set to judge on, heading); ("", why) if there is none."""
        if not self.config.train_clips:
            return "test", "From the first frame"
        if self.config.data.clips.holdout:
            return "held_out", "Held-out parts of the training clips"
        if self.config.clips:
            return "clips", "Your clips"
        return "", "Nothing was judged: no clips are held out; give some by --config.clips=FOLDER."

    def _judge(
        self,
        predictor: WhnPredictor,
        inputs: Any,
        report: Any,
        results: Results,
        name: str,
        known: int,
        title: str,
    ) -> dict[str, Any]:
        """One source split behind `known` frames: comparisons, tables, pictures."""
        evaluate, started = self.config.evaluate, time.perf_counter()
        source, settings = inputs.open(name), predictor.forecaster.settings
        clips = [source[i] for i in range(len(source))]
        scenes = load_scenes(clips, settings.window, known)
        futures = run_predictor(predictor, scenes, clips, evaluate.samples, evaluate.seed)
        forecasts = {MAIN: futures.tracks[0], **baselines(scenes)}
        metrics: dict[str, Any] = {
            "forecast": {k: judging.measure(v, scenes) for k, v in forecasts.items()},
            "comparison": {
                k: judging.compare(forecasts[MAIN], v, scenes, evaluate.resamples)
                for k, v in forecasts.items()
                if k != MAIN
            },
            "truth": judging.smooth(scenes.future, scenes, scenes.future_visible),
        }
        metrics["forecast"][MAIN] |= judging.measure_samples(futures, scenes)
        if known == 1 and settings.space.vae is not None:
            metrics["vae"] = _reconstruct(predictor, clips)
        pages.headline(report, metrics, title, MAIN)
        pages.forecast_table(report, metrics, main=MAIN)
        pages.sample_table(report, metrics["forecast"][MAIN], MAIN)
        if name == "test":
            pages.kind_table(report, metrics, MAIN)
        shown = np.arange(min(self.config.report.scenes, len(clips)))
        self._show(report, results, scenes, futures, clips, shown, source, inputs)
        seconds = time.perf_counter() - started
        logging.info("judged %d clips of %s in %.0f s", len(clips), name, seconds)
        return metrics

    def _show(
        self,
        report: Any,
        results: Results,
        scenes: judging.Scenes,
        futures: judging.Futures,
        clips: list[Clip],
        shown: np.ndarray,
        source: Any,
        inputs: Any,
    ) -> None:
        height = self.config.report.height
        films = pages.moving_pictures(
            judging.select(scenes, shown),
            judging.Futures(futures.tracks[:, shown], futures.visible[:, shown]),
            [inputs.frames(source, int(i), height) for i in shown],
            self.config.report,
            results.provenance,
            "tracker" if self.config.train_clips else "truth",
            MAIN,
        )
        for film, i in zip(films, shown, strict=True):
            report.media(film.data, f"`{clips[i].id}` {clips[i].caption}")

    def sample(self, results: Results, inputs: Any, out_dir: Path) -> list[Path]:
        """What follows the first frame of `config.clips`: animations, and TrajLoom's layout.

        The first sample of a window is in `out_dir/<window>`, sample k in `out_dir_k/<window>`.
        """
        predictor, source = trained_predictor(self, results), inputs.open("clips")
        window, seed = predictor.forecaster.settings.window, self.config.evaluate.seed
        written = []
        for i in range(len(source)):
            clip = source[i]
            scenes = load_scenes([clip], window, known=1)
            futures = run_predictor(predictor, scenes, [clip], self.sampling.samples, seed, first=i)
            facts = {**results.provenance, "clip": clip.id, "number": i, "seed": seed}
            name = clip.id.replace("/", "_")
            folders = write_samples(Path(out_dir), name, clip, scenes, futures, predictor, facts)
            frames = [inputs.frames(source, i, self.config.report.height)]
            (film,) = pages.moving_pictures(
                scenes, futures, frames, self.config.report, results.provenance, "tracker", MAIN
            )
            media.save(folders[0] / "forecast.webp", film)
            written += [folders[0] / "forecast.webp", *folders]
            logging.info("%s (%d of %d)", folders[0], i + 1, len(source))
        return written

    def preview(self, inputs: Any, report: Any) -> dict[str, Any]:
        """What the models will see: clips with their tracks, before any training."""
        settings = self.settings()
        names = ("train", "clips") if self.config.clips else ("train",)
        counts: dict[str, Any] = {}
        for name in names:
            source = inputs.open(name)
            counts[name] = len(source)
            report.section(f"Data set {name}", f"{len(source)} clips.")
            for i in range(min(self.config.report.scenes * 2, len(source))):
                clip = source[i]
                example_of(clip, settings.window, settings.features)
                pages.prepared_clip(report, clip, self.config.report)
        return {"clips": counts}


def _reconstruct(predictor: WhnPredictor, clips: list[Clip]) -> dict[str, Any]:
    """VEPE of the first F frames of every clip through the VAE, the picture given."""
    frames = predictor.forecaster.settings.window.frames
    decoded = [predictor.reconstruct(clip.tracks[:, :frames], clip.video[0]) for clip in clips]
    truth = np.stack([clip.tracks[:, :frames] for clip in clips])
    seen = np.stack([clip.visibility[:, :frames] for clip in clips])
    record = epe.epe(np.stack(decoded), truth, seen)
    interval = bootstrap.mean_interval(np.asarray(record["per_video"]))
    return {"vepe_px": record["epe"], "vepe_interval": [interval.low, interval.high]}
