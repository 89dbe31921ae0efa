"""What the model will be steered by, before anything is trained: condition videos and tasks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from tavid_jax.data.clip import Clip
from tavid_jax.methods.finetune.pages import at_height
from tavid_jax.methods.flextraj import films, settings
from tavid_jax.methods.flextraj.controls import Controls
from tavid_jax.methods.flextraj.curriculum import TASKS, Mixture
from tavid_jax.methods.flextraj.evaluation import WHOLE, base_follow
from tavid_jax.methods.flextraj.variants import control_job, read_granularities
from tavid_jax.pipelines.follow import Follow
from tavid_jax.pipelines.following import steering_of
from tavid_jax.tracks.trajectories import Trajectories
from tavid_jax.viz import canvas, media, panels

# Draws that the shares of tasks are counted in.
DRAWS = 2000
# Options that are told of an example, where they differ from what is the same for all.
_TOLD = ("choose", "keep_points", "keep_frames", "random_frames", "unaligned", "scale", "colour")


def granularity_pages(config: Any, name: str, clips: Sequence[Clip], report: Any) -> int:
    """Draws clips of a data set at every granularity that will be judged; returns how many."""
    base, columns = base_follow(config), read_granularities(config) or [WHOLE]
    for one in columns:
        report.section(
            f"{name}: {one.title}",
            f"What steers a video at this granularity. {_words(one.of(base), Follow())}",
        )
        for i, clip in enumerate(clips):
            job = control_job(clip, one.of(base), config.evaluate.seed + i)
            steering = steering_of(job, clip.num_frames)
            videos = Controls(job.follow).videos(clip, steering, job.follow)
            _film(config, clip, steering, videos, clip.caption or clip.id, report)
    return len(columns) * len(clips)


def stage_pages(config: Any, clips: Sequence[Clip], report: Any) -> dict[str, Any]:
    """Draws examples of every stage that trains, with the numbers that were drawn for them.

    Returns:
      Stage -> step at which its mixture is reached -> task -> its share in `DRAWS` draws.
    """
    shares: dict[str, Any] = {}
    stages = [name for name in config.order if config.stages[name].kind == "train"]
    for stage in stages:
        base = settings.read_controls(config, config.stages[stage]).follow
        schedule = settings.read_schedule(config, config.stages[stage])
        shares[stage] = {int(step): _counted(schedule.at(step), base) for step in schedule.steps}
    names = [*TASKS, "with colour", "dropped"]
    report.section(
        "The curriculum", "Which control examples get, stage by stage: what is drawn for them."
    )
    report.table(
        "Shares of tasks",
        ["stage", "from step", *(dict(name=name, unit="%", digits=0) for name in names)],
        [
            [stage, str(step), *(100 * share for share in counted.values())]
            for stage, points in shares.items()
            for step, counted in points.items()
        ],
        f"Counted in {DRAWS} draws. Between two steps of a stage all shares change evenly.",
    )
    for stage in stages:
        report.section(f"Examples of stage {stage}", "Drawn as training draws them.")
        for i, clip in enumerate(clips):
            _example(config, stage, clip, i, report)
    return shares


def _counted(mixture: Mixture, base: Follow) -> dict[str, float]:
    rng = np.random.default_rng(0)
    drawn = [mixture.draw(rng, base, has_segments=True) for _ in range(DRAWS)]
    tasks = Counter(one.task for one in drawn)
    counts = {name: tasks[name] for name in TASKS}
    counts["colour"] = sum(one.follow.colour != "none" for one in drawn)
    counts["dropped"] = sum(one.dropped for one in drawn)
    return {name: count / DRAWS for name, count in counts.items()}


def _example(config: Any, stage: str, clip: Clip, number: int, report: Any) -> None:
    options = config.stages[stage]
    controls = settings.read_controls(config, options)
    mixture = settings.read_schedule(config, options).at(0)
    seed = [config.seed, number, list(config.order).index(stage)]
    made = controls(clip, mixture, np.random.default_rng(seed))
    told = "dropped: both are black" if not made.ids.any() else _words(made.follow, controls.follow)
    words = f"**{made.task}**: {told} — {made.caption or clip.id}"
    _film(config, clip, made.steering, (made.ids, made.colours), words, report)


def _words(follow: Follow, base: Follow) -> str:
    """The options that differ."""
    told = {name: getattr(follow, name) for name in _TOLD}
    changed = {name: value for name, value in told.items() if value != getattr(base, name)}
    if follow.unaligned == "given":  # by a partner: nothing is scaled
        changed.pop("scale", None)
    words = ", ".join(
        f"`{name}={value:.3g}`" if isinstance(value, float) else f"`{name}={value}`"
        for name, value in changed.items()
    )
    return words or "All of it."


def _film(
    config: Any,
    clip: Clip,
    steering: Trajectories,
    videos: tuple[films.Frames, films.Frames],
    words: str,
    report: Any,
) -> None:
    height = config.report.height
    drawn = films.with_points(clip.video, steering, height)
    counters = [f"{t + 1} / {len(drawn)}" for t in range(len(drawn))]
    shown = [
        panels.Panel("clip", at_height(clip.video, height)),
        panels.Panel("points", drawn, counters, accent=canvas.THEME.history),
        panels.Panel("identities", at_height(videos[0], height)),
        panels.Panel("colours", at_height(videos[1], height)),
    ]
    strip = panels.strip(shown)
    film = media.encode_animation(strip, config.report.fps or clip.fps)
    report.media(film.data, words, least_width=min(strip.shape[2], 520))
