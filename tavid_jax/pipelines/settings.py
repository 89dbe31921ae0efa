"""How the published models are sampled: sizes, solvers, guidance; and every option of a job."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tavid_jax.diffusion.guidance import BRANCHES
from tavid_jax.pipelines.move import Move

DYNAMIC = ("none", "timestep", "index")
FITS = ("cover", "stretch", "area", "area_published")
POSTERIORS = ("sample", "mode")
NULLS = ("drop", "empty")
# Options that are of local texts alone.
LOCAL = ("dual", "local_guidance", "strength", "null_local")


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How a video is drawn. Jobs with equal values share one compiled program.

    Attributes:
      size_hw: height and width in pixels.
      frames: of the video, 4k + 1 for Wan and 8k + 1 for CogVideoX.
      fps: of the file that is written; also what the model was trained at.
      sampler: "unipc" or "euler" for Wan, "ddim" or "dpm" for CogVideoX.
      steps: evaluations of the backbone (times the branches of guidance).
      guidance: scale of classifier-free guidance; at 1 or below there is none. Two experts
        (A14B) may have one each: (high noise, low noise).
      dynamic: CogVideoX's varying guidance: "none", "timestep" (as published: a function of the
        timestep that oscillates) or "index" (as was meant: of the step's index).
      guided: lowest and highest noise level, of [0, 1], at which guidance is on; elsewhere one
        branch is evaluated alone.
      shift: of Wan's noise levels; None is what was published for the size.
      grid: Wan's noise levels: "diffusers", or None for those of the original code.
      posterior: how CogVideoX's image and condition videos become latents: "sample" (as published)
        or "mode".
      control_guidance: how much stronger condition videos act than they do by themselves, at the
        cost of one more branch, whose condition videos are black; 1 is as they are.
      dual: how a model of local texts is guided by them and by the prompt, a mode of
        `guidance.dual_cfg`: "literal" is the paper's equation as printed. `guidance` is its s_glob;
        where all scales that a mode reads are 1, and outside of `guided`, there is none.
      local_guidance: its s_loc.
      strength: lambda of the local texts' attention, traced: 0 is the published model; None is
        what it was trained with.
      null_local: what stands for local texts that guidance leaves out: "drop", no token reads any;
        or "empty", the text "" where the trajectories are.
      fit: how an image becomes size_hw. "cover" keeps its aspect ratio and cuts off what stands
        out, "stretch" does neither. "area": the video gets the image's aspect ratio and about as
        many pixels as size_hw has; "area_published": the same, rounded as Wan's code does it
        (see `images.size_of_area`). None is "cover".

    Raises:
      ValueError: a value out of range, by name.
    """

    size_hw: tuple[int, int]
    frames: int
    fps: int | float
    sampler: str
    steps: int
    guidance: float | int | tuple[float | int, float | int]
    dynamic: str = "none"
    guided: tuple[float | int, float | int] = (0.0, 1.0)
    shift: float | int | None = None
    grid: str | None = None
    posterior: str = "sample"
    control_guidance: float | int = 1.0
    dual: str = "literal"
    local_guidance: float | int = 4.0
    strength: float | int | None = None
    null_local: str = "drop"
    fit: str | None = None

    def __post_init__(self):
        _check_values(vars(self))

    def changed(self, changes: Mapping[str, Any]) -> Sampling:
        """With some fields replaced; lists, as JSON has them, count as tuples.

        Raises:
          ValueError: a field that does not exist, or see the class.
        """
        known = [field.name for field in dataclasses.fields(self)]
        unknown = sorted(set(changes) - set(known))
        if unknown:
            raise ValueError(f"{unknown[0]!r} is no option of sampling; there are {known}")
        changes = {k: tuple(v) if isinstance(v, list) else v for k, v in changes.items()}
        _check_values(changes)
        return dataclasses.replace(self, **changes)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int | np.integer) and value >= 1


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and bool(np.isfinite(value))


def _is_pair(value: Any, kind: Callable[[Any], bool]) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and all(map(kind, value))


def _is_scale(value: Any) -> bool:
    scales = value if isinstance(value, tuple) else (value,)
    return len(scales) in (1, 2) and all(_is_number(scale) and scale >= 0 for scale in scales)


