"""What to make: a job, and files of jobs."""

from __future__ import annotations

import dataclasses
import difflib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tavid_jax.pipelines.follow import Follow
from tavid_jax.pipelines.move import Move
from tavid_jax.pipelines.settings import Sampling
from tavid_jax.tracks.trajectories import Trajectories
from tavid_jax.untrusted.errors import UnsafeNameError, UntrustedError, told
from tavid_jax.untrusted.names import check_name
from tavid_jax.untrusted.texts import parse_json, read_text

# A file, RGB pixels (H, W, 3) of 0..255, or a picture of Pillow's.
ImageSource = str | os.PathLike | np.ndarray | Image.Image
# A file or a folder of images, or RGB pixels (T, H, W, 3) of 0..255.
VideoSource = str | os.PathLike | np.ndarray


class JobError(ValueError):
    """A file of jobs cannot be used; the message names the file and the line."""


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
      tracks: of points that the video follows, for models that do: a file that
        `data.trajectory_files` reads, or for condition videos two ("forward.npy,reverse.npy"); or
        trajectories in memory. Those that move an image (see `move`) are of as many frames as the
        video, in pixels of the image.
      texts: of the trajectories, for models that read a text near each: one for each of `tracks`,
        or, where `segments` are given, for each of these; a list, a file of lines, or with
        semicolons between. None takes those of the file of tracks.
      segments: masks of the tracked video's segments: a file of run lengths, or masks of the first
        frame (S, H, W); points take the segment that they start in.
      control_videos: condition videos that were made elsewhere, such as rendered meshes: of
        identities, and of colours (else black). Files or RGB pixels, of any size, a frame for each
        of the video's whatever their rate. Tracks are drawn behind them.
      source: video whose colours the points show, see `Follow.colour`; its first frame is the
        image where none is given.
      follow: how tracks are followed: `Follow`, or those of its fields that differ from what the
        model was trained with.
      move: how tracks move the latent of the image (Wan-Move): `Move`, or those of its fields that
        differ from what the model was trained with; {} moves it in a Wan image-to-video that was
        not trained so; None is as the model was trained, if it was.
      seed: of all randomness; equal jobs of equal seeds give equal videos, alone or in a batch.
      name: of the file that is written, without ending; None is the job's number.
      options: fields of `Sampling` to replace.
      noise: the initial noise (F, h, w, C) of N(0, 1) to use instead of the seed's.

    Raises:
      ValueError: a value of another kind, by name; a last image without a first; what belongs
        to tracks without them.
    """

    prompt: str
    negative_prompt: str | None = None
    image: ImageSource | None = None
    last_image: ImageSource | None = None
    mask: ImageSource | Sequence[ImageSource] | None = None
    modulation: float | int = 0.0
    tracks: str | os.PathLike | Trajectories | None = None
    texts: str | os.PathLike | Sequence[str] | None = None
    segments: str | os.PathLike | np.ndarray | None = None
    control_videos: Sequence[VideoSource] | VideoSource | None = None
    source: VideoSource | None = None
    follow: Follow | Mapping[str, Any] = dataclasses.field(default_factory=dict)
    move: Move | Mapping[str, Any] | None = None
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
        self._check_guided()

    def _check_guided(self) -> None:
        if self.segments is not None and self.tracks is None:
            raise ValueError("segments without tracks: give the points that lie in them")
        if self.texts is not None and self.tracks is None:
            raise ValueError("texts without tracks: give the trajectories that they belong to")
        if self.move is not None and self.tracks is None:
            raise ValueError("move without tracks: give those that the image moves along")
        Move().changed(self.move)  # says what is wrong with it
        follow = self.ways({})
        if follow != Follow() and not self.is_guided:
            raise ValueError("follow without tracks or control_videos: give what is to be followed")
        if self.source is not None and self.image is not None:
            if not self.is_guided or follow.colour == "none":
                raise ValueError(
                    "source is not read beside an image, unless points show its colours: "
                    "follow colour 'frame', or leave one of them out"
                )

    def ways(self, known: Mapping[str, Any]) -> Follow:
        """How tracks are followed by a model that was trained with `known` fields of `Follow`."""
        if isinstance(self.follow, Follow):
            return self.follow
        if not isinstance(self.follow, Mapping):
            return Follow.of(self.follow)  # says what is wrong with it
        return Follow.of({**known, **self.follow})

    @property
    def is_guided(self) -> bool:
        """Whether there are tracks or condition videos."""
        return self.tracks is not None or self.control_videos is not None

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
      JobError: naming the line: no JSON object, an unknown field, a bad value, a name given
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
            raise JobError(f"{path}, line {number}: {error}") from error
        names[str(job.name)] = number
        jobs.append(job)
    if not jobs:
        raise JobError(f"{path} holds no jobs: write one JSON object per line")
    return jobs


def read_fields(path: str | os.PathLike) -> Iterator[tuple[int, dict[str, Any]]]:
    """(number, JSON object) of the lines of a file that are not empty.

    Images, masks, tracks, texts and videos in them are relative to the file.

    Raises:
      JobError: a file that cannot be read; naming the line, one that is no JSON object.
    """
    path = Path(path)
    for number, line in enumerate(_lines(path), 1):
        if not line.strip():
            continue
        try:
            fields = parse_json(line)
            if not isinstance(fields, dict):
                raise ValueError("not a JSON object")
        except ValueError as error:
            raise JobError(f"{path}, line {number}: {error}") from error
        for name in _FILES:
            if isinstance(fields.get(name), str):
                fields[name] = _below(path.parent, fields[name])
            elif isinstance(fields.get(name), list):  # of masks, or a pair of videos
                fields[name] = [_below(path.parent, str(one)) for one in fields[name]]
        texts = fields.get("texts")
        if isinstance(texts, str) and os.path.isfile(path.parent / texts):
            fields["texts"] = path.parent / texts
        yield number, fields


def _below(folder: Path, text: str) -> Path:
    """A file, or two with a comma between, of the folder."""
    if "," not in text or os.path.exists(folder / text):  # False for names that no disk takes
        return folder / text
    return Path(",".join(str(folder / part.strip()) for part in text.split(",")))


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
    try:
        return bool(check_name(value))
    except UnsafeNameError:
        return False


def _is_mask(value: Any) -> bool:
    return all(map(_is_image, value)) if isinstance(value, list | tuple) else _is_image(value)


def _is_file(value: Any) -> bool:
    return isinstance(value, str | os.PathLike)


def _is_video(value: Any) -> bool:
    return _is_file(value) or (
        isinstance(value, np.ndarray) and value.dtype == np.uint8 and value.shape[3:] == (3,)
    )


def _is_control(value: Any) -> bool:
    many = value if isinstance(value, list | tuple) else [value]
    return value is None or (1 <= len(many) <= 2 and all(map(_is_video, many)))


def _are_texts(value: Any) -> bool:
    many = [] if value is None or _is_file(value) else value
    return isinstance(many, list | tuple) and all(isinstance(one, str) for one in many)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and bool(np.isfinite(value))


# Fields that may be files, which lie beside the file of jobs.
_FILES = ("image", "last_image", "mask", "tracks", "segments", "control_videos", "source")
_IMAGE = "give a file, a numpy array of RGB pixels (H, W, 3), or a picture of Pillow's"
_VIDEO = "a file, or RGB pixels (T, H, W, 3) of uint8"
# Field -> (whether a value is good, how to mend one that is not).
_CHECKS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "prompt": (lambda value: isinstance(value, str), "give a text"),
    "negative_prompt": (lambda value: isinstance(value, str | None), "give a text"),
    "image": (_is_image, _IMAGE),
    "last_image": (_is_image, _IMAGE),
    "mask": (_is_mask, "give a file, an array (H, W) or a picture, or a list of these"),
    "modulation": (_is_number, "give a number of logits"),
    "tracks": (
        lambda value: value is None or _is_file(value) or isinstance(value, Trajectories),
        "give a file, or Trajectories",
    ),
    "texts": (_are_texts, "give a list of texts, a file, or texts with semicolons between"),
    "segments": (
        lambda v: v is None or _is_file(v) or (isinstance(v, np.ndarray) and v.ndim == 3),
        "give a file, or masks (S, H, W)",
    ),
    "control_videos": (_is_control, f"give {_VIDEO}, or two: identities and colours"),
    "source": (lambda value: value is None or _is_video(value), f"give {_VIDEO}"),
    "seed": (_is_seed, "give a whole number from 0 to 2^32 - 1"),
    "name": (_is_file_name, "give a file name without folders"),
}


def _lines(path: Path) -> list[str]:
    try:
        # Windows editors begin with a mark. Only line feeds end lines: texts may hold the others.
        return read_text(path).split("\n")
    except (OSError, UntrustedError) as error:
        raise JobError(f"{path}: jobs cannot be read ({told(error)})") from error
