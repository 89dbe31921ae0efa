"""Several clips as one video: each goes on from the last frame of the one before.

So an actor walks to a target first and uses it then (TAViD, arXiv:2503.18950): the mask of the
first image is carried through every clip by a tracker, and marks the target for the next one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from absl import logging
from jaxtyping import Bool

from tavid_jax.data.carry import carry_mask
from tavid_jax.pipelines.folder import TRANSFORMER
from tavid_jax.pipelines.jobs import ImageSource, Job, read_fields
from tavid_jax.pipelines.pipeline import Pipeline
from tavid_jax.pipelines.video import Video

# (frames of a clip, mask of the first one) -> masks of all frames.
Carry = Callable[[np.ndarray, Bool[np.ndarray, "H W"]], Bool[np.ndarray, "T H W"]]
# Fields of a job that steps cannot have: their images follow from each other, and their clips
# become one video.
_OF_THE_WHOLE = ("image", "last_image", "noise", "name", "size_hw", "fit", "fps")


class TargetLost(ValueError):
    """A target that is not seen any more in the frame that the next step begins with.

    Attributes:
      video: what was made until then.
    """

    def __init__(self, message: str, video: Video):
        super().__init__(message)
        self.video = video


def chain(
    pipeline: Pipeline,
    steps: Sequence[Mapping[str, Any]],
    /,
    image: ImageSource,
    mask: ImageSource | Sequence[ImageSource] = (),
    *,
    carry: Carry = carry_mask,
    name: str = "chain",
    **shared: Any,
) -> Video:
    """One video of several steps.

    Args:
      pipeline: of a model that makes videos from an image.
      steps: fields of a job each, see `Job`: a prompt, perhaps a seed, options of their own, and a
        mask, or masks, for the frame that the step begins with, in place of the carried ones.
      image: the first frame of the first step.
      mask: of the target in it, or several, for models that read masks.
      carry: follows a mask through a clip.
      name: of the video.
      shared: fields of a job for all steps that do not say otherwise; step i has the seed
        `seed + i`. `size_hw`, `fit` and `fps` can be given here alone.

    Returns:
      All clips one after the other. Each begins with the frame that the one before ends with, which
      is there once; `latents` are those of all clips.

    Raises:
      ValueError: no steps, or naming the step, what is wrong with it; before anything is made.
      TargetLost: a target left the frames, so that the next step has no mask.
    """
    todo = _checked(pipeline, steps, image, mask, name, shared)
    made: list[Video] = []
    for number, fields in enumerate(todo, 1):
        begin: dict[str, Any] = {}
        if made:
            begin["image"] = made[-1].frames[-1]
            if fields.get("mask") is None and made[-1].masks:
                begin["mask"] = _carried(carry, made, number, name)
        job = Job.of({**fields, **begin})
        logging.info("step %d of %d: %s", number, len(todo), job.prompt)
        made.append(next(pipeline.run([job])))
    return _joined(made, name)


def read_steps(path: str | os.PathLike) -> list[dict[str, Any]]:
    """Steps from a file of JSON lines, one object each; masks are relative to the file.

    {"prompt": "she walks to the target mug"}
    {"prompt": "she lifts the target mug", "mask": "mug_near.png", "seed": 3}

    Raises:
      ValueError: naming the line: no JSON object, or a field that is no step's; no step at all.
    """
    steps = []
    for number, fields in read_fields(path):
        try:
            _check_step(fields)
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: {error}") from error
        steps.append(fields)
    if not steps:
        raise ValueError(f"{path} holds no steps: write one JSON object per line")
    return steps


def _check_step(fields: Mapping[str, Any]) -> None:
    for name in _OF_THE_WHOLE:
        if name in fields:
            raise ValueError(f"{name!r} is none of a step's: it belongs to the whole chain")
    # With stand-ins for the frame that is not there yet, and its mask.
    frame = {"image": np.zeros((1, 1, 3), np.uint8)}
    if fields.get("mask") is None:
        frame["mask"] = np.zeros((1, 1), bool)
    Job.of({**fields, **frame})


def _checked(
    pipeline: Pipeline,
    steps: Sequence[Mapping[str, Any]],
    image: ImageSource,
    mask: ImageSource | Sequence[ImageSource],
    name: str,
    shared: Mapping[str, Any],
) -> list[dict[str, Any]]:
    """Fields of the jobs of all steps, later ones without what they begin with; all that can be
    known of them is checked."""
    if not steps:
        raise ValueError("a chain needs steps: give a prompt for each")
    none = isinstance(mask, list | tuple) and not mask
    todo: list[dict[str, Any]] = []
    size_hw: tuple[int, int] = (0, 0)
    for i, step in enumerate(steps):
        own = {"seed": shared.get("seed", 0) + i, "name": f"{name}_{i + 1}"}
        try:
            _check_step(step)
            if not i:
                fields = {"image": image, "mask": None if none else mask, **shared, **own, **step}
                size_hw = pipeline.size_of(Job.of(fields))
            else:
                fields = {**shared, **own, **step, "size_hw": size_hw, "fit": "cover"}
                pipeline.size_of(Job.of({**fields, **_stand_in(pipeline, fields, size_hw)}))
        except ValueError as error:
            raise ValueError(f"step {i + 1}: {error}") from error
        todo.append(fields)
    return todo


def _stand_in(
    pipeline: Pipeline, fields: Mapping[str, Any], size_hw: tuple[int, int]
) -> dict[str, Any]:
    """An image and masks of what a later step will begin with, to check it by."""
    found: dict[str, Any] = {"image": np.zeros((*size_hw, 3), np.uint8)}
    channels = pipeline.parts[TRANSFORMER].module.config.extra_channels
    if fields.get("mask") is None and (channels or fields.get("modulation")):
        half = np.zeros(size_hw, bool)
        half[: size_hw[0] // 2] = True
        found["mask"] = [half] * max(1, channels)
    return found


def _carried(carry: Carry, made: Sequence[Video], number: int, name: str) -> list[np.ndarray]:
    """Where the targets of the last clip are in its last frame."""
    last, found = made[-1], []
    for which, mask in enumerate(last.masks, 1):
        end = carry(last.frames, mask >= 0.5)[-1]
        if not end.any():
            target = "the target" if len(last.masks) == 1 else f"target {which}"
            raise TargetLost(
                f"step {number}: {target} is lost at the end of step {number - 1}; give this step "
                'a mask of its own ("mask"), drawn on the last frame of what was made until then, '
                "or another seed to the step before",
                _joined(made, name),
            )
        found.append(end)
    return found


def _joined(made: Sequence[Video], name: str) -> Video:
    """Clips as one video, without the frames that two of them share."""
    first, *rest = made
    lengths = [len(first.frames), *(len(video.frames) - 1 for video in rest)]
    provenance = {key: first.provenance[key] for key in ("tavid_jax", "config", "seed")}
    return Video(
        np.concatenate([first.frames, *(video.frames[1:] for video in rest)]),
        first.fps,
        name,
        {
            **provenance,
            "starts": [int(n) for n in np.cumsum([0, *lengths[:-1]])],
            "clips": [dict(video.provenance) for video in made],
        },
        np.concatenate([video.latents for video in made]),
        first.masks,
    )
