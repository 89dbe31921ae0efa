"""Trajectories in encoded examples: a cache keeps all of a clip's, training draws some every time.

Kept are, for M points with words and U different texts, "path_places" (M, T, 2), "path_seen"
(M, T), "path_object", "path_area" and "path_text" (M,), the last one an index into "phrases"
(U, R, E), features of the text encoder, and "phrase_lengths" (U,), real positions of them. What a
neighbourhood is, and how many trajectories an example gets, is not in them: one cache serves all.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int, Num

from tavid_jax.data.clip import Clip, ClipError
from tavid_jax.data.segments import object_tracks, trajectories_of
from tavid_jax.pipelines.located import LOCAL_TEXT, LocatedWan
from tavid_jax.pipelines.locating import local_entries, pairs_by_area
from tavid_jax.tracks.neighbourhoods import mask_areas
from tavid_jax.tracks.trajectories import Trajectories

# points: the clip's tracks as they are; objects: one for each object, the place of its middle.
SOURCES = POINTS, OBJECTS = "points", "objects"

PLACES, SEEN, OBJECT = "path_places", "path_seen", "path_object"
AREA, TEXT = "path_area", "path_text"
PHRASES, LENGTHS = "phrases", "phrase_lengths"
KEPT = (PLACES, SEEN, OBJECT, AREA, TEXT, PHRASES, LENGTHS)

# Texts -> their features (U, R, E) and how many positions of each are real (U,).
Reader = Callable[[Sequence[str]], tuple[np.ndarray, np.ndarray]]


@dataclasses.dataclass(frozen=True)
class Keep:
    """What examples keep of trajectories; what reads them must agree.

    Attributes:
      source: one of `SOURCES`.
      text_positions: of each text, the last one of which is padding: R = text_positions - 1.

    Raises:
      ValueError: a value out of range, by name.
    """

    source: str = POINTS
    text_positions: int = 32

    def __post_init__(self):
        check_source(self.source)
        if self.text_positions < 2:
            raise ValueError(
                f"trajectories.text_positions {self.text_positions}: a text has at least 2, one "
                "of them padding"
            )

    @property
    def room(self) -> int:
        """Tokens of a text, R."""
        return self.text_positions - 1


def check_source(source: str) -> None:
    """Raises ValueError for one that is none of `SOURCES`."""
    if source not in SOURCES:
        known = ", ".join(SOURCES)
        raise ValueError(f"trajectories.source {source!r} is none of {known}")


def told(clip: Clip, source: str = POINTS) -> Trajectories:
    """The trajectories of a clip that have words and are visible at some time.

    Args:
      clip: with tracks and local captions.
      source: one of `SOURCES`.

    Raises:
      ClipError: a clip without tracks or local captions, or whose tracks are of no objects.
    """
    known = (object_tracks if source == OBJECTS else trajectories_of)(clip)
    if known.texts is None and clip.local_captions:
        raise ClipError(f"clip {clip.id!r}: its tracks belong to no objects; give it masks")
    if known.texts is None:
        raise ClipError(
            f"clip {clip.id!r}: has no local captions, one for each object; make them by "
            "python -m tavid_jax.data ground"
        )
    has_words = np.array([bool(text) for text in known.texts], bool)
    return known.take(has_words & known.visibility.any(1))


def kept(keep: Keep, clip: Clip, read: Reader) -> dict[str, np.ndarray]:
    """What an example keeps of a clip, see the module.

    Args:
      keep: what that is.
      clip: with tracks and local captions.
      read: the text encoder.

    Raises:
      ClipError: see `told`.
    """
    known = told(clip, keep.source)
    texts = list(dict.fromkeys(known.texts))
    number = {text: i for i, text in enumerate(texts)}
    areas = np.zeros(known.num_points, np.int64)
    if clip.masks is not None:
        areas = mask_areas(clip.masks, known.segment)
    features, lengths = read(texts)
    return {
        PLACES: known.tracks,
        SEEN: known.visibility,
        OBJECT: known.segment,
        AREA: areas,
        TEXT: np.array([number[text] for text in known.texts], np.int32),
        PHRASES: features,
        LENGTHS: lengths,
    }


def recalled(
    example: Mapping[str, Any],
    backbone: LocatedWan,
    choose: Callable[[Trajectories], Int[np.ndarray, " K"]],
) -> dict[str, Num[np.ndarray, "..."]]:
    """Entries of local texts, see `located`, of some of the trajectories that an example keeps.

    Args:
      example: as `kept` makes it.
      backbone: that reads them.
      choose: which ones, given all of them, without their texts; at most `backbone.points`.
    """
    objects = example[OBJECT]
    known = Trajectories(
        example[PLACES],
        example[SEEN],
        tuple(backbone.geometry.size_hw),
        segment=objects,
        segments=int(objects.max(initial=0)),
    )
    chosen = choose(known)
    which = example[TEXT][chosen]
    return local_entries(
        backbone,
        pairs_by_area(backbone, known.take(chosen), example[AREA][chosen]),
        list(example[PHRASES][which]),
        example[LENGTHS][which].tolist(),
        backbone.spec()[LOCAL_TEXT].dtype,
    )
