"""Judging variants on unseen scenes: every model gets the same images, captions and noise."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from absl import logging

from tavid_jax.data.clip import Clip
from tavid_jax.engine.method import Results
from tavid_jax.methods.finetune.samples import job_of
from tavid_jax.methods.finetune.seeds import over_seeds
from tavid_jax.methods.finetune.variants import open_stage, stages_of
from tavid_jax.methods.tavid import judging, pages
from tavid_jax.methods.tavid.variants import Models, lookalike
from tavid_jax.pipelines.attention_files import grid_of
from tavid_jax.pipelines.folder import TRANSFORMER
from tavid_jax.pipelines.looking import look
from tavid_jax.pipelines.pipeline import Pipeline
from tavid_jax.pipelines.study import study


@dataclasses.dataclass(frozen=True)
class Row:
    """A variant on a set of scenes.

    Attributes:
      title: of the variant.
      short: the same over pictures.
      stages: what trained it, one stage for each seed; "" is the checkpoint itself.
      values: per seed, what was touched in every scene.
      attention: how well attention overlaps with the masks, see `pipelines.attention.study`, of
        the first seed.
      shown: of the first scenes, the videos with their own and, if any, with the other mask.
      maps: a picture of the trigger word's attention in the first scene, block by block, if asked.
      curve: step -> values, at the snapshots of the first seed.
    """

    title: str
    short: str
    stages: tuple[str, ...]
    values: list[judging.Values]
    attention: Mapping[str, Any]
    shown: dict[str, list[judging.Frames]]
    maps: np.ndarray | None
    curve: dict[int, judging.Values] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Trial:
    """A set of scenes and what every variant made of it."""

    title: str
    clips: list[Clip]
    rows: dict[str, Row]


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

    def trial(self, options: Any, clips: list[Clip]) -> Trial:
        """All variants on a set of scenes.

        Args:
          options: an entry of `config.evaluate.sets`.
          clips: its scenes.
        """
        rows = {}
        for name in options.order:
            one = options.variants[name]
            started = time.perf_counter()
            rows[name] = self._row(one, clips, name in self.config.evaluate.maps)
            mean = over_seeds(rows[name].values)["masked"].mean()
            seconds = time.perf_counter() - started
            logging.info("%s, %s: the masked object is touched in %.1f %% of %d scenes (%.0f s)",
                         options.title, one.title, 100 * mean, len(clips), seconds)  # fmt: skip
        return Trial(options.title, clips, rows)

    def _row(self, options: Any, clips: list[Clip], draws_maps: bool) -> Row:
        stages = stages_of(options)
        values = []
        for number, name in enumerate(stages):
            pipeline = self._open(name)
            # Masks are swapped for the first seed alone: half of the work.
            swap = not number
            found, videos = self._judged(pipeline, clips, options.modulation, swap)
            values.append(found)
            if not number:
                count = self.config.report.scenes
                shown = {mask: frames[:count] for mask, frames in videos.items()}
                seen = self._attention(pipeline, clips)
                maps = self._maps(pipeline, clips[0]) if draws_maps else None
        curve = self._curve(stages[0], clips)
        return Row(options.title, options.short, stages, values, seen, shown, maps, curve)

    def _open(self, name: str) -> Pipeline:
        """See `variants.open_stage`."""
        return open_stage(self.models, self.system, self.results, name)

    def _curve(self, stage: str, clips: list[Clip]) -> dict[int, judging.Values]:
        if not stage:
            return {}
        found = {}
        for step in self.config.stages[stage].snapshots:
            found[step], _ = self._judged(self._open(f"{stage}@{step}"), clips, 0.0, False)
        return found

    def _judged(
        self, pipeline: Pipeline, clips: list[Clip], modulation: float, swap: bool
    ) -> tuple[judging.Values, dict[str, list[judging.Frames]]]:
        own = [clip.target for clip in clips]
        marked = {"own": own}
        if swap and (modulation or pipeline.parts[TRANSFORMER].module.config.extra_channels):
            marked["other"] = [lookalike(clip) for clip in clips]
        videos, found = {}, {}
        for mask, targets in marked.items():
            made = self._sampled(pipeline, clips, targets, modulation)
            videos[mask] = made
            found[mask] = [
                judging.judge(frames, clip, target)
                for frames, clip, target in zip(made, clips, targets, strict=True)
            ]
        return judging.values_of(found["own"], found.get("other")), videos

    def _sampled(
        self, pipeline: Pipeline, clips: list[Clip], targets: Sequence[int], modulation: float
    ) -> list[judging.Frames]:
        evaluate = self.config.evaluate
        videos = self.models.sample(
            pipeline,
            clips,
            targets,
            seed=evaluate.seed,
            batch_size=evaluate.batch_size,
            modulation=modulation,
        )
        return [video.frames for video in videos]

    def _attention(self, pipeline: Pipeline, clips: list[Clip]) -> Mapping[str, Any]:
        return study(pipeline, clips[: self.config.evaluate.mapped], self.config.targets.words[0])

    def _maps(self, pipeline: Pipeline, clip: Clip) -> np.ndarray:
        options = vars(self.models.sampling)
        # The mask is given to models without channels too: maps are compared with it.
        job = job_of(pipeline, clip, seed=self.config.evaluate.seed, options=options)
        job = dataclasses.replace(job, image=clip.video[0], mask=clip.masks[clip.target - 1])
        return grid_of(look(pipeline, job, [self.config.targets.words[0]]), 0)


def evaluate(
    config: Any, system: Any, base: Pipeline, results: Results, inputs: Any, report: Any
) -> dict[str, Any]:
    """Judges every set of `config.evaluate.sets`; fills the report, returns metrics.json's tree.

    Args:
      base: the pipeline of the checkpoint.
    """
    models = Models(base, base.published.sampling)
    evaluation = Evaluation(config, system, results, models)
    metrics: dict[str, Any] = {}
    for name in config.evaluate.order:
        options = config.evaluate.sets[name]
        source = inputs.open(options.data)
        clips = [source[i] for i in range(len(source))]
        trial = evaluation.trial(options, clips)
        metrics[name] = pages.trial_page(config, trial, results, report)
    pages.training(config, results, report)
    report.provenance(dict(results.provenance))
    metrics["seconds"] = dict(results.seconds)
    metrics["provenance"] = dict(results.provenance)
    return metrics