def _is_interval(value: Any) -> bool:
    return _is_pair(value, _is_number) and 0 <= value[0] <= value[1] <= 1


def _one_of(names: Sequence[str]) -> tuple[Callable[[Any], bool], str]:
    return (lambda value: value in names), f"there are {', '.join(names)}"


def _or_none(good: Callable[[Any], bool], mend: str) -> tuple[Callable[[Any], bool], str]:
    return (lambda value: value is None or good(value)), mend


# Field -> (whether a value is good, how to mend one that is not). What a solver is called, and
# its grids, are told where it is made.
_CHECKS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "size_hw": (lambda value: _is_pair(value, _is_whole), "give [height, width] in pixels"),
    "frames": (_is_whole, "give a whole number from 1"),
    "fps": (lambda value: _is_number(value) and value > 0, "give frames per second"),
    "sampler": (lambda value: isinstance(value, str), "give its name"),
    "steps": (_is_whole, "give a whole number from 1"),
    "guidance": (_is_scale, "give a scale from 0, or one per expert"),
    "dynamic": _one_of(DYNAMIC),
    "guided": (_is_interval, "give the lowest and highest noise level, from 0 to 1"),
    "shift": _or_none(lambda v: _is_number(v) and v > 0, "give a number above 0; 1 shifts nothing"),
    "grid": _or_none(lambda value: isinstance(value, str), "give its name"),
    "posterior": _one_of(POSTERIORS),
    "control_guidance": (lambda v: _is_number(v) and v >= 0, "give a scale from 0; 1 is none"),
    "dual": _one_of(tuple(BRANCHES)),
    "local_guidance": (lambda v: _is_number(v) and v >= 0, "give a scale from 0"),
    "strength": _or_none(lambda v: _is_number(v) and v >= 0, "give a number from 0, mostly to 1"),
    "null_local": _one_of(NULLS),
    "fit": _or_none(*_one_of(FITS)),
}


