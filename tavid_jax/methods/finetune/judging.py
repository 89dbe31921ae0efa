"""What is right about videos of synthetic scenes, with intervals, and which goals are reached."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8

from tavid_jax.data.clip import Clip
from tavid_jax.data.synthetic import judging as judge
from tavid_jax.metrics import bootstrap

NONE, OBJECTS, CONTACT = JUDGES = ("none", "objects", "contact")
# Groups of scenes by their number of objects.
ONE, TWO, MORE, ALL = GROUPS = ("one", "two", "more", "all")
# Values per scene, in the order of the tables.
ATTRIBUTES = ("colour", "motion", "shape", "clean", "all")
TOUCHES = ("touched", "target", "lookalike", "none")
# Of the scenes in which something is touched: which one.
CHOICES = ("balance", "left", "nearer")
MEASURED = {
    OBJECTS: ATTRIBUTES,
    CONTACT: (*TOUCHES, *CHOICES, "actor", "clean", "first_frame"),
}
ORDER = (*MEASURED[OBJECTS], *MEASURED[CONTACT])
# Silhouettes by which actor and targets are asked for; only whether they are seen is read.
ACTOR, AIM = "disc", "box"
# Area of the actor in the last frame, as a multiple of that in the given image. True clips: 0.84 to
# 1.17; a box in front of it takes a part; an actor that is drawn twice: about 2.
ONCE = (0.25, 1.5)
_LEVELS = 255.0

Frames = UInt8[np.ndarray, "T H W 3"]
Values = dict[str, Float[np.ndarray, " C"]]


class Thing(NamedTuple):
    """One object that a caption asks for, and what is right about it."""

    colour: str
    shape: str
    motion: str
    right: dict[str, bool]


class Judged(NamedTuple):
    """What was found in one video.

    Attributes:
      values: name -> 1 right, 0 wrong, or a number; NaN where it does not apply.
      things: its objects, where they are judged one by one.
    """

    values: dict[str, float]
    things: tuple[Thing, ...] = ()


def check_judge(name: str, goals: Mapping[str, Any], has_model: bool) -> None:
    """Refuses what could not be judged after a training.

    Args:
      name: of the judge.
      goals: group -> names of what it measures.
      has_model: whether what is trained can be sampled.

    Raises:
      ValueError: there is no such judge, nothing that it could look at, or a goal for something
        that it does not measure.
    """
    if name not in JUDGES:
        raise ValueError(f"evaluate.judge {name!r} is none of {', '.join(JUDGES)}")
    if name == NONE:
        return
    if not has_model:
        raise ValueError(
            f"evaluate.judge {name!r} looks at samples, for which parts of the model are missing: "
            "name them by config.checkpoint, or set evaluate.judge to none"
        )
    for group, names in goals.items():
        if group not in GROUPS:
            raise ValueError(f"evaluate.goals.{group} is none of {', '.join(GROUPS)}")
        for unknown in sorted(set(names) - set(MEASURED[name])):
            known = ", ".join(MEASURED[name])
            raise ValueError(
                f"evaluate.goals.{group}.{unknown} is not measured: judge {name!r} looks at {known}"
            )


def judge_video(name: str, video: Frames, clip: Clip) -> Judged:
    """The verdict of a judge ("objects" or "contact") about a video made for a clip's caption.

    Raises:
      ValueError: a caption that the judge cannot read.
    """
    return _objects(video, clip) if name == OBJECTS else _contact(video, clip)


def _objects(video: Frames, clip: Clip) -> Judged:
    """A scene is right in an attribute if all of its objects are."""
    expected = judge.expected_objects(clip.caption)
    found = judge.judge_objects(video, expected)
    columns = {"colour": found.colour, "motion": found.motion, "shape": found.shape}
    values = {name: float(all(column)) for name, column in columns.items()}
    things = tuple(
        Thing(one.colour, one.shape, one.kind, {name: c[i] for name, c in columns.items()})
        for i, one in enumerate(expected)
    )
    return Judged({**values, "clean": float(found.clean), "all": float(found.right)}, things)


def _contact(video: Frames, clip: Clip) -> Judged:
    """Which box is touched in the last frame, and whether the first frame is the given one.

    A touch counts in a video that shows the actor and the boxes, and little else: in noise there
    is a spot of every colour near everything. The actor must also not have grown: one that is drawn
    at both boxes would seem to touch the nearer one. Nothing in image or caption tells the target
    from its look-alike, so of the touches of a model that has learned both, about half are the true
    clip's.
    """
    facts = judge.contact_facts(clip)
    cast = [(facts.actor, ACTOR, ""), (facts.aim, AIM, "")]
    shown = judge.judge_objects(video, cast, silhouettes=(ACTOR, AIM))
    end, start = (judge.covered(v, facts.actor)[0] for v in (video[-1:], clip.video[:1]))
    is_once = ONCE[0] * start <= end <= ONCE[1] * start
    is_scene = all(shown.colour) and shown.clean and is_once
    touched = judge.judge_contact(video, facts.actor, facts.positions) if is_scene else -1
    is_target = touched == facts.target
    values = {
        "touched": float(touched >= 0),
        "target": float(is_target),
        "lookalike": float(touched >= 0 and not is_target),
        "none": float(touched < 0),
        "actor": float(shown.colour[0] and is_once),
        "clean": float(shown.clean),
        "first_frame": math.sqrt(judge.first_frame_error(video, clip.video[0])) / 2.0 * _LEVELS,
        **dict.fromkeys(CHOICES, math.nan),
    }
    if touched >= 0:
        values["balance"] = float(is_target)
        values |= _place_of(touched, facts.positions, _actor_place(clip))
    return Judged(values)


def _place_of(
    touched: int, places: Float[np.ndarray, "K 2"], actor: Float[np.ndarray, "2"]
) -> dict[str, float]:
    """Whether it is the leftmost and the nearest of the targets."""
    distance = np.hypot(*(places - actor).T)
    return {
        "left": float(touched == np.argmin(places[:, 0])),
        "nearer": float(touched == np.argmin(distance)),
    }


def _actor_place(clip: Clip) -> Float[np.ndarray, "2"]:
    rows, columns = np.nonzero(clip.masks[clip.actor - 1])
    return np.array([columns.mean(), rows.mean()])


# ---- numbers of many scenes --------------------------------------------------------------------


def groups_of(clips: Sequence[Clip]) -> dict[str, Int[np.ndarray, " n"]]:
    """Places of the clips of one object, of two, of more, and of all; empty groups are left out."""
    counts = np.array([len(clip.kinds) for clip in clips])
    groups = {ONE: counts == 1, TWO: counts == 2, MORE: counts > 2}
    groups = {name: np.flatnonzero(members) for name, members in groups.items()}
    return {**{k: v for k, v in groups.items() if len(v)}, ALL: np.arange(len(clips))}


def values_of(found: Sequence[Judged]) -> Values:
    """Name -> one value per scene."""
    return {name: np.array([one.values[name] for one in found]) for name in found[0].values}


def measure(
    values: Values, groups: Mapping[str, Int[np.ndarray, " n"]], resamples: int
) -> dict[str, Any]:
    """{group: {name: {"value", "interval", "scenes"}}}: means with 95 % intervals over scenes."""
    return {
        group: {name: _mean(column[places], resamples) for name, column in values.items()}
        for group, places in groups.items()
    }


def _mean(column: Float[np.ndarray, " n"], resamples: int) -> dict[str, Any]:
    found = bootstrap.mean_interval(column, num_resamples=resamples)
    return {"value": found.mean, "interval": [found.low, found.high], "scenes": found.n}


def compare(
    after: Values,
    before: Values,
    groups: Mapping[str, Int[np.ndarray, " n"]],
    resamples: int,
) -> dict[str, Any]:
    """{group: {name: {"difference", "interval", "scenes"}}}, after minus before, scene by scene."""
    return {
        group: {
            name: _difference(after[name][places], before[name][places], resamples)
            for name in after
        }
        for group, places in groups.items()
    }


def _difference(
    after: Float[np.ndarray, " n"], before: Float[np.ndarray, " n"], resamples: int
) -> dict[str, Any]:
    found = bootstrap.paired_difference(after, before, num_resamples=resamples)
    return {"difference": found.mean, "interval": [found.low, found.high], "scenes": found.n}


def by_attribute(found: Sequence[Judged]) -> dict[str, dict[str, dict[str, float]]]:
    """{"colour" | "shape" | "motion": {word: {attribute: share of its objects, "objects": n}}}."""
    things = [thing for one in found for thing in one.things]
    table: dict[str, dict[str, dict[str, float]]] = {}
    for attribute in ("colour", "shape", "motion"):
        words = sorted({getattr(thing, attribute) for thing in things})
        for word in words:
            mine = [thing.right for thing in things if getattr(thing, attribute) == word]
            row = {name: float(np.mean([right[name] for right in mine])) for name in mine[0]}
            table.setdefault(attribute, {})[word or "none said"] = {**row, "objects": len(mine)}
    return table


# ---- goals ---------------------------------------------------------------------------------------


def reached(measured: Mapping[str, Any], goals: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What was asked for, and what came of it.

    Args:
      measured: see `measure`.
      goals: group -> name -> least mean, or (least, greatest). See `check_judge`.

    Returns:
      Records of "group", "name", "goal", "value", "interval", "scenes", "reached" (by the mean
      itself; never where no scene is of the group) and "certain" (the whole interval lies on the
      mean's side).
    """
    nothing = {"value": math.nan, "interval": [math.nan, math.nan], "scenes": 0}
    return [
        {
            "group": group,
            "name": name,
            **_reached(measured.get(group, {}).get(name, nothing), goals[group][name]),
        }
        for group in GROUPS
        for name in sorted(goals.get(group, {}), key=ORDER.index)
    ]


def _reached(found: Mapping[str, Any], goal: Any) -> dict[str, Any]:
    least, greatest = goal if isinstance(goal, list | tuple) else (goal, math.inf)
    inside = [least <= x <= greatest for x in (found["value"], *found["interval"])]
    return {
        "goal": list(goal) if isinstance(goal, list | tuple) else goal,
        "value": found["value"],
        "interval": found["interval"],
        "scenes": found["scenes"],
        "reached": inside[0],
        "certain": len(set(inside)) == 1,
    }
