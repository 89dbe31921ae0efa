"""Trajectories of a job, each with its own text: read and checked; and the batches they become."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from absl import logging
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Num

from tavid_jax.data.trajectory_files import resized
from tavid_jax.diffusion.guidance import BRANCHES
from tavid_jax.models.text.cleaning import clean
from tavid_jax.models.text.tokenizer import Tokenizer
from tavid_jax.pipelines.follow import Follow
from tavid_jax.pipelines.following import Guide, digest_of, read_tracks
from tavid_jax.pipelines.jobs import Job
from tavid_jax.pipelines.located import LOCAL_LENGTH, LOCAL_TEXT, NEAR, STRENGTH, LocatedWan
from tavid_jax.pipelines.settings import LOCAL, Sampling
from tavid_jax.pipelines.steering import Pair
from tavid_jax.tracks.condition_videos import cover
from tavid_jax.tracks.neighbourhoods import (
    Pairs,
    inside,
    mask_areas,
    neighbourhoods,
    object_scales,
    outside,
)
from tavid_jax.tracks.trajectories import Trajectories
from tavid_jax.viz.tracks import draw_trails

# Entries of a task's conditions: the text "" and its real positions, for guidance.
EMPTY_TEXT, EMPTY_LENGTH = "empty_text", "empty_length"


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class LocalGuide(Guide):
    """Trajectories that a video follows, each by what its text names; its first video shows their
    trails.

    Attributes:
      trajectories: in pixels of the video, with their texts; what lies outside of the frame is not
        visible.
      pairs: which tokens read which text.
    """

    trajectories: Trajectories
    pairs: Pairs
    LABELS: ClassVar = ("trajectories", "")


def local_guide(job: Job, name: str, sampling: Sampling, backbone: LocatedWan) -> LocalGuide:
    """Reads and checks the trajectories and texts of a job.

    Args:
      job: with tracks; texts are its own, or those of the tracks.
      name: of the video, for what is told.
      sampling: size and length of the video, and how frames are fitted to it.
      backbone: that reads them.

    Raises:
      ValueError: files that cannot be read or have fewer frames than the video; more trajectories
        than there is room for; a text without a trajectory or the reverse; an empty text;
        condition videos, or options of them.
    """
    _check_job(job, sampling)
    read, masks, _ = read_tracks(
        dataclasses.replace(job, follow=job.ways({})), int(sampling.frames)
    )
    read = with_texts(read, job.texts, by_segment=job.segments is not None)
    _check(read, backbone.points)
    trajectories, beyond = _inside(_fitted(read, sampling))
    if beyond:
        logging.info(
            "%s: %d places of trajectories lie outside of the frame; nothing is seen there",
            name,
            beyond,
        )
    enlarged = _enlarged(read.size_hw, sampling)
    pairs = pairs_of(backbone, trajectories, masks[0] if masks else None, enlarged)
    empty = not (pairs.token < backbone.tokens).any()
    facts: dict[str, Any] = {
        "tracks": digest_of(read.tracks, read.visibility),
        "points": read.num_points,
        "texts": list(read.texts),
        "locate": backbone.where.to_json(),
    }
    if empty:
        facts["unconditioned"] = "no point is visible"
    black = np.zeros((*trajectories.size_hw, 3), np.uint8)

    def videos() -> Pair:
        shown = draw_trails(black, trajectories.tracks, trajectories.visibility)
        return shown, np.zeros_like(shown)

    return LocalGuide(videos, facts, "", empty, trajectories=trajectories, pairs=pairs)


def pairs_of(
    backbone: LocatedWan,
    trajectories: Trajectories,
    masks: Bool[np.ndarray, "S Y X"] | None = None,
    enlarged: float = 1.0,
) -> Pairs:
    """Which tokens read which trajectory's text.

    Args:
      backbone: that reads them.
      trajectories: in pixels of the video.
      masks: of the segments that they lie in, of any size; where neighbourhoods grow with them.
      enlarged: by how much areas grow from the masks to the video.
    """
    areas = None
    if backbone.rule.per_object and masks is not None and trajectories.segment is not None:
        areas = mask_areas(masks, trajectories.segment) * enlarged
    return pairs_by_area(backbone, trajectories, areas)


def pairs_by_area(
    backbone: LocatedWan,
    trajectories: Trajectories,
    areas: Num[np.ndarray, " N"] | None = None,
) -> Pairs:
    """The same where the areas of objects are known.

    Args:
      backbone, trajectories: see `pairs_of`.
      areas: px of the video that each trajectory's object covers, 0 = not known.
    """
    size, rule, patch = trajectories.size_hw, backbone.rule, backbone.model.config.patch_size[1]
    scale = None
    if rule.per_object and areas is not None:
        scale = object_scales(areas, rule, size, backbone.grid, patch)
    return neighbourhoods(
        trajectories.tracks,
        trajectories.visibility,
        size,
        backbone.grid,
        rule,
        points=backbone.points,
        scale=scale,
        patch=patch,
    )


def read_texts(given: str | os.PathLike | Sequence[str]) -> tuple[str, ...]:
    """Texts of trajectories: as they are, a file with one in each line, or with semicolons between.

    Raises:
      ValueError: a file that cannot be read.
    """
    if not isinstance(given, str | os.PathLike):
        return tuple(given)
    if isinstance(given, str) and not os.path.isfile(given):
        return tuple(part.strip() for part in given.split(";"))
    try:
        with open(given, encoding="utf-8-sig") as file:
            return tuple(line.strip() for line in file if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"texts {given} cannot be read ({error})") from error


def with_texts(
    trajectories: Trajectories,
    texts: str | os.PathLike | Sequence[str] | None,
    by_segment: bool = False,
) -> Trajectories:
    """Trajectories with the given texts, by default their own.

    Args:
      trajectories: N points.
      texts: one for each point, see `read_texts`.
      by_segment: one for each segment instead; points in none are left out.

    Raises:
      ValueError: no texts at all, or another number of them.
    """
    if texts is None:
        if trajectories.texts is None:
            raise ValueError(
                'tracks without texts: give the words of each trajectory, texts=["a cat", "a dog"] '
                '(--texts "a cat;a dog"), or "text" of the points in their file'
            )
        return trajectories
    texts = read_texts(texts)
    if by_segment:
        _check_count(len(texts), trajectories.segments, "segment")
        trajectories = trajectories.take(trajectories.segment > 0)
        texts = tuple(texts[number - 1] for number in trajectories.segment)
    else:
        _check_count(len(texts), trajectories.num_points, "trajectory")
    return trajectories.replace(texts=texts)


def _check_count(texts: int, count: int, what: str) -> None:
    if texts == count:
        return
    things = {"trajectory": "trajectories", "segment": "segments"}[what]
    wrong = f"a text without a {what}" if texts > count else f"a {what} without a text"
    raise ValueError(f"{texts} texts for {count} {things}: {wrong}; give one for each")


def _check_job(job: Job, sampling: Sampling) -> None:
    if job.control_videos is not None:
        raise ValueError("control_videos: this model reads trajectories with texts, give tracks")
    if sampling.control_guidance != 1:
        raise ValueError(
            "control_guidance is of condition videos; of trajectories with texts there is "
            "local_guidance"
        )
    known = Follow(stored_hw=job.ways({}).stored_hw)
    for field in dataclasses.fields(Follow):
        if getattr(job.ways({}), field.name) != getattr(known, field.name):
            raise ValueError(
                f"follow: {field.name} is of condition videos; of trajectories with texts there is "
                "stored_hw alone"
            )


def _check(trajectories: Trajectories, room: int) -> None:
    count = trajectories.num_points
    if count > room:
        raise ValueError(f"{count} trajectories, this model has room for {room}: leave some out")
    for number, text in enumerate(trajectories.texts):
        if not clean(text):
            raise ValueError(f"trajectory {number} has an empty text: give its words, or drop it")


def _fitted(trajectories: Trajectories, sampling: Sampling) -> Trajectories:
    """In pixels of the video, whose frames are fitted as images are."""
    size = (int(sampling.size_hw[0]), int(sampling.size_hw[1]))
    if sampling.fit == "stretch":
        return resized(trajectories, size)
    moved = cover(trajectories.tracks, trajectories.size_hw, size)
    return trajectories.replace(tracks=moved, size_hw=size)


def _enlarged(from_hw: tuple[int, int], sampling: Sampling) -> float:
    """By how much areas grow."""
    ratios = [to / of for to, of in zip(sampling.size_hw, from_hw, strict=True)]
    return float(np.prod(ratios) if sampling.fit == "stretch" else max(ratios) ** 2)


def _inside(trajectories: Trajectories) -> tuple[Trajectories, int]:
    """Invisible outside of the frame; and how many places are."""
    beyond = outside(trajectories)
    if not beyond:
        return trajectories, 0
    seen = trajectories.visibility & inside(trajectories.tracks, trajectories.size_hw)
    return trajectories.replace(visibility=seen), beyond


def check_local_options(job: Job, known: Sampling, model: str) -> None:
    """Refuses what is of local texts, for a model that reads none.

    Args:
      job: its options are looked at.
      known: how the model is sampled where a job does not say.
      model: its name.

    Raises:
      ValueError: naming it.
    """
    given = [n for n in LOCAL if job.options.get(n, getattr(known, n)) != getattr(known, n)]
    given += ["texts"] * (job.texts is not None)
    if given:
        raise ValueError(
            f"{given[0]}: {model} reads no texts of trajectories: it was not trained to. Give the "
            "file of what was (laca=..., --laca)"
        )


# ---- batches --------------------------------------------------------------------------------


def wanted_texts(
    guide: LocalGuide, sampling: Sampling, backbone: LocatedWan
) -> list[tuple[str, int]]:
    """The texts that are encoded for a video, and at which length."""
    empty = [""] if sampling.null_local == "empty" else []
    return [(text, text_room(backbone)) for text in (*guide.trajectories.texts, *empty)]


def local_conditions(
    guide: LocalGuide,
    sampling: Sampling,
    backbone: LocatedWan,
    tokenizer: Tokenizer,
    features: Mapping[tuple[str, int], Float[np.ndarray, "_ E"]],
) -> dict[str, np.ndarray]:
    """Entries of a batch, see `located`; and the text "" where guidance reads it.

    Args:
      guide: of the video.
      sampling: of the video.
      backbone: that reads them.
      tokenizer: of the text encoder.
      features: of `wanted_texts`.
    """
    room, texts = text_room(backbone), guide.trajectories.texts
    shape = backbone.spec()[LOCAL_TEXT].shape
    made = local_entries(
        backbone,
        guide.pairs,
        [features[text, room] for text in texts],
        [text_length(tokenizer, text, room) for text in texts],
    )
    strength = backbone.laca.strength if sampling.strength is None else sampling.strength
    made[STRENGTH] = np.float32(strength)
    if sampling.null_local == "empty":
        empty = np.zeros(shape[1:], np.float32)
        empty[:room] = features["", room]
        made |= {EMPTY_TEXT: empty, EMPTY_LENGTH: np.int32(text_length(tokenizer, "", room))}
    return made


def local_entries(
    backbone: LocatedWan,
    pairs: Pairs,
    features: Sequence[Float[np.ndarray, "_ E"]],
    lengths: Sequence[int],
    dtype: DTypeLike = np.float32,
) -> dict[str, np.ndarray]:
    """Entries of a batch, see `located`; behind the given texts there are zeros.

    Args:
      backbone: that reads them.
      pairs: which tokens read which of the texts.
      features: of at most N texts, at `text_room` positions.
      lengths: how many of these are real.
      dtype: of the features.
    """
    shape, room = backbone.spec()[LOCAL_TEXT].shape, text_room(backbone)
    made = {LOCAL_TEXT: np.zeros(shape, dtype), LOCAL_LENGTH: np.zeros(shape[0], np.int32)}
    for number, (one, length) in enumerate(zip(features, lengths, strict=True)):
        made[LOCAL_TEXT][number, :room] = one
        made[LOCAL_LENGTH][number] = length
    return made | dict(zip(NEAR, pairs, strict=True))


def text_room(backbone: LocatedWan) -> int:
    """How many tokens of a local text are read: one position is padding."""
    return backbone.text_positions - 1


def text_length(tokenizer: Tokenizer, text: str, room: int) -> int:
    """Real tokens of a text, its end included."""
    return min(len(tokenizer.pieces.encode(clean(text))) + 1, room)


def dual_branches(
    backbone: LocatedWan,
    both: Mapping[str, Array],
    without: Mapping[str, Array],
    mode: str,
    guided: bool,
) -> list[dict[str, Array]]:
    """Conditions of each branch of dual guidance, in the order of `guidance.BRANCHES`.

    Args:
      backbone: that reads them.
      both: a batch with the prompt and all local texts; and with the text "" where local texts
        are left out by it.
      without: entries that stand for no prompt.
      mode: of guidance.
      guided: whether there are several branches, or the last one alone.
    """
    both = dict(both)
    empty, length = both.pop(EMPTY_TEXT, None), both.pop(EMPTY_LENGTH, None)
    if empty is None:
        bare = backbone.null_local(both)
    else:
        bare = backbone.empty_local(both, empty[:, None], length[:, None])

    def branch(name: str) -> dict[str, Array]:
        batch = both if name in ("loc", "both") else bare
        return dict(batch) if name in ("glob", "both") else {**batch, **without}

    return [branch(name) for name in (BRANCHES[mode] if guided else BRANCHES[mode][-1:])]
