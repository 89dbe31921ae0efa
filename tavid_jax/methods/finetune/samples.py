"""Videos that a finished run is asked for: jobs of a file, or the captions of clips."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import logging

from tavid_jax.data.clip import Clip
from tavid_jax.pipelines.folder import TRANSFORMER
from tavid_jax.pipelines.jobs import Job, read_jobs
from tavid_jax.pipelines.pipeline import Pipeline

FORMATS = ("webp", "mp4", "gif")


def write_samples(pipeline: Pipeline, jobs: Sequence[Job], folder: Path, sampling: Any) -> list:
    """Makes the videos of jobs and writes each with what made it; returns the files.

    Args:
      pipeline: the trained model.
      jobs: with names.
      folder: of the files.
      sampling: `config.sampling`.

    Raises:
      ValueError: an unknown format of files, or see `Pipeline.run`.
    """
    format = sampling.get("format", FORMATS[0])
    if format not in FORMATS:
        raise ValueError(f"sampling.format {format!r} is none of {', '.join(FORMATS)}")
    files = []
    for number, video in enumerate(pipeline.run(jobs, sampling.get("batch_size", 8)), 1):
        files.append(video.save(folder / f"{video.name}.{format}"))
        logging.info("%s (%d of %d)", files[-1], number, len(jobs))
    return files


def job_of(pipeline: Pipeline, clip: Clip, **fields: Any) -> Job:
    """A job that tells a clip's caption again, as the model was trained to read it: from its first
    frame where the model reads one, and with the masks of its targets where it reads any.

    Args:
      pipeline: the model.
      clip: with frames, and masks if they are read.
      fields: of `Job`. With a `modulation` masks are given too.

    Raises:
      ClipError: a clip without the masks that are read.
      ValueError: see `TargetReader.prompt`.
    """
    prompt, mask = clip.caption, None
    channels = pipeline.parts[TRANSFORMER].module.config.extra_channels
    if channels or fields.get("modulation") or pipeline.targets is not None:
        sampling, needs_image = pipeline.published.sampling, pipeline.published.needs_image
        reader = pipeline.reader(pipeline.backbone(sampling, needs_image))
        prompt = reader.prompt(clip.caption)
        if channels or fields.get("modulation"):
            mask = [clip.masks[number - 1] for number in reader.numbers(clip)]
    reads_image = pipeline.published.needs_image or mask is not None
    image = clip.video[0] if reads_image else None
    return Job(prompt, image=image, mask=mask, **fields)


def jobs_of(
    config: Any,
    inputs: Any,
    pipeline: Pipeline,
    more: Callable[[Clip, int], Mapping[str, Any]] = lambda clip, seed: {},
) -> list[Job]:
    """What `config.sampling` asks for.

    Its `prompts` are texts with semicolons between, its `jobs` name a file, see
    `pipelines.read_jobs`. Without either the captions of `config.clips` are told again, or those of
    the test scenes, from their first frames if the model needs one.

    Args:
      config: of the run.
      inputs: of the run.
      pipeline: the trained model.
      more: (clip, seed) -> further fields of the job of a clip.

    Raises:
      ValueError: both prompts and jobs, or neither of them and no clips.
    """
    sampling = config.get("sampling", {})
    prompts = [text.strip() for text in sampling.get("prompts", "").split(";") if text.strip()]
    if prompts and sampling.get("jobs", ""):
        raise ValueError("give either sampling.prompts or sampling.jobs")
    if prompts:
        return [Job(text, seed=config.seed + i, name=f"{i:04d}") for i, text in enumerate(prompts)]
    if sampling.get("jobs", ""):
        return read_jobs(sampling["jobs"])
    if not config.clips and not config.data.scenes.test:
        raise ValueError(
            "nothing to sample: give --config.sampling.prompts=TEXT;TEXT, "
            "--config.sampling.jobs=FILE (JSON lines), or --config.clips=FOLDER with captions"
        )
    source = inputs.open("clips" if config.clips else "test")
    jobs = []
    for index in range(min(sampling.get("videos", 8), len(source))):
        clip = source[index]
        name = clip.id.replace("/", "_")
        seed, how = config.seed + index, {"modulation": sampling.get("modulation", 0.0)}
        jobs.append(job_of(pipeline, clip, seed=seed, name=name, **how, **more(clip, seed)))
    return jobs
