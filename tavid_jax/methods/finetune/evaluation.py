"""Judging a trained model: its samples, those of the base it started from, and the true clips."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from absl import logging

from tavid_jax.data.clip import Clip
from tavid_jax.engine.method import Results
from tavid_jax.methods.finetune import judging, pages
from tavid_jax.methods.finetune.probe import text_probe
from tavid_jax.methods.finetune.samples import job_of
from tavid_jax.pipelines.pipeline import Pipeline
from tavid_jax.pipelines.settings import Sampling
from tavid_jax.pipelines.video import Video
from tavid_jax.viz import media

TEST = "test"
# What is told of the change against the base.
COMPARED = {
    judging.OBJECTS: ("colour", "motion", "shape", "all"),
    judging.CONTACT: ("touched", "actor"),
}
SOURCES = {
    "train": "Training clips",
    "held_out": "Held-out parts of the clips",
    TEST: "Unseen scenes",
}


@dataclasses.dataclass(frozen=True)
class Trial:
    """A set of scenes and what every model made of their captions.

    Attributes:
      title: of the set.
      clips: the true ones.
      videos: model ("sample", "base", "truth", "still") -> frames per clip.
      found: model -> verdict per clip.
    """

    title: str
    clips: list[Clip]
    videos: dict[str, list[pages.Frames]]
    found: dict[str, list[judging.Judged]]

    def measured(self, resamples: int) -> dict[str, Any]:
        """Means with intervals, by model and group; the change against the base if there is one."""
        groups = judging.groups_of(self.clips)
        values = {model: judging.values_of(found) for model, found in self.found.items()}
        captions = len({clip.caption for clip in self.clips})
        measured: dict[str, Any] = {
            "title": self.title,
            "scenes": len(self.clips),
            "captions": captions,
        }
        for model, columns in values.items():
            measured[model] = judging.measure(columns, groups, resamples)
        if pages.BASE in values:
            pair = values[pages.SAMPLE], values[pages.BASE]
            measured["change"] = judging.compare(*pair, groups, resamples)
        if self.found[pages.SAMPLE][0].things:
            measured["by"] = judging.by_attribute(self.found[pages.SAMPLE])
        return measured


def sample_clips(
    pipeline: Pipeline, clips: Sequence[Clip], config: Any, sampling: Sampling
) -> list[Video]:
    """A video for the caption of every clip, and its first frame where the model reads one.

    Clip i has the seed `config.evaluate.seed + i`, whatever is sampled with it.

    Args:
      sampling: how.

    Raises:
      ValueError: options that do not fit the model.
    """
    jobs = [
        job_of(
            pipeline,
            clip,
            modulation=config.get("sampling", {}).get("modulation", 0.0),
            seed=config.evaluate.seed + i,
            name=f"{i:04d}",
            options=vars(sampling),
        )
        for i, clip in enumerate(clips)
    ]
    return list(pipeline.run(jobs, min(config.evaluate.batch_size, len(jobs))))


def sample_all(
    models: Mapping[str, Pipeline], clips: Sequence[Clip], config: Any
) -> dict[str, list[pages.Frames]]:
    """Frames of every model for every clip; the base is sampled as the trained model is."""
    sampling = models[pages.SAMPLE].published.sampling
    return {
        name: [video.frames for video in sample_clips(model, clips, config, sampling)]
        for name, model in models.items()
    }


def run_trial(title: str, clips: list[Clip], models: Mapping[str, Pipeline], config: Any) -> Trial:
    """Samples and judges a set of scenes."""
    started, kind = time.perf_counter(), config.evaluate.judge
    videos = sample_all(models, clips, config)
    videos[pages.TRUTH] = [clip.video for clip in clips]
    if kind == judging.CONTACT:
        still = [np.repeat(clip.video[:1], len(clip.video), axis=0) for clip in clips]
        videos[pages.STILL] = still
    found = {
        model: [judging.judge_video(kind, v, c) for v, c in zip(frames, clips, strict=True)]
        for model, frames in videos.items()
    }
    seconds = time.perf_counter() - started
    logging.info("%s: sampled and judged %d scenes in %.0f s", title, len(clips), seconds)
    return Trial(title, clips, videos, found)


def evaluate(
    config: Any, models: Mapping[str, Pipeline], results: Results, inputs: Any, report: Any
) -> dict[str, Any]:
    """Judges on scenes, or without a judge shows the first clips; fills the report.

    Args:
      config: the run's.
      models: "sample", the trained model, and "base", what it was before, if it was anything.

    Returns:
      The tree of metrics.json.

    Raises:
      ValueError: a goal for what is not measured.
    """
    if config.evaluate.judge == judging.NONE:
        metrics = _without_judge(config, models, results, inputs, report)
    else:
        metrics = _judged(config, models, results, inputs, report)
    return finished(metrics, results, report)


def finished(metrics: dict[str, Any], results: Results, report: Any) -> dict[str, Any]:
    """The tree of metrics.json and the report, with what every training took and came from."""
    pages.training_curves(report, results)
    report.provenance(dict(results.provenance))
    metrics["seconds"] = dict(results.seconds)
    metrics["provenance"] = dict(results.provenance)
    return metrics


def _judged(
    config: Any, models: Mapping[str, Pipeline], results: Results, inputs: Any, report: Any
) -> dict[str, Any]:
    evaluate = config.evaluate
    trials = _trials(config, models, inputs)
    tables = {name: trial.measured(evaluate.resamples) for name, trial in trials.items()}
    goals = judging.reached(tables[TEST][pages.SAMPLE], evaluate.goals.to_dict())
    metrics: dict[str, Any] = {**tables, "goals": goals}
    test = trials[TEST]
    pages.headline(report, goals, len(test.clips))
    report.section("What is right")
    by_objects = evaluate.judge == judging.OBJECTS
    for table in tables.values():
        (pages.share_table if by_objects else pages.touch_table)(report, table)
    if pages.BASE in models:
        pages.comparison(report, tables, COMPARED[evaluate.judge])
    for trial in trials.values():
        _show_trial(config, trial, results, report)
    _show_failures(config, test, results, report)
    if by_objects:
        report.section("Where it fails", f"{test.title}, object by object.")
        pages.failure_tables(report, tables[TEST]["by"])
        metrics["probe"] = text_probe(
            models[pages.SAMPLE], test.clips, evaluate.batch_size, evaluate.seed, evaluate.resamples
        )
        pages.probe_table(report, metrics["probe"])
    return metrics


def _trials(config: Any, models: Mapping[str, Pipeline], inputs: Any) -> dict[str, Trial]:
    """The test scenes, and those that the config sets beside them."""
    evaluate = config.evaluate
    sources = {TEST: (evaluate.title, inputs.open(TEST))}
    for name, other in evaluate.beside.items():
        sources[name] = other.title, inputs.open_scenes(other.scene, other.scenes)
    return {
        name: run_trial(title, [source[i] for i in range(len(source))], models, config)
        for name, (title, source) in sources.items()
    }


def _show_trial(config: Any, trial: Trial, results: Results, report: Any) -> None:
    """The first scenes, and a sheet of many."""
    report.section(
        trial.title,
        "The first scenes, not chosen: what was made of the caption, beside the true clip.",
    )
    count = min(config.report.scenes, len(trial.clips))
    _show_scenes(config, trial, range(count), results, report)
    _show_sheet(config, trial, results, report)


def _show_failures(config: Any, trial: Trial, results: Results, report: Any) -> None:
    found = trial.found[pages.SAMPLE]
    wrong = [i for i, one in enumerate(found) if not pages.is_right(one)]
    if wrong:
        share = 100.0 * len(wrong) / len(found)
        report.section(
            "Failures",
            f"{trial.title}: {len(wrong)} of {len(found)} samples ({share:.0f} %) are not right in "
            "all; the first of them.",
        )
        _show_scenes(config, trial, wrong[: config.report.failures], results, report)


def _show_scenes(
    config: Any, trial: Trial, places: Sequence[int], results: Results, report: Any
) -> None:
    shown = [name for name in (pages.SAMPLE, pages.BASE, pages.TRUTH) if name in trial.videos]
    films = [{name: trial.videos[name][i] for name in shown} for i in places]
    captions = [
        f"{trial.clips[i].caption} — {pages.verdict_words(trial.found[pages.SAMPLE][i])}"
        for i in places
    ]
    _show(config, films, captions, trial.clips, results, report)


def _show(
    config: Any,
    films: Sequence[Mapping[str, pages.Frames]],
    captions: Sequence[str],
    clips: Sequence[Clip],
    results: Results,
    report: Any,
) -> None:
    fps = config.report.fps or clips[0].fps
    pages.show(report, films, captions, config.report, fps, results.provenance)


def _show_sheet(config: Any, trial: Trial, results: Results, report: Any) -> None:
    count = min(config.report.sheet, len(trial.clips))
    if not count:
        return
    found = trial.found[pages.SAMPLE][:count]
    frames = pages.sheet(
        trial.videos[pages.SAMPLE][:count],
        [clip.caption for clip in trial.clips[:count]],
        [pages.is_right(one) for one in found],
    )
    fps = config.report.fps or trial.clips[0].fps
    film = media.encode_animation(
        frames, fps, provenance=dict(results.provenance), max_bytes=2_000_000
    )
    caption = f"{trial.title}: the first {count} samples. A green dot: all is right."
    report.media(film.data, caption, least_width=frames.shape[2])


def _without_judge(
    config: Any, models: Mapping[str, Pipeline], results: Results, inputs: Any, report: Any
) -> dict[str, Any]:
    """Samples of the first captions beside the clips that they were written for."""
    metrics: dict[str, Any] = {"shown": {}}
    sources = (
        ("train", "held_out") if config.train_clips else ("test",) * bool(config.data.scenes.test)
    )
    if not models or not sources:
        report.text(
            "Nothing is sampled: it takes the encoders of a `--config.checkpoint`, and clips "
            "(`--config.train_clips`) whose captions can be told again."
        )
        return metrics
    for name in sources:
        source = inputs.open(name)
        clips = [source[i] for i in range(min(config.report.scenes, len(source)))]
        metrics["shown"][name] = [clip.id for clip in clips]
        if clips:
            report.section(SOURCES[name], "Samples of the first captions beside their true clips.")
            videos = sample_all(models, clips, config)
            videos[pages.TRUTH] = [clip.video for clip in clips]
            films = [{model: videos[model][i] for model in videos} for i in range(len(clips))]
            captions = [clip.caption or clip.id for clip in clips]
            _show(config, films, captions, clips, results, report)
    return metrics
