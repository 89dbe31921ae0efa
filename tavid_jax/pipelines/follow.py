"""How tracks are followed: all options of how they become condition videos (FlexTraj, sec. 3)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tavid_jax.pipelines.fields import check_names
from tavid_jax.tracks.codes import CODES
from tavid_jax.tracks.stamps import ORDERS

# none: the second condition video is black; frame: points show what the source has in their place,
# frame by frame, as released; point: each point keeps one colour, as in the paper.
COLOURS = ("none", "frame", "point")
# random: any points; each: of every segment, at least one; region: whole segments.
CHOICES = ("random", "each", "region")
# scale: of a large object the points' distances from one of them are scaled, all else is moved
# sideways, as released; shift: all points are moved sideways; given: they are unaligned already.
UNALIGNED = ("scale", "shift", "given")
PREFIX = "unaligned, "


@dataclasses.dataclass(frozen=True)
class Follow:
    """How tracks become condition videos; the defaults are what the released weights know.

    Attributes:
      keep_points: share of the points that steer, (0, 1].
      choose: which ones, see `CHOICES`.
      keep_frames: share of the frames in which points steer, [0, 1]; 0 is the first and the last
        alone. Or the key frames themselves.
      random_frames: whether the share is of random frames (the first and the last among them)
        instead of evenly spaced ones.
      unaligned: whether and how the points lie elsewhere than what moves in the image, see
        `UNALIGNED`; None: they lie on it.
      scale: of the points' distances, for "scale".
      prefix: what the prompt of an unaligned video begins with.
      colour: what points show in the second condition video, see `COLOURS`.
      codes: which colours tell points apart, see `tracks.codes.CODES`.
      show_segment, show_point: whether the codes tell segments, and points of a segment, apart;
        the released weights know both.
      order: which of two points is on top, see `tracks.stamps.ORDERS`.
      stamp: half width and half height of a point in px; None is as released, by their number.
      native: draw at the video's size, instead of at 480x720 and resized, as the released code for
        Wan does.
      stored_hw: size that the pixels of the tracks' file refer to, if the file does not say.
      threshold: red above which a pixel of a ready-made condition video counts as drawn.
      seed: of what is chosen at random; None is the job's.

    Raises:
      ValueError: a value out of range, by name.
    """

    keep_points: float | int = 1.0
    choose: str = "random"
    keep_frames: float | int | tuple[int, ...] = 1.0
    random_frames: bool = False
    unaligned: str | None = None
    scale: float | int = 1.5
    prefix: str = PREFIX
    colour: str = "none"
    codes: str = "released"
    show_segment: bool = True
    show_point: bool = True
    order: str = "released"
    stamp: tuple[float | int, float | int] | None = None
    native: bool = False
    stored_hw: tuple[int, int] | None = None
    threshold: int = 20
    seed: int | None = None

    def __post_init__(self):
        for name, (good, mend) in _CHECKS.items():
            value = getattr(self, name)
            if not good(value):
                raise ValueError(f"follow: {name} {value!r}: {mend}")

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> Follow:
        """Options from a mapping; lists, as JSON has them, count as tuples.

        Raises:
          ValueError: an unknown field, with the nearest known one; or see the class.
        """
        if not isinstance(fields, Mapping):
            raise ValueError(f"follow {fields!r}: give an object of options")
        check_names("follow", cls, fields)
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()})


def _is_number(value: Any) -> bool:
    real = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    return real and bool(np.isfinite(value))


def _is_whole(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and value >= 0


def _are_frames(value: Any) -> bool:
    if isinstance(value, tuple):
        return bool(value) and all(map(_is_whole, value))
    return _is_number(value) and 0 <= value <= 1


def _is_stamp(value: Any) -> bool:
    if not isinstance(value, tuple):
        return value is None
    return len(value) == 2 and all(_is_number(half) and half > 0 for half in value)


def _one_of(names: tuple[str, ...]) -> tuple[Callable[[Any], bool], str]:
    return (lambda value: value in names), f"there are {', '.join(names)}"


_BOOL = (lambda value: isinstance(value, bool)), "give true or false"
# Field -> (whether a value is good, how to mend one that is not).
_CHECKS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "keep_points": (lambda v: _is_number(v) and 0 < v <= 1, "give a share above 0, up to 1"),
    "choose": _one_of(CHOICES),
    "keep_frames": (_are_frames, "give a share from 0 to 1, or key frames [0, 12, 48]"),
    "random_frames": _BOOL,
    "unaligned": (lambda v: v is None or v in UNALIGNED, f"there are {', '.join(UNALIGNED)}"),
    "scale": (lambda v: _is_number(v) and v > 0, "give a number above 0"),
    "prefix": (lambda value: isinstance(value, str), "give a text"),
    "colour": _one_of(COLOURS),
    "codes": _one_of(CODES),
    "show_segment": _BOOL,
    "show_point": _BOOL,
    "order": _one_of(ORDERS),
    "stamp": (_is_stamp, "give half width and half height in px, [3, 2]"),
    "native": _BOOL,
    "stored_hw": (
        lambda v: v is None or (isinstance(v, tuple) and len(v) == 2 and all(map(_is_whole, v))),
        "give [height, width] in pixels",
    ),
    "threshold": (lambda v: _is_whole(v) and v <= 255, "give a whole number, 0 to 255"),
    "seed": (lambda v: v is None or _is_whole(v), "give a whole number from 0"),
}
