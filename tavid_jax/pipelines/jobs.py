"""What to make: a job, and files of jobs."""

from __future__ import annotations

import dataclasses
import difflib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tavid_jax.pipelines.settings import Sampling

# A file, RGB pixels (H, W, 3) of 0..255, or a picture of Pillow's.
ImageSource = str | os.PathLike | np.ndarray | Image.Image


@dataclasses.dataclass(frozen=True, eq=False)
class Job:
    """One video to make.

    Attributes:
      prompt: what it shows.
      negative_prompt: what guidance leads away from. None is the pipeline's, "" is truly empty.
      image: its first frame, for models that read one.
      last_image: its last frame, for models that read two.
      mask: of the target in `image`, for models that read one, or several masks, one for each of
        the model's trigger words; any resolution with the image's aspect ratio, see `masks`.
      modulation: logits that are added between the masked tokens of the first frame and the
        trigger's tokens, in all blocks: attention modulation, which needs no training. 0 is none.
      seed: of all randomness; equal jobs of equal seeds give equal videos, alone or in a batch.
      name: of the file that is written, without ending; None is the job's number.
      options: fields of `Sampling` to replace.
      noise: the initial noise (F, h, w, C) of N(0, 1) to use instead of the seed's.

    Raises:
      ValueError: a value of another kind, by name; a last image without a first.
    """

    prompt: str
    negative_prompt: str | None = None
    image: ImageSource | None = None
    last_image: ImageSource | None = None
    mask: ImageSource | Sequence[ImageSource] | None = None
    modulation: float | int = 0.0
    seed: int = 0
    name: str | None = None
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    noise: np.ndarray | None = None

    def __post_init__(self):
        _check_values(vars(self))
        if self.last_image is not None and self.image is None:
            raise ValueError("last_image without image: give the first frame too")
        if self.mask is not None and self.image is None:
            raise ValueError("mask without image: give the first frame that it marks")
        if self.modulation and self.mask is None:
            raise ValueError("modulation leads attention to a mask: give one")

    @property
    def masks(self) -> tuple[ImageSource, ...]:
        """All masks."""
        if self.mask is None:
            return ()
        return tuple(self.mask) if isinstance(self.mask, list | tuple) else (self.mask,)

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> Job:
        """A job from one flat mapping: fields of a job and of `Sampling` side by side.

        Raises:
          ValueError: an unknown field, with the nearest known one; or see the class.
        """
        own = {field.name for field in dataclasses.fields(cls)} - {"options"}
        options = {field.name for field in dataclasses.fields(Sampling)}
        for name in fields:
            if name not in own | options:
                near = difflib.get_close_matches(name, own | options, 1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                known = ", ".join(sorted(own | options))
                raise ValueError(f"a job has no field {name!r}{hint} (there are {known})")
        if "prompt" not in fields:
            raise ValueError("a job needs a prompt")
        mine = {name: value for name, value in fields.items() if name in own}
        _check_values(mine)
        return cls(
            **mine,
            options={name: value for name, value in fields.items() if name in options},
        )


def read_jobs(path: str | os.PathLike) -> list[Job]:
    """Jobs from a file of JSON lines, one object each; images are relative to the file.

    {"prompt": "a red ball rolls", "seed": 3, "size_hw": [480, 832], "steps": 30}
    {"prompt": "she waves", "image": "portrait.png", "name": "wave"}

    Empty lines are skipped.

    Raises:
      ValueError: naming the line: no JSON object, an unknown field, a bad value, a name given
        twice, or no job at all.
    """
    path = Path(path)
    jobs: list[Job] = []
    names: dict[str, int] = {}
    for number, fields in read_fields(path):
        try:
            fields.setdefault("name", f"{path.stem}_{len(jobs):04d}")
            job = Job.of(fields)
            if job.name in names:
                raise ValueError(f"name {job.name!r} is that of line {names[job.name]} too")
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: {error}") from error
        names[str(job.name)] = number
        jobs.append(job)
    if not jobs:
        raise ValueError(f"{path} holds no jobs: write one JSON object per line")
    return jobs


def read_fields(path: str | os.PathLike) -> Iterator[tuple[int, dict[str, Any]]]:
    """(number, JSON object) of the lines of a file that are not empty.

    Images and masks in them are relative to the file.

    Raises:
      ValueError: a file that cannot be read; naming the line, one that is no JSON object.
    """
    path = Path(path)
    for number, line in enumerate(_lines(path), 1):
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
            if not isinstance(fields, dict):
                raise ValueError("not a JSON object")
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: {error}") from error
        for image in ("image", "last_image", "mask"):
            if isinstance(fields.get(image), str):
                fields[image] = path.parent / fields[image]
            elif isinstance(fields.get(image), list):  # of masks
                fields[image] = [path.parent / str(one) for one in fields[image]]
        yield number, fields


def _check_values(fields: Mapping[str, Any]) -> None:
    for name, value in fields.items():
        if name in _CHECKS:
            good, mend = _CHECKS[name]
            if not good(value):
                raise ValueError(f"{name} {value!r}: {mend}")


def _is_seed(value: Any) -> bool:
    return isinstance(value, int | np.integer) and 0 <= value < 2**32


def _is_image(value: Any) -> bool:
    return isinstance(value, ImageSource | None)


def _is_file_name(value: Any) -> bool:
    if not isinstance(value, str):
        return value is None
    return value not in ("", ".", "..") and Path(value).name == value


def _is_mask(value: Any) -> bool:
    return all(map(_is_image, value)) if isinstance(value, list | tuple) else _is_image(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and bool(np.isfinite(value))


_IMAGE = "give a file, a numpy array of RGB pixels (H, W, 3), or a picture of Pillow's"
# Field -> (whether a value is good, how to mend one that is not).
_CHECKS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "prompt": (lambda value: isinstance(value, str), "give a text"),
    "negative_prompt": (lambda value: isinstance(value, str | None), "give a text"),
    "image": (_is_image, _IMAGE),
    "last_image": (_is_image, _IMAGE),
    "mask": (_is_mask, "give a file, an array (H, W) or a picture, or a list of these"),
    "modulation": (_is_number, "give a number of logits"),
    "seed": (_is_seed, "give a whole number from 0 to 2^32 - 1"),
    "name": (_is_file_name, "give a file name without folders"),
}


def _lines(path: Path) -> list[str]:
    try:
        # Windows editors begin with a mark. Only line feeds end lines: texts may hold the others.
        return path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: jobs cannot be read ({error})") from error
