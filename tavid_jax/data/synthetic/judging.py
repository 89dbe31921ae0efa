"""Fixed judges of toy videos: which colour, silhouette and motion is seen, and what is touched.

Nothing here is learned, and all of it looks at pixels only, so a model can neither please a judge
nor learn from it. The definitions were fixed on true clips, before any model was judged.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Num

from tavid_jax.data.clip import Clip
from tavid_jax.data.segments import mask_centres
from tavid_jax.data.synthetic import looks, motions, shapes, toy

# Colours that a pixel is told apart by.
JUDGED_COLOURS = (*toy.COLOURS, toy.NEW_COLOUR)

_COVERED = 0.5  # share of a colour in a pixel that makes the pixel part of the object
_OFF_COLOUR = 0.25  # farthest that a pixel may lie from the mixtures of a colour and the background
LEAST_AREA = 0.015  # of the frame: an object that is there covers at least this
SEEN_IN = 0.8  # of the frames
_CLEAN = 0.75  # of the foreground has a colour that the caption names
_STILL = 0.1  # of the frame's side: a shorter way is none
_TOUCH = 7.0 / 24.0  # of the frame's side: greatest distance of centres that touch
_SCALES = (0.9, 1.0, 1.1)  # of the template that has the measured area
_TEMPLATE_FRAMES = 5

_WAYS = (("left", "right"), ("up", "down"))  # by axis and sign

Video = Num[np.ndarray, "T H W 3"]


class Expected(NamedTuple):
    """What a short caption says of one object; `kind` is "" where it names no motion."""

    colour: str
    shape: str
    kind: str = ""


def expected_objects(caption: str) -> tuple[Expected, ...]:
    """The objects of a short caption such as "a red disc moves left and a pink hoop stands still".

    Raises:
      ValueError: a part of the caption that is not of this form.
    """
    words = {motions.WORDS[kind]: kind for kind in motions.SAID_KINDS} | {"": ""}
    found = []
    for part in caption.split(" and "):
        match = re.fullmatch(r"an? (\w+) (\w+) ?(.*)", part)
        if match is None or match[3] not in words or match[2] not in shapes.SHAPES:
            raise ValueError(
                f"caption {caption!r}: {part!r} is not of the form 'a COLOUR SHAPE MOTION' with a "
                f"motion of {sorted(filter(None, words))} or none"
            )
        found.append(Expected(match[1], match[2], words[match[3]]))
    return tuple(found)


class Verdict(NamedTuple):
    """What is right in one video, per expected object in their order.

    Attributes:
      colour: there is an object of the colour in most frames.
      shape: its silhouette fits the named shape best.
      motion: it goes where the caption says, or none is said.
      clean: little else is in the picture than objects of the named colours.
    """

    colour: tuple[bool, ...]
    shape: tuple[bool, ...]
    motion: tuple[bool, ...]
    clean: bool

    @property
    def right(self) -> bool:
        """Everything about every object, and clean."""
        return self.clean and all(self.colour + self.shape + self.motion)


def judge_objects(
    video: Video,
    expected: Sequence[tuple[str, str, str]],
    *,
    colours: Sequence[str] = JUDGED_COLOURS,
    silhouettes: Sequence[str] = toy.SILHOUETTES,
) -> Verdict:
    """Compares a video with what its caption says.

    A pixel belongs to a colour if it is a mixture of that colour and the frame's background with at
    least half of the colour. An object is there if its colour covers 1.5 % of the frame in 80 % of
    the frames. Its silhouette is the template (of the measured area, at the centroid) with the
    greatest overlap (IoU), mean over five frames. Its motion is that of the centroid from the first
    two to the last two frames: the longer axis decides, and below a tenth of the side it is still.

    Args:
      video: uint8, or float in [-1, 1]; on a background of about one colour per frame.
      expected: (colour, shape, kind) per object, as from `expected_objects`; kind is a key of
        `motions.SAID_KINDS` or "".
      colours: names of the palette that may occur, the expected ones among them.
      silhouettes: shapes to choose from, the expected ones among them.

    Returns:
      Verdict.

    Raises:
      ValueError: an unknown colour, shape or kind, or a colour that is named twice.
    """
    _check_expected(expected, colours, silhouettes)
    parts = segment(video, tuple(colours))
    masks = [parts.masks[..., list(colours).index(colour)] for colour, _, _ in expected]
    seen = [_is_seen(mask) for mask in masks]
    named = np.any(masks, axis=0).sum() if masks else 0
    foreground = parts.foreground.sum()
    return Verdict(
        colour=tuple(seen),
        shape=tuple(
            there and _best_silhouette(mask, tuple(silhouettes)) == shape
            for there, mask, (_, shape, _) in zip(seen, masks, expected, strict=True)
        ),
        motion=tuple(
            there and kind in ("", _motion(mask))
            for there, mask, (_, _, kind) in zip(seen, masks, expected, strict=True)
        ),
        clean=bool(named >= _CLEAN * foreground and (foreground > 0 or not expected)),
    )


def _check_expected(expected, colours, silhouettes) -> None:
    names = [colour for colour, _, _ in expected]
    if len(set(names)) < len(names):
        raise ValueError(f"objects of one colour cannot be told apart: {names}")
    for name, given, known in (
        ("colour", colours, looks.PALETTE),
        ("colour", names, colours),
        ("silhouette", [shape for _, shape, _ in expected], silhouettes),
        ("motion", [kind for _, _, kind in expected], (*motions.SAID_KINDS, "")),
    ):
        unknown = sorted(set(given) - set(known))
        if unknown:
            raise ValueError(f"the judge knows no {name} {unknown}: use some of {sorted(known)}")


class Parts(NamedTuple):
    """Pixels of a video: those of each colour, and all that are not of the background."""

    masks: Bool[np.ndarray, "T H W colours"]
    foreground: Bool[np.ndarray, "T H W"]


def _unit(video: Video) -> Float[np.ndarray, "T H W 3"]:
    """RGB in 0..1 of a uint8 video or of one in [-1, 1]."""
    if video.dtype == np.uint8:
        return video.astype(np.float32) / 255.0
    if not np.issubdtype(video.dtype, np.floating):
        raise ValueError(f"a video is uint8 or float in [-1, 1], not {video.dtype}")
    return np.clip(0.5 * np.nan_to_num(video.astype(np.float32)) + 0.5, 0.0, 1.0)


def segment(video: Video, colours: tuple[str, ...]) -> Parts:
    """Which pixels belong to which colour, and to anything at all; see `judge_objects`.

    Args:
      video: uint8, or float in [-1, 1].
      colours: names of the palette that may occur.

    Raises:
      ValueError: unknown colours.
    """
    _check_expected([], colours, ())
    rgb = _unit(video)
    ground = np.median(rgb.reshape(len(rgb), -1, 3), axis=1)[:, None, None]
    offset = rgb - ground
    away = np.array([looks.PALETTE[name] for name in colours], np.float32) / 255.0 - ground[:, :, 0]
    squared = np.maximum((away**2).sum(-1), 1e-6)[:, None, None]  # (T, 1, 1, colours)
    share = np.einsum("thwc,tkc->thwk", offset, away) / squared
    length = (offset**2).sum(-1, keepdims=True)
    off = np.sqrt(np.maximum(length - np.maximum(share, 0.0) ** 2 * squared, 0.0))
    nearest = off.min(-1, keepdims=True)
    stray = nearest[..., 0] >= _OFF_COLOUR
    masks = (off == nearest) & (off < _OFF_COLOUR) & (share >= _COVERED)
    return Parts(masks, masks.any(-1) | stray)


def _mask(video: Video, colour: str, colours: Sequence[str]) -> Bool[np.ndarray, "T H W"]:
    """Which pixels belong to one colour."""
    if colour not in colours:
        raise ValueError(f"the judge knows no colour {colour!r}: use one of {sorted(colours)}")
    return segment(video, tuple(colours)).masks[..., list(colours).index(colour)]


def _is_seen(mask: Bool[np.ndarray, "T H W"]) -> bool:
    return bool((mask.mean((1, 2)) >= LEAST_AREA).mean() >= SEEN_IN)


def _centroids(mask: Bool[np.ndarray, "T H W"]) -> Float[np.ndarray, "seen 2"]:
    """Mean pixel (x, y) of the mask in each frame that has any."""
    return mask_centres(mask)[mask.any((1, 2))]


def _motion(mask: Bool[np.ndarray, "T H W"]) -> str:
    """The kind of motion of an object that is seen."""
    path = _centroids(mask)
    way = (path[-2:].mean(0) - path[:2].mean(0)) / np.array(mask.shape[:0:-1])
    if np.abs(way).max() < _STILL:
        return "still"
    axis = int(np.argmax(np.abs(way)))
    return _WAYS[axis][int(way[axis] > 0)]


def _best_silhouette(mask: Bool[np.ndarray, "T H W"], names: tuple[str, ...]) -> str:
    """The shape whose template overlaps most with the mask."""
    frames = np.flatnonzero(mask.any((1, 2)))
    frames = frames[np.linspace(0, len(frames) - 1, _TEMPLATE_FRAMES).round().astype(int)]
    mask = mask[frames]
    radius = np.sqrt(mask.sum((1, 2)) / np.pi)[:, None] * np.array(_SCALES)
    height, width = mask.shape[1:]
    centre = _centroids(mask)
    x = (np.arange(width) - centre[:, :1])[:, None, None] / radius[..., None, None]
    y = (np.arange(height) - centre[:, 1:])[:, None, :, None] / radius[..., None, None]
    x, y = np.broadcast_arrays(x, y)  # (frames, scales, H, W)
    scores = []
    for name in names:
        template = shapes.covers(np.array(shapes.SHAPES.index(name)), x, y)
        both = (template & mask[:, None]).sum((2, 3))
        either = (template | mask[:, None]).sum((2, 3))
        scores.append((both / np.maximum(either, 1)).max(1).mean())
    return names[int(np.argmax(scores))]


class ContactFacts(NamedTuple):
    """What is known beforehand about a scene in which an actor touches a target.

    Attributes:
      actor, aim: colours of the actor and of the target and its look-alikes.
      positions: (K, 2) centres (x, y) in px of the target and its look-alikes in the first frame.
      target: index of the target.
    """

    actor: str
    aim: str
    positions: Float[np.ndarray, "K 2"]
    target: int


def contact_facts(clip: Clip) -> ContactFacts:
    """Facts of an interaction with a short caption.

    Raises:
      ValueError: a clip without an actor, or whose caption is not of this form.
    """
    match = re.fullmatch(r"an? (\w+) \w+ \w+ (?:an?|the target) (\w+) \w+", clip.caption or "")
    if match is None or clip.actor < 1 or clip.target < 1:
        raise ValueError(f"clip {clip.id}: no interaction with a short caption: {clip.caption!r}")
    others = [number for number in range(1, len(clip.masks) + 1) if number != clip.actor]
    centres = [_centroids(clip.masks[number - 1][None])[0] for number in others]
    return ContactFacts(match[1], match[2], np.stack(centres), others.index(clip.target))


def judge_contact(
    video: Video,
    actor: str,
    positions: Num[np.ndarray, "K 2"],
    *,
    colours: Sequence[str] = JUDGED_COLOURS,
) -> int:
    """Which of several resting targets the actor touches in the last frame.

    The actor is what has its colour; it must cover 1.5 % of the frame, and its centroid must lie
    within 7 px (of a frame of 24 px) from a target's centre. In the scenes of
    `toy.reaching` all centres are farther apart than this at first, and nearer at the end.

    Args:
      video: uint8, or float in [-1, 1].
      actor: its colour.
      positions: centres (x, y) in px of the targets.
      colours: names of the palette that may occur, the actor's among them.

    Returns:
      Index of the nearest target, or -1 if none is touched.

    Raises:
      ValueError: unknown colours.
    """
    mask = _mask(video[-1:], actor, colours)
    if mask.mean() < LEAST_AREA:
        return -1
    distance = np.hypot(*(np.asarray(positions) - _centroids(mask)).T)
    nearest = int(np.argmin(distance))
    return nearest if distance[nearest] <= _TOUCH * min(mask.shape[1:]) else -1


def covered(
    video: Video, colour: str, *, colours: Sequence[str] = JUDGED_COLOURS
) -> Float[np.ndarray, " T"]:
    """Share of each frame that belongs to a colour: an object that is torn or doubled changes it.

    Args:
      video: uint8, or float in [-1, 1].
      colour: its name.
      colours: names of the palette that may occur, the colour among them.

    Raises:
      ValueError: unknown colours.
    """
    return _mask(video, colour, colours).mean((1, 2))


def centres(
    video: Video, names: Sequence[str], *, colours: Sequence[str] = JUDGED_COLOURS
) -> Float[np.ndarray, "K T 2"]:
    """Where the objects of some colours are, (x, y) px: the mean of their pixels in each frame.

    NaN in frames in which a colour covers less than 1.5 % of the frame. On true clips of
    `toy.steered` this is within a pixel of where their tracks say, also where one object hides a
    part of the other.

    Args:
      video: uint8, or float in [-1, 1].
      names: K colours.
      colours: names of the palette that may occur, these among them.

    Raises:
      ValueError: unknown colours.
    """
    places = np.full((len(names), len(video), 2), np.nan)
    for number, name in enumerate(names):
        mask = _mask(video, name, colours)
        seen = mask.mean((1, 2)) >= LEAST_AREA
        places[number, seen] = _centroids(mask[seen])
    return places


def first_frame_error(video: Video, image: Num[np.ndarray, "h w 3"]) -> float:
    """Mean squared difference, in units of [-1, 1], of the first frame and the given image.

    Both may be uint8 or float in [-1, 1].
    """
    if video.shape[1:] != image.shape:
        raise ValueError(f"frames {video.shape[1:]} and image {image.shape} differ in size")
    return float(np.mean((2.0 * (_unit(video[:1]) - _unit(image[None]))) ** 2))


def shares(verdicts: Sequence[Verdict]) -> dict[str, float]:
    """Share of videos in which all objects are right, by attribute, and "all" together."""
    columns = {
        "colour": [all(verdict.colour) for verdict in verdicts],
        "shape": [all(verdict.shape) for verdict in verdicts],
        "motion": [all(verdict.motion) for verdict in verdicts],
        "clean": [verdict.clean for verdict in verdicts],
        "all": [verdict.right for verdict in verdicts],
    }
    return {name: float(np.mean(column)) for name, column in columns.items()}
