"""What is compared: models of one run, each steered by the same tracks at several granularities."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tavid_jax.data.clip import Clip
from tavid_jax.methods.finetune import variants
from tavid_jax.methods.finetune.samples import job_of
from tavid_jax.methods.flextraj.controlnet import ControlNet
from tavid_jax.methods.flextraj.controls import steering_tracks
from tavid_jax.methods.flextraj.injection import inject
from tavid_jax.methods.flextraj.judging import BETTER, MEASURES, TITLE_OF, VALUE_OF
from tavid_jax.methods.flextraj.method import Flextraj
from tavid_jax.pipelines.follow import Follow
from tavid_jax.pipelines.jobs import Job
from tavid_jax.pipelines.pipeline import Pipeline
from tavid_jax.pipelines.video import Video

# What seeds are joined with for a partner's background.
_PARTNER = 8
# Of unaligned tracks that have to be moved: objects are found by their masks.
_MOVED = ("scale", "shift")


@dataclasses.dataclass(frozen=True)
class Granularity:
    """How much of a clip's tracks is given.

    Attributes:
      name: in the config.
      title, short: of tables, and over pictures.
      measure: one of `judging.MEASURES`.
      follow: fields of `Follow` that differ from those that a model was trained with.

    Raises:
      ValueError: an unknown measure, or see `Follow`.
    """

    name: str
    title: str
    short: str
    measure: str
    follow: Mapping[str, Any]

    def __post_init__(self):
        where = f"evaluate.granularities.{self.name}"
        if self.measure not in MEASURES:
            known = ", ".join(MEASURES)
            raise ValueError(f"{where}.measure {self.measure!r} is none of {known}")
        try:
            Follow.of(self.follow)
        except ValueError as error:
            raise ValueError(f"{where}.{error}") from error

    @property
    def value(self) -> str:
        """The name of the value that it is judged by."""
        return VALUE_OF[self.measure]

    @property
    def better(self) -> str:
        """Which of two values is better, "lower" or "higher"."""
        return BETTER[self.value]

    @property
    def measured(self) -> str:
        """What the value is called."""
        return TITLE_OF[self.measure]

    def of(self, base: Follow) -> Follow:
        """How a model follows the tracks: one that was trained without colours gets none."""
        changes = dict(self.follow)
        if base.colour == "none":
            changes.pop("colour", None)
        return Follow.of({**vars(base), **changes})


def read_granularities(config: Any) -> list[Granularity]:
    """`config.evaluate.granularities`, those of `config.evaluate.columns` in their order.

    Raises:
      ValueError: a column that is not described, a field that is missing, or see `Granularity`.
    """
    evaluate, found = config.evaluate, []
    known = evaluate.get("granularities", {})
    for name in evaluate.get("columns", ()):
        if name not in known:
            names = ", ".join(known) or "none"
            raise ValueError(f"evaluate.columns: {name!r} is no granularity, there are {names}")
        fields = known[name].to_dict()
        missing = [n for n in ("title", "short", "measure", "follow") if n not in fields]
        if missing:
            raise ValueError(f"evaluate.granularities.{name} has no {', '.join(missing)}")
        found.append(Granularity(name, **fields))
    return found


def check_variants(config: Any) -> None:
    """Refuses what could not be judged after a training.

    Raises:
      ValueError: an unknown variant or stage; variants without granularities; or see
        `read_granularities`.
    """
    evaluate = config.evaluate
    columns, order = read_granularities(config), evaluate.get("order", ())
    if order and not columns:
        raise ValueError("evaluate.order names variants: name what is given to them, columns")
    for name in order:
        if name not in evaluate.variants:
            known = ", ".join(evaluate.variants)
            raise ValueError(f"evaluate.order: {name!r} is no variant, there are {known}")
        for stage in variants.stages_of(evaluate.variants[name]):
            _check_stage(config, f"evaluate.variants.{name}", stage)
    if order and evaluate.main not in order:
        raise ValueError(f"evaluate.main {evaluate.main!r} is none of {', '.join(order)}")
    for stage in evaluate.get("curve", ()):
        _check_stage(config, "evaluate.curve", stage)


def _check_stage(config: Any, where: str, stage: str) -> None:
    if stage and stage.partition("@")[0] not in config.order:
        raise ValueError(f"{where}: stage {stage!r} is none of {', '.join(config.order)}")


class Models(variants.Models):
    """See `finetune.variants.Models`; a stage may have trained a side network."""

    def kind(self, method: Flextraj) -> ControlNet | None:
        """The side network, if there is one."""
        return getattr(method.backbone, "controlnet", None)

    def fields(self, method: Flextraj) -> dict[str, Any]:
        """What puts the side network around the backbone."""
        net = self.kind(method)
        return {"inject": None if net is None else functools.partial(inject, controlnet=net)}

    def sample(
        self,
        pipeline: Pipeline,
        clips: Sequence[Clip],
        follow: Follow | None,
        *,
        seed: int,
        batch_size: int,
    ) -> list[Video]:
        """A video for every clip from its first frame and caption, steered by its tracks.

        Clip i has the seed `seed + i`, whatever is sampled with it and however it is steered.

        Args:
          pipeline: from `open`.
          clips: with tracks.
          follow: how they are followed; None: not at all.
          seed, batch_size: see above.
        """
        jobs = [
            job_of(
                pipeline,
                clip,
                seed=seed + i,
                name=f"{i:04d}",
                options=vars(self.sampling),
                **({} if follow is None else control_fields(clip, follow, seed + i)),
            )
            for i, clip in enumerate(clips)
        ]
        return list(pipeline.run(jobs, min(batch_size, len(jobs))))


def control_fields(clip: Clip, follow: Follow, seed: int) -> dict[str, Any]:
    """Fields of a `Job` that is steered as training steers: by the tracks of a clip, or of its
    partner where they are unaligned.

    Raises:
      ClipError: a clip without tracks.
    """
    tracks, follow = steering_tracks(clip, follow, np.random.default_rng([seed, _PARTNER]))
    fields: dict[str, Any] = {"tracks": tracks, "follow": follow}
    reads_masks = follow.choose == "region" or follow.unaligned in _MOVED
    if reads_masks and clip.masks is not None:
        fields["segments"] = clip.masks
    if follow.colour != "none":
        fields["source"] = clip.video
    return fields


def control_job(clip: Clip, follow: Follow, seed: int) -> Job:
    """The job of a clip, to look at what steers it; see `control_fields`."""
    fields = control_fields(clip, follow, seed)
    return Job(clip.caption, image=clip.video[0], seed=seed, **fields)
