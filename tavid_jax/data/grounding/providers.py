"""Who finds objects, words and tracks: four protocols, the embedded providers, and your own.

Any function, or object that can be called, of the right arguments is a provider. It is named on the
command line as `module:attribute`, and `module` is imported from the current folder or what is
installed:

    # mypackage/sam.py
    def segment(clip):
        masks, names = my_model(clip.video[0])    # uint8 (H, W, 3), RGB
        return Objects(masks, names)              # or masks alone, bool (S, H, W)

    python -m tavid_jax.data ground CLIPS --out DIR --segmenter mypackage.sam:segment

A class is made once, without arguments, and called for every clip (a place for weights). A provider
whose answers depend on settings says so in an attribute `fingerprint`, a string: it is part of what
a folder of grounded clips was made from, so that a half-made folder is not finished by another one.

A provider that finds nothing raises `ClipError` with a sentence that says why: the clip is left out
and counted. Any other exception ends the run and names provider and clip.

The embedded providers need no download:

    segmenter   clip     the clip's own masks (files beside it; the objects of a scene)
                moving   what moves against the background, by optical flow: see `moving`
    annotator   clip     the clip's own texts (`texts` files; captions of a scene's objects), else
                         the names that the segmenter gave
                colour   "a red object", by the colour inside the mask: coarse, see `colours`
    tracker     clip     the clip's own tracks (files beside it; the exact tracks of a scene), else
                         dis
                dis      chained optical flow, see `flow`
    captioner   clip     the clip's own caption (CSV, or .txt beside it)
                joined   the texts of its objects, joined by "and"
"""

from __future__ import annotations

import dataclasses
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, UInt8

from tavid_jax.data.clip import Clip, ClipError

KINDS = ("segmenter", "annotator", "tracker", "captioner")


@dataclasses.dataclass(frozen=True, eq=False)
class Objects:
    """What a segmenter finds in the first frame of a clip.

    Attributes:
      masks: S objects, largest or most important first or in any order; may overlap.
      names: a word or phrase for each object, S strings; () = it knows none.

    Raises:
      ClipError: names of another number than masks.
    """

    masks: Bool[np.ndarray, "S H W"]
    names: tuple[str, ...] = ()

    def __post_init__(self):
        if self.names and len(self.names) != len(self.masks):
            raise ClipError(f"{len(self.names)} names for {len(self.masks)} masks: give one each")


@runtime_checkable
class Segmenter(Protocol):
    """Finds objects in the first frame."""

    def __call__(self, clip: Clip) -> Objects | Bool[np.ndarray, "S H W"]:
        """Objects of `clip.video[0]`; may look at all frames. Masks have the clip's `size_hw`."""
        ...


@runtime_checkable
class Annotator(Protocol):
    """Finds words for objects: what each is, perhaps also what it does."""

    def __call__(
        self, clip: Clip, objects: Objects, points: Float[np.ndarray, "S 2"]
    ) -> Sequence[str]:
        """A text for each object, S strings; "" = it knows none.

        Args:
          clip: with its video and caption.
          objects: S of them, each with at least one point.
          points: (x, y) px, the place inside each object that is furthest from its edge: where a
            circle may be drawn for a model that is asked about it.
        """
        ...


@runtime_checkable
class Tracker(Protocol):
    """Follows points of the first frame; `data.tracker.Tracker` is one."""

    def __call__(
        self, video: UInt8[np.ndarray, "T H W 3"], query_xy: Float[np.ndarray, "N 2"]
    ) -> tuple[Float[np.ndarray, "N T 2"], Bool[np.ndarray, "N T"]]:
        """(x, y) px of the video, pixel centres at integers, and where each point is seen."""
        ...


@runtime_checkable
class Captioner(Protocol):
    """Finds words about the whole clip."""

    def __call__(self, clip: Clip) -> str:
        """The caption; `clip.local_captions` are the texts of its objects. "" = it knows none."""
        ...


def own_objects(clip: Clip) -> Objects:
    """The embedded segmenter `clip`.

    Raises:
      ClipError: the clip has no masks.
    """
    if clip.masks is None or not len(clip.masks):
        raise ClipError(
            "has no masks: lay <stem>.mask_0.png, ... or <stem>.pkl beside it (--masks FOLDER), or "
            "name a --segmenter"
        )
    return Objects(clip.masks)


def own_texts(clip: Clip, objects: Objects, points: Float[np.ndarray, "S 2"]) -> tuple[str, ...]:
    """The embedded annotator `clip`: the clip's texts, else the segmenter's names.

    Raises:
      ClipError: neither is there.
    """
    del points
    if clip.local_captions:
        return clip.local_captions
    if objects.names:
        return objects.names
    raise ClipError(
        "has no texts of its objects: write <stem>.texts.json beside it, give --texts FILE, or "
        "name an --annotator"
    )


def own_caption(clip: Clip) -> str:
    """The embedded captioner `clip`."""
    return clip.caption


def joined_texts(clip: Clip) -> str:
    """The embedded captioner `joined`: "a red cup and a yellow ball"; each text once."""
    return " and ".join(dict.fromkeys(filter(None, clip.local_captions)))


def provider(kind: str, name: str) -> Callable[..., Any] | None:
    """The provider of a name: an embedded one, or `module:attribute`.

    Args:
      kind: one of `KINDS`.
      name: as on the command line.

    Returns:
      The provider; None for the tracker `clip`, which takes the tracks that are there.

    Raises:
      ClipError: no such provider, no such module or attribute, or nothing that can be called.
    """
    embedded = _embedded()[kind]
    if name in embedded:
        return embedded[name]
    module, _, attribute = name.partition(":")
    if not module or not attribute:
        raise ClipError(
            f"no {kind} {name!r}: there are {', '.join(embedded)}, or name your own as "
            "module:function"
        )
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ClipError(f"{kind} {name!r} cannot be loaded: {error}") from error
    found = found() if isinstance(found, type) else found
    if not callable(found):
        raise ClipError(f"{kind} {name!r} is a {type(found).__name__}: it must be a function")
    return found


def fingerprint(name: str, made: Any) -> str:
    """What a provider says of itself, after the name that it was asked for by."""
    said = getattr(made, "fingerprint", "")
    return f"{name} {said}".strip()


def _embedded() -> dict[str, dict[str, Callable[..., Any] | None]]:
    from tavid_jax.data.grounding.colours import colour_texts
    from tavid_jax.data.grounding.flow import FlowTracker
    from tavid_jax.data.grounding.moving import moving_objects

    return {
        "segmenter": {"clip": own_objects, "moving": moving_objects},
        "annotator": {"clip": own_texts, "colour": colour_texts},
        "tracker": {"clip": None, "dis": FlowTracker()},
        "captioner": {"clip": own_caption, "joined": joined_texts},
    }