def _check_values(values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        good, mend = _CHECKS[name]
        _check(name, value, good(value), mend)


def _check(name: str, value: Any, good: bool, mend: str) -> None:
    if not good:
        raise ValueError(f"{name} {value!r}: {mend}")


@dataclasses.dataclass(frozen=True)
class Published:
    """A published model: its parts, and how it is sampled.

    Attributes:
      backbone: the model's name; of the published ones also the transformer's preset.
      family: "wan" or "cogvideox".
      autoencoder, text_encoder: presets of the other parts.
      image_encoder: of the image branch, None without one.
      sampling: the published values.
      images: how many images it may be given: 0, 1, or 2 (first and last).
      needs_image: whether it cannot do without.
      boundary: share of the schedule from which the first of two experts serves; None for one.
      begins_with: the published model whose kind it is, where it is none itself.
      move: how it was trained to move its image along tracks; None: it was not.
      predicts: what the transformer's output is, see `backbones.CogVideoXBackbone.predicts`.
    """

    backbone: str
    family: str
    autoencoder: str
    text_encoder: str
    sampling: Sampling
    image_encoder: str | None = None
    images: int = 0
    needs_image: bool = False
    boundary: float | None = None
    begins_with: str = ""
    move: Move | None = None
    predicts: str = "velocity"

    @property
    def preset(self) -> str:
        """Of the transformer: its kind, and for published models its sizes."""
        return self.begins_with or self.backbone

    def shift_for(self, sampling: Sampling) -> float | int:
        """The shift of Wan's noise levels for a size."""
        if sampling.shift is not None:
            return sampling.shift
        if self.preset == "wan2.1-i2v-14b":
            return 3.0 if np.prod(sampling.size_hw) <= 480 * 832 else 5.0
        return SHIFTS.get(self.preset, 5.0)

    def check(self, sampling: Sampling) -> None:
        """Refuses options that this model does not have.

        Raises:
          ValueError: a scale of guidance per expert where there is one, Wan's noise levels for
            CogVideoX, CogVideoX's varying guidance for Wan; a number of frames that CogVideoX's
            autoencoder would make more of.
        """
        name = self.backbone
        if isinstance(sampling.guidance, tuple) and len(sampling.guidance) == 2:
            one = self.boundary is None
            _check("guidance", sampling.guidance, not one, f"{name} has one expert, give one scale")
        if self.autoencoder.startswith("cogvideox"):
            rest = (sampling.frames - 1) % 8
            near = max(1, sampling.frames - rest + (8 if rest > 4 else 0))
            _check("frames", sampling.frames, rest == 0, f"{name} makes 8k + 1, use {near}")
        for option in ("shift", "grid") if self.family == "cogvideox" else ():
            value = getattr(sampling, option)
            _check(option, value, value is None, f"it is of Wan's noise levels, not of {name}'s")
        if self.family == "wan":
            plain = sampling.dynamic == "none"
            _check("dynamic", sampling.dynamic, plain, f"it is CogVideoX's, {name} has none")


# Where it is not 5.
SHIFTS = {"wan2.1-flf2v-14b": 16.0, "wan2.2-t2v-a14b": 12.0}

_WAN = Sampling((480, 832), 81, 16, "unipc", 50, 5.0)
_WAN_LARGE = dataclasses.replace(_WAN, size_hw=(720, 1280))
_COGVIDEOX = Sampling((480, 720), 49, 8, "ddim", 50, 6.0, fit="stretch")
_COGVIDEOX_1_5 = dataclasses.replace(_COGVIDEOX, size_hw=(768, 1360), frames=81, fps=16)


def _wan(name: str, sampling: Sampling, **parts: Any) -> Published:
    parts = {"autoencoder": "wan2.1-vae", "text_encoder": "umt5-xxl"} | parts
    return Published(name, "wan", sampling=sampling, **parts)


def _cogvideox(name: str, autoencoder: str, sampling: Sampling, **parts: Any) -> Published:
    return Published(name, "cogvideox", autoencoder, "t5-v1.1-xxl", sampling=sampling, **parts)


_CLIP = "clip-vit-h-14-vision"
_IMAGE = {"images": 1, "needs_image": True}

PUBLISHED: dict[str, Published] = {
    published.backbone: published
    for published in (
        _cogvideox("cogvideox-2b", "cogvideox-2b-vae", _COGVIDEOX),
        _cogvideox("cogvideox-5b", "cogvideox-5b-vae", _COGVIDEOX),
        _cogvideox("cogvideox-5b-i2v", "cogvideox-5b-vae", _COGVIDEOX, **_IMAGE),
        _cogvideox("cogvideox1.5-5b", "cogvideox1.5-vae", _COGVIDEOX_1_5),
        _cogvideox("cogvideox1.5-5b-i2v", "cogvideox1.5-vae", _COGVIDEOX_1_5, **_IMAGE),
        _wan("wan2.1-t2v-1.3b", _WAN),
        _wan("wan2.1-t2v-14b", _WAN_LARGE),
        _wan(
            "wan2.1-i2v-14b",
            dataclasses.replace(_WAN, steps=40),
            image_encoder=_CLIP,
            images=2,
            needs_image=True,
        ),
        _wan(
            "wan-move-14b-480p",
            dataclasses.replace(_WAN, steps=40),
            image_encoder=_CLIP,
            begins_with="wan2.1-i2v-14b",
            move=Move(),
            **_IMAGE,
        ),
        _wan("wan2.1-flf2v-14b", _WAN_LARGE, image_encoder=_CLIP, images=2, needs_image=True),
        _wan(
            "wan2.2-ti2v-5b",
            Sampling((704, 1280), 121, 24, "unipc", 50, 5.0),
            autoencoder="wan2.2-vae",
            images=1,
        ),
        _wan(
            "wan2.2-t2v-a14b",
            dataclasses.replace(_WAN_LARGE, steps=40, guidance=(4.0, 3.0)),
            boundary=0.875,
        ),
        _wan(
            "wan2.2-i2v-a14b",
            dataclasses.replace(_WAN_LARGE, steps=40, guidance=(3.5, 3.5)),
            images=2,
            needs_image=True,
            boundary=0.9,
        ),
    )
}
