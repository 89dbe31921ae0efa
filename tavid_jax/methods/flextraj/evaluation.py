"""Judging variants on unseen scenes: all get the same images, captions, noise and tracks."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from absl import logging

from tavid_jax.data.clip import Clip
from tavid_jax.engine.method import Results
from tavid_jax.methods.finetune import variants
from tavid_jax.methods.finetune.evaluation import SOURCES, TEST, finished
from tavid_jax.methods.flextraj import judging, pages, settings
from tavid_jax.methods.flextraj.variants import (
    Granularity,
    Models,
    control_job,
    read_granularities,
)
from tavid_jax.metrics.result import finite_mean
from tavid_jax.pipelines.follow import Follow
from tavid_jax.pipelines.following import Guide, steering_of
from tavid_jax.pipelines.pipeline import Pipeline
from tavid_jax.tracks.trajectories import Trajectories

ORACLE, ZERO = "oracle", "zero"
# Where no granularity is asked for: tracks as they are, as `config.follow` says.
WHOLE = Granularity("whole", "All tracks", "all tracks", judging.TRAJERR, {})


@dataclasses.dataclass(frozen=True)
class Scenes:
    """Clips at one granularity, the same for all variants.

    Attributes:
      granularity: what is given of their tracks.
      clips: the true ones.
      steering: of each clip, its points with those invisible that are not given.
      goals: where its objects should be.
    """

    granularity: Granularity
    clips: list[Clip]
    steering: list[Trajectories]
    goals: list[judging.Goal]


@dataclasses.dataclass(frozen=True)
class Cell:
    """A variant at a granularity.

    Attributes:
      values: per seed.
      judged: of the first seed, scene by scene.
      frames: videos of the first seed; of other variants than the main one, of the first scenes.
      guides: what draws the condition videos of each scene; None without any.
    """

    values: list[judging.Values]
    judged: list[judging.Judged]
    frames: list[judging.Frames]
    guides: list[Guide | None]


@dataclasses.dataclass(frozen=True)
class Row:
    """A variant: what it is called, what trained it ("" is nothing), granularity -> cell."""

    title: str
    short: str
    stages: tuple[str, ...]
    cells: dict[str, Cell]


@dataclasses.dataclass(frozen=True)
class Point:
    """A point of the learning curve: the stage, steps of all stages so far, granularity -> mean."""

    stage: str
    step: int
    values: dict[str, float]


@dataclasses.dataclass(frozen=True)
class Trial:
    """The scenes by granularity, and what every variant made of them."""

    title: str
    scenes: dict[str, Scenes]
    rows: dict[str, Row]
    curve: list[Point]

    @property
    def clips(self) -> list[Clip]:
        """The true clips."""
        return next(iter(self.scenes.values())).clips


def scenes_of(
    clips: Sequence[Clip], granularity: Granularity, base: Follow, seed: int, frames: int
) -> Scenes:
    """What is given of the clips' tracks, and where that leads.

    Args:
      clips: scenes of `toy.steered`.
      granularity: how much is given.
      base: the `Follow` that it changes.
      seed: of the first clip's choices; the others count on.
      frames: of a video.
    """
    steering, goals = [], []
    for i, clip in enumerate(clips):
        job = control_job(clip, granularity.of(base), seed + i)
        steering.append(steering_of(job, frames))
        goals.append(judging.goal_of(clip, job.tracks, steering[-1]))
    return Scenes(granularity, list(clips), steering, goals)


class Evaluation:
    """Samples and judges the variants of a run.

    Args:
      config: of the run.
      system: gives the methods of its stages.
      results: of the run.
      models: opens what stages have trained.
    """

    def __init__(self, config: Any, system: Any, results: Results, models: Models):
        self.config, self.system, self.results, self.models = config, system, results, models

    def trial(self, clips: list[Clip]) -> Trial:
        """All variants of `config.evaluate.order` on scenes."""
        evaluate, base = self.config.evaluate, base_follow(self.config)
        scenes = {
            one.name: scenes_of(clips, one, base, evaluate.seed, self.models.sampling.frames)
            for one in read_granularities(self.config)
        }
        rows = self._known(scenes)
        for name in evaluate.order:
            rows[name] = self._row(name, scenes)
        return Trial(evaluate.title, scenes, rows, self._curve(scenes))

    # ---- rows --------------------------------------------------------------------------------

    def _known(self, scenes: Mapping[str, Scenes]) -> dict[str, Row]:
        """What the numbers mean: the true clips, and their first frame alone."""
        made = {
            ORACLE: ("true clips", "true clip", lambda video: video),
            ZERO: ("zero motion", "zero motion", lambda v: np.repeat(v[:1], len(v), axis=0)),
        }
        rows = {}
        for name, (title, short, change) in made.items():
            cells = {
                column: _cell(of, [change(clip.video) for clip in of.clips])
                for column, of in scenes.items()
            }
            rows[name] = Row(title, short, (), cells)
        return rows

    def _row(self, name: str, scenes: Mapping[str, Scenes]) -> Row:
        options, cells = self.config.evaluate.variants[name], {}
        stages = variants.stages_of(options)
        seeds = [self._cells(stage, scenes) for stage in stages]
        # Failures are looked for among all videos of the main variant.
        kept = None if name == self.config.evaluate.main else self.config.report.scenes
        for column in scenes:
            first = seeds[0][column]
            values = [each[column].values[0] for each in seeds]
            cells[column] = dataclasses.replace(first, values=values, frames=first.frames[:kept])
        return Row(options.title, options.short, stages, cells)

    def _cells(self, stage: str, scenes: Mapping[str, Scenes]) -> dict[str, Cell]:
        """One model at every granularity; without tracks, its videos are the same at each."""
        cells, made = {}, None
        pipeline = self.open(stage)
        for column, of in scenes.items():
            started = time.perf_counter()
            if stage or made is None:
                made = self._sampled(pipeline, stage, of)
            cells[column] = _cell(of, *made)
            value = finite_mean(cells[column].values[0][of.granularity.value])
            seconds = time.perf_counter() - started
            logging.info("%s, %s: %s %.4f on %d scenes (%.0f s)", stage or "no control", column,
                         of.granularity.measured, value, len(of.clips), seconds)  # fmt: skip
        return cells

    def open(self, name: str) -> Pipeline:
        """See `variants.open_stage`."""
        return variants.open_stage(self.models, self.system, self.results, name)

    def _sampled(self, pipeline: Pipeline, stage: str, of: Scenes) -> tuple[list, list]:
        evaluate, follow = self.config.evaluate, None
        if stage:
            options = self.config.stages[stage.partition("@")[0]]
            follow = of.granularity.of(settings.read_controls(self.config, options).follow)
        videos = self.models.sample(
            pipeline, of.clips, follow, seed=evaluate.seed, batch_size=evaluate.batch_size
        )
        return [video.frames for video in videos], [video.guide for video in videos]

    # ---- the learning curve ------------------------------------------------------------------

    def _curve(self, scenes: Mapping[str, Scenes]) -> list[Point]:
        """Behind every stage of `config.evaluate.curve`, and at its snapshots."""
        evaluate, points, before = self.config.evaluate, [], 0
        few = {column: _first(of, evaluate.curve_scenes) for column, of in scenes.items()}
        for stage in evaluate.curve:
            steps = self.config.stages[stage].steps
            for step in (*self.config.stages[stage].snapshots, steps):
                name = stage if step == steps else f"{stage}@{step}"
                cells = self._cells(name, few)
                means = {
                    column: finite_mean(cell.values[0][few[column].granularity.value])
                    for column, cell in cells.items()
                }
                points.append(Point(stage, before + step, means))
            before += steps
        return points


def _first(scenes: Scenes, count: int) -> Scenes:
    cut = {name: getattr(scenes, name)[:count] for name in ("clips", "steering", "goals")}
    return dataclasses.replace(scenes, **cut)


def _cell(
    of: Scenes, videos: Sequence[judging.Frames], guides: Sequence[Guide | None] = ()
) -> Cell:
    found = [judging.judge(v, c, g) for v, c, g in zip(videos, of.clips, of.goals, strict=True)]
    return Cell([judging.values_of(found)], found, list(videos), list(guides))


def evaluate(
    config: Any, system: Any, models: Models, results: Results, inputs: Any, report: Any
) -> dict[str, Any]:
    """Judges the variants of `config.evaluate.order`; fills the report, returns metrics.json's
    tree."""
    source = inputs.open(TEST)
    clips = [source[i] for i in range(len(source))]
    trial = Evaluation(config, system, results, models).trial(clips)
    metrics = pages.trial_page(config, trial, results, report)
    return finished(metrics, results, report)


def show(
    config: Any, pipeline: Pipeline | None, results: Results, inputs: Any, report: Any
) -> dict[str, Any]:
    """Samples of the first clips beside what steered them and the true clips; no judge.

    Args:
      pipeline: the trained model; None where parts of it are missing.
    """
    metrics: dict[str, Any] = {"shown": {}}
    names = ("train", "held_out") if config.train_clips else (TEST,) * bool(config.data.scenes.test)
    if pipeline is None or not names:
        report.text(
            "Nothing is sampled: it takes the encoders of a `--config.checkpoint`, and clips "
            "(`--config.train_clips`) with tracks that can be followed again."
        )
        return finished(metrics, results, report)
    models, base = Models(pipeline, pipeline.published.sampling), base_follow(config)
    columns = read_granularities(config) or [WHOLE]
    for name in names:
        source = inputs.open(name)
        clips = [source[i] for i in range(min(config.report.scenes, len(source)))]
        metrics["shown"][name] = [clip.id for clip in clips]
        for one in columns if clips else ():
            videos = models.sample(
                pipeline,
                clips,
                one.of(base),
                seed=config.evaluate.seed,
                batch_size=config.evaluate.batch_size,
            )
            report.section(f"{SOURCES[name]}: {one.title}", pages.SAMPLES)
            pages.show_videos(config, clips, videos, results, report)
    return finished(metrics, results, report)


def base_follow(config: Any) -> Follow:
    """What granularities change, `config.follow`."""
    return Follow.of(config.follow.to_dict())
