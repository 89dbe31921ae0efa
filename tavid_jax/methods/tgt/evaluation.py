"""Judging variants on unseen scenes: all get the same captions, noise and trajectories."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from typing import Any

from absl import logging

from tavid_jax.data.clip import Clip
from tavid_jax.data.synthetic import located_judging as judging
from tavid_jax.engine.method import Results
from tavid_jax.methods.finetune import variants
from tavid_jax.methods.finetune.evaluation import SOURCES, TEST, finished
from tavid_jax.methods.finetune.seeds import Values
from tavid_jax.methods.tgt import pages
from tavid_jax.methods.tgt.draw import Draw
from tavid_jax.methods.tgt.films import Frames
from tavid_jax.methods.tgt.variants import Models, Variant, read_variants
from tavid_jax.metrics.result import finite_mean
from tavid_jax.pipelines.pipeline import Pipeline
from tavid_jax.tracks.trajectories import Trajectories

ORACLE = "oracle"


@dataclasses.dataclass(frozen=True)
class Row:
    """A variant on the scenes.

    Attributes:
      title, short: of tables, and over pictures.
      stages: what trained it, one for each seed; "" is the checkpoint.
      options: fields of `Sampling` that differ from the run's.
      values: per seed, one for each scene, see `located_judging.VALUES`.
      judged: of the first seed, scene by scene.
      frames: videos of the first seed.
    """

    title: str
    short: str
    stages: tuple[str, ...]
    options: Mapping[str, Any]
    values: list[Values]
    judged: list[judging.Located]
    frames: list[Frames]


@dataclasses.dataclass(frozen=True)
class Trial:
    """Scenes, and what every variant made of them.

    Attributes:
      clips: the true ones.
      targets: the trajectories of each.
      goals: where their entities should be.
      rows: by name, the true clips first.
    """

    clips: list[Clip]
    targets: list[Trajectories]
    goals: list[judging.Goal]
    rows: dict[str, Row]


class Evaluation:
    """Samples and judges the variants of a run.

    Args:
      config: of the run.
      system: gives the methods of its stages.
      results: of the run.
      models: opens what stages have trained.
      draw: which trajectories are given.
    """

    def __init__(self, config: Any, system: Any, results: Results, models: Models, draw: Draw):
        self.config, self.system, self.results = config, system, results
        self.models, self.draw = models, draw
        # A model sampled in one way serves every table.
        self._made: dict[Any, tuple[list[judging.Located], list[Frames]]] = {}

    def trial(self, clips: list[Clip]) -> Trial:
        """All variants of `config.evaluate.tables` on scenes."""
        targets = [self.draw.known(clip) for clip in clips]
        goals = [judging.goal_of(clip, aim) for clip, aim in zip(clips, targets, strict=True)]
        true = [clip.video for clip in clips]
        judged = [judging.judge(v, goal) for v, goal in zip(true, goals, strict=True)]
        values = judging.values_of(judged)
        rows = {ORACLE: Row("true clips", "true clip", (), {}, [values], judged, true)}
        for name, variant in read_variants(self.config).items():
            rows[name] = self._row(variant, clips, goals)
        return Trial(clips, targets, goals, rows)

    def _row(self, variant: Variant, clips: list[Clip], goals: list[judging.Goal]) -> Row:
        values = []
        for number, stage in enumerate(variant.stage):
            started = time.perf_counter()
            judged, frames = self._judged(stage, variant, clips, goals)
            values.append(judging.values_of(judged))
            if not number:
                first = judged, frames
            seconds = time.perf_counter() - started
            logging.info("%s (%s): EPE %.2f px on %d scenes (%.0f s)", variant.title,
                         stage or "the checkpoint", finite_mean(values[-1]["epe"]), len(clips),
                         seconds)  # fmt: skip
        return Row(variant.title, variant.short, variant.stage, variant.options, values, *first)

    def _judged(
        self, stage: str, variant: Variant, clips: list[Clip], goals: list[judging.Goal]
    ) -> tuple[list[judging.Located], list[Frames]]:
        key = stage, tuple(sorted(variant.options.items()))
        if key not in self._made:
            evaluate = self.config.evaluate
            videos = self.models.sample(
                self.open(stage),
                clips,
                self.draw if stage else None,
                variant.options,
                seed=evaluate.seed,
                batch_size=evaluate.batch_size,
            )
            frames = [video.frames for video in videos]
            judged = [judging.judge(v, goal) for v, goal in zip(frames, goals, strict=True)]
            self._made[key] = judged, frames
        return self._made[key]

    def open(self, name: str) -> Pipeline:
        """See `variants.open_stage`."""
        return variants.open_stage(self.models, self.system, self.results, name)


def evaluate(
    config: Any, system: Any, models: Models, results: Results, inputs: Any, report: Any
) -> dict[str, Any]:
    """Judges the variants of `config.evaluate.tables`; fills the report, returns metrics.json's
    tree."""
    source = inputs.open(TEST)
    clips = [source[i] for i in range(len(source))]
    draw = system.main_draw()
    trial = Evaluation(config, system, results, models, draw).trial(clips)
    return finished(pages.trial_page(config, trial, results, report), results, report)


def show(
    config: Any, draw: Draw, pipeline: Pipeline | None, results: Results, inputs: Any, report: Any
) -> dict[str, Any]:
    """Samples of the first clips beside their trajectories and the true clips; no judge.

    Args:
      draw: which trajectories are given.
      pipeline: the trained model; None where parts of it are missing.
    """
    metrics: dict[str, Any] = {"shown": {}}
    names = ("train", "held_out") if config.train_clips else (TEST,) * bool(config.data.scenes.test)
    if pipeline is None or not names:
        report.text(
            "Nothing is sampled: it takes the encoders of a `--config.checkpoint`, and clips "
            "(`--config.train_clips`) with tracks and local captions that can be told again."
        )
        return finished(metrics, results, report)
    models = Models(pipeline, pipeline.published.sampling)
    for name in names:
        source = inputs.open(name)
        clips = [source[i] for i in range(min(config.report.scenes, len(source)))]
        metrics["shown"][name] = [clip.id for clip in clips]
        if clips:
            how = {"seed": config.evaluate.seed, "batch_size": config.evaluate.batch_size}
            videos = models.sample(pipeline, clips, draw, {}, **how)
            targets = [draw.known(clip) for clip in clips]
            frames = [video.frames for video in videos]
            pages.samples_page(config, SOURCES.get(name, name), clips, targets, frames, report)
    return finished(metrics, results, report)
